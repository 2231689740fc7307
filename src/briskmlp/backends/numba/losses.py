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
from numba import from_dtype, types

from briskmlp.backends.numba._options import choose, jit, operation
from briskmlp.backends.numba.activations import pull_back, softplus, softplus_backward
from briskmlp.backends.numba.forward import activation, gather, softmax_row
from briskmlp.backends.numba.layout import JOB, LAYER, SMALL_CHUNK
from briskmlp.backends.numba.vector import absolute, first, fma, load, number, splat, store, total, where_less, width
from briskmlp.backends.numba.vector_math import exp, exp_any, log1p
from briskmlp.operations.activations import CODES
from briskmlp.plan import ABSOLUTE_ERROR, CROSS_ENTROPY, HUBER, MSE, POISSON, SIGMOID, SOFTMAX, SOFTPLUS

TINY = 2.0**-96  # below it softplus has lost no digit yet, in float32 too, and half of it is nothing beside beta
call_pull_back = pull_back.call


def LOSS(number: Any) -> tuple[Any, ...]:  # noqa: N802
    """Return the types of what follows B in the kernels of losses: job, layer, data, rows, m, scale."""
    numbers, ints = types.CPointer(number), types.CPointer(types.int64)
    data = types.Tuple((numbers, types.int64, numbers, ints, numbers, types.boolean))
    return from_dtype(JOB), from_dtype(LAYER), data, ints, types.int64, types.float64


@operation(types.float64, LOSS)
def of_errors(loss: int, B: Any, job: Any, layer: Any, data: Any, rows: Any, m: int, scale: float) -> Any:
    """Write delta of a loss of A - Y whose f' follows from A or was saved; arguments and result as of ``of_rows``."""
    _, _, Y, _, weight, weighted = data
    lanes, n, n_padded, a, d = width(B), layer.n_out, layer.columns, layer.at_Z, layer.at_D
    gather(Y, n, rows, m, B, d, n, n_padded)
    activation(layer, B, m)
    high, w, by = splat(B, job.huber), splat(B, 1.0), splat(B, job.loss_scale * scale)
    loss_sum = 0.0
    for start in range(0, m, SMALL_CHUNK):  # so that float32 sums stay short
        losses = splat(B, 0.0)
        for i in range(start, min(start + SMALL_CHUNK, m)):
            if weighted:
                w = splat(B, weight[rows[i]])
            for j in range(0, n_padded, lanes):
                error = first(load(B, a + j) - load(B, d + j), n - j, 0.0)
                g, losses = error_loss(loss, error, w, high, losses)
                store(B, d + j, g * by)
            a, d = a + n_padded, d + n_padded
        loss_sum += np.float64(total(losses))
    call_pull_back(layer.call_backward, B, layer.at_D, layer.at_saved, m * n_padded, 1.0, layer.p, layer.q)
    return job.loss_scale * loss_sum


@operation(types.float64, LOSS)
def of_rows(loss: int, B: Any, job: Any, layer: Any, data: Any, rows: Any, m: int, scale: float) -> Any:
    """Write delta = ``scale`` · w · ∂E/∂Z of the last layer from its Z, for m rows; return Σ w·E.

    ``Y`` is (n, n_out) in C order, or ``labels`` (n,) where the loss is cross-entropy and ``labels[0] >= 0``. Dense
    targets are first gathered to where delta will be, as whole Vecs cannot be read from ragged rows.
    """
    _, _, Y, labels, weight, weighted = data
    loss_sum, label = 0.0, -1
    if labels[0] < 0:
        gather(Y, layer.n_out, rows, m, B, layer.at_D, layer.n_out, layer.columns)
    for i in range(m):
        if labels[0] >= 0:
            label = labels[rows[i]]
        w = job.loss_scale * (np.float64(weight[rows[i]]) if weighted else 1.0)
        at = i * layer.columns
        loss_sum += w * row_loss(loss, job, layer, B, layer.at_Z + at, layer.at_D + at, label, w * scale)
    return loss_sum


# --- losses of A - Y: w dE/dA, and what E adds to the sum of losses ---------------------------------------------------


