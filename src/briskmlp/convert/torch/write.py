"""A network and its parameters as a PyTorch module, and as a state dict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.convert.torch.read import views
from briskmlp.convert.torch.steps import Exp
from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import chosen
from briskmlp.storage.checkpoint import CALLBACKS, OPTIMIZER, tracked_names


def to_torch(
    network: Network,
    parameters: FloatArray,
    dropout: Sequence[float] = (),
    statistics: FloatArray | None = None,
    batches: Sequence[int] = (),
) -> nn.Sequential:
    """Return an ``nn.Sequential`` that computes what the network does, with a copy of its parameters.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64
        Without normalisations, those of ``Linear`` l, which has index 2l. A bias shared by a layer becomes an equal
        bias for each neuron; it is shared no longer.
    dropout : sequence of float, optional
        One rate per hidden layer. With dropout, its activation is ``Sequential(activation, Dropout)``; where a
        normalisation comes after that, Dropout follows, under a name of its own, so that no number changes.
    statistics : ndarray, shape (n_statistics,), optional
        Running means and variances; default: 0 and 1.
    batches : sequence of int, optional
        How many batches each batch normalisation has met, its ``num_batches_tracked``; default: none.

    Returns
    -------
    nn.Sequential
        In training mode. A normalisation stands before its activation or after it. A network for cross-entropy ends in
        Softmax or Sigmoid; drop this last layer for ``CrossEntropyLoss`` or ``BCEWithLogitsLoss``, which take what
        comes before it.

    Examples
    --------
    >>> to_torch(Network([3, 2, 1], output="identity"), np.zeros(11, np.float32))
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): Sigmoid()
      (2): Linear(in_features=2, out_features=1, bias=True)
      (3): Identity()
    )
    """
    dtype = getattr(torch, parameters.dtype.name)
    layers: dict[str, nn.Module] = {}
    rates = [0.0, *(dropout or [0.0] * (network.n_layers - 1)), 0.0]
    norms = {norm.place: norm for norm in network.norms}
    for index, (what, place) in enumerate(network.modules):
        name, rate = str(index), rates[place]
        follows = place in norms and norms[place].position == "after"
        if what == "dense":
            # PyTorch's own initial weights would be drawn from, and move, the user's random state.
            sizes = network.layers[place - 1 : place + 1]
            layers[name] = nn.utils.skip_init(nn.Linear, *sizes, network.bias != "none", dtype=dtype)  # type: ignore[no-untyped-call] # PyTorch's
        elif what == "norm":
            layers[name] = getattr(nn, norms[place].row.torch)(
                network.layers[place], **norms[place].values, dtype=dtype
            )
            if rate and follows:
                layers[f"{name}_dropout"] = nn.Dropout(rate)
        else:
            activation = _module_of(network.activations[place - 1])
            layers[name] = nn.Sequential(activation, nn.Dropout(rate)) if rate and not follows else activation
    module = nn.Sequential(OrderedDict(layers))
    module.load_state_dict(state_dict(network, parameters, statistics, batches))
    return module


def _module_of(text: str) -> nn.Module:
    """Return the module of an activation."""
    row, values = chosen(text)
    if row.torch.module is None:
        return Exp()
    options = {"dim": 1} if row.df is None else row.torch.options
    module: nn.Module = getattr(nn, row.torch.module)(**options, **dict(zip(row.parameters, values, strict=True)))
    return module


def state_dict(
    network: Network, parameters: FloatArray, statistics: FloatArray | None = None, batches: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Return a copy of the parameters with PyTorch's names and shapes.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64
    statistics, batches
        As in `to_torch`.

    Returns
    -------
    dict of str to Tensor
        ``"{2l}.weight"`` (n_out, n_in) and, unless there are none, ``"{2l}.bias"`` (n_out,). With normalisations the
        numbers are positions in what `to_torch` returns; theirs are ``weight`` and ``bias`` (n,), and, of a batch
        normalisation, ``running_mean`` and ``running_var`` (n,) and ``num_batches_tracked``.

    Examples
    --------
    >>> {name: tuple(tensor.shape) for name, tensor in state_dict(Network([3, 2]), np.zeros(8)).items()}
    {'0.weight': (2, 3), '0.bias': (2,)}
    """
    if statistics is None:
        statistics = network.initial_statistics(parameters.dtype)
    state = {}
    for tensor, view in _named(network, parameters, statistics):
        if tensor.size:
            shape = (network.layers[tensor.layer + 1],) if tensor.kind == "bias" else view.shape
            state[tensor.name] = view.expand(shape).clone(memory_format=torch.contiguous_format)
    names = tracked_names(network)
    state |= {name: torch.tensor(count) for name, count in zip(names, batches or [0] * len(names), strict=True)}
    return dict(sorted(state.items(), key=lambda named: int(named[0].partition(".")[0])))


