"""The update rules, one row each, and the optimizers that users choose, each of which says which rule it is.

A new optimizer is a class here and, unless an existing rule does, a row at the end of `RULES`, one in
``kernels/operations.def`` and in Numba's table, and its definition in ``tests/oracle.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from briskmlp._messages import Checked, check_fraction, check_not_negative, check_positive
from briskmlp.operations import FloatArray as Array
from briskmlp.operations import Floats
from briskmlp.schedules import Schedule

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop"]  # of briskmlp

MAX_HYPER = 8  # hyperparameters that a Plan has room for

# --- the steps: of w by its gradient, with its slots and the rule's hyperparameters -----------------------------------


class Time(NamedTuple):
    """What is the same for all parameters in a step."""

    lr: float
    step: int  # from 1
    scalars: Floats


def _sgd(w: Array, g: Array, slots: Array, t: Time) -> None:
    w -= t.lr * g


def _momentum(w: Array, g: Array, slots: Array, t: Time, momentum: float, dampening: float, nesterov: float) -> None:
    v = slots[0]
    v[...] = momentum * v + (g if t.step == 1 else (1 - dampening) * g)
    w -= t.lr * (g + momentum * v if nesterov else v)


def _velocity(w: Array, g: Array, slots: Array, t: Time, momentum: float, nesterov: float) -> None:
    v = slots[0]
    v[...] = momentum * v - t.lr * g
    w += momentum * v - t.lr * g if nesterov else v


def _means(slots: Array, g: Array, beta1: float, beta2: float) -> tuple[Array, Array]:
    """Move the running means of the gradient and of its square, and return them."""
    m, v = slots[:2]
    m += (1 - beta1) * (g - m)
    v[...] = beta2 * v + (1 - beta2) * (g * g)
    return m, v


def _adam(w: Array, g: Array, slots: Array, t: Time, beta1: float, beta2: float, eps: float, hat: float = 0.0) -> None:
    m, v = _means(slots, g, beta1, beta2)
    if len(slots) == 3:  # amsgrad: the largest v so far
        v = np.maximum(slots[2], v, out=slots[2])
    correction1, correction2 = 1 - beta1**t.step, (1 - beta2**t.step) ** 0.5
    if hat:
        w -= t.lr * correction2 / correction1 * m / (np.sqrt(v) + eps)
    else:
        w -= t.lr / correction1 * m / (np.sqrt(v) / correction2 + eps)


def _mu(step: int, beta1: float, momentum_decay: float) -> float:
    return float(beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay)))


def _advance_nadam(scalars: Floats, step: int, beta1: float, beta2: float, eps: float, decay: float) -> None:
    scalars[0] *= _mu(step, beta1, decay)


def _nadam(w: Array, g: Array, slots: Array, t: Time, beta1: float, beta2: float, eps: float, decay: float) -> None:
    m, v = _means(slots, g, beta1, beta2)
    lr, step, product = t.lr, t.step, float(t.scalars[0])
    mu, following = _mu(step, beta1, decay), _mu(step + 1, beta1, decay)
    now, ahead = lr * (1 - mu) / (1 - product), lr * following / (1 - product * following)
    w -= (now * g + ahead * m) / (np.sqrt(v) / (1 - beta2**step) ** 0.5 + eps)


def _radam(w: Array, g: Array, slots: Array, t: Time, beta1: float, beta2: float, eps: float) -> None:
    m, v = _means(slots, g, beta1, beta2)
    rate, correction = t.lr / (1 - beta1**t.step), 1 - beta2**t.step
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * t.step * beta2**t.step / correction
    if length > 5:  # the variance of 1/√v is finite
        rectified = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        w -= rate * (rectified * correction) ** 0.5 * m / (np.sqrt(v) + eps)
    else:
        w -= rate * m


def _adamax(w: Array, g: Array, slots: Array, t: Time, beta1: float, beta2: float, eps: float) -> None:
    m, largest = slots
    m += (1 - beta1) * (g - m)
    np.maximum(beta2 * largest, np.abs(g) + eps, out=largest)
    w -= t.lr / (1 - beta1**t.step) * m / largest


def _adagrad(w: Array, g: Array, slots: Array, t: Time, lr_decay: float, eps: float, initial: float) -> None:
    total = slots[0]
    total += g * g
    w -= t.lr / (1 + (t.step - 1) * lr_decay) * g / (np.sqrt(total) + eps)


def _adadelta(w: Array, g: Array, slots: Array, t: Time, rho: float, eps: float) -> None:
    squares, moved = slots
    squares[...] = rho * squares + (1 - rho) * (g * g)
    delta = np.sqrt(moved + eps) / np.sqrt(squares + eps) * g
    moved[...] = rho * moved + (1 - rho) * (delta * delta)
    w -= t.lr * delta


def _rmsprop(w: Array, g: Array, slots: Array, t: Time, alpha: float, eps: float, *momentum: float) -> None:
    """Move by any of the four rules: with momentum, centered, both, or neither."""
    v = variance = slots[0]
    v[...] = alpha * v + (1 - alpha) * (g * g)
    if len(slots) > 1 + len(momentum):  # centered
        mean = slots[-1]
        mean += (1 - alpha) * (g - mean)
        variance = np.maximum(v - mean * mean, 0)  # rounding can take it below
    root = np.sqrt(variance) + eps
    if momentum:
        slots[1] = momentum[0] * slots[1] + g / root
        w -= t.lr * slots[1]
    else:
        w -= t.lr * g / root


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Rule:
    """A row of the table: how a gradient moves the parameters."""

    name: str
    step: Callable[..., None]  # takes w, g, slots, the time, and the hyperparameters
    hyper: tuple[str, ...] = ()  # in the order of a Plan's ``hyper``; those that users choose, by their names
    slots: tuple[str, ...] = ()  # PyTorch's names of the numbers of state that each parameter has
    scalars: tuple[str, ...] = ()  # and of those that the network has once
    initial: Callable[..., tuple[float, ...]] | None = None  # what slots start at, from the hyperparameters; None: 0
    initial_scalars: tuple[float, ...] = ()
    advance: Callable[..., None] | None = None  # moves the scalars, before a step, by its number and hyperparameters
    counts_steps: bool = False  # whether a step depends on how many came before

    def fill(self, slots: Array, scalars: Floats, hyper: Floats) -> None:
        """Write what state starts at to ``slots``, (n_slots, n_parameters), and ``scalars``."""
        slots.T[...] = 0.0 if self.initial is None else self.initial(*hyper.tolist())
        scalars[...] = self.initial_scalars


_BETAS, _MEANS = ("beta1", "beta2", "epsilon"), ("exp_avg", "exp_avg_sq")
BY_CODE = (
    Rule(name="sgd", step=_sgd),
    Rule(
        name="momentum", step=_momentum, hyper=("momentum", "dampening", "nesterov"), slots=("momentum_buffer",),
        counts_steps=True,
    ),
    Rule(name="velocity", step=_velocity, hyper=("momentum", "nesterov"), slots=("velocity",)),
    Rule(name="adam", step=_adam, hyper=(*_BETAS, "epsilon_hat"), slots=_MEANS, counts_steps=True),
    Rule(name="amsgrad", step=_adam, hyper=_BETAS, slots=(*_MEANS, "max_exp_avg_sq"), counts_steps=True),
    Rule(
        name="nadam", step=_nadam, hyper=(*_BETAS, "momentum_decay"), slots=_MEANS, scalars=("mu_product",),
        initial_scalars=(1.0,), advance=_advance_nadam, counts_steps=True,
    ),
    Rule(name="radam", step=_radam, hyper=_BETAS, slots=_MEANS, counts_steps=True),
    Rule(name="adamax", step=_adamax, hyper=_BETAS, slots=("exp_avg", "exp_inf"), counts_steps=True),
    Rule(
        name="adagrad", step=_adagrad, hyper=("lr_decay", "epsilon", "initial_accumulator_value"), slots=("sum",),
        initial=lambda *hyper: hyper[2:3], counts_steps=True,
    ),
    Rule(name="adadelta", step=_adadelta, hyper=("rho", "epsilon"), slots=("square_avg", "acc_delta")),
    Rule(name="rmsprop", step=_rmsprop, hyper=("alpha", "epsilon"), slots=("square_avg",)),
    Rule(
        name="rmsprop_momentum", step=_rmsprop, hyper=("alpha", "epsilon", "momentum"),
        slots=("square_avg", "momentum_buffer"),
    ),
    Rule(name="rmsprop_centered", step=_rmsprop, hyper=("alpha", "epsilon"), slots=("square_avg", "grad_avg")),
    Rule(
        name="rmsprop_centered_momentum", step=_rmsprop, hyper=("alpha", "epsilon", "momentum"),
        slots=("square_avg", "momentum_buffer", "grad_avg"),
    ),
)  # fmt: skip

RULES = {row.name: row for row in BY_CODE}
CODES = {name: code for code, name in enumerate(RULES)}


class Lowered(NamedTuple):
    """The rule that an optimizer is, and its hyperparameters in the rule's order."""

    rule: str
    hyper: tuple[float, ...] = ()
    decoupled: bool = False  # decay the weights, not the gradient

    def plan_fields(self) -> dict[str, Any]:
        """Return the fields of a Plan that say it."""
        row, hyper = RULES[self.rule], np.zeros(MAX_HYPER)
        hyper[: len(row.hyper)] = self.hyper
        counts = {"n_slots": len(row.slots), "n_scalars": len(row.scalars)}
        return {"rule": CODES[self.rule], **counts, "hyper": hyper, "decoupled": int(self.decoupled)}


