"""Reading a PyTorch module that is a dense network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.convert.torch import norms
from briskmlp.convert.torch.norms import Normalisation
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
SUPPORTED = f"Linear, {', '.join(_CLASSES)}, BatchNorm1d, LayerNorm, Flatten, Identity and Dropout"
DTYPES: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64")}


class Dense(NamedTuple):
    """A module that is a dense network: its architecture, and where its parameters are."""

    network: Network
    names: list[str]  # of the tensors W1 b1 W2 b2 …, and γ β of normalisations, as in the module's state_dict
    tensors: list[Tensor | None]  # None for what the module does not have
    dropout: list[float]  # after each hidden layer
    flatten: bool  # whether it begins with Flatten
    norms: list[Normalisation]

    @property
    def present(self) -> list[tuple[str, Tensor]]:
        """The names and tensors, without what is missing."""
        return [(name, tensor) for name, tensor in zip(self.names, self.tensors, strict=True) if tensor is not None]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all tensors."""
        return DTYPES[self.present[0][1].dtype]

    def pairs(self, flat: FloatArray) -> list[tuple[str, Tensor, Tensor]]:
        """Return the names and tensors that are present, each with the view of a flat buffer that corresponds to it."""
        both = zip(self.names, self.tensors, views(self.network, flat), strict=True)
        return [(name, tensor, view) for name, tensor, view in both if tensor is not None]


@dataclass
class _Layer:
    """A Linear and what follows it."""

    name: str
    linear: nn.Linear
    activation: str | None = None
    dropout: float = 0.0
    norm: Normalisation | None = None
    norm_position: str = "before"


def read_module(module: nn.Module, *, training: bool = False) -> Dense:
    """Return what a module consists of, with the arguments and errors of `from_torch`.

    With ``training``, Dropout layers in evaluation mode are left out.

    Examples
    --------
    >>> read_module(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))).network
    Network(layers=(3, 2, 1), hidden=('tanh',), output='identity', bias='neuron')
    """
    layers: list[_Layer] = []
    first: Normalisation | None = None  # before the first Linear
    flatten = False
    for name, layer in _layers(module, "", training):
        where = f"module's layer {name}, {layer}," if name else f"module, {layer},"
        if isinstance(layer, nn.Linear):
            if layers and layers[-1].linear.out_features != layer.in_features:
                raise ValueError(f"{where} follows one with {layers[-1].linear.out_features} outputs")
            layers.append(_Layer(f"{name}." if name else "", layer))
        elif isinstance(layer, nn.Flatten):
            if (layer.start_dim, layer.end_dim) != (1, -1):
                raise ValueError(f"{where} is not supported; accepted: Flatten(start_dim=1, end_dim=-1)")
            flatten = flatten or not (layers or first)  # later ones find rows that are flat already
        elif not layers and first is None and isinstance(layer, norms.MODULES):
            n = layer.num_features if isinstance(layer, nn.BatchNorm1d) else layer.normalized_shape[-1]
            first = norms.normalisation_of(f"{name}." if name else "", layer, n, where)
        elif not layers:
            raise ValueError(f"{where} comes before the first Linear, which is not supported")
        else:
            _add(layers[-1], layer, name, where)
    dense = _dense(layers, first, flatten)
    _check_tensors(dense)
    return dense


