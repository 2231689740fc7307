"""NetworkDisplay: a network as textbooks draw it, with its weights and biases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp._messages import check_integer
from briskmlp.diagram import Column, elide, layer_names, layer_title
from briskmlp.network import FloatArray, Network
from briskmlp.plotting._figures import NEGATIVE, POSITIVE, axes
from briskmlp.plotting._models import check_trainer, network_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

# The distance of two neurons of a layer is 1.
RADIUS = 0.34
GAP = 2.6  # between layers, so that their titles fit
INCHES = 0.5  # per 1, in a figure of our own
DASHES = (0, (3, 1.5))  # of negative numbers

Place = tuple[float, float]
Line = tuple[Place, Place, float]  # from, to, weight


class NetworkDisplay:
    """A diagram of neurons and weights.

    Make it with `from_trainer` or `from_estimator`. Positive weights are blue, negative ones orange and dashed; the
    width of a line is proportional to |w|. With ``bias="layer"`` each layer's bias is a node B1, B2 … with lines like
    the weights'; with ``bias="neuron"`` it is the shade of a neuron, whose outline is dashed below 0. Of wide layers
    only the first and last neurons are drawn.

    Parameters
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)

    Attributes
    ----------
    network, parameters
        As given.
    nodes_ : dict of (layer, neuron) to Circle
        What was drawn of each neuron; layer 0 is the input.
    bias_nodes_ : dict of int to Rectangle
        With ``bias="layer"``: by the layer of weights, from 0.
    edges_ : list of LineCollection
        A layer of weights each: lines from neuron to neuron, thin ones first; those of the bias node among them.
    colorbar_ : Colorbar or None
        Of the shades.
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from briskmlp import Trainer
    >>> display = NetworkDisplay.from_trainer(Trainer([784, 3, 2], seed=0, backend="numpy"), max_neurons=5)
    >>> [neuron for layer, neuron in display.nodes_ if layer == 0]
    [0, 1, 782, 783]
    """

    nodes_: dict[tuple[int, int], Circle]
    bias_nodes_: dict[int, Rectangle]
    edges_: list[LineCollection]
    colorbar_: Colorbar | None
    ax_: Axes
    figure_: Figure

    def __init__(self, network: Network, parameters: FloatArray) -> None:
        self.network, self.parameters = network, np.asarray(parameters)
        if self.parameters.shape != (network.n_parameters,):
            raise ValueError(
                f"parameters has shape {self.parameters.shape}, but this network's have ({network.n_parameters},)"
            )

    @classmethod
    def from_trainer(cls, trainer: Any, *, ax: Axes | None = None, **kwargs: Any) -> NetworkDisplay:
        """Draw a Trainer's network with its parameters as they are now; ``**kwargs`` are those of `plot`.

        Raises
        ------
        TypeError
            ``trainer`` is no Trainer.
        """
        return cls(check_trainer(trainer).network, trainer.parameters.copy()).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None, **kwargs: Any) -> NetworkDisplay:
        """Draw a fitted MLPClassifier or MLPRegressor, this library's or scikit-learn's; see `from_trainer`.

        Raises
        ------
        TypeError, ValueError
            ``estimator`` is none of these, or is not fitted.
        """
        return cls(*network_of(estimator)).plot(ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        max_neurons: int = 12,
        max_linewidth: float = 4.0,
        input_labels: Sequence[str] | None = None,
        output_labels: Sequence[str] | None = None,
    ) -> NetworkDisplay:
        """Draw the diagram.

        Parameters
        ----------
        ax : Axes, optional
        max_neurons : int, >= 3
            The places of a layer; with more neurons than that, one in the middle is an ellipsis.
        max_linewidth : float
            In points, of the largest |w| that is drawn.
        input_labels, output_labels : sequence of str, optional
            What the inputs and outputs mean, one name each.

        Returns
        -------
        NetworkDisplay
            Itself.
        """
        network, most = self.network, check_integer("max_neurons", max_neurons, low=3)
        _check_labels("input_labels", input_labels, network.n_in)
        _check_labels("output_labels", output_labels, network.n_out)
        columns = [elide(width, most, first=most // 2, last=(most - 1) // 2) for width in network.layers]
        places = [_places(column, layer * GAP) for layer, column in enumerate(columns)]
        top = max(place[1] for column in places for place in column)  # the middle of each column is at 0
        lines = [list(self._lines(layer, columns, places, top)) for layer in range(network.n_layers)]

        size = (GAP * network.n_layers + 4) * INCHES, (2 * top + 5) * INCHES
        self.ax_ = ax = axes(ax, size)
        self.figure_ = ax.figure  # type: ignore[assignment] # or a SubFigure
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_xlim(-0.6, GAP * network.n_layers + 0.6)
        ax.set_ylim(-top - 0.6, top + (2.0 if network.bias == "layer" else 0.6))
        largest = max(abs(w) for layer in lines for *_, w in layer)
        self.edges_ = [_draw_lines(ax, layer, largest, max_linewidth) for layer in lines]
        _draw_legend(ax, largest)
        self._draw_nodes(columns, places, top)
        self._write(columns, places, top, input_labels, output_labels)
        return self

    def _lines(self, layer: int, columns: list[Column], places: list[list[Place]], top: float) -> Iterator[Line]:
        """Yield each line into the neurons drawn of a layer."""
        network = self.network
        W, b = network.weights(self.parameters)[layer], network.biases(self.parameters)[layer]
        for target, end in zip(columns[layer + 1], places[layer + 1], strict=True):
            if target is None:
                continue
            for source, start in zip(columns[layer], places[layer], strict=True):
                if source is not None:
                    yield start, end, float(W[source, target])
            if network.bias == "layer":
                yield _bias_place(layer, top), end, float(b[0])

    def _draw_nodes(self, columns: list[Column], places: list[list[Place]], top: float) -> None:
        """Draw neurons, ellipses and bias nodes."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, Normalize
        from matplotlib.patches import Circle, Rectangle

        ax, network = self.ax_, self.network
        biases = network.biases(self.parameters)
        largest = max((float(np.abs(b).max()) for b in biases if b.size), default=0.0) or 1.0
        colors = LinearSegmentedColormap.from_list("bias", [NEGATIVE, "white", POSITIVE])
        shades = ScalarMappable(Normalize(-largest, largest), colors)
        self.nodes_, self.bias_nodes_, self.colorbar_ = {}, {}, None
        outline: dict[str, Any] = {"edgecolor": "black", "linewidth": 1.2, "zorder": 3}
        for layer, (column, column_places) in enumerate(zip(columns, places, strict=True)):
            for neuron, (x, y) in zip(column, column_places, strict=True):
                if neuron is None:
                    for dy in (-0.22, 0.0, 0.22):
                        ax.add_patch(Circle((x, y + dy), 0.05, color="black", zorder=3))
                    continue
                node = self.nodes_[layer, neuron] = Circle((x, y), RADIUS, facecolor="white", **outline)
                if layer and network.bias == "neuron":
                    bias = biases[layer - 1][neuron]
                    node.set_facecolor(tuple(shades.to_rgba(bias)))
                    node.set_linestyle(DASHES if bias < 0 else "-")
                ax.add_patch(node)
        if network.bias == "layer":
            for layer in range(network.n_layers):
                x, y = _bias_place(layer, top)
                square = Rectangle((x - RADIUS, y - RADIUS), 2 * RADIUS, 2 * RADIUS, facecolor="white", **outline)
                self.bias_nodes_[layer] = square
                ax.add_patch(square)
        if network.bias == "neuron":
            self.colorbar_ = self.figure_.colorbar(shades, ax=ax, label="bias", shrink=0.6, aspect=25)

    def _write(
        self,
        columns: list[Column],
        places: list[list[Place]],
        top: float,
        input_labels: Sequence[str] | None,
        output_labels: Sequence[str] | None,
    ) -> None:
        """Write names into and beside the neurons, and titles below the layers, as large as there is room for."""
        ax, network = self.ax_, self.network
        for labels, layer, side in ((input_labels, 0, -1), (output_labels, network.n_layers, 1)):
            for neuron, (x, y) in zip(columns[layer], places[layer], strict=True):
                if labels is not None and neuron is not None:
                    align = "right" if side < 0 else "left"
                    ax.text(x + side * (RADIUS + 0.15), y, labels[neuron], ha=align, va="center", fontsize=9)
        titles = [
            ax.text(layer * GAP, -top - 0.75, "\n".join(layer_title(network, layer)), ha="center", va="top", fontsize=9)
            for layer in range(network.n_layers + 1)
        ]
        root: Any = ax.figure.canvas.figure
        root.draw_without_rendering()  # only now is it known how many points 1 is
        (x0, _), (x1, _) = ax.transData.transform([(0.0, 0.0), (1.0, 0.0)])
        points = (x1 - x0) * 72 / root.dpi
        for title in titles:
            title.set_fontsize(min(9.0, GAP * points / 8.5))
        if (size := min(10.0, 0.62 * RADIUS * points)) < 4.0:
            return  # nobody could read that
        names = layer_names(network)
        written = [(self.nodes_[key], *key) for key in self.nodes_]
        for node, layer, neuron in written:
            base, number = names[layer].split("_")[0], neuron + 1
            text = f"${base[0]}_{{{number}}}$" if len(base) == 1 else f"${base[0]}^{{({base[1:]})}}_{{{number}}}$"
            dark = np.dot(node.get_facecolor()[:3], (0.299, 0.587, 0.114)) < 0.55
            ax.text(*node.center, text, ha="center", va="center", fontsize=size, color="white" if dark else "black",
                    zorder=4)  # fmt: skip
        for layer in self.bias_nodes_:
            x, y = _bias_place(layer, top)
            ax.text(x, y, f"$B_{{{layer + 1}}}$", ha="center", va="center", fontsize=size, zorder=4)


