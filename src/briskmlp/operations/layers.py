"""The layers: which tensors each kind has, how large they are, and what a normalisation computes.

A normalisation stands between a layer's sums and its activation or after that, or before the first layer. For each
column (batch) or each row (layer) of its input, N with mean m and biased variance v:

    forward     N̂ = (N - m) / sqrt(v + ε)             γ N̂ + β
    backward    dγ = Σ_rows d N̂    dβ = Σ_rows d      dN = (g - mean(g) - N̂ mean(g N̂)) / sqrt(v + ε)    where g = γ d

Predictions take a batch normalisation's running mean and variance for m and v; each step of training moves these
towards the batch's by ``momentum``, the variance being the unbiased one, n / (n - 1) v. A new kind of normalisation is
a row at the end of `LAYERS`, and its definition in ``tests/oracle.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from briskmlp._messages import Checked, check_choice, check_number, check_positive
from briskmlp.operations import FloatArray
from briskmlp.operations.texts import defaults_of, given_in, split, text_of, values_in

__all__ = ["BatchNorm", "LayerNorm"]  # what briskmlp exports

BIASES = ("neuron", "layer", "none")
POSITIONS = ("before", "after")  # of a normalisation: its activation comes after it, or before it


class Tensor(NamedTuple):
    """A part of a flat buffer."""

    name: str  # as PyTorch names it in nn.Sequential(Linear, activation, Linear, …): "0.weight"
    layer: int  # from 0; -1 before the first
    kind: str  # "weight" or "bias"; of a normalisation "gamma" or "beta", or "running_mean" or "running_var"
    offset: int
    shape: tuple[int, ...]  # of a weight (n_in, n_out), PyTorch's transposed

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def part(self) -> slice:
        """Where it lies in the flat buffer."""
        return slice(self.offset, self.offset + self.size)


# --- normalisations with parameters ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchNorm(Checked):
    """Batch normalisation: each neuron has mean 0 and variance 1 over a batch, times γ plus β, which are learned.

    Parameters
    ----------
    momentum : float, in [0, 1]
        The share of a batch in the new running mean and variance, with which predictions are made. PyTorch's None, the
        mean of all batches, is not supported.
    eps : float, > 0
        Added to the variance.

    References
    ----------
    Ioffe & Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift"; torch.nn.BatchNorm1d.

    Examples
    --------
    >>> str(BatchNorm(momentum=0.01)), str(BatchNorm())
    ('batch(0.01, 1e-05)', 'batch')
    """

    bounds: ClassVar = {"momentum": partial(check_number, low=0.0, high=1.0), "eps": check_positive}
    momentum: float = 0.1
    eps: float = 1e-5

    def __str__(self) -> str:
        """Return "batch", and in parentheses the parameters unless both have their defaults."""
        return text_of("batch", self)


@dataclass(frozen=True)
class LayerNorm(Checked):
    """Layer normalisation: a row has mean 0 and variance 1 over a layer's neurons, times γ plus β, which are learned.

    Parameters
    ----------
    eps : float, > 0
        Added to the variance.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer normalization"; torch.nn.LayerNorm.

    Examples
    --------
    >>> str(LayerNorm(eps=1e-3)), str(LayerNorm())
    ('layer(0.001)', 'layer')
    """

    bounds: ClassVar = {"eps": check_positive}
    eps: float = 1e-5

    def __str__(self) -> str:
        """Return "layer", and in parentheses eps unless it has its default."""
        return text_of("layer", self)


NormLike = str | BatchNorm | LayerNorm  # a name, such an object, or its text


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """A row of the table: a kind of layer."""

    name: str
    tensors: tuple[str, ...]  # that are trained
    statistics: tuple[str, ...] = ()  # that no gradient moves
    shape: Callable[[str, int, int, str], tuple[int, ...]]  # of a tensor, from n_in, n_out and the kind of bias
    # of a normalisation: its class, which has the parameters and their bounds; the axis over which it takes means; the
    # class in torch.nn, and ONNX's operator
    kind: Any = None
    axis: int = 0
    torch: str = ""
    onnx: str = ""

    @property
    def parameters(self) -> dict[str, float]:
        """The names of the parameters, with their defaults."""
        return defaults_of(self.kind)


def _dense_shape(tensor: str, n_in: int, n_out: int, bias: str) -> tuple[int, ...]:
    return (n_in, n_out) if tensor == "weight" else ({"neuron": n_out, "layer": 1, "none": 0}[bias],)


def _norm_shape(tensor: str, n_in: int, n_out: int, bias: str) -> tuple[int, ...]:
    return (n_out,)


BY_CODE = (
    Layer(name="dense", tensors=("weight", "bias"), shape=_dense_shape),
    Layer(
        name="batch", tensors=("gamma", "beta"), statistics=("running_mean", "running_var"), shape=_norm_shape,
        torch="BatchNorm1d", kind=BatchNorm, axis=0, onnx="BatchNormalization",
    ),
    Layer(
        name="layer", tensors=("gamma", "beta"), shape=_norm_shape, torch="LayerNorm", kind=LayerNorm, axis=1,
        onnx="LayerNormalization",
    ),
)  # fmt: skip
LAYERS = {row.name: row for row in BY_CODE}
CODES = {row.name: code for code, row in enumerate(BY_CODE)}  # where there is no normalisation, its code is 0
NORMS = tuple(row.name for row in BY_CODE if row.kind is not None)
TORCH_NAMES = {"gamma": "weight", "beta": "bias"}  # of a tensor that PyTorch calls otherwise
INITIAL = {"gamma": 1.0, "beta": 0.0, "running_mean": 0.0, "running_var": 1.0}  # as in PyTorch


class Norm(NamedTuple):
    """A normalisation of a network."""

    place: int  # 0 is before the first layer, l in layer l, counted from 1
    text: str
    position: str  # one of POSITIONS

    @property
    def row(self) -> Layer:
        """The row that the text names."""
        return LAYERS[self.text.partition("(")[0]]

    @property
    def label(self) -> str:
        """How people read it: "batch norm", "layer norm(0.001)"."""
        name, bracket, inside = self.text.partition("(")
        return f"{name} norm{bracket}{inside}"

    @property
    def values(self) -> dict[str, float]:
        """Its parameters by their names."""
        return dict(zip(self.row.parameters, values_in(self.text, self.row.parameters), strict=True))


def check_norm(argument: str, value: Any) -> str | None:
    """Return the text of a normalisation, which is its name alone where its parameters have their defaults, or None.

    Examples
    --------
    >>> check_norm("norm", BatchNorm(momentum=0.01)), check_norm("norm", "layer(eps=1e-5)"), check_norm("norm", None)
    ('batch(0.01, 1e-05)', 'layer', None)
    """
    if value is None:
        return None
    if isinstance(value, (BatchNorm, LayerNorm)):
        return str(value)
    named, inside = split(value)
    name = check_choice(argument, named, NORMS)
    row = LAYERS[name]
    given = given_in(argument, value, name, inside, row.parameters)
    try:
        return str(row.kind(**given))
    except ValueError as error:
        raise ValueError(f"{argument} is {value!r}: {error}") from None


check_position = partial(check_choice, choices=POSITIONS)


# --- the mathematics -------------------------------------------------------------------------------------------------


class Standardised(NamedTuple):
    """N̂, and what backward needs besides."""

    N: FloatArray  # N̂
    scale: FloatArray  # 1 / sqrt(v + ε), which broadcasts with N̂, as do these:
    mean: FloatArray
    variance: FloatArray  # biased


def standardise(N: FloatArray, axis: int, eps: float) -> Standardised:
    """Return N with mean 0 and variance 1 along an axis; its sums are added up in float64."""
    mean = N.mean(axis=axis, keepdims=True, dtype=np.float64).astype(N.dtype)
    variance = np.square(N - mean).mean(axis=axis, keepdims=True, dtype=np.float64)
    return standardise_by(N, mean, variance, eps)


def standardise_by(N: FloatArray, mean: FloatArray, variance: FloatArray, eps: float) -> Standardised:
    """Return N normalised by a mean and a variance that are given."""
    scale = np.asarray(1 / np.sqrt(np.asarray(variance, dtype=np.float64) + eps), dtype=N.dtype)
    return Standardised((N - mean) * scale, scale, mean, variance)


def through_norm(g: FloatArray, by: Standardised, axis: int) -> FloatArray:
    """Return the gradient with respect to N from that with respect to N̂."""
    along = (g * by.N).mean(axis=axis, keepdims=True, dtype=np.float64).astype(g.dtype)
    mean = g.mean(axis=axis, keepdims=True, dtype=np.float64).astype(g.dtype)
    return np.asarray(by.scale * (g - mean - by.N * along))


def norms_of(hidden: Sequence[str | None], positions: Sequence[str], first: str | None, last: str | None) -> list[Norm]:
    """Return the normalisations of a network in the order of their places."""
    texts = [first, *hidden, last]
    sides = ["before", *positions, "before"]
    return [
        Norm(place, text, side) for place, (text, side) in enumerate(zip(texts, sides, strict=True)) if text is not None
    ]
