"""The steps of a chain, and which of them a module of PyTorch's is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from briskmlp.convert.torch import norms
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

    name: str  # with a dot, or empty
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


# --- modules ---------------------------------------------------------------------------------------------------------

# class → the rows that it may stand for, which its options tell apart
MODULES: dict[type[nn.Module], list[Activation]] = {Exp: [ACTIVATIONS["exp"]]}
for _row in ACTIVATIONS.values():
    if _row.torch.module is not None:
        MODULES.setdefault(getattr(nn, _row.torch.module), []).append(_row)

SHAPES = (nn.Flatten, nn.Unflatten)
LEAVES = {nn.Linear, nn.Dropout, nn.LogSoftmax, *norms.MODULES, *SHAPES, *MODULES}  # not looked into; all exact types
_CLASSES = [kind.__name__ for kind in MODULES if kind not in (Exp, nn.Identity)]
_CLASSES += [kind.__name__ for kind in (nn.LogSoftmax, *norms.MODULES, *SHAPES)]
SUPPORTED = f"Linear, {', '.join(_CLASSES)}, Identity and Dropout"


def of_module(name: str, layer: nn.Module, training: bool, node: fx.Node | None = None) -> Step:
    """Return the step that a submodule is; with ``training``, Dropout in evaluation mode does nothing."""
    where = f"module's layer {name}" if name else "module"
    if type(layer) not in LEAVES:
        raise TypeError(f"{where} is a {type(layer).__name__}, which is not supported; accepted: {SUPPORTED}")
    where = f"{where}, {layer},"
    if isinstance(layer, nn.Linear):
        names = (f"{name}.weight", f"{name}.bias") if name else ("weight", "bias")
        return Linear(where=where, node=node, names=names, weight=layer.weight, bias=layer.bias)
    if isinstance(layer, norms.MODULES):
        return Norm(where=where, node=node, name=f"{name}." if name else "", layer=layer)
    if isinstance(layer, nn.Dropout):
        return dropout(where, node, layer.p, layer.training or not training)
    if isinstance(layer, SHAPES):
        return Reshape(where=where, node=node, change=lambda value, _: layer(value))
    if isinstance(layer, nn.Identity):
        return Step(where=where, node=node)
    return activation(where, node, None if isinstance(layer, nn.LogSoftmax) else MODULES[type(layer)], vars(layer))


def activation(where: str, node: fx.Node | None, rows: list[Activation] | None, options: Mapping[str, Any]) -> Step:
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


def dropout(where: str, node: fx.Node | None, rate: Any, active: bool) -> Step:
    """Return the step of a dropout, which changes nothing unless it is active."""
    if not active or rate == 0:
        return Step(where=where, node=node)
    if rate >= 1:
        raise ValueError(f"{where} drops everything; accepted: p below 1")
    return Dropout(where=where, node=node, rate=float(rate))
