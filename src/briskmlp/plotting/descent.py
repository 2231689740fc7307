"""DescentDisplay: gradient descent on a slice of the error surface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from briskmlp._messages import check_integer
from briskmlp.plotting._figures import NEGATIVE, Display, check_trainer, pyplot
from briskmlp.plotting._slice import Floats, Pair, Slice, Weight, around, check_limits, check_pair, check_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class DescentDisplay(Display):
    """Plot of the loss over two of the weights, and of training steps on it.

    Make it with `from_trainer`.

    Parameters
    ----------
    x, y : ndarray, shape (n_x,), (n_y,)
        Values of the first and of the second weight.
    surface : ndarray, shape (n_y, n_x)
        The loss for each pair of values.
    path : ndarray, shape (n_steps + 1, 2)
        The two weights before the first step and after each one.
    losses : ndarray, shape (n_steps + 1,)
        The loss at each of these points.
    labels : (str, str)
        Names of the weights.

    Attributes
    ----------
    x, y, surface, path, losses, labels
        As given.
    contours_ : QuadContourSet
        The filled contours.
    path_ : Line2D
    colorbar_ : Colorbar
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from briskmlp import SGD, Trainer
    >>> trainer = Trainer([2, 1], hidden="identity", optimizer=SGD(0.1), initializer=[([[2.0], [1.0]], [0.0])])
    >>> X, Y = [[1.0, 0.0], [0.0, 2.0]], [0.0, 0.0]  # E = (w1² + 4 w2²) / 2, so w1 -= 0.1 w1 and w2 -= 0.4 w2
    >>> display = DescentDisplay.from_trainer(trainer, X, Y, weights=((0, 0, 0), (0, 1, 0)), epochs=2)
    >>> display.path.round(3).tolist(), display.losses.round(3).tolist()
    ([[2.0, 1.0], [1.8, 0.6], [1.62, 0.36]], [4.0, 2.34, 1.571])
    """

    def __init__(
        self, x: Floats, y: Floats, surface: Floats, path: Floats, losses: Floats, labels: Sequence[str]
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
        start: Pair | None = None,
        limits: tuple[Pair, Pair] | None = None,
        n_points: int = 41,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Compute the surface and the path, and plot them.

        Only the two weights are trained; all other parameters keep their values in ``trainer``. The path therefore
        lies on the surface, unlike the projection of a path on which all weights are trained. It is computed by a new
        Trainer with the same optimizer and learning rate, one step on all rows per epoch and no dropout. ``trainer``
        is not changed. The losses are training losses, which include the l2 term.

        Parameters
        ----------
        trainer : Trainer
        X, Y : array_like, as in ``Trainer.fit``
        weights : ((layer, i, j), (layer, i, j))
            The two weights, ``trainer.weights[layer][i, j]``.
        epochs : int, >= 1
            Number of steps.
        start : (float, float), optional
            Start of the path. Default: the trainer's weights.
        limits : ((float, float), (float, float)), optional
            Range of each weight on the surface. Default: the path and the trainer's weights, with a margin.
        n_points : int, >= 2
            Number of values of each weight; the surface needs ``n_points²`` evaluations of the loss on X and Y.
        ax, kwargs
            Passed to `plot`.

        Raises
        ------
        TypeError, ValueError
            Invalid arguments; see ``Trainer.fit`` for X and Y.
        FloatingPointError
            The descent diverged.
        """
        check_trainer(trainer)
        first, second = check_weights(trainer, weights)
        check_integer("epochs", epochs, low=1)
        check_integer("n_points", n_points, low=2)
        pyplot()  # before the work, if it is missing
        part = Slice(trainer, X, Y, first, second)
        own = part.place
        path = part.descend(own if start is None else check_pair("start", start), epochs)
        x_range, y_range = around(np.vstack([path, own])) if limits is None else check_limits(limits)
        x, y = np.linspace(*x_range, n_points), np.linspace(*y_range, n_points)
        surface = np.array([[part.loss(u, v) for u in x] for v in y])
        losses = np.array([part.loss(u, v) for u, v in path])
        labels = [f"weights[{layer}][{i}, {j}]" for layer, i, j in (first, second)]
        return cls(x, y, surface, path, losses, labels).plot(ax, **kwargs)

    def plot(
        self, ax: Axes | None = None, *, levels: int | Sequence[float] = 15, cmap: Any = "cividis", **kwargs: Any
    ) -> Self:
        """Plot the contours and the steps; return the display.

        Parameters
        ----------
        ax : Axes, optional
        levels : int or sequence of float
            Number of contours, or their losses. A number of contours is spaced evenly in the square root of the loss
            above its minimum, so the contours of a quadratic bowl are evenly spaced in the plot.
        cmap : str or Colormap
            Colours of the surface.
        **kwargs
            Passed to ``Axes.plot`` for the path: ``color``, ``marker`` …
        """
        from matplotlib.colors import BoundaryNorm

        ax = self._new_axes(ax, (6.4, 5.0))
        surface = np.ma.masked_invalid(self.surface)  # exp may have overflowed
        chosen = np.asarray(levels) if isinstance(levels, Sequence | np.ndarray) else _levels(surface, levels)
        norm = BoundaryNorm(chosen.tolist(), 256)  # a colour of its own for each
        self.contours_ = ax.contourf(self.x, self.y, surface, levels=chosen, cmap=cmap, norm=norm)
        ax.contour(self.x, self.y, surface, levels=chosen, colors="white", linewidths=0.5, alpha=0.6)
        self.colorbar_ = self.figure_.colorbar(self.contours_, ax=ax, label="loss", format="%.3g")
        style = {"color": "white", "marker": "o", "markersize": 4, "linewidth": 1.5, "markeredgecolor": "black",
                 "markeredgewidth": 0.6}  # fmt: skip
        (self.path_,) = ax.plot(*self.path.T, **{**style, **kwargs})
        n_steps = len(self.path) - 1
        ends = (("s", 8, "start", 0), ("*", 14, f"after {n_steps} step{'s' * (n_steps > 1)}", -1))
        for marker, size, name, at in ends:
            label = f"{name}: {self.losses[at]:.3g}"
            x, y = self.path[at]
            ax.plot(x, y, marker, markersize=size, color=NEGATIVE, markeredgecolor="white", label=label, zorder=3)
        ax.set(xlabel=self.labels[0], ylabel=self.labels[1])
        ax.legend(title="loss")
        return self


def _levels(surface: Any, n: int) -> Floats:
    """Return n + 1 losses from the smallest to the largest."""
    if not surface.count():
        raise ValueError("surface has no finite loss")
    low, high = float(surface.min()), float(surface.max())
    if low == high:  # weights that nothing depends on
        high = low + (abs(low) or 1.0)
    levels = low + (high - low) * np.linspace(0.0, 1.0, check_integer("levels", n, low=1) + 1) ** 2
    levels[-1] = high  # not by a rounding error less
    return levels
