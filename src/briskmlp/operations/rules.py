"""The update rules, one row each, and the optimizers that users choose, each of which says which rule it is.

A new optimizer is a class here and, unless an existing rule does, a row at the end of `RULES`, one in
``kernels/operations.def`` and in Numba's table, and its definition in ``tests/oracle.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from briskmlp._messages import check_fraction, check_number
from briskmlp.operations import FloatArray, Floats
from briskmlp.schedules import Schedule

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop"]  # of briskmlp

MAX_HYPER = 8  # hyperparameters that a Plan has room for
Hyper = tuple[float, ...]

# --- the steps: w, its gradient, its slots, the rule's scalars, hyperparameters, learning rate, step from 1 ----------


def _sgd(w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int) -> None:
    w -= lr * g


def _momentum(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    momentum, dampening, nesterov = hyper
    v = slots[0]
    v[...] = momentum * v + (g if step == 1 else (1 - dampening) * g)
    w -= lr * (g + momentum * v if nesterov else v)


def _velocity(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    momentum, nesterov = hyper
    v = slots[0]
    v[...] = momentum * v - lr * g
    w += momentum * v - lr * g if nesterov else v


def _means(slots: FloatArray, g: FloatArray, beta1: float, beta2: float) -> tuple[FloatArray, FloatArray]:
    """Move the running means of the gradient and of its square, and return them."""
    m, v = slots[0], slots[1]
    m += (1 - beta1) * (g - m)
    v[...] = beta2 * v + (1 - beta2) * (g * g)
    return m, v


def _adam(w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int) -> None:
    beta1, beta2, epsilon, epsilon_hat = hyper
    m, v = _means(slots, g, beta1, beta2)
    correction1, correction2 = 1 - beta1**step, (1 - beta2**step) ** 0.5
    if epsilon_hat:
        w -= lr * correction2 / correction1 * m / (np.sqrt(v) + epsilon)
    else:
        w -= lr / correction1 * m / (np.sqrt(v) / correction2 + epsilon)


def _amsgrad(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    beta1, beta2, epsilon = hyper
    m, v = _means(slots, g, beta1, beta2)
    largest = np.maximum(slots[2], v, out=slots[2])
    w -= lr / (1 - beta1**step) * m / (np.sqrt(largest) / (1 - beta2**step) ** 0.5 + epsilon)


def _mu(step: int, beta1: float, momentum_decay: float) -> float:
    return float(beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay)))


def _advance_nadam(scalars: Floats, hyper: Hyper, step: int) -> None:
    scalars[0] *= _mu(step, hyper[0], hyper[3])


def _nadam(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    beta1, beta2, epsilon, momentum_decay = hyper
    m, v = _means(slots, g, beta1, beta2)
    product, mu, following = float(scalars[0]), _mu(step, beta1, momentum_decay), _mu(step + 1, beta1, momentum_decay)
    now, ahead = lr * (1 - mu) / (1 - product), lr * following / (1 - product * following)
    w -= (now * g + ahead * m) / (np.sqrt(v) / (1 - beta2**step) ** 0.5 + epsilon)


def _radam(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    beta1, beta2, epsilon = hyper
    m, v = _means(slots, g, beta1, beta2)
    rate, correction = lr / (1 - beta1**step), 1 - beta2**step
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * step * beta2**step / correction
    if length > 5:  # the variance of 1/√v is finite
        rectified = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        w -= rate * (rectified * correction) ** 0.5 * m / (np.sqrt(v) + epsilon)
    else:
        w -= rate * m


def _adamax(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    beta1, beta2, epsilon = hyper
    m, largest = slots
    m += (1 - beta1) * (g - m)
    np.maximum(beta2 * largest, np.abs(g) + epsilon, out=largest)
    w -= lr / (1 - beta1**step) * m / largest


def _adagrad(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    lr_decay, epsilon, _ = hyper
    total = slots[0]
    total += g * g
    w -= lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(total) + epsilon)


def _adadelta(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    rho, epsilon = hyper
    squares, moved = slots
    squares[...] = rho * squares + (1 - rho) * (g * g)
    delta = np.sqrt(moved + epsilon) / np.sqrt(squares + epsilon) * g
    moved[...] = rho * moved + (1 - rho) * (delta * delta)
    w -= lr * delta


def _rmsprop(
    w: FloatArray, g: FloatArray, slots: FloatArray, scalars: Floats, hyper: Hyper, lr: float, step: int
) -> None:
    """Move by any of the four rules: with momentum, centered, both, or neither."""
    alpha, epsilon, momentum = (*hyper, 0.0)[:3]
    v, mean = slots[0], None if len(slots) == 1 + (len(hyper) == 3) else slots[-1]
    v[...] = alpha * v + (1 - alpha) * (g * g)
    variance = v
    if mean is not None:
        mean += (1 - alpha) * (g - mean)
        variance = np.maximum(v - mean * mean, 0)  # rounding can take it below
    if len(hyper) == 2:
        w -= lr * g / (np.sqrt(variance) + epsilon)
        return
    slots[1] = momentum * slots[1] + g / (np.sqrt(variance) + epsilon)
    w -= lr * slots[1]


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Rule:
    """A row of the table: how a gradient moves the parameters."""

    name: str
    formula: str
    step: Callable[[FloatArray, FloatArray, FloatArray, Floats, Hyper, float, int], None]
    hyper: tuple[str, ...] = ()  # in the order of a Plan's ``hyper``
    slots: tuple[str, ...] = ()  # PyTorch's names of the numbers of state that each parameter has
    scalars: tuple[str, ...] = ()  # and of those that the network has once
    initial: Callable[[Hyper], tuple[float, ...]] | None = None  # what slots start at; None: 0
    initial_scalars: tuple[float, ...] = ()
    advance: Callable[[Floats, Hyper, int], None] | None = None  # moves the scalars, before a step
    counts_steps: bool = False  # whether a step depends on how many came before

    def fill(self, slots: FloatArray, scalars: Floats, hyper: Floats) -> None:
        """Write what state starts at to ``slots``, (n_slots, n_parameters), and ``scalars``."""
        start = (0.0,) * len(self.slots) if self.initial is None else self.initial(tuple(hyper.tolist()))
        slots[...] = np.array(start)[:, None]
        scalars[...] = self.initial_scalars


_MEANS = ("exp_avg", "exp_avg_sq")

_ROWS = (
    Rule(name="sgd", formula="w -= lr * g", step=_sgd),
    Rule(
        name="momentum", formula="v = momentum * v + (1 - dampening) * g, at first v = g; w -= lr * v, "
        "or with nesterov w -= lr * (g + momentum * v)",
        step=_momentum, hyper=("momentum", "dampening", "nesterov"), slots=("momentum_buffer",), counts_steps=True,
    ),
    Rule(
        name="velocity", formula="v = momentum * v - lr * g; w += v, or with nesterov w += momentum * v - lr * g",
        step=_velocity, hyper=("momentum", "nesterov"), slots=("velocity",),
    ),
    Rule(
        name="adam", formula="m = beta1*m + (1-beta1)*g; v = beta2*v + (1-beta2)*g²; "
        "w -= lr/(1-beta1^t) * m / (sqrt(v)/sqrt(1-beta2^t) + epsilon)",
        step=_adam, hyper=("beta1", "beta2", "epsilon", "epsilon_hat"), slots=_MEANS, counts_steps=True,
    ),
    Rule(
        name="amsgrad", formula="as adam, with the largest v so far in place of v", step=_amsgrad,
        hyper=("beta1", "beta2", "epsilon"), slots=(*_MEANS, "max_exp_avg_sq"), counts_steps=True,
    ),
    Rule(
        name="nadam", formula="mu(t) = beta1 * (1 - 0.96^(t*momentum_decay)/2); w -= lr * ((1-mu(t))/(1-Πmu) * g "
        "+ mu(t+1)/(1-Πmu*mu(t+1)) * m) / (sqrt(v/(1-beta2^t)) + epsilon)",
        step=_nadam, hyper=("beta1", "beta2", "epsilon", "momentum_decay"), slots=_MEANS, scalars=("mu_product",),
        initial_scalars=(1.0,), advance=_advance_nadam, counts_steps=True,
    ),
    Rule(
        name="radam", formula="as adam, times the rectification of the variance; w -= lr/(1-beta1^t) * m before that "
        "is finite", step=_radam, hyper=("beta1", "beta2", "epsilon"), slots=_MEANS, counts_steps=True,
    ),
    Rule(
        name="adamax", formula="u = max(beta2*u, |g| + epsilon); w -= lr/(1-beta1^t) * m / u", step=_adamax,
        hyper=("beta1", "beta2", "epsilon"), slots=("exp_avg", "exp_inf"), counts_steps=True,
    ),
    Rule(
        name="adagrad", formula="s = s + g²; w -= lr/(1+(t-1)*lr_decay) * g / (sqrt(s) + epsilon)", step=_adagrad,
        hyper=("lr_decay", "epsilon", "initial_accumulator_value"), slots=("sum",),
        initial=lambda hyper: hyper[2:3], counts_steps=True,
    ),
    Rule(
        name="adadelta", formula="v = rho*v + (1-rho)*g²; d = sqrt(u+epsilon)/sqrt(v+epsilon) * g; "
        "u = rho*u + (1-rho)*d²; w -= lr * d",
        step=_adadelta, hyper=("rho", "epsilon"), slots=("square_avg", "acc_delta"),
    ),
    Rule(
        name="rmsprop", formula="v = alpha*v + (1-alpha)*g²; w -= lr * g / (sqrt(v) + epsilon)", step=_rmsprop,
        hyper=("alpha", "epsilon"), slots=("square_avg",),
    ),
    Rule(
        name="rmsprop_momentum", formula="b = momentum*b + g / (sqrt(v) + epsilon); w -= lr * b", step=_rmsprop,
        hyper=("alpha", "epsilon", "momentum"), slots=("square_avg", "momentum_buffer"),
    ),
    Rule(
        name="rmsprop_centered", formula="as rmsprop, with v - (running mean of g)² in place of v", step=_rmsprop,
        hyper=("alpha", "epsilon"), slots=("square_avg", "grad_avg"),
    ),
    Rule(
        name="rmsprop_centered_momentum", formula="both of these", step=_rmsprop,
        hyper=("alpha", "epsilon", "momentum"), slots=("square_avg", "momentum_buffer", "grad_avg"),
    ),
)  # fmt: skip

RULES = {row.name: row for row in _ROWS}
CODES = {name: code for code, name in enumerate(RULES)}
BY_CODE = _ROWS


class Lowered(NamedTuple):
    """The rule that an optimizer is, and its hyperparameters in the rule's order."""

    rule: str
    hyper: Hyper = ()
    decoupled: bool = False  # decay the weights, not the gradient

    def plan_fields(self) -> dict[str, Any]:
        """Return the fields of a Plan that say it."""
        row = RULES[self.rule]
        hyper = np.zeros(MAX_HYPER)
        hyper[: len(row.hyper)] = self.hyper
        return {
            "rule": CODES[self.rule],
            "n_slots": len(row.slots),
            "n_scalars": len(row.scalars),
            "hyper": hyper,
            "decoupled": int(self.decoupled),
        }


