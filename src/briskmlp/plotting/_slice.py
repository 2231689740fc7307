"""A slice of the error surface: a copy of a Trainer in which only two weights change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._messages import check_integer, check_number
from briskmlp.trainer import Trainer

Floats = NDArray[np.float64]
Weight = tuple[int, int, int]  # layer, i, j: trainer.weights[layer][i, j]
Pair = tuple[float, float]

MARGIN = 0.35  # of the points' extent, on each side of them
_COPIED = ("loss", "optimizer", "l2", "clip_norm", "dtype", "precision", "seed", "backend", "threads")


class Slice:
    """A copy of a Trainer in which two weights change, with a new optimizer state and one step per epoch."""

    def __init__(self, trainer: Trainer, X: Any, Y: Any, first: Weight, second: Weight) -> None:
        copied = {name: getattr(trainer, name) for name in _COPIED}
        copied |= {name: getattr(trainer.network, name) for name in ("layers", "hidden", "output", "bias")}
        self.copy = Trainer(**copied, initializer=trainer.parameters, batch_size=None, shuffle=False)
        self.X, self.Y, self.two = X, Y, (first, second)
        self.kept = self.copy.parameters.copy()

    @property
    def place(self) -> Pair:
        """The two weights."""
        x, y = (float(self.copy.weights[layer][i, j]) for layer, i, j in self.two)
        return x, y

    @place.setter
    def place(self, values: Pair) -> None:
        self.copy.parameters[...] = self.kept
        for (layer, i, j), value in zip(self.two, values, strict=True):
            self.copy.weights[layer][i, j] = value

    def loss(self, x: float, y: float) -> float:
        """Return the training loss, which includes the l2 term, unlike evaluate."""
        self.place = x, y
        return self.copy.loss_and_gradient(self.X, self.Y)[0] if self.copy.l2 else self.copy.evaluate(self.X, self.Y)

    def descend(self, start: Pair, steps: int) -> Floats:
        """Return the two weights before the first step and after each one, (steps + 1, 2)."""
        self.place = start
        path = [self.place]  # of the trainer's dtype
        for _ in range(steps):
            self.copy.fit(self.X, self.Y, epochs=1, progress=False)
            path.append(self.place)
            self.place = path[-1]  # the others have moved, too
        return np.array(path)


def around(points: Floats) -> tuple[Pair, Pair]:
    """Return ranges of the two weights that contain the points and a margin, and are of similar length.

    Examples
    --------
    >>> around(np.array([[0.0, 5.0], [10.0, 5.0]]))
    ((-3.5, 13.5), (2.1666666666666665, 7.833333333333334))
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum(high - low, (high - low).max() / 3 or 1.0)
    middle, half = (low + high) / 2, extent * (0.5 + MARGIN)
    (x0, y0), (x1, y1) = (middle - half).tolist(), (middle + half).tolist()
    return (x0, x1), (y0, y1)


def check_weights(trainer: Trainer, weights: Any) -> tuple[Weight, Weight]:
    """Return the indices of two different weights of the network."""
    try:
        first, second = ((layer, i, j) for layer, i, j in weights)
    except (TypeError, ValueError):
        raise ValueError(f"weights is {weights!r}, but must be two weights: ((layer, i, j), (layer, i, j))") from None
    shapes = [W.shape for W in trainer.weights]
    for layer, i, j in (first, second):
        check_integer("the layer of weights", layer, low=0, high=len(shapes) - 1)
        for name, index, size in zip("ij", (i, j), shapes[layer], strict=True):
            check_integer(f"the {name} of weights, in layer {layer},", index, low=0, high=size - 1)
    if first == second:
        raise ValueError(f"weights has {first} twice, but must be two different weights")
    return first, second


def check_pair(argument: str, values: Any) -> Pair:
    """Return two finite numbers."""
    if np.shape(values) != (2,):
        raise ValueError(f"{argument} is {values!r}, but must be two numbers")
    return check_number(argument, values[0]), check_number(argument, values[1])


def check_limits(limits: Any) -> tuple[Pair, Pair]:
    """Return a range of each weight."""
    if np.shape(limits) != (2, 2):
        raise ValueError(f"limits is {limits!r}, but must be ((low, high), (low, high))")
    x_range, y_range = check_pair("limits", limits[0]), check_pair("limits", limits[1])
    for low, high in (x_range, y_range):
        if low >= high:
            raise ValueError(f"limits has ({low}, {high}), but the first must be below the second")
    return x_range, y_range
