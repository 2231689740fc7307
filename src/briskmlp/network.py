"""The architecture: layer sizes and activations, and where each weight lives in ONE flat buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from briskmlp._messages import check_choice, describe_bytes

ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity", "softmax", "leaky_relu", "exp")
HIDDEN_ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
BIASES = ("neuron", "layer", "none")
MAX_SIZE = 2**63 - 1  # kernels count in int64

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class Network:
    """A dense network: widths, one activation per layer, and the kind of bias.

    Parameters
    ----------
    layers : sequence of int
        Widths from input to output, at least two: ``[784, 30, 10]`` has two layers of weights.
    hidden : str or sequence of str
        ``"sigmoid" "tanh" "relu" "leaky_relu" "identity"``; one name, or one per hidden layer. leaky_relu is z above 0
        and 0.01 z below.
    output : str
        As ``hidden``, or ``"softmax"``, or ``"exp"``.
    bias : {"neuron", "layer", "none"}
        One bias per neuron; one shared by all neurons of a layer; or none.

    Raises
    ------
    ValueError, TypeError
        For fewer than two layers, a width below 1, or an unknown name.

    Notes
    -----
    The parameters of the whole network are one flat buffer, ``W[1] b[1] W[2] b[2] …``, each in C order
    without padding. Layer l here is the mathematics' l+1.

    Examples
    --------
    >>> network = Network([2, 3, 1])
    >>> network.n_parameters
    13
    >>> [W.shape for W in network.weights(np.zeros(13))]
    [(2, 3), (3, 1)]
    """

    layers: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str
    bias: str

    def __init__(
        self,
        layers: Sequence[int],
        hidden: str | Sequence[str] = "sigmoid",
        output: str = "sigmoid",
        bias: str = "neuron",
    ) -> None:
        widths = _check_layers(layers)
        n_hidden = len(widths) - 2
        if isinstance(hidden, str):
            check_choice("hidden", hidden, HIDDEN_ACTIVATIONS)
        elif not isinstance(hidden, Sequence):
            raise TypeError(f"hidden must be the name of an activation or a list of names, got {hidden!r}")
        names = (hidden,) * n_hidden if isinstance(hidden, str) else tuple(hidden)
        if len(names) != n_hidden:
            raise ValueError(f"hidden has {len(names)} activations, but layers has {n_hidden} hidden layers")
        for name in names:
            check_choice("hidden", name, HIDDEN_ACTIVATIONS)
        object.__setattr__(self, "layers", widths)
        object.__setattr__(self, "hidden", names)
        object.__setattr__(self, "output", check_choice("output", output, ACTIVATIONS))
        object.__setattr__(self, "bias", check_choice("bias", bias, BIASES))
        if self.n_parameters >= MAX_SIZE // 64:  # the bytes of their copies and states are counted, too
            raise ValueError(f"layers {list(widths)} have {self.n_parameters} parameters, more than can be counted")

    @property
    def activations(self) -> tuple[str, ...]:
        """One activation per layer of weights."""
        return (*self.hidden, self.output)

    @property
    def n_layers(self) -> int:
        """Layers of weights: one less than ``len(layers)``."""
        return len(self.layers) - 1

    @property
    def n_in(self) -> int:
        """Width of the input."""
        return self.layers[0]

    @property
    def n_out(self) -> int:
        """Width of the output."""
        return self.layers[-1]

    def bias_size(self, layer: int) -> int:
        """How many biases a layer has.

        Parameters
        ----------
        layer : int
            Counted from 0.
        """
        return {"neuron": self.layers[layer + 1], "layer": 1, "none": 0}[self.bias]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """For each layer, where its weights and where its biases start in the flat buffer."""
        starts, end = [], 0
        for layer in range(self.n_layers):
            n_weights = self.layers[layer] * self.layers[layer + 1]
            starts.append((end, end + n_weights))
            end += n_weights + self.bias_size(layer)
        return starts

    @property
    def n_parameters(self) -> int:
        """Length of the flat parameter buffer."""
        last = self.n_layers - 1
        return self.offsets[last][1] + self.bias_size(last)

    def weights(self, parameters: FloatArray) -> list[FloatArray]:
        """Return views ``(n_in, n_out)`` of each layer's weights in a flat buffer.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        """
        shapes = zip(self.layers[:-1], self.layers[1:], strict=True)
        return [
            parameters[start : start + n_in * n_out].reshape(n_in, n_out)
            for (start, _), (n_in, n_out) in zip(self.offsets, shapes, strict=True)
        ]

    def biases(self, parameters: FloatArray) -> list[FloatArray]:
        """Return views of each layer's biases: ``(n_out,)``, ``(1,)`` when shared by the layer, ``(0,)`` for none.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        """
        return [parameters[start : start + self.bias_size(layer)] for layer, (_, start) in enumerate(self.offsets)]

    def summary(self, dtype: str = "float32") -> str:
        """Return a table of the layers with their parameters, and the memory that these take.

        Parameters
        ----------
        dtype : str

        Examples
        --------
        >>> print(Network([2, 3, 1]).summary())
        layer  shape   activation  parameters
        1      2 -> 3  sigmoid              9
        2      3 -> 1  sigmoid              4
        total: 13 parameters, 52 bytes as float32
        """
        rows = [("layer", "shape", "activation", "parameters")]
        for layer, (n_in, n_out) in enumerate(zip(self.layers[:-1], self.layers[1:], strict=True)):
            count = n_in * n_out + self.bias_size(layer)
            rows.append((str(layer + 1), f"{n_in} -> {n_out}", self.activations[layer], f"{count:,}"))
        width = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c:<{width[2]}}  {d:>{width[3]}}".rstrip() for a, b, c, d in rows]
        n_bytes = self.n_parameters * np.dtype(dtype).itemsize
        return "\n".join([*lines, f"total: {self.n_parameters:,} parameters, {describe_bytes(n_bytes)} as {dtype}"])

    def to_mermaid(self, kind: str = "network", parameters: FloatArray | None = None) -> str:
        """Return the diagram that textbooks draw, as Mermaid ``graph LR`` text.

        Parameters
        ----------
        kind : {"network", "neuron"}
            All layers; or one neuron of the first layer with its weighted sum and activation.
        parameters : ndarray, shape (n_parameters,), optional
            Writes weights and biases on the arrows.
        """
        from briskmlp.diagram import mermaid  # a drawing is no part of what training loads

        return mermaid(self, check_choice("kind", kind, ("network", "neuron")), parameters)


def _check_layers(layers: Sequence[int]) -> tuple[int, ...]:
    if isinstance(layers, (str, bytes)) or not isinstance(layers, (Sequence, np.ndarray)):
        raise TypeError(f"layers must be a sequence of widths such as [784, 100, 10], got {layers!r}")
    widths = []
    for position, width in enumerate(layers):
        if isinstance(width, (bool, np.bool_)) or not isinstance(width, (int, np.integer)):
            raise TypeError(f"layers[{position}] must be an integer, got {width!r}")
        if width < 1:
            raise ValueError(f"layers[{position}] is {width}, but a layer has at least 1 neuron")
        if width > MAX_SIZE:  # may have more digits than Python writes
            raise ValueError(f"layers[{position}] is above 2**63 - 1, more neurons than can be counted")
        widths.append(int(width))
    if len(widths) < 2:
        raise ValueError(f"layers has {len(widths)} widths, but needs at least 2: input and output")
    return tuple(widths)
