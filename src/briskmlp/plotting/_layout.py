"""Layout of a network diagram: the positions of neurons and lines, and the size of the figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp.diagram import elide
from briskmlp.network import FloatArray, Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# The distance of two neurons of a layer is 1.
RADIUS = 0.34
POINTS = 36.0  # of 1, in a figure of our own
FONT = 9.0  # points, where there is room
BAR = 0.35  # width of the colour bar
BAR_TEXT = 5 * FONT  # points, of its numbers and label

Place = tuple[float, float]
Line = tuple[Place, Place, float]  # from, to, weight


class Layout:
    """The positions of a network's neurons: one column per layer, centred at height 0."""

    def __init__(self, network: Network, max_neurons: int) -> None:
        self.network = network
        drawn = [elide(width, max_neurons, max_neurons // 2, (max_neurons - 1) // 2) for width in network.layers]
        tallest = max(map(len, drawn))
        self.top = (tallest - 1) / 2  # height of the highest neuron
        self.gap = max(3.0, 0.35 * tallest)  # between layers; 3: the titles need that; more, or lines would be steep
        self.bar_x = 0.0  # left edge of the colour bar, set by `fit`
        # for each layer, the position of each neuron drawn; the key None is the ellipsis
        self.columns: list[dict[int | None, Place]] = [
            {neuron: (layer * self.gap, (len(column) - 1) / 2 - row) for row, neuron in enumerate(column)}
            for layer, column in enumerate(drawn)
        ]

    def neurons(self) -> Iterator[tuple[int, int, Place]]:
        """Yield the layer, index and position of each neuron drawn."""
        for layer, column in enumerate(self.columns):
            yield from ((layer, neuron, place) for neuron, place in column.items() if neuron is not None)

    def bias_place(self, layer: int) -> Place:
        """Return the position of a layer's bias node, above the inputs of the layer."""
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

    def fit(self, ax: Axes, room: Place | None, titles: list[Text], inputs: list[Text], outputs: list[Text]) -> float:
        """Scale the diagram so that all texts fit in the axes; return the number of points per unit.

        ``room`` is the width and height of the axes in points, or None for a new figure, which becomes as large as
        needed.
        """
        figure: Any = ax.figure
        to_points = 72 / figure.dpi
        bias = self.network.bias
        width = self.gap * self.network.n_layers + 2 * RADIUS + (0.6 + BAR if bias == "neuron" else 0.0)
        height = 2 * self.top + RADIUS + 0.75 + (1.4 if bias == "layer" else 0.0)
        scale, legend = POINTS, 3 * FONT
        for _ in range(2):  # texts shrink with the diagram
            for text in titles + inputs + outputs:
                text.set_fontsize(min(FONT, scale * self.gap / 10.5))  # the longest title is ten times as long
            extents = [[text.get_window_extent() for text in texts] for texts in (titles, inputs, outputs)]
            wide = [max((extent.width * to_points for extent in group), default=0.0) for group in extents]
            below = max(extent.height * to_points for extent in extents[0])
            left, right = max(wide[0] / 2, wide[1]), max(wide[0] / 2, wide[2])
            bar = BAR_TEXT if bias == "neuron" else 0.0
            if room is not None:
                across, along = (room[0] - left - right - bar) / width, (room[1] - below - legend) / height
                scale = max(1.0, min(across, along, POINTS))
        if room is None:
            size = np.array([width * scale + left + right + bar, height * scale + below + legend])
            figure.set_size_inches(size / 72 + 0.1)
        x0, y0 = -RADIUS - left / scale, -self.top - 0.75 - below / scale
        self.bar_x = self.gap * self.network.n_layers + RADIUS + right / scale + 0.6
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_xlim(x0, x0 + width + (left + right + bar) / scale)
        ax.set_ylim(y0, y0 + height + (below + legend) / scale)
        return scale


def room_in(ax: Axes) -> Place:
    """Return the width and height of axes in points."""
    root: Any = ax.figure.canvas.figure
    root.draw_without_rendering()  # only then have they their place
    box = ax.get_window_extent()
    return box.width * 72 / root.dpi, box.height * 72 / root.dpi
