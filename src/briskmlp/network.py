"""The architecture: layer sizes and activations, and where each weight and its gradient live in ONE flat buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from briskmlp._messages import check_choice, check_each, check_integer, describe_bytes
from briskmlp.operations import FloatArray as FloatArray  # noqa: PLC0414 - its users' path
from briskmlp.operations import activations
from briskmlp.operations.activations import HIDDEN, ActivationLike, check_activation
from briskmlp.operations.layers import BIASES, LAYERS, Tensor

ACTIVATIONS = tuple(activations.ACTIVATIONS)
HIDDEN_ACTIVATIONS = HIDDEN
MAX_SIZE = 2**63 - 1  # kernels count in int64


@dataclass(frozen=True)
class Network:
    """A dense network: widths, one activation per layer, and the kind of bias.

    Parameters
    ----------
    layers : sequence of int
        Widths from input to output, at least two: ``[784, 30, 10]`` has two layers of weights.
    hidden : str, activation object, or sequence of these
        One for all hidden layers, or one for each: a name such as ``"relu"`` (``HIDDEN_ACTIVATIONS`` has them all), an
        object with parameters such as ``LeakyReLU(0.2)``, or its text, ``"leaky_relu(0.2)"``.
    output : str or activation object
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
    >>> Network([2, 3, 1], hidden=activations.LeakyReLU(0.2), output="identity").activations
    ('leaky_relu(0.2)', 'identity')
    """

    layers: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str
    bias: str

    def __init__(
        self,
        layers: Sequence[int],
        hidden: ActivationLike | Sequence[ActivationLike] = "sigmoid",
        output: ActivationLike = "sigmoid",
        bias: str = "neuron",
    ) -> None:
        if isinstance(layers, (str, bytes)) or not isinstance(layers, (Sequence, np.ndarray)):
            raise TypeError(f"layers must be a sequence of widths such as [784, 100, 10], got {layers!r}")
        if len(layers) < 2:
            raise ValueError(f"layers has {len(layers)} widths, but needs at least 2: input and output")
        widths = tuple(check_integer(f"layers[{position}]", width, low=1) for position, width in enumerate(layers))
        if (widest := max(widths)) > MAX_SIZE:  # may have more digits than Python writes
            raise ValueError(f"layers[{widths.index(widest)}] is above 2**63 - 1, more neurons than can be counted")
        check_hidden = partial(check_activation, names=HIDDEN)
        object.__setattr__(self, "layers", widths)
        object.__setattr__(self, "hidden", check_each("hidden", hidden, len(widths) - 2, check_hidden))
        object.__setattr__(self, "output", check_activation("output", output))
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

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is learned, in the order of the flat buffer: the only place where offsets are counted."""
        return self._tensors(LAYERS["dense"].tensors)

    @property
    def statistics(self) -> tuple[Tensor, ...]:
        """What training changes although no gradient moves it, in the order of a flat buffer of its own."""
        return self._tensors(LAYERS["dense"].statistics)

    def _tensors(self, kinds: Sequence[str]) -> tuple[Tensor, ...]:
        tensors, offset = [], 0
        for layer in range(self.n_layers):
            for kind in kinds:
                shape = LAYERS["dense"].shape(kind, self.layers[layer], self.layers[layer + 1], self.bias)
                tensors.append(Tensor(f"{2 * layer}.{kind}", layer, kind, offset, shape))
                offset += tensors[-1].size
        return tuple(tensors)

    @property
    def n_parameters(self) -> int:
        """Length of the flat parameter buffer."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def n_statistics(self) -> int:
        """Length of the flat buffer of statistics."""
        return sum(tensor.size for tensor in self.statistics)

    def views(self, parameters: FloatArray, kind: str | None = None) -> list[FloatArray]:
        """Return views of all `tensors`, or of those of a kind, in a flat buffer.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        kind : {"weight", "bias"}, optional
        """
        return [parameters[t.part].reshape(t.shape) for t in self.tensors if kind in (None, t.kind)]

    def weights(self, parameters: FloatArray) -> list[FloatArray]:
        """Return views ``(n_in, n_out)`` of each layer's weights in a flat buffer.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        """
        return self.views(parameters, "weight")

    def biases(self, parameters: FloatArray) -> list[FloatArray]:
        """Return views of each layer's biases: ``(n_out,)``, ``(1,)`` when shared by the layer, ``(0,)`` for none.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        """
        return self.views(parameters, "bias")

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
        rows, tensors = [("layer", "shape", "activation", "parameters")], self.tensors
        for layer, activation in enumerate(self.activations):
            count = sum(tensor.size for tensor in tensors if tensor.layer == layer)
            rows.append((str(layer + 1), f"{self.layers[layer]} -> {self.layers[layer + 1]}", activation, f"{count:,}"))
        width = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c:<{width[2]}}  {d:>{width[3]}}".rstrip() for a, b, c, d in rows]
        size = describe_bytes(self.n_parameters * np.dtype(dtype).itemsize)
        return "\n".join([*lines, f"total: {self.n_parameters:,} parameters, {size} as {dtype}"])

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


class Gradient:
    """The gradient of the loss, laid out as the parameters are; what ``Trainer.loss_and_gradient`` returns.

    Parameters
    ----------
    network : Network
    flat : ndarray, shape (n_parameters,)

    Attributes
    ----------
    flat : ndarray, shape (n_parameters,)
    weights : list of ndarray, (n_in, n_out) each
        ∂E/∂W, views of ``flat``.
    biases : list of ndarray, (n_out,) each; (1,) when shared by the layer, (0,) for none
        ∂E/∂b, views of ``flat``.

    Examples
    --------
    >>> gradient = Gradient(Network([2, 1]), np.array([1.0, 2.0, 3.0]))
    >>> gradient.weights, gradient.biases
    ([array([[1.],
           [2.]])], [array([3.])])
    """

    def __init__(self, network: Network, flat: FloatArray) -> None:
        self.flat = flat
        self.weights = network.weights(flat)
        self.biases = network.biases(flat)
