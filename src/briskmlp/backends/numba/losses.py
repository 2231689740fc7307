"""The loss of one chunk of rows, and the last layer's delta.

mse                E = Σ (A - Y)²                          delta = 2 (A - Y) f'(Z)
absolute error     E = Σ |A - Y|                           delta = sign(A - Y) f'(Z)
Huber              E = Σ c (e - c/2)                       delta = c f'(Z)     e = A - Y, c = e clipped to ±d
cross-entropy      E = -Σ Y log A, or of both outcomes     delta = A - Y
Poisson            E = Σ A - Y + Y log(Y/A)                delta = A - Y

Cross-entropy and Poisson's loss come from Z; softmax with mse has a Jacobian product of its own. All are multiplied by
``job.loss_scale`` and by the example's weight w.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.activations import backward, softplus, softplus_backward
from briskmlp.backends.numba.forward import activate, gather, softmax_row
from briskmlp.backends.numba.layout import SMALL_CHUNK
from briskmlp.backends.numba.vector import (
    absolute,
    first,
    fma,
    load,
    number,
    offset,
    splat,
    store,
    total,
    where_less,
    width,
)
from briskmlp.backends.numba.vector_math import exp, exp_any, log1p
from briskmlp.plan import CROSS_ENTROPY, HUBER, MSE, POISSON, SIGMOID, SOFTMAX, SOFTPLUS

TINY = 2.0**-96  # below it softplus has lost no digit yet, in float32 too, and half of it is nothing beside beta


@jit
def loss_chunk(
    job: Any, layer: Any, buffer: Any, Y: Any, labels: Any, weight: Any, weighted: bool, rows: Any, m: int, scale: float
) -> Any:
    """Write delta = ``scale`` · w · ∂E/∂Z of the last layer from its Z, for m rows; return Σ w·E.

    ``Y`` is (n, n_out) in C order, or ``labels`` (n,) where the loss is cross-entropy and ``labels[0] >= 0``. Dense
    targets are first gathered to where delta will be, as whole Vecs cannot be read from ragged rows.
    """
    n, n_padded, Z, D = layer.n_out, layer.columns, layer.at_Z, layer.at_D
    labelled, of_errors = labels[0] >= 0, job.loss not in (CROSS_ENTROPY, POISSON)
    if not labelled:
        gather(Y, n, rows, m, buffer, D, n, n_padded)
    if of_errors:
        activate(layer, buffer, m)
    loss_sum = 0.0
    if of_errors and layer.activation != SOFTMAX:
        for start in range(0, m, SMALL_CHUNK):  # so that float32 sums stay short
            to = min(m - start, SMALL_CHUNK)
            loss_sum += errors(job, layer, buffer, start, weight, weighted, offset(rows, start), to, scale)
        return job.loss_scale * loss_sum
    for i in range(m):
        z, d = Z + i * n_padded, D + i * n_padded
        w = job.loss_scale * (np.float64(weight[rows[i]]) if weighted else 1.0)
        if of_errors:
            E = softmax_squared_error(buffer, z, d, n, w * scale)
        elif job.loss == POISSON:
            E = (
                softplus_poisson(layer, buffer, z, d, w * scale)
                if layer.activation == SOFTPLUS
                else poisson(buffer, z, d, n, w * scale)
            )
        elif layer.activation == SIGMOID:
            E = sigmoid_cross_entropy(buffer, z, d, n, w * scale, job.clip_probability)
        elif labelled:
            E = softmax_cross_entropy_label(buffer, z, d, labels[rows[i]], n, w * scale, job.clip_probability)
        else:
            E = softmax_cross_entropy(buffer, z, d, n, w * scale, job.clip_probability)
        loss_sum += w * E
    return loss_sum


@jit
def errors(
    job: Any, layer: Any, buffer: Any, start: int, weight: Any, weighted: bool, rows: Any, m: int, scale: float
) -> Any:
    """Write delta of m rows from ``start`` on in place of Y, for losses of A - Y; return Σ w E, unscaled."""
    lanes, n, n_padded = width(buffer), layer.n_out, layer.columns
    a, d, s = layer.at_Z + start * n_padded, layer.at_D + start * n_padded, layer.at_S + start * n_padded
    saved, factor = layer.at_S >= 0, job.loss_scale * scale
    zero, one, half = splat(buffer, 0.0), splat(buffer, 1.0), splat(buffer, 0.5)
    high, low = splat(buffer, job.huber), splat(buffer, -job.huber)
    losses, w, by = zero, one, splat(buffer, 2.0 * factor if job.loss == MSE else factor)
    for i in range(m):
        if weighted:
            w = splat(buffer, weight[rows[i]])
        for j in range(0, n_padded, lanes):
            A = load(buffer, a + j)
            error = first(A - load(buffer, d + j), n - j, 0.0)
            if job.loss == MSE:
                g = w * error  # ``by`` has the 2
                losses = fma(g, error, losses)
            elif job.loss == HUBER:
                clipped = where_less(high, error, high, where_less(error, low, low, error))
                g = w * clipped
                losses = fma(g, error - half * clipped, losses)
            else:
                g = w * (where_less(zero, error, one, zero) - where_less(error, zero, one, zero))
                losses = fma(g, error, losses)
            if saved:
                store(buffer, d + j, g * by * load(buffer, s + j))
            else:
                store(buffer, d + j, backward(layer.activation, g * by, A, layer.p, layer.q))
        a += n_padded
        s += n_padded
        d += n_padded
    return np.float64(total(losses))


@jit
def softmax_squared_error(buffer: Any, a: int, d: int, n: int, factor: float) -> Any:
    """Write delta = factor · A (g - Σ g A), where g = 2 (A - Y), of one row in place of Y; return Σ (A - Y)²."""
    lanes = width(buffer)
    squares, along = splat(buffer, 0.0), splat(buffer, 0.0)
    for j in range(0, n, lanes):
        A = load(buffer, a + j)
        error = first(A - load(buffer, d + j), n - j, 0.0)
        squares = squares + error * error
        g = error * splat(buffer, 2.0 * factor)
        along = along + g * A
        store(buffer, d + j, g)
    mean = splat(buffer, total(along))
    for j in range(0, n, lanes):
        store(buffer, d + j, first(load(buffer, a + j) * (load(buffer, d + j) - mean), n - j, 0.0))
    return np.float64(total(squares))


@jit
def minus_log_clipped(A: Any, least: float) -> Any:
    """Return -log A, clipped as scikit-learn does."""
    a: Any = np.float64(A)
    if a < least:
        a = least
    elif a > 1.0 - least:
        a = 1.0 - least
    return -np.log(a)


@jit
def bce_clipped(A: Any, Y: Any, least: float) -> Any:
    """Return -Y log A - (1-Y) log(1-A), clipped as scikit-learn does."""
    y = np.float64(Y)
    E = y * minus_log_clipped(A, least) if y != 0.0 else 0.0
    return E + (1.0 - y) * minus_log_clipped(1.0 - np.float64(A), least) if y != 1.0 else E


@jit
def sigmoid_cross_entropy(buffer: Any, z: int, d: int, n: int, factor: float, least: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ softplus(Z) - Y Z."""
    zero, one = splat(buffer, 0.0), splat(buffer, 1.0)
    losses, reported = zero, 0.0
    for j in range(0, n, width(buffer)):
        Z, Y = load(buffer, z + j), load(buffer, d + j)
        e = exp(zero - absolute(Z))
        softplus = where_less(Z, zero, zero, Z) + log1p(e)
        losses = losses + first(softplus - Y * Z, n - j, 0.0)
        A = where_less(Z, zero, e, one) / (one + e)
        if least > 0.0:
            store(buffer, z + j, A)
            for k in range(j, min(j + width(buffer), n)):
                reported += bce_clipped(buffer[z + k], buffer[d + k], least)
        store(buffer, d + j, first((A - Y) * splat(buffer, factor), n - j, 0.0))
    return reported if least > 0.0 else np.float64(total(losses))