# --- the optimizers --------------------------------------------------------------------------------------------------


def _check_rate(argument: str, value: Any) -> None:
    if not callable(value):
        check_not_negative(argument, value)


@dataclass(frozen=True)
class Optimizer(Checked):
    """What all optimizers share: a learning rate, which is a number or a schedule, and a rule that they lower to."""

    rule: ClassVar[str] = ""  # its name, unless hyperparameters choose it
    bounds: ClassVar = {
        "learning_rate": _check_rate,
        "epsilon": check_positive,
        **dict.fromkeys(("momentum", "beta1", "beta2", "alpha", "rho"), check_fraction),
    }
    learning_rate: float | Schedule

    def rates(self, first: int, last: int) -> Floats:
        """Return the learning rates of the epochs first…last-1, counted from 0."""
        if not callable(self.learning_rate):
            return np.full(last - first, float(self.learning_rate))
        rates = map(self.learning_rate, range(first, last))
        return np.array([check_not_negative("learning_rate", rate) for rate in rates])

    def _rule(self) -> str:
        return self.rule

    def lowered(self) -> Lowered:
        """Return the rule that this is, with its hyperparameters."""
        if (rule := self._rule()) not in RULES:
            raise TypeError(f"optimizer must be one of briskmlp's {', '.join(OPTIMIZERS)}, got {self!r}")
        hyper = tuple(getattr(self, name) for name in RULES[rule].hyper)
        return Lowered(rule, hyper, getattr(self, "decoupled_weight_decay", False))

    @property
    def n_slots(self) -> int:
        """How many numbers of state each parameter has."""
        return len(RULES[self.lowered().rule].slots)


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

    def _rule(self) -> str:
        return "momentum" if self.momentum else "sgd"


