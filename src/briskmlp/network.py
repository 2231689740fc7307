"""The architecture: layer sizes, activations and normalisations, and where each weight lives in ONE flat buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from briskmlp._messages import check_choice, check_each, check_integer, describe_bytes
from briskmlp.operations import FloatArray as FloatArray  # noqa: PLC0414 - its users' path
from briskmlp.operations import activations
from briskmlp.operations.activations import HIDDEN, ActivationLike, check_activation
from briskmlp.operations.layers import (
    BIASES,
    INITIAL,
    LAYERS,
    TORCH_NAMES,
    Layer,
    Norm,
    NormLike,
    Tensor,
    check_norm,
    check_position,
    norms_of,
)

ACTIVATIONS = tuple(activations.ACTIVATIONS)
HIDDEN_ACTIVATIONS = HIDDEN
NORM_ARGUMENTS = ("norm", "norm_position", "input_norm", "output_norm")
MAX_SIZE = 2**63 - 1  # kernels count in int64


@dataclass(frozen=True, repr=False)
class Network:
    """A dense network: widths, one activation per layer, the kind of bias, and normalisations.

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
    norm : {None, "batch", "layer"}, BatchNorm, LayerNorm, or sequence of these
        Normalisation in the hidden layers, one for all or one for each: of each neuron over a batch, or of each row
        over a layer's neurons; `BatchNorm` and `LayerNorm` have parameters, as texts do: ``"batch(0.01, 1e-3)"``.
    norm_position : {"before", "after"}, or sequence of these
        Where it stands: before the activation, on the layer's sums, or after it.
    input_norm, output_norm : as norm, one of these
        Normalisation before the first layer, and of the last layer's sums.

    Raises
    ------
    ValueError, TypeError
        For fewer than two layers, a width below 1, or an unknown name.

    Notes
    -----
    The parameters of the whole network are one flat buffer, ``W[1] b[1] W[2] b[2] …``, each in C order
    without padding, and after these γ and β of each normalisation, in the order of their layers. Layer l here is the
    mathematics' l+1.

    Examples
    --------
    >>> network = Network([2, 3, 1])
    >>> network.n_parameters
    13
    >>> [W.shape for W in network.weights(np.zeros(13))]
    [(2, 3), (3, 1)]
    >>> Network([2, 3, 1], hidden=activations.LeakyReLU(0.2), output="identity").activations
    ('leaky_relu(0.2)', 'identity')
    >>> Network([2, 3, 1], norm="batch").norms
    (Norm(place=1, text='batch', position='before'),)
    """

    layers: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str
    bias: str
    # Defaults are those of networks that were pickled before there were normalisations. Empty where there is none.
    norm: tuple[str | None, ...] = ()
    norm_position: tuple[str, ...] = ()
    input_norm: str | None = None
    output_norm: str | None = None

    def __init__(
        self,
        layers: Sequence[int],
        hidden: ActivationLike | Sequence[ActivationLike] = "sigmoid",
        output: ActivationLike = "sigmoid",
        bias: str = "neuron",
        norm: NormLike | Sequence[NormLike | None] | None = None,
        norm_position: str | Sequence[str] = "before",
        input_norm: NormLike | None = None,
        output_norm: NormLike | None = None,
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
        norms = check_each("norm", norm, len(widths) - 2, check_norm)
        positions = check_each("norm_position", norm_position, len(widths) - 2, check_position)
        if any(norms):
            pairs = zip(norms, positions, strict=True)
            object.__setattr__(self, "norm", norms)
            object.__setattr__(self, "norm_position", tuple(side if text else "before" for text, side in pairs))
        object.__setattr__(self, "input_norm", check_norm("input_norm", input_norm))
        object.__setattr__(self, "output_norm", check_norm("output_norm", output_norm))
        if self.n_parameters >= MAX_SIZE // 64:  # the bytes of their copies and states are counted, too
            raise ValueError(f"layers {list(widths)} have {self.n_parameters} parameters, more than can be counted")

    def __repr__(self) -> str:
        return f"Network({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that make this network; of normalisations those that it has."""
        names = ["layers", "hidden", "output", "bias"]
        names += [name for name in NORM_ARGUMENTS if getattr(self, name)]
        return {name: getattr(self, name) for name in names}

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
    def norms(self) -> tuple[Norm, ...]:
        """The normalisations, from the input to the output."""
        n_hidden = self.n_layers - 1
        hidden, positions = self.norm or (None,) * n_hidden, self.norm_position or ("before",) * n_hidden
        return tuple(norms_of(hidden, positions, self.input_norm, self.output_norm))

    @property
    def has_batch_norm(self) -> bool:
        """Whether training normalises over batches, which then need at least two rows."""
        return any(norm.row.statistics for norm in self.norms)

    def functions(self, place: int) -> list[str]:
        """Return what is applied to a layer's sums, in order: activation and normalisation, by their texts.

        Parameters
        ----------
        place : int
            l for layer l, counted from 1; 0 is the input, to which a normalisation alone may be applied.

        Examples
        --------
        >>> Network([2, 3, 1], "relu", norm="layer").functions(1)
        ['layer norm', 'relu']
        """
        norms = {norm.place: norm.label for norm in self.norms}
        return [
            norms[place] if what == "norm" else self.activations[place - 1]
            for what, at in self.modules
            if at == place and what != "dense"
        ]

    @property
    def modules(self) -> list[tuple[str, int]]:
        """What PyTorch's Sequential of this network consists of: "dense", "activation" or "norm", each with its place.

        The place is l for layer l, counted from 1, and 0 before the first. Positions in this list name the tensors.
        """
        norms = {norm.place: norm.position for norm in self.norms}
        modules = [("norm", 0)] * (0 in norms)
        for place in range(1, self.n_layers + 1):
            inner = ["activation"]
            if place in norms:
                inner.insert(norms[place] == "after", "norm")
            modules += [("dense", place), *((what, place) for what in inner)]
        return modules

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is learned, in the order of the flat buffer: the only place where offsets are counted."""
        return self._tensors(lambda row: row.tensors)

    @property
    def statistics(self) -> tuple[Tensor, ...]:
        """What training changes although no gradient moves it, in the order of a flat buffer of its own."""
        return self._tensors(lambda row: row.statistics)

    def _tensors(self, kinds: Callable[[Layer], tuple[str, ...]]) -> tuple[Tensor, ...]:
        tensors, offset, modules = list[Tensor](), 0, self.modules
        norms = {norm.place: norm for norm in self.norms}
        for what in ("dense", "norm"):
            for position, (kind_of_module, place) in enumerate(modules):
                if kind_of_module != what:
                    continue
                row = LAYERS["dense"] if what == "dense" else norms[place].row
                for kind in kinds(row):
                    shape = row.shape(kind, self.layers[max(place - 1, 0)], self.layers[place], self.bias)
                    name = f"{position}.{TORCH_NAMES.get(kind, kind)}"
                    tensors.append(Tensor(name, place - 1, kind, offset, shape))
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
        kind : {"weight", "bias", "gamma", "beta"}, optional
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

    def gammas(self, parameters: FloatArray) -> list[FloatArray]:
        """Return views (n,) of each normalisation's factors in a flat buffer.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        """
        return self.views(parameters, "gamma")

    def betas(self, parameters: FloatArray) -> list[FloatArray]:
        """Return views (n,) of what each normalisation adds in a flat buffer.

        Parameters
        ----------
        parameters : ndarray, shape (n_parameters,)
        """
        return self.views(parameters, "beta")

    def split_statistics(self, statistics: FloatArray) -> list[Statistics]:
        """Return views of the running mean and variance of each batch normalisation in a flat buffer.

        Parameters
        ----------
        statistics : ndarray, shape (n_statistics,)
        """
        views = [statistics[tensor.part] for tensor in self.statistics]
        return [Statistics(*pair) for pair in zip(views[::2], views[1::2], strict=True)]

    def initial_statistics(self, dtype: Any = "float32") -> FloatArray:
        """Return what running statistics begin with: means 0, variances 1.

        Parameters
        ----------
        dtype : str or dtype

        Returns
        -------
        ndarray, shape (n_statistics,)
        """
        values = [np.full(tensor.shape, INITIAL[tensor.kind], dtype) for tensor in self.statistics]
        return np.concatenate([np.empty(0, dtype), *values])

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
        for place in range(0 if self.input_norm else 1, self.n_layers + 1):
            count = sum(tensor.size for tensor in tensors if tensor.layer == place - 1)
            shape = f"{self.layers[place - 1]} -> {self.layers[place]}" if place else str(self.layers[0])
            rows.append((str(place or ""), shape, ", ".join(self.functions(place)), f"{count:,}"))
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


class Statistics(NamedTuple):
    """The running statistics of a batch normalisation, by which predictions are made.

    Parameters
    ----------
    mean : ndarray, shape (n,)
    variance : ndarray, shape (n,)
        Unbiased.
    """

    mean: FloatArray
    variance: FloatArray


def flattened(statistics: Sequence[Statistics], dtype: Any = "float32") -> FloatArray:
    """Return running statistics as one flat copy, (n_statistics,), laid out as a network's are.

    Parameters
    ----------
    statistics : sequence of Statistics
        Of each batch normalisation, from the input to the output.
    dtype : str or dtype
        Of the array.
    """
    return np.concatenate([np.empty(0, dtype), *(array for pair in statistics for array in pair)], dtype=dtype)


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
    gammas, betas : list of ndarray, (n,) each
        ∂E/∂γ and ∂E/∂β of each normalisation, views of ``flat``.

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
        self.gammas = network.gammas(flat)
        self.betas = network.betas(flat)
