"""DescentDisplay: gradient descent on a slice of the error surface, as textbooks draw it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._messages import check_integer, check_number
from briskmlp.plotting._figures import VERMILLION, axes, pyplot
from briskmlp.plotting._models import check_trainer
from briskmlp.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = NDArray[np.float64]
Weight = tuple[int, int, int]  # layer, i, j: trainer.weights[layer][i, j]
Range = tuple[float, float]

MARGIN = 0.35  # of the path's extent, on each side of it
_COPIED = ("loss", "optimizer", "l2", "clip_norm", "dtype", "precision", "seed", "backend", "threads")


class DescentDisplay:
    """The loss over two of the weights, and the steps of training on it.

    Make it with `from_trainer`.

    Parameters
    ----------
    x, y : ndarray, shape (n_x,), (n_y,)
        Values of the first and of the second weight.
    surface : ndarray, shape (n_y, n_x)
        The loss for each pair of them.
    path : ndarray, shape (n_steps + 1, 2)
        The two weights before the first step and after each one.
    losses : ndarray, shape (n_steps + 1,)
        The loss at each of these points.
    labels : (str, str)
        What the weights are called.

    Attributes
    ----------
    x, y, surface, path, losses, labels
        As given.
    contours_ : QuadContourSet
        The filled contours.
    path_ : Line2D
    colorbar_ : Colorbar
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from briskmlp import SGD, Trainer
    >>> trainer = Trainer([2, 1], hidden="identity", optimizer=SGD(0.1), initializer=[([[2.0], [1.0]], [0.0])])
    >>> X, Y = [[1.0, 0.0], [0.0, 2.0]], [0.0, 0.0]  # E = (w1² + 4 w2²) / 2, so w1 -= 0.1 w1 and w2 -= 0.4 w2
    >>> display = DescentDisplay.from_trainer(trainer, X, Y, weights=((0, 0, 0), (0, 1, 0)), epochs=2)
    >>> display.path.round(3).tolist(), display.losses.round(3).tolist()
    ([[2.0, 1.0], [1.8, 0.6], [1.62, 0.36]], [4.0, 2.34, 1.571])
    """

    contours_: QuadContourSet
    path_: Line2D
    colorbar_: Colorbar
    ax_: Axes
    figure_: Figure

    def __init__(
        self, x: Floats, y: Floats, surface: Floats, path: Floats, losses: Floats, labels: tuple[str, str]
    ) -> None:
        self.x, self.y, self.surface, self.path, self.losses = map(np.asarray, (x, y, surface, path, losses))
        self.labels = labels
        if self.surface.shape != (len(self.y), len(self.x)):
            raise ValueError(f"surface has shape {self.surface.shape}, but must have ({len(self.y)}, {len(self.x)})")

    @classmethod
    def from_trainer(
        cls,
        trainer: Any,
        X: Any,
        Y: Any,
        *,
        weights: Sequence[Weight],
        epochs: int,
        start: tuple[float, float] | None = None,
        limits: tuple[Range, Range] | None = None,
        n_points: int = 41,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> DescentDisplay:
        """Compute the surface and the path, and draw them.

        Only the two weights move; all other parameters stay what they are in ``trainer``. So the path lies on the
        surface that is drawn, which the path of a training of all weights, projected on these two, does not. It is
        that of a new Trainer with the same optimizer and learning rate, each epoch being one step on all rows, as in
        textbooks; without dropout. ``trainer`` itself is not changed.

        Parameters
        ----------
        trainer : Trainer
        X, Y : array_like, as in ``Trainer.fit``
        weights : ((layer, i, j), (layer, i, j))
            The two: ``trainer.weights[layer][i, j]``.
        epochs : int, >= 1
            Steps.
        start : (float, float), optional
            Where the path begins; by default, at the trainer's own weights.
        limits : ((float, float), (float, float)), optional
            Least and largest value of either weight that the surface has. By default the path and the trainer's own
            weights, and a margin.
        n_points : int, >= 2
            Values of each weight: the surface takes ``n_points²`` evaluations of the loss on X and Y.
        ax : Axes, optional
        **kwargs
            Of `plot`.

        Returns
        -------
        DescentDisplay
            Where the Trainer has ``l2``, its loss is that of training, which includes it.

        Raises
        ------
        TypeError, ValueError
            Bad arguments; see ``Trainer.fit`` for those of X and Y.
        FloatingPointError
            The descent diverged.
        """
        check_trainer(trainer)
        first, second = _check_weights(trainer, weights)
        check_integer("epochs", epochs, low=1)
        check_integer("n_points", n_points, low=2)
        pyplot()  # before the work, if it is missing
        copy = _copy(trainer)
        own = _read(copy, first, second)
        origin = own if start is None else _check_pair("start", start)
        path = _descend(copy, X, Y, first, second, origin, epochs)
        x_range, y_range = _around(np.vstack([path, own])) if limits is None else _check_limits(limits)
        x, y = np.linspace(*x_range, n_points), np.linspace(*y_range, n_points)

        def loss(x: float, y: float) -> float:
            _write(copy, first, second, (x, y))
            return copy.loss_and_gradient(X, Y)[0] if copy.l2 else copy.evaluate(X, Y)  # evaluate leaves l2 out

        surface = np.array([[loss(u, v) for u in x] for v in y])
        losses = np.array([loss(u, v) for u, v in path])
        names = tuple(f"weights[{layer}][{i}, {j}]" for layer, i, j in (first, second))
        return cls(x, y, surface, path, losses, (names[0], names[1])).plot(ax, **kwargs)

    def plot(
        self, ax: Axes | None = None, *, levels: int | Sequence[float] = 15, cmap: Any = "cividis", **kwargs: Any
    ) -> DescentDisplay:
        """Draw contours and steps.

        Parameters
        ----------
        ax : Axes, optional
        levels : int or sequence of float
            About how many contours, or the losses that have one.
        cmap : str or Colormap
            Of the surface.
        **kwargs
            Of ``Axes.plot``, for the path: ``color``, ``marker`` …

        Returns
        -------
        DescentDisplay
            Itself.
        """
        self.ax_ = ax = axes(ax, (6.4, 5.0))
        self.figure_ = ax.figure  # type: ignore[assignment] # or a SubFigure
        surface = np.ma.masked_invalid(self.surface)  # exp may have overflowed
        self.contours_ = ax.contourf(self.x, self.y, surface, levels=levels, cmap=cmap)
        ax.contour(self.x, self.y, surface, levels=self.contours_.levels, colors="white", linewidths=0.5, alpha=0.6)
        self.colorbar_ = self.figure_.colorbar(self.contours_, ax=ax, label="loss")
        style = {"color": "white", "marker": "o", "markersize": 4, "linewidth": 1.5, "markeredgecolor": "black",
                 "markeredgewidth": 0.6}  # fmt: skip
        (self.path_,) = ax.plot(*self.path.T, **{**style, **kwargs})
        n_steps = len(self.path) - 1
        ends = (("s", "start", 0), ("*", f"after {n_steps} step{'s' * (n_steps > 1)}", -1))
        for marker, name, at in ends:
            label = f"{name}: {self.losses[at]:.3g}"
            ax.plot(*self.path[at], marker, color=VERMILLION, markeredgecolor="black", label=label, zorder=3,
                    markersize=14 if marker == "*" else 8)  # fmt: skip
        ax.set(xlabel=self.labels[0], ylabel=self.labels[1])
        ax.legend(title="loss")
        return self


def _copy(trainer: Trainer) -> Trainer:
    """Return a Trainer with the same parameters that makes one step an epoch, with a new state of the optimizer."""
    network = trainer.network
    arguments = {name: getattr(trainer, name) for name in _COPIED}
    return Trainer(
        network.layers,
        hidden=network.hidden,
        output=network.output,
        bias=network.bias,
        initializer=trainer.parameters,
        batch_size=None,
        shuffle=False,
        **arguments,
    )


def _descend(
    copy: Trainer, X: Any, Y: Any, first: Weight, second: Weight, start: tuple[float, float], epochs: int
) -> Floats:
    """Return the path (epochs + 1, 2); all parameters but two are as before at the end."""
    kept = copy.parameters.copy()
    _write(copy, first, second, start)
    path = [_read(copy, first, second)]
    for _ in range(epochs):
        copy.fit(X, Y, epochs=1, progress=False)
        path.append(_read(copy, first, second))
        copy.parameters[...] = kept  # the others have moved, too
        _write(copy, first, second, path[-1])
    return np.array(path)


def _read(trainer: Trainer, first: Weight, second: Weight) -> tuple[float, float]:
    (layer, i, j), (other, k, m) = first, second
    return float(trainer.weights[layer][i, j]), float(trainer.weights[other][k, m])


def _write(trainer: Trainer, first: Weight, second: Weight, values: tuple[float, float]) -> None:
    for (layer, i, j), value in zip((first, second), values, strict=True):
        trainer.weights[layer][i, j] = value


def _around(points: Floats) -> tuple[Range, Range]:
    """Return a range for each weight that holds the points and a margin; neither is much shorter than the other."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = high - low
    extent = np.maximum(extent, extent.max() / 3 or 1.0)
    middle, half = (low + high) / 2, extent * (0.5 + MARGIN)
    (x0, y0), (x1, y1) = (middle - half).tolist(), (middle + half).tolist()
    return (x0, x1), (y0, y1)