@dataclass(frozen=True)
class _Adaptive(Optimizer):
    """What Adam and those derived from it share."""

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam(_Adaptive):
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

    epsilon_hat: ClassVar[float] = 0.0  # 1 takes epsilon as scikit-learn does, which lowers its own
    amsgrad: bool = False

    def _rule(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``w *= 1 - lr*weight_decay`` before Adam's step on the plain gradient.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad : as in `Adam`

    References
    ----------
    Loshchilov & Hutter 2019, "Decoupled weight decay regularization"; torch.optim.AdamW.

    Examples
    --------
    >>> AdamW(1e-3).weight_decay
    0.01
    """

    decoupled_weight_decay: ClassVar[bool] = True
    weight_decay: float = 0.01


@dataclass(frozen=True)
class NAdam(_Adaptive):
    """Adam with Nesterov's momentum, which grows with the steps.

    With m and v as Adam's, ``mu(t) = beta1 * (1 - 0.96^(t*momentum_decay)/2)`` and p the product of mu(1)…mu(t),
    ``w -= lr * ((1-mu(t))/(1-p) * g + mu(t+1)/(1-p*mu(t+1)) * m) / (sqrt(v/(1-beta2^t)) + epsilon)``.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon, weight_decay : as in `Adam`
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

    rule = "nadam"
    learning_rate: float | Schedule = 2e-3
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False


@dataclass(frozen=True)
class RAdam(_Adaptive):
    """Adam whose first steps do not divide by v, until its variance can be told; then a factor rectifies it.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon, weight_decay : as in `Adam`
    decoupled_weight_decay : as in `NAdam`

    References
    ----------
    Liu et al. 2020, "On the variance of the adaptive learning rate and beyond"; torch.optim.RAdam.

    Examples
    --------
    >>> RAdam(1e-3).n_slots
    2
    """

    rule = "radam"
    decoupled_weight_decay: bool = False


@dataclass(frozen=True)
class Adamax(_Adaptive):
    """Adam with the largest gradient in place of the root of the mean square.

    ``m = beta1*m + (1-beta1)*g``, ``u = max(beta2*u, |g| + epsilon)``, ``w -= lr/(1-beta1^t) * m / u``.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon, weight_decay : as in `Adam`

    References
    ----------
    Kingma & Ba 2015, "Adam: a method for stochastic optimization"; torch.optim.Adamax.

    Examples
    --------
    >>> Adamax(2e-3).n_slots
    2
    """

    rule = "adamax"
    learning_rate: float | Schedule = 2e-3


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients.

    ``s = s + g²``, ``w -= lr/(1+(t-1)*lr_decay) * g / (sqrt(s) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule
    lr_decay : float, >= 0
    weight_decay : as in `Adam`
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

    rule = "adagrad"
    learning_rate: float | Schedule = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Steps whose size follows from the sizes of the steps before.

    ``v = rho*v + (1-rho)*g²``, ``d = sqrt(u+epsilon)/sqrt(v+epsilon) * g``, ``u = rho*u + (1-rho)*d²``,
    ``w -= lr * d``.

    Parameters
    ----------
    learning_rate : float or Schedule
    rho : float, in [0, 1)
    epsilon, weight_decay : as in `Adam`

    References
    ----------
    Zeiler 2012, "ADADELTA: an adaptive learning rate method"; torch.optim.Adadelta.

    Examples
    --------
    >>> Adadelta().learning_rate
    1.0
    """

    rule = "adadelta"
    learning_rate: float | Schedule = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6
    weight_decay: float = 0.0


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: ``v = alpha*v + (1-alpha)*g²``; ``w -= lr * g / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule
    alpha : float, in [0, 1)
    epsilon, weight_decay : as in `Adam`
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

    def _rule(self) -> str:
        return "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum > 0.0)


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
