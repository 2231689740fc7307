"""The losses E of each row, and delta[L] = ∂E/∂Z[L].

Logarithms are of Z, not of an A that has been rounded, unless the plan's ``clip_probability`` asks for scikit-learn's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numpy.activations import through
from briskmlp.network import FloatArray
from briskmlp.plan import ABSOLUTE_ERROR, HUBER, MSE, POISSON, SOFTMAX, Floats, Plan


def loss_and_delta(
    plan: Plan, A: FloatArray, Z: FloatArray, Y: Any, weight: FloatArray | None
) -> tuple[float, FloatArray]:
    """Return Σ w·E and its gradient with respect to the last Z, both un-normalised."""
    activation = int(plan.activations[-1])
    if plan.loss in (MSE, ABSOLUTE_ERROR, HUBER):
        losses, dA = _of_error(plan, A - Y)
        delta = through(plan, dA, A, activation)
    elif plan.loss == POISSON:
        losses, delta = _poisson(A, Z.astype(np.float64), Y.astype(np.float64)).sum(axis=1), A - Y
    elif activation == SOFTMAX:
        losses, delta = _softmax_cross_entropy(plan, A, Z.astype(np.float64), Y)
    else:
        losses, delta = _sigmoid_cross_entropy(plan, A, Z.astype(np.float64), Y).sum(axis=1), A - Y
    if weight is not None:
        losses, delta = losses * weight, delta * weight[:, None]
    return plan.loss_scale * float(losses.sum()), np.asarray(plan.loss_scale * delta, dtype=A.dtype)


def _of_error(plan: Plan, error: FloatArray) -> tuple[Floats, FloatArray]:
    """Return a loss of ``A - Y`` per row, and its gradient with respect to A."""
    if plan.loss == MSE:
        return np.square(error, dtype=np.float64).sum(axis=1), 2 * error
    size = np.abs(error).astype(np.float64)
    if plan.loss == ABSOLUTE_ERROR:
        return size.sum(axis=1), np.sign(error)
    d = plan.huber
    losses = np.where(size <= d, np.square(size) / 2, d * (size - d / 2))
    return losses.sum(axis=1), np.clip(error, -d, d)


def _poisson(A: FloatArray, Z: Floats, Y: Floats) -> Floats:
    """Return ``A - Y + Y log(Y / A) = exp(Z) - Y - Y Z + Y log Y`` of each output: half the deviance."""
    # infinite where A is, and so delta: float64 would go on
    return np.where(np.isinf(A), np.inf, np.exp(Z) - Y - Y * Z + Y * np.log(np.where(Y == 0, 1, Y)))


def _softmax_cross_entropy(plan: Plan, A: FloatArray, Z: Floats, Y: Any) -> tuple[Floats, FloatArray]:
    """Return per row ``-Σ Y log A = Σ Y (logsumexp(Z) - Z)``, and ``A - Y``; labels stand for one-hot rows."""
    if plan.clip_probability:
        each_loss = -np.log(_clipped(plan, A), dtype=np.float64)
    else:
        Z -= Z.max(axis=1, keepdims=True)
        each_loss = np.log(np.exp(Z).sum(axis=1, keepdims=True)) - Z
    if Y.ndim == 2:
        return np.asarray((Y * each_loss).sum(axis=1)), A - Y
    each, delta = np.arange(len(Y)), A.copy()
    delta[each, Y] -= 1
    return each_loss[each, Y], delta


def _sigmoid_cross_entropy(plan: Plan, A: FloatArray, Z: Floats, Y: FloatArray) -> Floats:
    """Return ``-Y log A - (1-Y) log(1-A) = softplus(Z) - Y Z`` of each output."""
    if plan.clip_probability:
        A = _clipped(plan, A)
        return np.asarray(-Y * np.log(A, dtype=np.float64) - (1 - Y) * np.log(1 - A, dtype=np.float64))
    return np.asarray(np.maximum(Z, 0) + np.log1p(np.exp(-np.abs(Z))) - Y * Z)


def _clipped(plan: Plan, A: FloatArray) -> FloatArray:
    return np.clip(A, plan.clip_probability, 1 - plan.clip_probability)
