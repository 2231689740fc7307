"""The losses: one row each. Which outputs they are trained with, what targets they take, E and ∂E/∂Z.

Logarithms are of Z, not of an A that has been rounded, unless ``clip_probability`` asks for scikit-learn's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from briskmlp._messages import check_choice
from briskmlp.operations import FloatArray, Floats
from briskmlp.operations.activations import HIDDEN, ActivationLike, Choice, chosen

HUBER_THRESHOLD = 1.0  # PyTorch's default


class Output(NamedTuple):
    """What a loss is computed from: the last layer's numbers of some rows, and its activation."""

    activation: Choice
    Z: FloatArray
    A: FloatArray
    saved: FloatArray  # by the activation, for its `through`
    huber: float = HUBER_THRESHOLD  # where huber's parabola ends
    clip_probability: float = 0.0

    def clipped(self) -> FloatArray:
        """Return A in clip_probability … 1 - clip_probability."""
        return np.clip(self.A, self.clip_probability, 1 - self.clip_probability)


Reference = Callable[[Output, Any], tuple[Floats, FloatArray]]  # E of each row, ∂E/∂Z


def _of_error(of: Callable[[FloatArray, float], tuple[Floats, FloatArray]]) -> Reference:
    """Return the reference of a loss that is a function of ``A - Y``, given with its derivative."""

    def reference(o: Output, Y: Any) -> tuple[Floats, FloatArray]:
        losses, dA = of(o.A - Y, o.huber)
        return losses.sum(axis=1), o.activation.through(dA, o.saved)

    return reference


def _mse(error: FloatArray, _: float) -> tuple[Floats, FloatArray]:
    return np.square(error, dtype=np.float64), 2 * error


def _absolute_error(error: FloatArray, _: float) -> tuple[Floats, FloatArray]:
    return np.abs(error).astype(np.float64), np.sign(error)


def _huber(error: FloatArray, d: float) -> tuple[Floats, FloatArray]:
    size = np.abs(error).astype(np.float64)
    return np.where(size <= d, np.square(size) / 2, d * (size - d / 2)), np.clip(error, -d, d)


def _poisson(o: Output, Y: Any) -> tuple[Floats, FloatArray]:
    """Return ``A - Y + Y log(Y / A)``, half the deviance, of a positive A."""
    Z, counts = o.Z.astype(np.float64), Y.astype(np.float64)
    if o.activation.row.name == "exp":
        A, log, delta = np.exp(Z), Z, o.A - Y
    else:
        (A, log), delta = _softplus_logarithm(Z, *o.activation.values), _softplus_poisson_delta(o, Y)
    losses = A - counts - counts * log + counts * np.log(np.where(counts == 0, 1, counts))
    losses[np.isinf(o.A)] = np.inf  # as delta is there: float64 would go on
    return losses.sum(axis=1), delta


def _softplus_logarithm(Z: Floats, beta: float, threshold: float) -> tuple[Floats, Floats]:
    """Return A = softplus(Z) and log A; where A underflows, as exp(x) does, log(β A) is x."""
    x = beta * Z
    A = np.where(x > threshold, Z, np.logaddexp(0, x) / beta)
    tail = x < -40  # log1p(exp(x)) is exp(x) there
    return A, np.where(tail, x - math.log(beta), np.log(np.where(tail, 1, A)))


def _softplus_poisson_delta(o: Output, Y: Any) -> FloatArray:
    """Return f' - Y f'/A, where f'/A = (1 - exp(-βA)) / A, which goes to β as A goes to 0."""
    beta, slope = o.activation.values[0], np.asarray(o.activation.row.df(o.saved, *o.activation.values))  # type: ignore[misc]
    tiny = float(np.finfo(o.A.dtype).tiny) * 2.0**30  # below, A has lost digits, and half of it is nothing beside β
    return np.asarray(slope - Y * np.where(tiny > o.A, beta, slope / np.where(tiny > o.A, 1, o.A)))


