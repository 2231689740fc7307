"""Initial parameters: Glorot and He uniform, or arrays given by the user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from briskmlp._messages import check_choice
from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import Activation, chosen
from briskmlp.operations.layers import INITIAL, LAYERS
from briskmlp.random import symmetric_uniform

Initializer = str | FloatArray | Sequence[tuple[Any, Any]] | None
NAMES = ("glorot", "he")


def check_initializer(initializer: Initializer) -> None:
    """Raise an error for an unknown name; arrays are checked later, when the network's shapes are known."""
    if isinstance(initializer, str):
        check_choice("initializer", initializer, NAMES)


def initialize(network: Network, initializer: Initializer, seed: int, parameters: FloatArray) -> None:
    """Write a network's initial parameters into its flat buffer.

    ``None`` chooses by the activation of each layer, as the table of activations says: He uniform, ±sqrt(6 / n_in), for
    relu and those that are about z above 0 and little below; uniform with variance 1/n_in for selu; and Glorot uniform,
    ±factor * sqrt(6 / (n_in + n_out)), for the others. The factor is 4 for sigmoid, whose slope at 0 is 1/4, and 1 for
    the others. Biases and the β of normalisations start at 0, their γ at 1. ``"glorot"`` and ``"he"`` use one rule for
    all layers. A flat array, or one ``(W, b)`` per layer, is used as it is.

    Parameters
    ----------
    network : Network
    initializer : {"glorot", "he"}, flat ndarray, sequence of (W, b), or None
        W is (n_in, n_out); b (n_out,), or (1,) when shared by the layer, or (0,) for none.
    seed : int
        Seed of the Philox streams, one per layer, that the values are drawn from.
    parameters : ndarray, shape (n_parameters,)
        Written to.

    Raises
    ------
    ValueError, TypeError
        The arrays do not fit the network, or are not finite; nothing is written.

    References
    ----------
    Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks";
    He et al. 2015, "Delving deep into rectifiers".

    Examples
    --------
    >>> network, parameters = Network([2, 1]), np.empty(3)
    >>> initialize(network, [([[0.1], [0.2]], [0.3])], 0, parameters)
    >>> parameters
    array([0.1, 0.2, 0.3])
    """
    if not (initializer is None or isinstance(initializer, str)):
        parameters[...] = _given(network, initializer, parameters.dtype)
        return
    for tensor in network.tensors:
        parameters[tensor.part] = INITIAL.get(tensor.kind, 0.0)
        if tensor.kind == "weight":
            bound = _bound(initializer, chosen(network.activations[tensor.layer]).row, *tensor.shape)
            parameters[tensor.part] = bound * symmetric_uniform(seed, tensor.layer, tensor.size)


def _bound(initializer: str | None, activation: Activation, n_in: int, n_out: int) -> float:
    gain = initializer or activation.gain
    if gain == "glorot":
        return activation.factor * math.sqrt(6.0 / (n_in + n_out))
    return math.sqrt((6.0 if gain == "he" else 3.0) / n_in)


def _given(network: Network, initializer: Any, dtype: Any) -> FloatArray:
    """Return the user's arrays as one flat buffer, checked before anything is written."""
    flat: FloatArray = np.empty(network.n_parameters, dtype=dtype)
    if isinstance(initializer, np.ndarray) and initializer.ndim == 1:
        if initializer.shape != flat.shape:
            raise ValueError(f"initializer has {initializer.size} numbers, but the network has {flat.size} parameters")
        return _finite("initializer", initializer, dtype)
    if not isinstance(initializer, Sequence) or any(not isinstance(pair, (tuple, list)) for pair in initializer):
        accepted = f"one of {', '.join(map(repr, NAMES))}, a flat array of all parameters, or one (W, b) per layer"
        raise TypeError(f"initializer must be {accepted}, got {type(initializer).__name__}")
    n_pairs, lengths = len(initializer), {len(pair) for pair in initializer}
    if n_pairs != network.n_layers:
        raise ValueError(f"initializer has {n_pairs} (W, b) pairs, but the network has {network.n_layers} layers")
    if lengths != {2}:
        raise ValueError(f"initializer has entries of lengths {sorted(lengths)}, but each must be a pair (W, b)")
    for tensor in network.tensors:
        flat[tensor.part] = INITIAL.get(tensor.kind, 0.0)
    dense = (tensor for tensor in network.tensors if tensor.kind in LAYERS["dense"].tensors)
    for tensor, given in zip(dense, chain.from_iterable(initializer), strict=True):
        label = f"initializer's {'W' if tensor.kind == 'weight' else 'b'}[{tensor.layer}]"
        array = _finite(label, given, dtype)
        if array.shape != tensor.shape:
            raise ValueError(f"{label} has shape {array.shape}, but needs {tensor.shape}")
        flat[tensor.part] = array.ravel()
    return flat


def _finite(label: str, given: Any, dtype: Any) -> FloatArray:
    try:
        source = np.asarray(given)
    except ValueError:
        raise ValueError(f"{label} is ragged, but must be an array") from None
    if source.dtype.kind not in "fiub":
        raise TypeError(f"{label} has dtype {source.dtype}, but must hold real numbers")
    with np.errstate(over="ignore"):
        array: FloatArray = source.astype(dtype)
    if not np.isfinite(array).all():
        raise ValueError(f"{label} has values that are not finite as {np.dtype(dtype)}")
    return array