def _named(network: Network, parameters: FloatArray, statistics: FloatArray) -> list[tuple[Any, Tensor]]:
    """Return all tensors of the two flat buffers, each with its view in PyTorch's shape."""
    running = [torch.from_numpy(statistics[tensor.part]) for tensor in network.statistics]
    tensors, views_of = network.tensors + network.statistics, views(network, parameters) + running
    return list(zip(tensors, views_of, strict=True))


def load_state_dict(
    network: Network, parameters: FloatArray, state: Mapping[str, Any], statistics: FloatArray | None = None
) -> list[int]:
    """Write a state dict to the parameters, and to the statistics if there are any.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)
        Written to, if everything fits.
    state : mapping of str to Tensor or ndarray
        With the names and shapes of `state_dict`, or what ``safetensors.torch.load_file`` reads from a checkpoint; the
        state of the optimizer and of callbacks is ignored.
    statistics : ndarray, shape (n_statistics,), optional
        Written to as well.

    Returns
    -------
    list of int
        ``num_batches_tracked`` of each batch normalisation.

    Raises
    ------
    ValueError
        A name is missing or unknown, a shape differs, a value is not finite, a variance is negative, or the biases of a
        layer that shares one differ; nothing is written.

    Examples
    --------
    >>> parameters = np.zeros(3, np.float32)
    >>> load_state_dict(Network([2, 1]), parameters, {"0.weight": np.array([[1, 2]]), "0.bias": np.array([3])})
    []
    >>> parameters
    array([1., 2., 3.], dtype=float32)
    """
    state = {name: value for name, value in state.items() if not name.startswith((OPTIMIZER, CALLBACKS))}
    expected = state_dict(network, parameters)
    if state.keys() != expected.keys():
        missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
        raise ValueError(f"state has no {missing} and unknown {unknown}; accepted: {list(expected)}")
    loaded, running = np.empty_like(parameters), network.initial_statistics(parameters.dtype)
    parts = {tensor.name: view for tensor, view in _named(network, loaded, running)}
    counts = {name: torch.zeros((), dtype=torch.int64) for name in tracked_names(network)}
    for name, wanted in expected.items():
        view, tensor = (parts | counts)[name], torch.as_tensor(state[name]).detach()
        if tensor.shape not in (wanted.shape, view.shape):  # (1,) of a shared bias in a checkpoint
            raise ValueError(f"state's {name} has shape {tuple(tensor.shape)}, but must have {tuple(wanted.shape)}")
        if view.shape != tensor.shape and not bool((tensor == tensor[0]).all()):
            raise ValueError(f"state's {name} has different numbers, but the network's layers have one bias each")
        view.copy_(tensor[: len(view)] if view.ndim else tensor)
    if not (np.isfinite(loaded).all() and np.isfinite(running).all()):
        raise ValueError("state has NaN or infinity, or numbers that overflow the parameters' dtype")
    if any(bool((pair.variance < 0).any()) for pair in network.split_statistics(running)):
        raise ValueError("state has a running_var below 0, but a variance is 0 or more")
    np.copyto(parameters, loaded)
    if statistics is not None:
        np.copyto(statistics, running)
    return [int(count) for count in counts.values()]
