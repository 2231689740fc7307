"""The diagrams that textbooks draw, as Mermaid text: GitHub, Jupyter and most wikis turn it into a picture.

Which neurons of a wide layer are drawn, and what neurons and layers are called, `briskmlp.plotting` has from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

MAX_DRAWN = 6  # a wider layer is drawn as its first three neurons, an ellipsis and its last

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
Column = list[int | None]  # the neurons of a layer that are drawn; None is the ellipsis


class Network(Protocol):
    """What is drawn of a `briskmlp.network.Network`."""

    @property
    def layers(self) -> Sequence[int]:
        """Widths from input to output."""
        ...

    @property
    def activations(self) -> Sequence[str]:
        """One per layer of weights."""
        ...

    @property
    def bias(self) -> str:
        """The kind of bias."""
        ...

    @property
    def n_layers(self) -> int:
        """Layers of weights."""
        ...

    @property
    def n_in(self) -> int:
        """Width of the input."""
        ...

    @property
    def n_parameters(self) -> int:
        """Length of the flat parameters."""
        ...

    def weights(self, parameters: FloatArray, /) -> Sequence[FloatArray]:
        """Return views of each layer's weights, (n_in, n_out)."""
        ...

    def biases(self, parameters: FloatArray, /) -> Sequence[FloatArray]:
        """Return views of each layer's biases."""
        ...


def mermaid(network: Network, kind: str = "network", parameters: FloatArray | None = None) -> str:
    """Return a network, or one neuron of it, as Mermaid ``graph LR`` text.

    Parameters
    ----------
    network : Network
    kind : {"network", "neuron"}
        All layers, with a node Bk for the biases of layer k; or the first neuron of the first layer, with its
        weighted sum z and its activation a.
    parameters : ndarray, shape (n_parameters,), optional
        Writes weights and biases, to four digits, on the arrows.

    Returns
    -------
    str
        Lines without a final newline. Dotted arrows belong to neurons that an ellipsis stands for.

    Raises
    ------
    ValueError
        If ``parameters`` has another shape.

    Examples
    --------
    >>> from briskmlp.network import Network
    >>> print(mermaid(Network([2, 1]), "neuron"))
    graph LR
        x1(("x1")) -->|"× w1"| sum
        x2(("x2")) -->|"× w2"| sum
        B1["B1"] -->|"b"| sum
        sum(("Σ")) -->|"z"| f["sigmoid(z)"]
        f --> a(("a"))
    """
    if parameters is not None and np.shape(parameters) != (network.n_parameters,):
        raise ValueError(
            f"parameters has shape {np.shape(parameters)}, but this network's have shape ({network.n_parameters},)"
        )
    lines = _neuron(network, parameters) if kind == "neuron" else _network(network, parameters)
    return "\n".join(["graph LR", *(f"    {line}" for line in lines)])


def _network(network: Network, parameters: FloatArray | None) -> Iterator[str]:
    names = layer_names(network)
    columns = [_column(width) for width in network.layers]

    for layer, (name, column) in enumerate(zip(names, columns, strict=True)):
        title, *rest = layer_title(network, layer)
        yield f'subgraph layer{layer}["{title}: {", ".join(rest)}"]'
        yield from (f"    {_circle(name, neuron)}" for neuron in column)
        yield "end"

    for layer in range(network.n_layers):
        bias = f"B{layer + 1}"
        if network.bias != "none":
            yield f'{bias}["{bias}"]'
        for target in columns[layer + 1]:
            target_id = _id(names[layer + 1], target)
            for source in columns[layer]:
                label = _weight(network, parameters, layer, source, target)
                yield _arrow(_id(names[layer], source), target_id, label, elided=None in (source, target))
            if network.bias != "none":
                yield _arrow(bias, target_id, _bias(network, parameters, layer, target), elided=target is None)


def _neuron(network: Network, parameters: FloatArray | None) -> Iterator[str]:
    for source in _column(network.n_in):
        weight = "" if source is None else f"× {_weight(network, parameters, 0, source, 0) or f'w{source + 1}'}"
        yield _arrow(_circle("x", source), "sum", weight, elided=source is None)
    if network.bias != "none":
        yield _arrow('B1["B1"]', "sum", _bias(network, parameters, 0, 0) or "b")
    yield _arrow('sum(("Σ"))', f'f["{network.activations[0]}(z)"]', "z")
    yield _arrow("f", 'a(("a"))')


def layer_names(network: Network) -> list[str]:
    """Return what the neurons of each layer are called, before their number: x, h or h1_, h2_ …, o."""
    last = network.n_layers
    return ["x", *("h" if last == 2 else f"h{layer}_" for layer in range(1, last)), "o"]


def layer_title(network: Network, layer: int) -> list[str]:
    """Return what a layer is, its width, and its activation, if it has one."""
    width = network.layers[layer]
    title = {0: "input layer", network.n_layers: "output layer"}.get(layer, f"hidden layer {layer}")
    return [title, f"{width} neuron{'s' * (width > 1)}", *network.activations[layer - 1 : layer]]


def elide(width: int, most: int, first: int, last: int) -> Column:
    """Return the neurons to draw of a layer: all if they are not more than ``most``, else its first and last.

    Examples
    --------
    >>> elide(100, most=5, first=2, last=2)
    [0, 1, None, 98, 99]
    """
    return list(range(width)) if width <= most else [*range(first), None, *range(width - last, width)]


def _column(width: int) -> Column:
    return elide(width, MAX_DRAWN, first=3, last=1)


def _id(name: str, neuron: int | None) -> str:
    return f"{name.rstrip('_')}_rest" if neuron is None else f"{name}{neuron + 1}"


def _circle(name: str, neuron: int | None) -> str:
    node = _id(name, neuron)
    return f'{node}(("{"⋮" if neuron is None else node}"))'


def _arrow(source: str, target: str, label: str = "", *, elided: bool = False) -> str:
    text = f'|"{label}"|' if label else ""
    return f"{source} {'-.->' if elided else '-->'}{text} {target}"


def _weight(network: Network, parameters: FloatArray | None, layer: int, source: int | None, target: int | None) -> str:
    if parameters is None or source is None or target is None:
        return ""
    return f"{network.weights(parameters)[layer][source, target]:.4g}"


def _bias(network: Network, parameters: FloatArray | None, layer: int, target: int | None) -> str:
    if parameters is None or target is None:
        return ""
    return f"{network.biases(parameters)[layer][target if network.bias == 'neuron' else 0]:.4g}"
