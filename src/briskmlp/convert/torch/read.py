"""What a PyTorch module consists of, if it is a dense network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import ACTIVATIONS, Activation, chosen


class Exp(nn.Module):
    """The activation e^z, which PyTorch has no layer of."""

    def forward(self, Z: Tensor) -> Tensor:
        """Return e^Z."""
        return Z.exp()


# class → the rows that it may stand for, which its options tell apart
MODULES: dict[type[nn.Module], list[Activation]] = {Exp: [ACTIVATIONS["exp"]]}
for _row in ACTIVATIONS.values():
    if _row.torch.module is not None:
        MODULES.setdefault(getattr(nn, _row.torch.module), []).append(_row)
_CLASSES = [kind.__name__ for kind in MODULES if kind not in (Exp, nn.Identity)]
SUPPORTED = f"Linear, {', '.join(_CLASSES)}, Flatten, Identity and Dropout"
DTYPES: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64")}


class Dense(NamedTuple):
    """A module that is a dense network: its architecture, and where its numbers are."""

    network: Network
    names: list[str]  # of the tensors W1 b1 W2 b2 …, as in the module's state_dict
    tensors: list[Tensor | None]  # None for the bias of a Linear without one
    dropout: list[float]  # after each hidden layer
    flatten: bool  # whether it begins with Flatten

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all tensors."""
        return next(DTYPES[tensor.dtype] for tensor in self.tensors if tensor is not None)


def read_module(module: nn.Module, *, training: bool = False) -> Dense:
    """Return what a module consists of.

    Parameters
    ----------
    module : nn.Module
        A Linear, or an nn.Sequential, also nested, of Linear, activations, Flatten, Identity and Dropout.
    training : bool
        Leave out Dropout layers in evaluation mode.

    Raises
    ------
    TypeError, ValueError
        It is anything else; the message names the layer.

    Examples
    --------
    >>> read_module(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))).network
    Network(layers=(3, 2, 1), hidden=('tanh',), output='identity', bias='neuron')
    """
    reader = _Reader(training)
    for name, layer in _layers(module, ""):
        reader.add(name, layer)
    dense = reader.result()
    _check_tensors(dense)
    return dense


@dataclass
class _Reader:
    """What the layers seen so far make."""

    training: bool
    names: list[str] = field(default_factory=list)
    linears: list[nn.Linear] = field(default_factory=list)
    activations: list[str | None] = field(default_factory=list)
    dropout: list[float] = field(default_factory=list)
    flatten: bool = False

    def add(self, name: str, layer: nn.Module) -> None:
        where = f"module's layer {name}, {layer}," if name else f"module, {layer},"
        if isinstance(layer, nn.Linear):
            self._add_linear(name, layer, where)
        elif isinstance(layer, nn.Flatten):
            if (layer.start_dim, layer.end_dim) != (1, -1):
                raise ValueError(f"{where} is not supported; accepted: Flatten(start_dim=1, end_dim=-1)")
            self.flatten = self.flatten or not self.linears  # later ones find rows that are flat already
        elif not self._does_nothing(layer):
            if not self.linears:
                raise ValueError(f"{where} comes before the first Linear, which is not supported")
            if self.dropout[-1]:
                raise ValueError(f"{where} follows a Dropout, which is not supported; put Dropout after it")
            if isinstance(layer, nn.Dropout):
                self._add_dropout(layer, where)
            else:
                self._add_activation(layer, where)

    def _does_nothing(self, layer: nn.Module) -> bool:
        if isinstance(layer, nn.Dropout):
            return layer.p == 0 or (self.training and not layer.training)
        return isinstance(layer, nn.Identity)

    def _add_linear(self, name: str, layer: nn.Linear, where: str) -> None:
        if self.linears and self.linears[-1].out_features != layer.in_features:
            raise ValueError(f"{where} follows one with {self.linears[-1].out_features} outputs")
        self.names.append(f"{name}." if name else "")
        self.linears.append(layer)
        self.activations.append(None)
        self.dropout.append(0.0)

    def _add_dropout(self, layer: nn.Dropout, where: str) -> None:
        if layer.p >= 1:
            raise ValueError(f"{where} drops everything; accepted: p below 1")
        self.dropout[-1] = float(layer.p)

    def _add_activation(self, layer: nn.Module, where: str) -> None:
        if self.activations[-1] is not None:
            raise ValueError(f"{where} follows another activation, {self.activations[-1]}, which is not supported")
        if isinstance(layer, nn.Softmax) and layer.dim not in (1, -1):
            raise ValueError(f"{where} is not over the neurons of a row; accepted: Softmax(dim=1)")
        try:
            self.activations[-1] = activation_of(layer)
        except ValueError as error:
            raise ValueError(f"{where} is not supported: {error}") from None

    def result(self) -> Dense:
        if not self.linears:
            raise ValueError(f"module has no Linear; accepted: an nn.Sequential of {SUPPORTED}")
        if self.dropout[-1]:
            raise ValueError("module ends in Dropout, which is not supported; accepted: Dropout after hidden layers")
        *hidden, output = [name or "identity" for name in self.activations]
        if not all(chosen(name).row.hidden for name in hidden):
            raise ValueError("module has Softmax or Exp in a hidden layer, which is not supported")
        layers = [self.linears[0].in_features, *(linear.out_features for linear in self.linears)]
        bias = "none" if all(linear.bias is None for linear in self.linears) else "neuron"
        return Dense(
            Network(layers, hidden, output, bias),
            [name + kind for name in self.names for kind in ("weight", "bias")],
            [tensor for linear in self.linears for tensor in (linear.weight, linear.bias)],
            self.dropout[:-1],
            self.flatten,
        )