def _add(last: _Layer, layer: nn.Module, name: str, where: str) -> None:
    """Add Dropout, a normalisation or an activation to the last Linear."""
    if last.dropout:
        raise ValueError(f"{where} follows a Dropout, which is not supported; put Dropout after it")
    if isinstance(layer, nn.Dropout):
        if layer.p >= 1:
            raise ValueError(f"{where} drops everything; accepted: p below 1")
        last.dropout = float(layer.p)
        return
    if isinstance(layer, norms.MODULES):
        if last.norm is not None:
            raise ValueError(f"{where} follows another normalisation, which is not supported; accepted: one per Linear")
        last.norm = norms.normalisation_of(f"{name}.", layer, last.linear.out_features, where)
        last.norm_position = "before" if last.activation in (None, "identity") else "after"
        return
    if last.activation is not None:
        raise ValueError(f"{where} follows another activation, {last.activation}, which is not supported")
    if isinstance(layer, nn.Softmax) and layer.dim not in (1, -1):
        raise ValueError(f"{where} is not over the neurons of a row; accepted: Softmax(dim=1)")
    try:
        last.activation = activation_of(layer)
    except ValueError as error:
        raise ValueError(f"{where} is not supported: {error}") from None


def _dense(layers: list[_Layer], first: Normalisation | None, flatten: bool) -> Dense:
    if not layers:
        raise ValueError(f"module has no Linear; accepted: an nn.Sequential of {SUPPORTED}")
    if layers[-1].dropout:
        raise ValueError("module ends in Dropout, which is not supported; accepted: Dropout after hidden layers")
    if layers[-1].norm_position == "after":
        raise ValueError(
            "module ends in a normalisation after an activation, which is not supported; accepted: before it"
        )
    linears = [layer.linear for layer in layers]
    *hidden, output = [layer.activation or "identity" for layer in layers]
    if not all(chosen(name).row.hidden for name in hidden):
        raise ValueError("module has Softmax or Exp in a hidden layer, which is not supported")
    widths = [linears[0].in_features, *(linear.out_features for linear in linears)]
    if first is not None and first.parameters[0][1] is not None and first.parameters[0][1].shape != (widths[0],):
        raise ValueError(f"module's layer {first.name[:-1]}, {first.layer}, is followed by {linears[0]}")
    *texts, last = [None if layer.norm is None else layer.norm.text for layer in layers]
    network = Network(
        widths,
        hidden,
        output,
        "none" if all(linear.bias is None for linear in linears) else "neuron",
        norm=texts,
        norm_position=[layer.norm_position for layer in layers[:-1]],
        input_norm=None if first is None else first.text,
        output_norm=last,
    )
    found = [norm for norm in (first, *(layer.norm for layer in layers)) if norm is not None]
    parameters = [
        (layer.name + kind, getattr(layer.linear, kind)) for layer in layers for kind in ("weight", "bias")
    ] + [named for norm in found for named in norm.parameters]
    return Dense(
        network,
        [name for name, _ in parameters],
        [tensor for _, tensor in parameters],
        [layer.dropout for layer in layers[:-1]],
        flatten,
        found,
    )


def activation_of(layer: nn.Module) -> str:
    """Return the text of the activation that a module of `MODULES` is; raise a ValueError if f' needs more than f(Z).

    Examples
    --------
    >>> activation_of(nn.LeakyReLU(0.2)), activation_of(nn.GELU("tanh"))
    ('leaky_relu(0.2)', 'gelu_tanh')
    """
    row = next(row for row in MODULES[type(layer)] if row.torch.options.items() <= vars(layer).items())
    values = {name: float(getattr(layer, name)) for name in row.parameters}
    return row.name if row.kind is None else str(row.kind(**values))


