"""NetworkDisplay: a diagram of a network with its weights and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from briskmlp._messages import check_integer, check_number
from briskmlp.diagram import check_parameters, layer_names, layer_title
from briskmlp.network import FloatArray, Network
from briskmlp.plotting._figures import NEGATIVE, POSITIVE, Display, check_finite, check_trainer, network_of
from briskmlp.plotting._layout import BAR, FONT, POINTS, RADIUS, Layout, Line, room_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.text import Text

DASHES = (2.0, 1.0)  # of negative numbers, in widths of the line


class NetworkDisplay(Display):
    """A diagram of neurons and weights.

    Make it with `from_trainer` or `from_estimator`. Positive weights are blue, negative weights orange and dashed. The
    width of a line is proportional to ``|w|``. Each layer has its own scale, because weights tend to be small in layers
    with many inputs; the largest ``|w|`` is written below the layer. With ``bias="layer"``, each layer's bias is a node
    B1, B2 … with lines like the weights'. With ``bias="neuron"``, the shade of a neuron is its bias, and its outline is
    dashed if the bias is negative. Of wide layers, only the first and last neurons are drawn.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)

    Attributes
    ----------
    network, parameters
        As given.
    nodes_ : dict of (layer, neuron) to Circle
        The circle of each neuron drawn; layer 0 is the input.
    bias_nodes_ : dict of int to Rectangle
        With ``bias="layer"``, by layer of weights, from 0.
    edges_ : list of LineCollection
        For each layer of weights, the lines from neuron to neuron and from the bias node, thin ones first.
    colorbar_ : Colorbar or None
        Colour bar of the biases.
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from briskmlp import Trainer
    >>> display = NetworkDisplay.from_trainer(Trainer([784, 3, 2], seed=0, backend="numpy"), max_neurons=5)
    >>> [neuron for layer, neuron in display.nodes_ if layer == 0]
    [0, 1, 782, 783]
    """

    def __init__(self, network: Network, parameters: FloatArray) -> None:
        self.network, self.parameters = network, np.asarray(parameters)
        check_parameters(network, self.parameters)
        check_finite("parameters", self.parameters)

    @classmethod
    def from_trainer(cls, trainer: Any, *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Plot a Trainer's network with its current parameters; ``**kwargs`` are passed to `plot`.

        Raises
        ------
        TypeError
            ``trainer`` is not a Trainer.
        """
        return cls(check_trainer(trainer).network, trainer.parameters.copy()).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Plot a fitted MLPClassifier or MLPRegressor, this library's or scikit-learn's.

        Parameters and errors are those of `from_trainer`; an estimator that is not fitted also raises an error.
        """
        return cls(*network_of(estimator)).plot(ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        max_neurons: int = 12,
        max_linewidth: float = 3.0,
        input_labels: Sequence[str] | None = None,
        output_labels: Sequence[str] | None = None,
    ) -> Self:
        """Draw the diagram; return the display.

        Parameters
        ----------
        ax : Axes, optional
        max_neurons : int, >= 3
            Largest number of positions per layer; with more neurons, the position in the middle is an ellipsis.
        max_linewidth : float
            Width in points of the line with the largest ``|w|`` in a layer. If ``ax`` makes the diagram smaller than
            in its own figure, lines are thinner.
        input_labels, output_labels : sequence of str, optional
            Names of the inputs and outputs.
        """
        network = self.network
        for side, labels, n in (("input", input_labels, network.n_in), ("output", output_labels, network.n_out)):
            if labels is not None and len(labels) != n:
                raise ValueError(f"{side}_labels has {len(labels)} names, but the network has {n} of these")
        check_number("max_linewidth", max_linewidth, low=0.0)
        layout = Layout(network, check_integer("max_neurons", max_neurons, low=3))
        lines = [list(layout.lines(layer, self.parameters)) for layer in range(network.n_layers)]
        largest = [max(abs(w) for *_, w in layer) for layer in lines]

        given, ax = ax, self._new_axes(ax)
        room = None if given is None else room_in(ax)
        inputs = _write_labels(ax, layout, 0, input_labels, -1)
        outputs = _write_labels(ax, layout, network.n_layers, output_labels, 1)
        scale = layout.fit(ax, room, _write_titles(ax, layout, largest), inputs, outputs)
        max_linewidth *= scale / POINTS
        self.edges_ = [_draw_lines(ax, layer, w, max_linewidth) for layer, w in zip(lines, largest, strict=True)]
        _draw_legend(ax, max_linewidth)
        self._draw_nodes(layout)
        self._write_names(layout, min(10.0, 0.75 * RADIUS * scale))
        return self

    def _draw_nodes(self, layout: Layout) -> None:
        """Draw neurons, ellipses and bias nodes."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, Normalize
        from matplotlib.patches import Circle, Rectangle

        ax, network = self.ax_, self.network
        biases = network.biases(self.parameters)
        largest = max((float(np.abs(b).max()) for b in biases if b.size), default=0.0) or 1.0
        colors = LinearSegmentedColormap.from_list("bias", [NEGATIVE, "white", POSITIVE])
        shades = ScalarMappable(Normalize(-largest, largest), colors)
        self.nodes_: dict[tuple[int, int], Circle] = {}
        self.bias_nodes_: dict[int, Rectangle] = {}
        self.colorbar_: Colorbar | None = None
        style: dict[str, Any] = {"facecolor": "white", "edgecolor": "black", "linewidth": 1.2, "zorder": 3}
        for layer, neuron, place in layout.neurons():
            node = self.nodes_[layer, neuron] = Circle(place, RADIUS, **style)
            if layer and network.bias == "neuron":
                bias = biases[layer - 1][[neuron]]
                node.set_facecolor(shades.to_rgba(bias)[0])
                node.set_linestyle((0, DASHES) if bias < 0 else "-")
            ax.add_patch(node)
        for x, y in (column[None] for column in layout.columns if None in column):
            for dy in (-0.22, 0.0, 0.22):
                ax.add_patch(Circle((x, y + dy), 0.05, color="black", zorder=3))
        if network.bias == "layer":
            for layer in range(network.n_layers):
                x, y = layout.bias_place(layer)
                square = self.bias_nodes_[layer] = Rectangle((x - RADIUS, y - RADIUS), 2 * RADIUS, 2 * RADIUS, **style)
                ax.add_patch(square)
        if network.bias == "neuron":
            height = max(2.2, 1.4 * layout.top)
            bottom = min(height / 2, layout.top + RADIUS) - height  # the legend is above
            bar = ax.inset_axes((layout.bar_x, bottom, BAR, height), transform=ax.transData)
            self.colorbar_ = self.figure_.colorbar(shades, cax=bar)
            self.colorbar_.set_label("bias", fontsize=FONT)
            bar.tick_params(labelsize=FONT - 1)

    def _write_names(self, layout: Layout, size: float) -> None:
        """Write the names of neurons and biases into them."""
        if size < 4.0:
            return  # nobody could read that
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size, "zorder": 4}
        names = layer_names(self.network)
        for layer, neuron, (x, y) in layout.neurons():
            letter, upper = names[layer][0], names[layer][1:].rstrip("_")
            text = f"${letter}{f'^{{({upper})}}' if upper else ''}_{{{neuron + 1}}}$"
            dark = np.dot(self.nodes_[layer, neuron].get_facecolor()[:3], (0.299, 0.587, 0.114)) < 0.55
            self.ax_.text(x, y, text, color="white" if dark else "black", **style)
        for layer in self.bias_nodes_:
            x, y = layout.bias_place(layer)
            self.ax_.text(x, y, f"$B_{{{layer + 1}}}$", **style)