def _check_weights(trainer: Trainer, weights: Any) -> tuple[Weight, Weight]:
    try:
        first, second = ((layer, i, j) for layer, i, j in weights)
    except (TypeError, ValueError):
        raise ValueError(f"weights is {weights!r}, but must be two weights: ((layer, i, j), (layer, i, j))") from None
    shapes = [W.shape for W in trainer.weights]
    for layer, i, j in (first, second):
        check_integer("the layer of weights", layer, low=0, high=len(shapes) - 1)
        n_in, n_out = shapes[layer]
        check_integer(f"the i of weights in layer {layer}", i, low=0, high=n_in - 1)
        check_integer(f"the j of weights in layer {layer}", j, low=0, high=n_out - 1)
    if first == second:
        raise ValueError(f"weights has {first} twice, but must be two different weights")
    return first, second


def _check_pair(argument: str, values: Any) -> tuple[float, float]:
    if np.shape(values) != (2,):
        raise ValueError(f"{argument} is {values!r}, but must be two numbers")
    return check_number(argument, values[0]), check_number(argument, values[1])


def _check_limits(limits: Any) -> tuple[Range, Range]:
    if np.shape(limits) != (2, 2):
        raise ValueError(f"limits is {limits!r}, but must be ((low, high), (low, high))")
    x_range, y_range = _check_pair("limits", limits[0]), _check_pair("limits", limits[1])
    for low, high in (x_range, y_range):
        if low >= high:
            raise ValueError(f"limits has ({low}, {high}), but the first must be below the second")
    return x_range, y_range