def _check_labels(argument: str, labels: Sequence[str] | None, n: int) -> None:
    if labels is not None and len(labels) != n:
        raise ValueError(f"{argument} has {len(labels)} names, but the network has {n} of these")


def _places(column: Column, x: float) -> list[Place]:
    return [(x, (len(column) - 1) / 2 - row) for row in range(len(column))]


def _bias_place(layer: int, top: float) -> Place:
    return layer * GAP, top + 1.4


def _draw_lines(ax: Axes, lines: list[Line], largest: float, max_linewidth: float) -> LineCollection:
    """Draw the lines of a layer, the important ones on top."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    lines = sorted(lines, key=lambda line: abs(line[2]))
    share = [abs(w) / (largest or 1.0) for *_, w in lines]
    drawn = LineCollection(
        [(start, end) for start, end, _ in lines],
        linewidths=[max_linewidth * part for part in share],
        colors=[
            to_rgba(NEGATIVE if w < 0 else POSITIVE, 0.3 + 0.7 * part)
            for (*_, w), part in zip(lines, share, strict=True)
        ],
        linestyles=[DASHES if w < 0 else "-" for *_, w in lines],
        zorder=2,
    )
    ax.add_collection(drawn, autolim=False)
    return drawn


def _draw_legend(ax: Axes, largest: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=POSITIVE, linewidth=3, label="weight > 0"),
        Line2D([], [], color=NEGATIVE, linewidth=3, linestyle=(0, (2, 1)), label="weight < 0"),
    ]
    title = f"width ∝ |weight|, at most {largest:.3g}"
    ax.legend(handles=handles, title=title, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False,
              fontsize=9, title_fontsize=9)  # fmt: skip