def activation_of(layer: nn.Module) -> str:
    """Return the text of the activation that a module of `MODULES` is.

    Raises
    ------
    ValueError
        A parameter has a value for which f' does not follow from f(Z).

    Examples
    --------
    >>> activation_of(nn.LeakyReLU(0.2)), activation_of(nn.GELU("tanh"))
    ('leaky_relu(0.2)', 'gelu_tanh')
    """
    row = next(
        row
        for row in MODULES[type(layer)]
        if all(getattr(layer, option) == value for option, value in row.torch.options.items())
    )
    values = {name: float(getattr(layer, name)) for name in row.parameters}
    return row.name if row.kind is None else str(row.kind(**values))


def _layers(module: Any, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers with their names, nested ones too."""
    where = f"module's layer {name}" if name else "module"
    # exact types: a subclass may compute something else
    if type(module) not in {nn.Sequential, nn.Linear, nn.Flatten, nn.Identity, nn.Dropout, *MODULES}:
        raise TypeError(f"{where} is a {type(module).__name__}, which is not supported; accepted: {SUPPORTED}")
    check_no_hooks(module, where)
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for key, layer in module._modules.items():  # named_children() leaves out a layer that comes again
        yield from _layers(layer, f"{name}.{key}" if name else key)


def check_no_hooks(owner: Any, where: str) -> None:
    """Refuse a module or optimizer with hooks, or with a forward of its own: they would not be called."""
    for name, value in vars(owner).items():
        registered = name.endswith("hooks") and isinstance(value, dict) and value and "state_dict" not in name
        if name == "forward" or registered:
            raise ValueError(f"{where} has {name.strip('_')}, which would not be called; remove it")


def _check_tensors(dense: Dense) -> None:
    placed: list[tuple[int, int, str]] = []  # first byte, the byte after the last, name
    for name, tensor in zip(dense.names, dense.tensors, strict=True):
        if tensor is None:
            continue
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise ValueError(f"{name} is on {tensor.device}, {tensor.layout}; accepted: dense CPU tensors")
        if tensor.dtype not in DTYPES or DTYPES[tensor.dtype] != dense.dtype:
            raise TypeError(f"{name} has dtype {tensor.dtype}; accepted: torch.float32 or torch.float64, for all alike")
        extent = _extent(tensor)
        if not extent:
            raise ValueError(f"{name} is an expanded tensor; accepted: one with memory for each number")
        placed.append((tensor.data_ptr(), tensor.data_ptr() + extent * tensor.element_size(), name))
    end, other = 0, ""
    for begin, stop, name in sorted(placed, key=lambda place: place[0]):
        if begin < end:
            raise ValueError(
                f"{name} is tied to {other} or overlaps it, which is not supported: they would be trained apart"
            )
        end, other = stop, name


def _extent(tensor: Tensor) -> int:
    """Return how many numbers lie from a tensor's first to its last; 0 where its axes overlap."""
    extent = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride < extent:
            return 0
        extent += stride * (size - 1)
    return extent


def views(network: Network, flat: FloatArray) -> list[Tensor]:
    """Return tensors W1 b1 W2 b2 … in PyTorch's shapes that are views of a flat buffer; no bias is of size 0."""
    pairs = zip(network.weights(flat), network.biases(flat), strict=True)
    return [view for W, b in pairs for view in (torch.from_numpy(W).t(), torch.from_numpy(b))]


def copy_in(dense: Dense, flat: FloatArray) -> None:
    """Write a module's numbers to flat parameters; what it has not is 0."""
    with torch.no_grad():
        for view, tensor in zip(views(dense.network, flat), dense.tensors, strict=True):
            if tensor is None:
                view.zero_()
            else:
                view.copy_(tensor)


def from_torch(module: nn.Module) -> tuple[Network, FloatArray, list[float]]:
    """Return the network that a module is, a copy of its parameters, and its dropout rates.

    Parameters
    ----------
    module : nn.Module
        A Linear, or an nn.Sequential, also nested, of Linear, activations, Flatten, Identity and Dropout.

    Returns
    -------
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64
        The module's own dtype.
    dropout : list of float
        One rate for each hidden layer.

    Raises
    ------
    TypeError, ValueError
        It is anything else; the message names the layer.

    Examples
    --------
    >>> network, parameters, dropout = from_torch(nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.ReLU()))
    >>> network, parameters.shape
    (Network(layers=(3, 2), hidden=(), output='relu', bias='neuron'), (8,))
    """
    dense = read_module(module)
    if dense.network.bias != "none" and None in dense.tensors:
        missing = dense.names[dense.tensors.index(None)]
        raise ValueError(f"module has no {missing}, but other biases; accepted: all of them or none")
    parameters: FloatArray = np.empty(dense.network.n_parameters, dtype=dense.dtype)
    copy_in(dense, parameters)
    return dense.network, parameters, dense.dropout