@jit
def squared_error(error: Any, w: Any, _: Any, losses: Any) -> Any:
    """Return 2 w (A - Y)."""
    g = w * error
    return g + g, fma(g, error, losses)


@jit
def absolute_error(error: Any, w: Any, _: Any, losses: Any) -> Any:
    """Return w sign(A - Y)."""
    zero, one = splat(w, 0.0), splat(w, 1.0)
    g = w * (where_less(zero, error, one, zero) - where_less(error, zero, one, zero))
    return g, fma(g, error, losses)


@jit
def huber(error: Any, w: Any, high: Any, losses: Any) -> Any:
    """Return w times the clipped error."""
    low = splat(w, 0.0) - high
    clipped = where_less(high, error, high, where_less(error, low, low, error))
    g = w * clipped
    return g, fma(g, error - splat(w, 0.5) * clipped, losses)


# --- losses of a row -------------------------------------------------------------------------------------------------


@jit
def softmax_squared_error(job: Any, layer: Any, B: Any, z: int, d: int, label: int, factor: float) -> Any:
    """Write delta = factor · A (g - Σ g A), where g = 2 (A - Y), of one row in place of Y; return Σ (A - Y)²."""
    n, lanes, zero = layer.n_out, width(B), splat(B, 0.0)
    softmax_row(B, z, n)
    squares, along = zero, zero
    for j in range(0, n, lanes):
        A = load(B, z + j)
        error = first(A - load(B, d + j), n - j, 0.0)
        squares = squares + error * error
        g = error * splat(B, 2.0 * factor)
        along = along + g * A
        store(B, d + j, g)
    mean = splat(B, total(along))
    for j in range(0, n, lanes):
        store(B, d + j, first(load(B, z + j) * (load(B, d + j) - mean), n - j, 0.0))
    return np.float64(total(squares))


@jit
def minus_log_clipped(A: Any, least: float) -> Any:
    """Return -log A, clipped as scikit-learn does."""
    a = np.float64(A)
    return -np.log(least if a < least else 1.0 - least if a > 1.0 - least else a)  # noqa: FURB136 - NaN stays


@jit
def bce_clipped(A: Any, Y: Any, least: float) -> Any:
    """Return -Y log A - (1-Y) log(1-A), clipped as scikit-learn does."""
    y = np.float64(Y)
    E = y * minus_log_clipped(A, least) if y != 0.0 else 0.0
    return E + (1.0 - y) * minus_log_clipped(1.0 - np.float64(A), least) if y != 1.0 else E


