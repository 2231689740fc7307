"""Where the neurons and lines of a network's diagram are, and how large the figure is around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp.diagram import elide
from briskmlp.network import FloatArray, Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The distance of two neurons of a layer is 1.
RADIUS = 0.34
INCHES = 0.5  # of 1, in a figure of our own

Place = tuple[float, float]
Line = tuple[Place, Place, float]  # from, to, weight


class Layout:
    """The places of a network's neurons: a column for each layer, whose middle is at height 0.

    Attributes
    ----------
    columns : list of dict
        For each layer, the place of each neuron that is drawn; that of None is the ellipsis'.
    gap : float
        Between layers.
    top : float
        Height of the highest neuron.
    """

    def __init__(self, network: Network, max_neurons: int) -> None:
        self.network = network
        first, last = max_neurons // 2, (max_neurons - 1) // 2
        drawn = [elide(width, max_neurons, first, last) for width in network.layers]
        tallest = max(map(len, drawn))
        self.top = (tallest - 1) / 2
        self.gap = max(3.0, 0.35 * tallest)  # 3: the titles need that; more, or lines would be steep
        self.columns: list[dict[int | None, Place]] = [
            {neuron: (layer * self.gap, (len(column) - 1) / 2 - row) for row, neuron in enumerate(column)}
            for layer, column in enumerate(drawn)
        ]

    def neurons(self) -> Iterator[tuple[int, int, Place]]:
        """Yield layer, neuron and place of all that are drawn."""
        for layer, column in enumerate(self.columns):
            yield from ((layer, neuron, place) for neuron, place in column.items() if neuron is not None)

    def ellipses(self) -> list[Place]:
        """Return the places that stand for the neurons left out."""
        return [column[None] for column in self.columns if None in column]

    def bias_place(self, layer: int) -> Place:
        """Return where the node of a layer's bias is: above what the layer reads."""
        return layer * self.gap, self.top + 1.4

    def lines(self, layer: int, parameters: FloatArray) -> Iterator[Line]:
        """Yield the lines of a layer of weights, and of its shared bias."""
        W, b = self.network.weights(parameters)[layer], self.network.biases(parameters)[layer]
        for target, end in self.columns[layer + 1].items():
            if target is None:
                continue
            for source, start in self.columns[layer].items():
                if source is not None:
                    yield start, end, float(W[source, target])
            if self.network.bias == "layer":
                yield self.bias_place(layer), end, float(b[0])

    def frame(self, ax: Axes) -> None:
        """Set the limits of the axes."""
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_xlim(-0.6, self.gap * self.network.n_layers + 0.6)
        ax.set_ylim(-self.top - 0.6, self.top + (2.0 if self.network.bias == "layer" else 0.6))


def points(ax: Axes) -> float:
    """Return how many points long 1 is, which is known when all has its place."""
    root: Any = ax.figure.canvas.figure
    root.draw_without_rendering()
    (x0, _), (x1, _) = ax.transData.transform([(0.0, 0.0), (1.0, 0.0)])
    return float(72 * (x1 - x0) / root.dpi)


def fit_figure(ax: Axes) -> None:
    """Make a figure of our own as large as the diagram and what is written around it."""
    figure: Any = ax.figure
    for _ in range(2):  # what surrounds the axes grows a little with them
        figure.draw_without_rendering()
        box = ax.get_position(original=True)
        units = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
        figure.set_size_inches(figure.get_size_inches() * (1 - np.array(box.size)) + INCHES * np.array(units))