def _write_labels(ax: Axes, layout: Layout, layer: int, labels: Sequence[str] | None, side: int) -> list[Text]:
    """Write the names of a layer's neurons to the left (side -1) or right (1) of them."""
    if labels is None:
        return []
    align, places = {-1: "right", 1: "left"}[side], layout.columns[layer].items()
    return [
        ax.text(x + side * (RADIUS + 0.15), y, labels[neuron], ha=align, va="center")
        for neuron, (x, y) in places
        if neuron is not None
    ]


def _write_titles(ax: Axes, layout: Layout, largest: list[float]) -> list[Text]:
    """Write a title below each layer."""
    texts = []
    for layer in range(layout.network.n_layers + 1):
        lines = layer_title(layout.network, layer) + [f"widest line: {w:.3g}" for w in largest[layer - 1 : layer]]
        texts.append(ax.text(layer * layout.gap, -layout.top - 0.75, "\n".join(lines), ha="center", va="top"))
    return texts


def _draw_lines(ax: Axes, lines: list[Line], largest: float, max_linewidth: float) -> LineCollection:
    """Draw the lines of a layer, the widest on top."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    lines = sorted(lines, key=lambda line: abs(line[2]))
    looks = []
    for *_, w in lines:
        share = abs(w) / (largest or 1.0)
        width, color = max_linewidth * share, to_rgba(NEGATIVE if w < 0 else POSITIVE, 0.25 + 0.75 * share)
        looks.append((width, color, _dashes(width) if w < 0 else "-"))
    widths, colors, styles = map(list, zip(*looks, strict=True))
    drawn = LineCollection([line[:2] for line in lines], linewidths=widths, colors=colors, linestyles=styles, zorder=2)
    ax.add_collection(drawn, autolim=False)
    return drawn


def _dashes(width: float) -> Any:
    """Return a dash pattern; Matplotlib scales it by the line width, so dashes of thin lines would become dots."""
    stretch = max(1.0, 1.2 / width) if width else 1.0
    return 0, tuple(stretch * part for part in DASHES)


def _draw_legend(ax: Axes, width: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=POSITIVE, linewidth=width, label="weight > 0"),
        Line2D([], [], color=NEGATIVE, linewidth=width, linestyle=(0, DASHES), label="weight < 0"),
    ]
    ax.legend(handles=handles, loc="upper center", ncols=2, frameon=False, fontsize=FONT, borderaxespad=0.0)
