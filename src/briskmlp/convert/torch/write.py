"""A network and its parameters as a PyTorch module, and as a state dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.convert.torch.read import views
from briskmlp.convert.torch.steps import Exp
from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import chosen
from briskmlp.storage.checkpoint import CALLBACKS, OPTIMIZER


def to_torch(network: Network, parameters: FloatArray, dropout: Sequence[float] = ()) -> nn.Sequential:
    """Return an ``nn.Sequential`` that computes what the network does, with a copy of its parameters.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64
        Those of ``Linear`` l, which has index 2l. A bias shared by a layer becomes an equal bias for each neuron; it is
        shared no longer.
    dropout : sequence of float, optional
        One rate per hidden layer. With dropout, its activation, at index 2l+1, is ``Sequential(activation, Dropout)``.

    Returns
    -------
    nn.Sequential
        In training mode. A network for cross-entropy ends in Softmax or Sigmoid; drop this last layer for
        ``CrossEntropyLoss`` or ``BCEWithLogitsLoss``, which take what comes before it.

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
    layers: list[nn.Module] = []
    rates = [*(dropout or [0.0] * (network.n_layers - 1)), 0.0]
    for (n_in, n_out), name, rate in zip(pairwise(network.layers), network.activations, rates, strict=True):
        # PyTorch's own initial weights would be drawn from, and move, the user's random state.
        with_bias = network.bias != "none"
        layers.append(nn.utils.skip_init(nn.Linear, n_in, n_out, with_bias, dtype=dtype))  # type: ignore[no-untyped-call] # PyTorch's
        activation = _module_of(name)
        layers.append(nn.Sequential(activation, nn.Dropout(rate)) if rate else activation)
    module = nn.Sequential(*layers)
    module.load_state_dict(state_dict(network, parameters))
    return module


def _module_of(text: str) -> nn.Module:
    """Return the module of an activation."""
    row, values = chosen(text)
    if row.torch.module is None:
        return Exp()
    options = {"dim": 1} if row.df is None else row.torch.options
    module: nn.Module = getattr(nn, row.torch.module)(**options, **dict(zip(row.parameters, values, strict=True)))
    return module


def state_dict(network: Network, parameters: FloatArray) -> dict[str, Tensor]:
    """Return a copy of the parameters with PyTorch's names and shapes.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64

    Returns
    -------
    dict of str to Tensor
        ``"{2l}.weight"`` (n_out, n_in) and, unless there are none, ``"{2l}.bias"`` (n_out,).

    Examples
    --------
    >>> {name: tuple(tensor.shape) for name, tensor in state_dict(Network([3, 2]), np.zeros(8)).items()}
    {'0.weight': (2, 3), '0.bias': (2,)}
    """
    state = {}
    for tensor, view in zip(network.tensors, views(network, parameters), strict=True):
        if tensor.size:
            shape = (network.layers[tensor.layer + 1],) if tensor.kind == "bias" else view.shape
            state[tensor.name] = view.expand(shape).clone(memory_format=torch.contiguous_format)
    return state


def load_state_dict(network: Network, parameters: FloatArray, state: Mapping[str, Any]) -> None:
    """Write a state dict to the parameters.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)
        Written to, if everything fits.
    state : mapping of str to Tensor or ndarray
        With the names and shapes of `state_dict`, or what ``safetensors.torch.load_file`` reads from a checkpoint; the
        state of the optimizer and of callbacks is ignored.

    Raises
    ------
    ValueError
        A name is missing or unknown, a shape differs, a value is not finite, or the biases of a layer that shares one
        differ; nothing is written.

    Examples
    --------
    >>> parameters = np.zeros(3, np.float32)
    >>> load_state_dict(Network([2, 1]), parameters, {"0.weight": np.array([[1, 2]]), "0.bias": np.array([3])})
    >>> parameters
    array([1., 2., 3.], dtype=float32)
    """
    state = {name: value for name, value in state.items() if not name.startswith((OPTIMIZER, CALLBACKS))}
    expected = state_dict(network, parameters)
    if state.keys() != expected.keys():
        missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
        raise ValueError(f"state has no {missing} and unknown {unknown}; accepted: {list(expected)}")
    loaded = np.empty_like(parameters)
    parts = dict(zip((tensor.name for tensor in network.tensors), views(network, loaded), strict=True))
    for name, wanted in expected.items():
        view, tensor = parts[name], torch.as_tensor(state[name]).detach()
        if tensor.shape not in (wanted.shape, view.shape):  # (1,) of a shared bias in a checkpoint
            raise ValueError(f"state's {name} has shape {tuple(tensor.shape)}, but must have {tuple(wanted.shape)}")
        if view.shape != tensor.shape and not bool((tensor == tensor[0]).all()):
            raise ValueError(f"state's {name} has different numbers, but the network's layers have one bias each")
        view.copy_(tensor[: len(view)])
    if not np.isfinite(loaded).all():
        raise ValueError("state has NaN or infinity, or numbers that overflow the parameters' dtype")
    np.copyto(parameters, loaded)