def _layers(module: Any, name: str, training: bool) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers that have an effect with their names, nested ones too."""
    where = f"module's layer {name}" if name else "module"
    # exact types: a subclass may compute something else
    if type(module) not in {nn.Sequential, nn.Linear, nn.Flatten, nn.Identity, nn.Dropout, *norms.MODULES, *MODULES}:
        raise TypeError(f"{where} is a {type(module).__name__}, which is not supported; accepted: {SUPPORTED}")
    check_no_hooks(module, where)
    if type(module) is nn.Sequential:
        for key, layer in module._modules.items():  # named_children() leaves out a layer that comes again
            yield from _layers(layer, f"{name}.{key}" if name else key, training)
    elif type(module) is nn.Dropout:
        if module.p != 0 and (module.training or not training):
            yield name, module
    elif type(module) is not nn.Identity:
        yield name, module


def check_no_hooks(owner: Any, where: str) -> None:
    """Refuse a module or optimizer with hooks, or with a forward of its own: they would not be called."""
    for name, value in vars(owner).items():
        registered = name.endswith("hooks") and isinstance(value, dict) and value and "state_dict" not in name
        if name == "forward" or registered:
            raise ValueError(f"{where} has {name.strip('_')}, which would not be called; remove it")


def _check_tensors(dense: Dense) -> None:
    buffers = [named for norm in dense.norms for named in norm.buffers]
    for name, tensor in dense.present + buffers:
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise ValueError(f"{name} is on {tensor.device}, {tensor.layout}; accepted: dense CPU tensors")
        if tensor.dtype not in DTYPES or DTYPES[tensor.dtype] != dense.dtype:
            raise TypeError(f"{name} has dtype {tensor.dtype}; accepted: torch.float32 or torch.float64, for all alike")
        if _overlaps_itself(tensor):
            raise ValueError(f"{name} is an expanded tensor; accepted: one with memory for each number")
    arrays = [(name, tensor.detach().numpy()) for name, tensor in dense.present]
    for (other, before), (name, array) in combinations(arrays, 2):
        if np.may_share_memory(before, array):  # compares their first and last bytes
            raise ValueError(
                f"{name} is tied to {other} or overlaps it, which is not supported: they would be trained apart"
            )


def _overlaps_itself(tensor: Tensor) -> bool:
    extent = 1  # how many numbers lie between the first and the last of the axes so far
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def views(network: Network, flat: FloatArray) -> list[Tensor]:
    """Return tensors W1 b1 W2 b2 …, and γ β of normalisations, in PyTorch's shapes that are views of a flat buffer.

    A missing bias has size 0.
    """
    return [torch.from_numpy(view).t() for view in network.views(flat)]


def copy_in(dense: Dense, flat: FloatArray) -> None:
    """Write a module's parameters to a flat buffer; biases and β that are missing are 0, and γ 1."""
    flat[...] = 0
    for gamma in dense.network.gammas(flat):
        gamma[...] = 1
    with torch.no_grad():
        for _, tensor, view in dense.pairs(flat):
            view.copy_(tensor)


class Converted(NamedTuple):
    """What a module becomes: a network, and copies of the module's numbers."""

    network: Network
    parameters: FloatArray
    dropout: list[float]
    statistics: FloatArray  # running means and variances
    batches: list[int]  # that each batch normalisation has met


def from_torch(module: nn.Module) -> tuple[Network, FloatArray, list[float]]:
    """Convert a module to a network, a copy of its parameters, and its dropout rates.

    Parameters
    ----------
    module : nn.Module
        A Linear, or an nn.Sequential, also nested, of Linear, activations, BatchNorm1d, LayerNorm, Flatten, Identity
        and Dropout: after a Linear at most one normalisation, one activation and Dropout, and one normalisation before
        the first. Running statistics are no parameters; ``Trainer.from_torch`` takes them over, too.

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
    return convert(module)[:3]


def convert(module: nn.Module) -> Converted:
    """Convert a module as `from_torch` does, with its running statistics."""
    dense = read_module(module)
    missing = [name for name in dense.names if name not in dict(dense.present)]
    if missing and (dense.network.bias != "none" or len(missing) > dense.network.n_layers):
        raise ValueError(f"module has no {missing[0]}, but other biases; accepted: all of them or none")
    parameters: FloatArray = np.empty(dense.network.n_parameters, dtype=dense.dtype)
    copy_in(dense, parameters)
    statistics = norms.running_statistics(dense.norms, dense.network, dense.dtype)
    batches = [count for norm in dense.norms for count in norm.batches]
    return Converted(dense.network, parameters, dense.dropout, statistics, batches)