@jit
def softmax_cross_entropy_label(buffer: Any, z: int, d: int, label: int, n: int, factor: float, least: float) -> Any:
    """Write delta = factor · (A - Y) of one row, where Y is one-hot; return logsumexp(Z) - Z[label]."""
    taken = np.float64(buffer[z + label])
    highest, log_sum = softmax_row(buffer, z, n)
    scale_row(buffer, z, d, n, factor)
    buffer[d + label] -= number(buffer, factor)
    return minus_log_clipped(buffer[z + label], least) if least > 0.0 else log_sum - (taken - highest)


@jit
def softmax_cross_entropy(buffer: Any, z: int, d: int, n: int, factor: float, least: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ Y (logsumexp(Z) - Z)."""
    share, taken = 0.0, 0.0
    for j in range(n):
        Y = np.float64(buffer[d + j])
        share += Y
        taken += Y * np.float64(buffer[z + j])
    highest, log_sum = softmax_row(buffer, z, n)
    if least > 0.0:
        reported = 0.0
        for j in range(n):
            reported += np.float64(buffer[d + j]) * minus_log_clipped(buffer[z + j], least)
    else:
        reported = log_sum * share - (taken - highest * share)
    for j in range(0, n, width(buffer)):
        delta = (load(buffer, z + j) - load(buffer, d + j)) * splat(buffer, factor)
        store(buffer, d + j, first(delta, n - j, 0.0))
    return reported


@jit
def poisson(buffer: Any, z: int, d: int, n: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ e^Z - Y - Y Z + Y log Y."""
    losses = 0.0  # where A is near Y nearly all of it cancels: float64 keeps the digits that are left
    for j in range(n):
        Y, Z = np.float64(buffer[d + j]), np.float64(buffer[z + j])
        A = np.exp(Z)
        if np.isinf(number(buffer, A)):
            losses = np.inf  # as delta is, where float64 would go on
        losses += A - Y - Y * Z + (Y * np.log(Y) if Y != 0.0 else 0.0)
    for j in range(0, n, width(buffer)):
        delta = first(exp_any(load(buffer, z + j)) - load(buffer, d + j), n - j, 0.0)
        store(buffer, d + j, delta * splat(buffer, factor))
    return losses


@jit
def softplus_poisson(layer: Any, buffer: Any, z: int, d: int, factor: float) -> Any:
    """Write delta = factor · (f' - Y f'/A) of one row in place of Y; return Σ A - Y + Y log(Y/A), A = softplus(Z).

    Where A underflows, log(beta A) is beta Z, and f'/A is beta.
    """
    n, beta, threshold, losses = layer.n_out, layer.p, layer.q, 0.0
    for j in range(n):
        Y, x = np.float64(buffer[d + j]), beta * np.float64(buffer[z + j])
        A = max(x, 0.0) + np.log1p(np.exp(-abs(x))) if x <= threshold else x  # beta A
        log = (np.log(A) if x > -40.0 else x) - np.log(beta)
        if np.isinf(number(buffer, A)):
            losses = np.inf
        losses += A / beta - Y - Y * log + (Y * np.log(Y) if Y != 0.0 else 0.0)
    tiny, one, by = splat(buffer, TINY), splat(buffer, 1.0), splat(buffer, factor)
    for j in range(0, n, width(buffer)):
        A = softplus(load(buffer, z + j), beta, threshold)
        slope, above = softplus_backward(one, A, beta, threshold), where_less(tiny, A, A, one)
        ratio = where_less(tiny, A, slope / above, splat(buffer, beta))
        store(buffer, d + j, first((slope - load(buffer, d + j) * ratio) * by, n - j, 0.0))
    return losses


@jit
def scale_row(buffer: Any, a: int, d: int, n: int, factor: float) -> None:
    """Write ``factor`` times a row to another, or to itself; n is padded up to whole Vecs."""
    for j in range(0, n, width(buffer)):
        store(buffer, d + j, load(buffer, a + j) * splat(buffer, factor))
