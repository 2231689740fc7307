"""The steps of a chain: what a module, a function or a method of tensors in a forward is to a dense network."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from briskmlp.operations.activations import ACTIVATIONS, Activation


class Exp(nn.Module):
    """The activation e^z, which PyTorch has no layer of."""

    def forward(self, Z: Tensor) -> Tensor:
        """Return e^Z."""
        return Z.exp()


Known = dict[fx.Node | None, Any]  # the values that the nodes of a graph have, for a batch of some shape


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operation of a chain; this class itself, one that changes nothing."""

    where: str  # what errors call it
    node: fx.Node | None = None  # in the graph of a traced module


@dataclass(frozen=True, kw_only=True)
class Linear(Step):
    """``Z = A W.T + b``."""

    names: tuple[str, str]  # in the module's state_dict, where the bias need not be
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Norm(Step):
    """A BatchNorm1d or LayerNorm."""

    layer: nn.Module


@dataclass(frozen=True, kw_only=True)
class Activate(Step):
    """An activation, by its text; or "log_softmax", which no row of the table is."""

    text: str

    @property
    def of_rows(self) -> bool:
        """Whether an output depends on its whole row."""
        return self.text in ("softmax", "log_softmax")


@dataclass(frozen=True, kw_only=True)
class Dropout(Step):
    """Dropout that is active; what is not is a `Step`."""

    rate: float


@dataclass(frozen=True, kw_only=True)
class Cast(Step):
    """A conversion to a dtype."""

    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Reshape(Step):
    """The same numbers in the same order, in another shape."""

    change: Callable[[Tensor, Known], Any]


@dataclass(frozen=True, kw_only=True)
class Measure(Step):
    """A number or shape that is asked of a tensor, and what is computed from it; not a value of the chain."""

    compute: Callable[[Known], Any]


# --- the names -------------------------------------------------------------------------------------------------------

# class → the rows that it may stand for, which its options tell apart
MODULES: dict[type[nn.Module], list[Activation]] = {Exp: [ACTIVATIONS["exp"]]}
# function, or name of a method → the same
FUNCTIONS: dict[Any, list[Activation]] = {}
METHODS: dict[str, list[Activation]] = {}
for _row in ACTIVATIONS.values():
    if _row.torch.module is not None:
        MODULES.setdefault(getattr(nn, _row.torch.module), []).append(_row)
    for _name in _row.torch.functions:
        for _spelling in (_name, f"{_name}_"):  # the second computes in place
            for _home in (functional, torch):
                if hasattr(_home, _spelling):
                    FUNCTIONS.setdefault(getattr(_home, _spelling), []).append(_row)
            if hasattr(Tensor, _spelling):
                METHODS.setdefault(_spelling, []).append(_row)

NORMS = (nn.BatchNorm1d, nn.LayerNorm)
SHAPES = (nn.Flatten, nn.Unflatten)
LEAVES = {nn.Linear, nn.Dropout, nn.LogSoftmax, *NORMS, *SHAPES, *MODULES}  # not looked into; all exact types
_CLASSES = [kind.__name__ for kind in MODULES if kind not in (Exp, nn.Identity)]
SUPPORTED = f"Linear, {', '.join(_CLASSES)}, LogSoftmax, Flatten, Unflatten, Identity and Dropout"

_LOG_SOFTMAX = (functional.log_softmax, torch.log_softmax, "log_softmax")
_DROPOUT = (functional.dropout, torch.dropout)
_CASTS = {"float": torch.float32, "double": torch.float64}
_NOTHING = ("contiguous", "clone", "cpu", torch.clone)
_RESHAPES = (
    *("view", "reshape", "flatten", "ravel", "squeeze", "unsqueeze", "unflatten", operator.getitem),
    *(torch.reshape, torch.flatten, torch.ravel, torch.squeeze, torch.unsqueeze, torch.unflatten),
)


# --- modules ---------------------------------------------------------------------------------------------------------


def of_module(name: str, layer: nn.Module, training: bool, node: fx.Node | None = None) -> Step:
    """Return the step that a submodule is; with ``training``, Dropout in evaluation mode does nothing."""
    where = f"module's layer {name}" if name else "module"
    if type(layer) not in LEAVES:
        raise TypeError(f"{where} is a {type(layer).__name__}, which is not supported; accepted: {SUPPORTED}")
    where = f"{where}, {layer},"
    if isinstance(layer, nn.Linear):
        names = (f"{name}.weight", f"{name}.bias") if name else ("weight", "bias")
        return Linear(where=where, node=node, names=names, weight=layer.weight, bias=layer.bias)
    if isinstance(layer, NORMS):
        return Norm(where=where, node=node, layer=layer)
    if isinstance(layer, nn.Dropout):
        return _dropout(where, node, layer.p, layer.training or not training)
    if isinstance(layer, SHAPES):
        return Reshape(where=where, node=node, change=lambda value, _: layer(value))
    if isinstance(layer, nn.Identity):
        return Step(where=where, node=node)
    return _activation(where, node, None if isinstance(layer, nn.LogSoftmax) else MODULES[type(layer)], vars(layer))


def _activation(where: str, node: fx.Node | None, rows: list[Activation] | None, options: Mapping[str, Any]) -> Step:
    """Return the step of an activation; without rows, of log_softmax."""
    try:
        step = Activate(where=where, node=node, text="log_softmax" if rows is None else text_of(rows, options))
    except ValueError as error:
        raise ValueError(f"{where} is not supported: {error}") from None
    if step.of_rows and options.get("dim") not in (None, 1, -1):  # None is 1 for rows
        raise ValueError(f"{where} is not over the neurons of a row; accepted: dim=1")
    return step


def text_of(rows: list[Activation], options: Mapping[str, Any]) -> str:
    """Return the text of the row that the options choose; raise a ValueError if f' needs more than f(Z).

    Examples
    --------
    >>> text_of(MODULES[nn.LeakyReLU], vars(nn.LeakyReLU(0.2))), text_of(MODULES[nn.GELU], vars(nn.GELU("tanh")))
    ('leaky_relu(0.2)', 'gelu_tanh')
    """
    options = {"approximate": "none", **options}
    row = next((row for row in rows if row.torch.options.items() <= options.items()), None)
    if row is None:
        raise ValueError(f"approximate is {options['approximate']!r}")
    values = {name: float(options.get(name, default)) for name, default in row.parameters.items()}
    return row.name if row.kind is None else str(row.kind(**values))


def _dropout(where: str, node: fx.Node | None, rate: Any, active: bool) -> Step:
    if not active or rate == 0:
        return Step(where=where, node=node)
    if rate >= 1:
        raise ValueError(f"{where} drops everything; accepted: p below 1")
    return Dropout(where=where, node=node, rate=float(rate))


# --- functions and methods -------------------------------------------------------------------------------------------


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
        return _dropout(where, node, options["p"], bool(options["training"]))
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
    return _activation(where, node, rows, options)


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