# --- the optimizers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimizer:
    """What all optimizers share: a learning rate, which is a number or a schedule."""

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        if not callable(self.learning_rate):
            check_number("learning_rate", self.learning_rate, low=0.0)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _FRACTIONS:
                check_fraction(field.name, value)
            elif field.name == "epsilon":
                check_number(field.name, value, low=0.0, open_low=True)
            elif isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise TypeError(f"{field.name} must be True or False, got {value!r}")
            elif field.name != "learning_rate":
                check_number(field.name, value, low=0.0)

    def rates(self, first: int, last: int) -> Floats:
        """Return the learning rates of the epochs first…last-1, counted from 0."""
        if not callable(self.learning_rate):
            return np.full(last - first, float(self.learning_rate))
        epochs = range(first, last)
        return np.array([check_number("learning_rate", self.learning_rate(epoch), low=0.0) for epoch in epochs])

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        raise TypeError(f"optimizer must be one of briskmlp's {', '.join(OPTIMIZERS)}, got {self!r}")

    @property
    def n_slots(self) -> int:
        """How many numbers of state each parameter has."""
        return len(RULES[self.lowered().rule].slots)


_FRACTIONS = ("momentum", "beta1", "beta2", "alpha", "rho")  # in [0, 1); all others are any numbers from 0 on


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, optionally with momentum.

    ``v = momentum * v + (1 - dampening) * g`` (at first ``v = g``); ``w -= lr * v``, or with ``nesterov``
    ``w -= lr * (g + momentum * v)``. Without momentum, ``w -= lr * g``.

    Parameters
    ----------
    learning_rate : float or Schedule
        ``lr``: a number, or a function of the epoch, counted from 0, such as `StepDecay`.
    momentum : float, in [0, 1)
    nesterov : bool
        Needs momentum > 0 and dampening 0.
    weight_decay : float
        Added to the gradient as ``weight_decay * w``, for weights and biases alike.
    dampening : float, >= 0

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
    dampening: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum > 0, got momentum 0")
        if self.nesterov and self.dampening != 0.0:
            raise ValueError(f"nesterov=True needs dampening 0, got dampening {self.dampening!r}")

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        if self.momentum == 0.0:
            return Lowered("sgd")
        return Lowered("momentum", (self.momentum, self.dampening, self.nesterov))


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
    amsgrad : bool
        Divide by the largest v so far.

    References
    ----------
    Kingma & Ba 2015, "Adam: a method for stochastic optimization"; Reddi, Kale & Kumar 2018, "On the convergence of
    Adam and beyond"; torch.optim.Adam.

    Examples
    --------
    >>> Adam(1e-3).n_slots, Adam(1e-3, amsgrad=True).n_slots
    (2, 3)
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        hyper = (self.beta1, self.beta2, self.epsilon)
        decoupled = isinstance(self, AdamW)
        return Lowered("amsgrad", hyper, decoupled) if self.amsgrad else Lowered("adam", (*hyper, 0.0), decoupled)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``w *= 1 - lr*weight_decay`` before Adam's step on the plain gradient.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
    amsgrad : bool
        Divide by the largest v so far.

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
class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which grows with the steps.

    With m and v as Adam's, ``mu(t) = beta1 * (1 - 0.96^(t*momentum_decay)/2)`` and p the product of mu(1)…mu(t),
    ``w -= lr * ((1-mu(t))/(1-p) * g + mu(t+1)/(1-p*mu(t+1)) * m) / (sqrt(v/(1-beta2^t)) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.
    momentum_decay : float, >= 0
    decoupled_weight_decay : bool
        Decay the weights instead, as `AdamW` does.

    References
    ----------
    Dozat 2016, "Incorporating Nesterov momentum into Adam"; torch.optim.NAdam.

    Examples
    --------
    >>> NAdam(2e-3).n_slots
    2
    """

    learning_rate: float | Schedule = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        hyper = (self.beta1, self.beta2, self.epsilon, self.momentum_decay)
        return Lowered("nadam", hyper, self.decoupled_weight_decay)


@dataclass(frozen=True)
class RAdam(Optimizer):
    """Adam whose first steps do not divide by v, until its variance can be told; then a factor rectifies it.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.
    decoupled_weight_decay : bool
        Decay the weights instead, as `AdamW` does.

    References
    ----------
    Liu et al. 2020, "On the variance of the adaptive learning rate and beyond"; torch.optim.RAdam.

    Examples
    --------
    >>> RAdam(1e-3).n_slots
    2
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        return Lowered("radam", (self.beta1, self.beta2, self.epsilon), self.decoupled_weight_decay)


@dataclass(frozen=True)
class Adamax(Optimizer):
    """Adam with the largest gradient in place of the root of the mean square.

    ``m = beta1*m + (1-beta1)*g``, ``u = max(beta2*u, |g| + epsilon)``, ``w -= lr/(1-beta1^t) * m / u``.

    Parameters
    ----------
    learning_rate : float or Schedule
    beta1, beta2 : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.

    References
    ----------
    Kingma & Ba 2015, "Adam: a method for stochastic optimization"; torch.optim.Adamax.

    Examples
    --------
    >>> Adamax(2e-3).n_slots
    2
    """

    learning_rate: float | Schedule = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        return Lowered("adamax", (self.beta1, self.beta2, self.epsilon))


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients.

    ``s = s + g²``, ``w -= lr/(1+(t-1)*lr_decay) * g / (sqrt(s) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule
    lr_decay : float, >= 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.
    initial_accumulator_value : float, >= 0
        What s starts at.
    epsilon : float, > 0

    References
    ----------
    Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic optimization";
    torch.optim.Adagrad.

    Examples
    --------
    >>> Adagrad(1e-2).n_slots
    1
    """

    learning_rate: float | Schedule = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        return Lowered("adagrad", (self.lr_decay, self.epsilon, self.initial_accumulator_value))


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Steps whose size follows from the sizes of the steps before.

    ``v = rho*v + (1-rho)*g²``, ``d = sqrt(u+epsilon)/sqrt(v+epsilon) * g``, ``u = rho*u + (1-rho)*d²``,
    ``w -= lr * d``.

    Parameters
    ----------
    learning_rate : float or Schedule
    rho : float, in [0, 1)
    epsilon : float, > 0
    weight_decay : float
        Added to the gradient as ``weight_decay * w``.

    References
    ----------
    Zeiler 2012, "ADADELTA: an adaptive learning rate method"; torch.optim.Adadelta.

    Examples
    --------
    >>> Adadelta().learning_rate
    1.0
    """

    learning_rate: float | Schedule = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        return Lowered("adadelta", (self.rho, self.epsilon))


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
    momentum : float, in [0, 1)
        ``b = momentum * b + g / (sqrt(v) + epsilon)``; ``w -= lr * b``.
    centered : bool
        Take the square of the running mean of g off v.

    References
    ----------
    Hinton 2012, "Neural networks for machine learning", lecture 6e; torch.optim.RMSprop.

    Examples
    --------
    >>> RMSprop(1e-2).n_slots, RMSprop(1e-2, momentum=0.9, centered=True).n_slots
    (1, 3)
    """

    learning_rate: float | Schedule = 1e-2
    alpha: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        name = "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum > 0.0)
        return Lowered(name, (self.alpha, self.epsilon, self.momentum)[: len(RULES[name].hyper)])


OPTIMIZERS: dict[str, type[Any]] = {name: globals()[name] for name in __all__}


def hyperparameters_of(cls: type[Optimizer], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimizer's hyperparameters from one of the ``param_groups`` of PyTorch's of the same name.

    Examples
    --------
    >>> Adamax(**hyperparameters_of(Adamax, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-7, "weight_decay": 0}))
    Adamax(learning_rate=0.1, beta1=0.8, beta2=0.9, epsilon=1e-07, weight_decay=0)
    """
    named = {**group, "learning_rate": group["lr"], "epsilon": group.get("eps")}
    if "betas" in group:
        named["beta1"], named["beta2"] = group["betas"]
    return {field.name: named[field.name] for field in fields(cls)}
