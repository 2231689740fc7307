"""Reading a PyTorch module that is a dense network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.convert.torch import norms
from briskmlp.convert.torch.modules import check_modules, check_no_hooks, uncompiled
from briskmlp.convert.torch.norms import Normalisation
from briskmlp.convert.torch.shapes import output_shape_of_rows
from briskmlp.convert.torch.steps import LEAVES, SUPPORTED, Activate, Cast, Dropout, Linear, Norm, Step, of_module
from briskmlp.convert.torch.trace import trace
from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import chosen

DTYPES: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64")}


class Dense(NamedTuple):
    """A module that is a dense network: its architecture, and where its parameters are."""

    network: Network
    names: list[str]  # of the tensors W1 b1 W2 b2 …, and γ β of normalisations, as in the module's state_dict
    tensors: list[Tensor | None]  # None for what the module does not have
    dropout: list[float]  # after each hidden layer
    output: str  # the network's, or "log_softmax" after it, which is the identity then
    steps: list[Step]
    norms: list[Normalisation]
    unused: list[Tensor]  # parameters that forward does not use: PyTorch gives them no gradient, and they stay

    @property
    def present(self) -> list[tuple[str, Tensor]]:
        """The names and tensors, without what is missing."""
        return [(name, tensor) for name, tensor in zip(self.names, self.tensors, strict=True) if tensor is not None]

    @property
    def missing(self) -> list[str]:
        """The names of tensors that kernels train, but the module does not have."""
        both = zip(self.names, self.tensors, self.network.tensors, strict=True)
        return [name for name, tensor, own in both if tensor is None and own.size]

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

    linear: Linear
    activation: Activate | None = None
    dropout: Dropout | None = None
    norm: Normalisation | None = None
    norm_position: str = "before"

    @property
    def text(self) -> str:
        """Of the activation."""
        return "identity" if self.activation is None else self.activation.text


def read_module(module: nn.Module, *, training: bool = False, row: tuple[int, ...] | None = None) -> Dense:
    """Return what a module consists of, with the arguments and errors of `from_torch`.

    With ``training``, Dropout layers in evaluation mode are left out. ``row`` is the shape of a row of X, by which a
    forward may decide what to do, such as to flatten.

    Examples
    --------
    >>> read_module(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))).network
    Network(layers=(3, 2, 1), hidden=('tanh',), output='identity', bias='neuron')
    """
    check_modules(module)
    module = uncompiled(module)
    if training:
        check_no_hooks(nn.modules.module, "torch.nn")
    plain = all(type(layer) in LEAVES or type(layer) is nn.Sequential for layer in module.modules())
    steps = _listed(module, training) if plain else trace(module, training, row)
    layers: list[_Layer] = []
    first: Norm | None = None  # before the first Linear
    for step in steps:
        if isinstance(step, Norm) and not layers and first is None:
            first = step
        else:
            _add(layers, step)
    dense = _dense(layers, first, steps, () if plain else module.parameters())
    _check_tensors(dense)
    dtype = dense.present[0][1].dtype
    for step in steps:
        if isinstance(step, Cast) and step.dtype != dtype:
            raise TypeError(f"{step.where} changes the dtype; accepted: that of the parameters, {dtype}")
    return dense


def _listed(module: nn.Module, training: bool, name: str = "") -> list[Step]:
    """Return the steps of a module that need not be traced: a leaf, or nn.Sequentials of them alone."""
    if type(module) is not nn.Sequential:
        return [of_module(name, module, training)]
    steps = []
    for key, layer in module._modules.items():  # named_children() leaves out a layer that comes again
        steps += _listed(layer, training, f"{name}.{key}" if name else key)
    return steps


def _add(layers: list[_Layer], step: Step) -> None:
    """Add a step to the layers: after a Linear, one normalisation, one activation and one Dropout."""
    if isinstance(step, Linear):
        if layers and len(layers[-1].linear.weight) != step.weight.shape[1]:
            raise ValueError(f"{step.where} follows one with {len(layers[-1].linear.weight)} outputs")
        layers.append(_Layer(step))
        return
    if not isinstance(step, Activate | Dropout | Norm):
        return
    if not layers:
        raise ValueError(f"{step.where} comes before the first Linear, which is not supported")
    last = layers[-1]
    if isinstance(step, Norm):
        _add_norm(last, step)
        return
    if isinstance(step, Dropout):
        if last.dropout is not None:
            raise ValueError(f"{step.where} follows another Dropout, which is not supported; accepted: one")
        last.dropout = step
        return
    if last.activation is not None:
        raise ValueError(f"{step.where} follows another activation, {last.text}, which is not supported")
    # f(s z) = s f(z): then it is the same before and after a Dropout, which multiplies by 0 or s
    if last.dropout is not None and (step.text == "log_softmax" or not chosen(step.text).row.homogeneous):
        raise ValueError(f"{step.where} follows a Dropout, which is not supported; put Dropout after it")
    last.activation = step


def _add_norm(last: _Layer, step: Norm) -> None:
    """Add a normalisation to the last layer, before its activation or after it."""
    if last.dropout is not None:
        raise ValueError(f"{step.where} follows a Dropout, which is not supported; put Dropout after it")
    if last.norm is not None:
        raise ValueError(
            f"{step.where} follows another normalisation, which is not supported; accepted: one per Linear"
        )
    last.norm = norms.normalisation_of(step.name, step.layer, len(last.linear.weight), step.where)
    last.norm_position = "before" if last.text == "identity" else "after"


def _dense(layers: list[_Layer], first: Norm | None, steps: list[Step], parameters: Iterable[Tensor]) -> Dense:
    if not layers:
        raise ValueError(f"module has no Linear; accepted: a chain of {SUPPORTED}")
    if (dropout := layers[-1].dropout) is not None:
        raise ValueError(
            f"module ends in Dropout, {dropout.where} which is not supported; accepted: after hidden layers"
        )
    for layer in layers[:-1]:
        if layer.activation is not None and (layer.text == "log_softmax" or not chosen(layer.text).row.hidden):
            raise ValueError(f"{layer.activation.where} is in a hidden layer, which is not supported")
    if layers[-1].norm_position == "after":
        came = "module ends in a normalisation after an activation"
        raise ValueError(f"{came}, which is not supported; accepted: before it")
    linears = [layer.linear for layer in layers]
    *hidden, output = [layer.text for layer in layers]
    widths = [linears[0].weight.shape[1], *(len(linear.weight) for linear in linears)]
    found = [] if first is None else [norms.normalisation_of(first.name, first.layer, widths[0], first.where)]
    *texts, last = [None if layer.norm is None else layer.norm.text for layer in layers]
    network = Network(
        widths,
        hidden,
        "identity" if output == "log_softmax" else output,
        "none" if all(linear.bias is None for linear in linears) else "neuron",
        norm=texts,
        norm_position=[layer.norm_position for layer in layers[:-1]],
        input_norm=found[0].text if found else None,
        output_norm=last,
    )
    found += [layer.norm for layer in layers if layer.norm is not None]
    affine = [named for norm in found for named in norm.parameters]
    tensors = [tensor for linear in linears for tensor in (linear.weight, linear.bias)]
    tensors += [tensor for _, tensor in affine]
    used = set(map(id, tensors))
    return Dense(
        network,
        [name for linear in linears for name in linear.names] + [name for name, _ in affine],
        tensors,
        [0.0 if layer.dropout is None else layer.dropout.rate for layer in layers[:-1]],
        output,
        steps,
        found,
        [tensor for tensor in parameters if id(tensor) not in used],
    )


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
            how = "is used twice" if name == other else f"is tied to {other} or overlaps it"
            raise ValueError(f"{name} {how}, which is not supported: they would be trained apart")


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
            copy(tensor, view)


def copy(tensor: Tensor, view: Tensor) -> None:
    """Write a tensor to a view of a flat buffer.

    As their transposes, which PyTorch copies block by block on this thread. The other way round it would start its own
    threads, which on two cores beside a kernel's that still spin took 2 ms for 784 × 256 numbers instead of 0.15.
    """
    view.t().copy_(tensor.t())


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
        Whose forward is a chain: Linear layers, each followed by a normalisation, an activation and Dropout at the
        most, written with modules, functions or methods of tensors; before the first there may be a normalisation, too;
        at both ends they may be flattened, reshaped or squeezed. Dropout modules count in either mode, ``F.dropout`` if
        its ``training`` is true. Running statistics are no parameters; ``Trainer.from_torch`` takes them over, too.

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
    if dense.output == "log_softmax":
        raise ValueError("module ends in LogSoftmax, which no network does; take it off, or use Softmax")
    for n in (2, 3):  # a batch of one row would not show all that squeeze() does
        output_shape_of_rows(dense.steps, n)
    if dense.missing:
        accepted = "all of them or none; of normalisations, all"
        raise ValueError(f"module has no {dense.missing[0]}, but other biases; accepted: {accepted}")
    parameters: FloatArray = np.empty(dense.network.n_parameters, dtype=dense.dtype)
    copy_in(dense, parameters)
    statistics = norms.running_statistics(dense.norms, dense.network, dense.dtype)
    batches = [count for norm in dense.norms for count in norm.batches]
    return Converted(dense.network, parameters, dense.dropout, statistics, batches)