def _softmax_cross_entropy(o: Output, Y: Any) -> tuple[Floats, FloatArray]:
    """Return per row ``-Σ Y log A = Σ Y (logsumexp(Z) - Z)``, and ``A - Y``; labels stand for one-hot rows."""
    if o.clip_probability:
        each_loss = -np.log(o.clipped(), dtype=np.float64)
    else:
        Z = o.Z.astype(np.float64)
        Z -= Z.max(axis=1, keepdims=True)
        each_loss = np.log(np.exp(Z).sum(axis=1, keepdims=True)) - Z
    if Y.ndim == 2:
        return np.asarray((Y * each_loss).sum(axis=1)), o.A - Y
    each, delta = np.arange(len(Y)), o.A.copy()
    delta[each, Y] -= 1
    return each_loss[each, Y], delta


def _cross_entropy(o: Output, Y: Any) -> tuple[Floats, FloatArray]:
    """Return ``-Y log A - (1-Y) log(1-A) = softplus(Z) - Y Z`` of sigmoid, and ``A - Y``; or that of softmax."""
    if o.activation.row.name == "softmax":
        return _softmax_cross_entropy(o, Y)
    if o.clip_probability:
        A = o.clipped()
        losses = -Y * np.log(A, dtype=np.float64) - (1 - Y) * np.log(1 - A, dtype=np.float64)
    else:
        Z = o.Z.astype(np.float64)
        losses = np.maximum(Z, 0) + np.log1p(np.exp(-np.abs(Z))) - Y * Z
    return losses.sum(axis=1), o.A - Y


@dataclass(frozen=True, eq=False, kw_only=True)
class Loss:
    """A row of the table."""

    name: str
    outputs: tuple[str, ...]  # the activations that it can be trained with
    # the output that None stands for, from the last hidden activation and n_out
    default: Callable[[ActivationLike, int], ActivationLike] = lambda hidden, n_out: hidden
    targets: str | None = None  # None: any finite numbers; "counts": 0 or more; "probabilities": in [0, 1], or labels
    reference: Reference


BY_CODE = (
    Loss(name="mse", outputs=(*HIDDEN, "softmax"), reference=_of_error(_mse)),
    Loss(
        name="cross_entropy", outputs=("softmax", "sigmoid"), targets="probabilities", reference=_cross_entropy,
        default=lambda hidden, n_out: "softmax" if n_out >= 2 else "sigmoid",
    ),
    Loss(
        name="poisson", outputs=("exp", "softplus"), targets="counts", reference=_poisson,
        default=lambda hidden, n_out: "exp",
    ),
    Loss(name="absolute_error", outputs=HIDDEN, reference=_of_error(_absolute_error)),
    Loss(name="huber", outputs=HIDDEN, reference=_of_error(_huber)),
)  # fmt: skip

LOSSES = {row.name: row for row in BY_CODE}
CODES = {name: code for code, name in enumerate(LOSSES)}


def default_output(loss: str, hidden: ActivationLike, n_out: int) -> ActivationLike:
    """Return the output activation that ``output=None`` stands for.

    mse, absolute_error and huber: as the hidden layers; poisson: exp; cross_entropy: softmax for two or more outputs,
    sigmoid for one.
    """
    return LOSSES[check_choice("loss", loss, tuple(LOSSES))].default(hidden, n_out)


def check_loss(loss: str, output: str) -> None:
    """Refuse a (loss, output) pair that has no gradient here, with the list of valid ones."""
    check_choice("loss", loss, tuple(LOSSES))
    if chosen(output).row.name not in LOSSES[loss].outputs:
        pairs = "; ".join(f"{row.name} with {', '.join(row.outputs)}" for row in BY_CODE)
        raise ValueError(f"loss {loss!r} cannot be trained with output {output!r}; the valid pairs are: {pairs}")
