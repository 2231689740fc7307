"""Learning-rate schedules: the learning rate of each epoch, counted from 0 over all calls of ``fit``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from briskmlp._messages import Checked, check_count, check_number

Schedule = Callable[[int], float]  # gives a learning rate for an epoch


@dataclass(frozen=True)
class _FromRate(Checked):
    """A rate, and numbers that say how it goes on."""

    bounds: ClassVar = {"every": check_count, "epochs": check_count, "power": check_number}
    rate: float


@dataclass(frozen=True)
class Constant(_FromRate):
    """The same rate in every epoch.

    Parameters
    ----------
    rate : float, >= 0

    Examples
    --------
    >>> Constant(0.1)(7)
    0.1
    """

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of this epoch."""
        return self.rate


@dataclass(frozen=True)
class StepDecay(_FromRate):
    """Multiply the rate by ``factor`` every ``every`` epochs (PyTorch's StepLR).

    Parameters
    ----------
    rate : float, >= 0
        Of the first epoch.
    every : int, >= 1
    factor : float, >= 0

    Examples
    --------
    >>> [StepDecay(1.0, every=2, factor=0.5)(epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int
    factor: float = 0.1

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of this epoch."""
        return float(self.rate * self.factor ** (epoch // self.every))


@dataclass(frozen=True)
class Cosine(_FromRate):
    """Fall from ``rate`` to ``final`` along half a cosine in ``epochs`` epochs, then stay there.

    Up to ``epochs`` this is PyTorch's CosineAnnealingLR.

    Parameters
    ----------
    rate : float, >= 0
        Of the first epoch.
    epochs : int, >= 1
    final : float, >= 0

    References
    ----------
    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", without the restarts.

    Examples
    --------
    >>> Cosine(1.0, epochs=2)(1)
    0.5
    """

    epochs: int
    final: float = 0.0

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of this epoch."""
        phase = math.pi * min(epoch, self.epochs) / self.epochs
        return self.final + (self.rate - self.final) * (1 + math.cos(phase)) / 2


@dataclass(frozen=True)
class InverseScaling(_FromRate):
    """``rate / (epoch + 1)**power``: scikit-learn's invscaling, counted in epochs instead of samples.

    Parameters
    ----------
    rate : float, >= 0
        Of the first epoch.
    power : float

    Examples
    --------
    >>> InverseScaling(1.0)(3)
    0.5
    """

    power: float = 0.5

    def __call__(self, epoch: int) -> float:
        """Return the learning rate of this epoch."""
        return float(self.rate / (epoch + 1) ** self.power)


SCHEDULES = {cls.__name__: cls for cls in (Constant, StepDecay, Cosine, InverseScaling)}
