"""The optimizers: frozen hyperparameters with PyTorch's names, meanings and formulas.

The update itself is a kernel: ``update`` in each backend. ``g`` below is the gradient plus
``weight_decay * w`` (except AdamW), ``lr`` the learning rate of the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from briskmlp._messages import check_fraction, check_number
from briskmlp.schedules import Schedule

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Optimizer:
    """What all optimizers share: a learning rate, which is a number or a schedule."""

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        if not callable(self.learning_rate):
            check_number("learning_rate", self.learning_rate, low=0.0)

    def rates(self, first: int, last: int) -> Floats:
        """Return the learning rates of the epochs first…last-1, counted from 0."""
        if not callable(self.learning_rate):
            return np.full(last - first, float(self.learning_rate))
        epochs = range(first, last)
        return np.array([check_number("learning_rate", self.learning_rate(epoch), low=0.0) for epoch in epochs])

    @property
    def n_slots(self) -> int:
        """How many numbers of state each parameter has."""
        return 0


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, optionally with momentum.

    ``v = momentum * v + g`` (at first ``v = g``); ``w -= lr * v``, or with ``nesterov``
    ``w -= lr * (g + momentum * v)``. Without momentum, ``w -= lr * g``.

    Parameters
    ----------
    learning_rate : float or Schedule
        ``lr``: a number, or a function of the epoch, counted from 0, such as `StepDecay`.
    momentum : float, in [0, 1)
    nesterov : bool
        Needs momentum > 0.
    weight_decay : float
        Added to the gradient as ``weight_decay * w``, for weights and biases alike.

    References
    ----------
    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning"; torch.optim.SGD.

    Examples
    --------
    >>> SGD(0.1, momentum=0.9, nesterov=True).n_slots
    1
    """

    learning_rate: float | Schedule = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("momentum", self.momentum)
        check_number("weight_decay", self.weight_decay, low=0.0)
        if not isinstance(self.nesterov, bool):
            raise TypeError(f"nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum > 0, got momentum 0")

    @property
    def n_slots(self) -> int:
        """How many numbers of state each parameter has."""
        return 1 if self.momentum else 0


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g²``,
    ``w -= lr/(1-beta1^t) * m / (sqrt(v)/sqrt(1-beta2^t) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.

    References
    ----------
    Kingma & Ba 2015, "Adam: a method for stochastic optimization"; torch.optim.Adam.

    Examples
    --------
    >>> Adam(1e-3).n_slots
    2
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("beta1", self.beta1)
        check_fraction("beta2", self.beta2)
        check_number("epsilon", self.epsilon, low=0.0, open_low=True)
        check_number("weight_decay", self.weight_decay, low=0.0)

    @property
    def n_slots(self) -> int:
        """How many numbers of state each parameter has."""
        return 2


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``w *= 1 - lr*weight_decay`` before Adam's step on the plain gradient.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float

    References
    ----------
    Loshchilov & Hutter 2019, "Decoupled weight decay regularization"; torch.optim.AdamW.

    Examples
    --------
    >>> AdamW(1e-3).weight_decay
    0.01
    """

    weight_decay: float = 0.01


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: ``v = alpha*v + (1-alpha)*g²``; ``w -= lr * g / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule
    alpha : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.

    References
    ----------
    Hinton 2012, "Neural networks for machine learning", lecture 6e; torch.optim.RMSprop.

    Examples
    --------
    >>> RMSprop(1e-2).n_slots
    1
    """

    learning_rate: float | Schedule = 1e-2
    alpha: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("alpha", self.alpha)
        check_number("epsilon", self.epsilon, low=0.0, open_low=True)
        check_number("weight_decay", self.weight_decay, low=0.0)

    @property
    def n_slots(self) -> int:
        """How many numbers of state each parameter has."""
        return 1


OPTIMIZERS = {cls.__name__: cls for cls in (SGD, Adam, AdamW, RMSprop)}
