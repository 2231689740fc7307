"""Network diagrams as in textbooks, as Mermaid text, which GitHub, Jupyter and most wikis render as a picture.

Which neurons of a wide layer are drawn, and the names of neurons and layers are also those of `briskmlp.plotting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from briskmlp.operations import FloatArray

MAX_DRAWN = 6  # a wider layer is drawn as its first three neurons, an ellipsis and its last
Column = list[int | None]  # the neurons of a layer that are drawn; None is the ellipsis


class _Drawn(Protocol):
    """What is drawn of a `briskmlp.network.Network`, which is above this module."""

    @property
    def layers(self) -> Sequence[int]: ...
    @property
    def activations(self) -> Sequence[str]: ...
    def functions(self, place: int, /) -> Sequence[str]: ...
    @property
    def bias(self) -> str: ...
    @property
    def n_parameters(self) -> int: ...
    def weights(self, parameters: FloatArray, /) -> Sequence[FloatArray]: ...
    def biases(self, parameters: FloatArray, /) -> Sequence[FloatArray]: ...


def mermaid(network: _Drawn, kind: str = "network", parameters: FloatArray | None = None) -> str:
    """Return a network, or one neuron of it, as Mermaid ``graph LR`` text, without a final newline.

    Of a network, all layers, with a node Bk for the biases of layer k; of a neuron, the first of the first layer, with
    its weighted sum z and its activation a. ``parameters``, (n_parameters,), are written on the arrows, to four digits.
    Dotted arrows belong to neurons that an ellipsis stands for.

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
    if parameters is not None:
        check_parameters(network, parameters)
    lines = _neuron(network, parameters) if kind == "neuron" else _network(network, parameters)
    return "\n".join(["graph LR", *(f"    {line}" for line in lines)])


def check_parameters(network: _Drawn, parameters: FloatArray) -> None:
    """Raise an error for flat parameters of another shape than the network's."""
    if (shape := np.shape(parameters)) != (wanted := (network.n_parameters,)):
        raise ValueError(f"parameters has shape {shape}, but this network's have shape {wanted}")


def _network(network: _Drawn, parameters: FloatArray | None) -> Iterator[str]:
    names = layer_names(network)
    columns = [elide(width, MAX_DRAWN, first=3, last=1) for width in network.layers]

    for layer, (name, column) in enumerate(zip(names, columns, strict=True)):
        title, *rest = layer_title(network, layer)
        yield f'subgraph layer{layer}["{title}: {", ".join(rest)}"]'
        yield from (f"    {_circle(name, neuron)}" for neuron in column)
        yield "end"

    for layer in range(len(columns) - 1):
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


def _neuron(network: _Drawn, parameters: FloatArray | None) -> Iterator[str]:
    for source in elide(network.layers[0], MAX_DRAWN, first=3, last=1):
        weight = "" if source is None else f"× {_weight(network, parameters, 0, source, 0) or f'w{source + 1}'}"
        yield _arrow(_circle("x", source), "sum", weight, elided=source is None)
    if network.bias != "none":
        yield _arrow('B1["B1"]', "sum", _bias(network, parameters, 0, 0) or "b")
    node, argument, label = 'sum(("Σ"))', "z", "z"
    for name, function in zip(("f", "g"), network.functions(1), strict=False):
        argument = f"{function}({argument})"
        yield _arrow(node, f'{name}["{argument}"]', label)
        node, label = name, ""
    yield _arrow(node, 'a(("a"))')


def layer_names(network: _Drawn) -> list[str]:
    """Return what the neurons of each layer are called, before their number: x, h or h1_, h2_ …, o."""
    last = len(network.layers) - 1
    return ["x", *("h" if last == 2 else f"h{layer}_" for layer in range(1, last)), "o"]


def layer_title(network: _Drawn, layer: int) -> list[str]:
    """Return what a layer is, its width, and its activation and normalisation in their order, if it has any."""
    width = network.layers[layer]
    title = {0: "input layer", len(network.layers) - 1: "output layer"}.get(layer, f"hidden layer {layer}")
    return [title, f"{width} neuron{'s' * (width > 1)}", *network.functions(layer)]


def elide(width: int, most: int, first: int, last: int) -> Column:
    """Return the neurons to draw of a layer: all if they are not more than ``most``, else its first and last.

    Examples
    --------
    >>> elide(100, most=5, first=2, last=2)
    [0, 1, None, 98, 99]
    """
    return list(range(width)) if width <= most else [*range(first), None, *range(width - last, width)]


def _id(name: str, neuron: int | None) -> str:
    return f"{name.rstrip('_')}_rest" if neuron is None else f"{name}{neuron + 1}"


def _circle(name: str, neuron: int | None) -> str:
    node = _id(name, neuron)
    return f'{node}(("{"⋮" if neuron is None else node}"))'


def _arrow(source: str, target: str, label: str = "", *, elided: bool = False) -> str:
    text = f'|"{label}"|' if label else ""
    return f"{source} {'-.->' if elided else '-->'}{text} {target}"


def _weight(network: _Drawn, parameters: FloatArray | None, layer: int, source: int | None, target: int | None) -> str:
    if parameters is None or source is None or target is None:
        return ""
    return f"{network.weights(parameters)[layer][source, target]:.4g}"


def _bias(network: _Drawn, parameters: FloatArray | None, layer: int, target: int | None) -> str:
    if parameters is None or target is None:
        return ""
    return f"{network.biases(parameters)[layer][target if network.bias == 'neuron' else 0]:.4g}"
