"""Which step of a chain a call of a function, or of a method of a tensor, is."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from briskmlp.convert.torch.steps import SUPPORTED, Cast, Known, Linear, Reshape, Step, activation, dropout
from briskmlp.operations.activations import ACTIVATIONS, Activation

# function, or name of a method → the rows that it may stand for, which its options tell apart
FUNCTIONS: dict[Any, list[Activation]] = {}
METHODS: dict[str, list[Activation]] = {}
for _row in ACTIVATIONS.values():
    for _name in _row.torch.functions:
        for _spelling in (_name, f"{_name}_"):  # the second computes in place
            for _home in (functional, torch):
                if hasattr(_home, _spelling):
                    FUNCTIONS.setdefault(getattr(_home, _spelling), []).append(_row)
            if hasattr(Tensor, _spelling):
                METHODS.setdefault(_spelling, []).append(_row)

_LOG_SOFTMAX = (functional.log_softmax, torch.log_softmax, "log_softmax")
_DROPOUT = (functional.dropout, torch.dropout)
_CASTS = {"float": torch.float32, "double": torch.float64}
_NOTHING = ("contiguous", "clone", "cpu", torch.clone)
_RESHAPES = (
    *("view", "reshape", "flatten", "ravel", "squeeze", "unsqueeze", "unflatten", operator.getitem),
    *(torch.reshape, torch.flatten, torch.ravel, torch.squeeze, torch.unsqueeze, torch.unflatten),
)


def of_call(node: fx.Node, parameters: Mapping[str, Tensor]) -> Step:
    """Return the step that a call of a function, or of a method of a tensor, is; ``parameters`` are those of state."""
    target, where = node.target, described(node)
    if target in FUNCTIONS or target in METHODS:
        rows = FUNCTIONS.get(target) or METHODS[str(target)]
        names = ["dim", "dtype"] if rows[0].name == "softmax" else [*rows[0].parameters, "inplace"]
        return _checked_activation(where, node, rows, names)
    if target in _LOG_SOFTMAX:
        return _checked_activation(where, node, None, ["dim", "dtype"])
    if target in _DROPOUT:
        options = {"p": 0.5, "training": True} | _options(where, node, ["p", "training", "inplace"], train="training")
        return dropout(where, node, options["p"], bool(options["training"]))
    if target is functional.linear:
        return _linear(where, node, parameters)
    if target in _CASTS:
        return Cast(where=where, node=node, dtype=_CASTS[str(target)])
    if target in ("to", "type"):
        return _conversion(where, node)
    if target in _NOTHING:
        return Step(where=where, node=node)
    if target in _RESHAPES:
        return Reshape(where=where, node=node, change=lambda _, known: evaluate(node, known))
    raise TypeError(f"{where} is not supported; accepted: {SUPPORTED}, and the functions and methods of these")


def _checked_activation(where: str, node: fx.Node, rows: list[Activation] | None, names: Sequence[str]) -> Step:
    options = _options(where, node, names)
    if options.get("dtype") is not None:
        raise ValueError(f"{where} computes in another dtype, which is not supported; accepted: no dtype=")
    return activation(where, node, rows, options)


def _options(where: str, node: fx.Node, names: Sequence[str], **aliases: str) -> dict[str, Any]:
    """Return the arguments of a call by name, without the tensor, which comes first."""
    given = dict(zip(names, node.args[1:], strict=False)) | {aliases.get(k, k): v for k, v in node.kwargs.items()}
    given.pop("input", None)
    if any(isinstance(value, fx.Node) and value.op != "get_attr" for value in given.values()):
        raise ValueError(f"{where} has an argument that depends on X, which is not supported; accepted: numbers")
    return given


def _conversion(where: str, node: fx.Node) -> Step:
    """Return the step of ``x.to(…)`` or ``x.type(…)`` with a dtype, a device or both."""
    arguments = [value for value in (*node.args[1:], *node.kwargs.values()) if not isinstance(value, bool | None)]
    dtypes = [value for value in arguments if isinstance(value, torch.dtype)]
    elsewhere = [value for value in arguments if value not in dtypes and str(value) != "cpu"]
    if elsewhere or len(dtypes) > 1:
        raise ValueError(f"{where} is not supported; accepted: the CPU, torch.float32 or torch.float64")
    return Cast(where=where, node=node, dtype=dtypes[0]) if dtypes else Step(where=where, node=node)


def _linear(where: str, node: fx.Node, parameters: Mapping[str, Tensor]) -> Linear:
    given = _options(where, node, ["weight", "bias"])
    weight, bias = given["weight"], given.get("bias")
    names = ["" if tensor is None else str(getattr(tensor, "target", "a number")) for tensor in (weight, bias)]
    if not all(name in parameters for name in names if name):
        raise ValueError(f"{where} is not supported; accepted: parameters of the module as weight and bias")
    return Linear(
        where=where,
        node=node,
        names=(names[0], names[1]),
        weight=parameters[names[0]],
        bias=parameters.get(names[1]),
    )


def described(node: fx.Node) -> str:
    """Return what errors call a node: its name, what it calls with what, and the submodule in whose forward it is."""
    callee = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    arguments = [str(value) for value in node.args] + [f"{name}={value}" for name, value in node.kwargs.items()]
    layer = f" in layer {node.meta['layer']}" if node.meta.get("layer") else ""
    return f"module's node {node.name}, {callee}({', '.join(arguments)}){layer},"


def evaluate(node: fx.Node, known: Known) -> Any:
    """Return what a function or method gives for the known values of its arguments."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator] # a function