@jit
def sigmoid_cross_entropy(job: Any, layer: Any, B: Any, z: int, d: int, label: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ softplus(Z) - Y Z."""
    n, lanes, zero, one, least = layer.n_out, width(B), splat(B, 0.0), splat(B, 1.0), job.clip_probability
    losses, reported = zero, 0.0
    for j in range(0, n, lanes):
        Z, Y = load(B, z + j), load(B, d + j)
        e = exp(zero - absolute(Z))
        softplus = where_less(Z, zero, zero, Z) + log1p(e)
        losses = losses + first(softplus - Y * Z, n - j, 0.0)
        A = where_less(Z, zero, e, one) / (one + e)
        if least > 0.0:
            store(B, z + j, A)
            for k in range(j, min(j + lanes, n)):
                reported += bce_clipped(B[z + k], B[d + k], least)
        store(B, d + j, first((A - Y) * splat(B, factor), n - j, 0.0))
    return reported if least > 0.0 else np.float64(total(losses))


@jit
def softmax_cross_entropy(job: Any, layer: Any, B: Any, z: int, d: int, label: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ Y (logsumexp(Z) - Z).

    Y is one-hot if there is a ``label`` >= 0, and then not read.
    """
    n, least, share, taken, reported = layer.n_out, job.clip_probability, 0.0, 0.0, 0.0
    if label >= 0:
        share, taken = 1.0, np.float64(B[z + label])
    else:
        for j in range(n):
            Y = np.float64(B[d + j])
            share += Y
            taken += Y * np.float64(B[z + j])
    highest, log_sum = softmax_row(B, z, n)
    if label >= 0:
        if least > 0.0:
            reported = minus_log_clipped(B[z + label], least)
        scale_row(B, z, d, n, factor)
        B[d + label] -= number(B, factor)
    else:
        if least > 0.0:
            for j in range(n):
                reported += np.float64(B[d + j]) * minus_log_clipped(B[z + j], least)
        for j in range(0, n, width(B)):
            store(B, d + j, first((load(B, z + j) - load(B, d + j)) * splat(B, factor), n - j, 0.0))
    return reported if least > 0.0 else log_sum * share - (taken - highest * share)


@jit
def poisson(job: Any, layer: Any, B: Any, z: int, d: int, label: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ e^Z - Y - Y Z + Y log Y."""
    losses = 0.0  # where A is near Y nearly all of it cancels: float64 keeps the digits that are left
    for j in range(layer.n_out):
        Z = np.float64(B[z + j])
        losses += poisson_error(B, np.exp(Z), Z, B[d + j])
    for j in range(0, layer.n_out, width(B)):
        delta = first(exp_any(load(B, z + j)) - load(B, d + j), layer.n_out - j, 0.0)
        store(B, d + j, delta * splat(B, factor))
    return losses


@jit
def poisson_error(B: Any, A: float, log: float, Y: Any) -> Any:
    """Return A - Y + Y log(Y/A), infinite where A is in the network's dtype, as delta is, and float64 would go on."""
    y = np.float64(Y)
    E = A - y - y * log + (y * np.log(y) if y != 0.0 else 0.0)
    return np.inf if np.isinf(number(B, A)) else E


@jit
def softplus_poisson(job: Any, layer: Any, B: Any, z: int, d: int, label: int, factor: float) -> Any:
    """Write delta = factor · (f' - Y f'/A) of one row in place of Y; return Σ A - Y + Y log(Y/A), A = softplus(Z).

    Where A underflows, log(beta A) is beta Z, and f'/A is beta.
    """
    n, beta, threshold, losses = layer.n_out, layer.p, layer.q, 0.0
    for j in range(n):
        x = beta * np.float64(B[z + j])
        A = max(x, 0.0) + np.log1p(np.exp(-abs(x))) if x <= threshold else x  # beta A
        losses += poisson_error(B, A / beta, (np.log(A) if x > -40.0 else x) - np.log(beta), B[d + j])
    tiny, one, by = splat(B, TINY), splat(B, 1.0), splat(B, factor)
    for j in range(0, n, width(B)):
        A = softplus(load(B, z + j), beta, threshold)
        slope, above = softplus_backward(one, A, beta, threshold), where_less(tiny, A, A, one)
        ratio = where_less(tiny, A, slope / above, splat(B, beta))
        store(B, d + j, first((slope - load(B, d + j) * ratio) * by, n - j, 0.0))
    return losses


@jit
def scale_row(B: Any, a: int, d: int, n: int, factor: float) -> None:
    """Write ``factor`` times a row to another, or to itself; n is padded up to whole Vecs."""
    for j in range(0, n, width(B)):
        store(B, d + j, load(B, a + j) * splat(B, factor))


OF_ERRORS = {MSE: squared_error, ABSOLUTE_ERROR: absolute_error, HUBER: huber}
OF_ROWS = {
    (MSE, SOFTMAX): softmax_squared_error,
    (CROSS_ENTROPY, SIGMOID): sigmoid_cross_entropy,
    (CROSS_ENTROPY, SOFTMAX): softmax_cross_entropy,
    (POISSON, CODES["exp"]): poisson,
    (POISSON, SOFTPLUS): softplus_poisson,
}
error_loss = choose(OF_ERRORS.__getitem__)
row_loss = choose(lambda place: list(OF_ROWS.values())[place])


def address(loss: int, output: int, dtype: Any) -> int:
    """Return the address of the kernel of a loss and the last layer's activation."""
    pair = loss, output
    return of_rows.address([*OF_ROWS].index(pair), dtype) if pair in OF_ROWS else of_errors.address(loss, dtype)
