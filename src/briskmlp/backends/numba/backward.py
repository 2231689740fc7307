"""The loss and the backward pass of one chunk of rows.

delta[L] = ∂E/∂Z[L]                       delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
dW[l] = A[l-1].T @ delta[l]               db[l] = delta[l].sum(axis=0)

``loss_chunk`` finishes the last layer: it writes delta[L], scaled, and returns the un-normalised loss.
``backward_layer`` adds dW and db to G, which has the layout of the padded parameters. For plain gradient descent G is
the parameters themselves, and delta is multiplied by -lr first: the gradient never lies in memory. The delta of the
layer below is taken before that, so before W moves. Two delta buffers are used in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.activations import exp, log1p
from briskmlp.backends.numba.forward import activate, add, blas, fill, gather, softmax_row, up
from briskmlp.backends.numba.layout import SMALL_CHUNK
from briskmlp.backends.numba.product import product
from briskmlp.backends.numba.update import shrink
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
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, BIAS_NONE, MSE, RELU, SIGMOID, SOFTMAX, TANH


@jit
def loss_chunk(
    job: Any, layer: Any, buffer: Any, Y: Any, labels: Any, weight: Any, weighted: bool, rows: Any, m: int, scale: float
) -> Any:
    """Write delta = ``scale`` · w · ∂E/∂Z of the last layer from its Z, for m rows; return Σ w·E.

    ``Y`` is (n, n_out) in C order, or ``labels`` (n,) where the loss is cross-entropy and ``labels[0] >= 0``. Dense
    targets are first gathered to where delta will be, as whole Vecs cannot be read from ragged rows.
    """
    n, n_padded, Z, D = layer.n_out, layer.columns, layer.at_Z, layer.at_D
    labelled = labels[0] >= 0
    if not labelled:
        gather(Y, n, rows, m, buffer, D, n, n_padded)
    if job.loss == MSE:
        activate(layer.activation, buffer, Z, m, n_padded, n)
    loss_sum = 0.0
    if job.loss == MSE and layer.activation != SOFTMAX:
        factor = job.loss_scale * scale
        for start in range(0, m, SMALL_CHUNK):  # so that float32 sums stay short
            z, d, to = Z + start * n_padded, D + start * n_padded, min(m - start, SMALL_CHUNK)
            chunk = offset(rows, start)
            loss_sum += squared_error(layer.activation, buffer, z, d, n, n_padded, weight, weighted, chunk, to, factor)
        return job.loss_scale * loss_sum
    for i in range(m):
        z, d = Z + i * n_padded, D + i * n_padded
        w = job.loss_scale * (np.float64(weight[rows[i]]) if weighted else 1.0)
        if job.loss == MSE:
            E = softmax_squared_error(buffer, z, d, n, w * scale)
        elif layer.activation == SIGMOID:
            E = sigmoid_cross_entropy(buffer, z, d, n, w * scale)
        elif labelled:
            E = softmax_cross_entropy_label(buffer, z, d, labels[rows[i]], n, w * scale)
        else:
            E = softmax_cross_entropy(buffer, z, d, n, w * scale)
        loss_sum += w * E
    return loss_sum


@jit
def squared_error(
    activation: int, buffer: Any, a: int, d: int, n: int, n_padded: int,
    weight: Any, weighted: bool, rows: Any, m: int, scale: float,
) -> Any:  # fmt: skip
    """Write delta = scale · w · 2 (A - Y) f'(Z) of m rows in place of Y; return Σ w (A - Y)²."""
    lanes = width(buffer)
    squares, w, double = splat(buffer, 0.0), splat(buffer, 1.0), splat(buffer, 2.0 * scale)
    for i in range(m):
        if weighted:
            w = splat(buffer, weight[rows[i]])
        for j in range(0, n_padded, lanes):
            A = load(buffer, a + j)
            error = first(A - load(buffer, d + j), n - j, 0.0)
            weighted_error = w * error
            squares = fma(weighted_error, error, squares)
            store(buffer, d + j, through(activation, weighted_error * double, A))
        a += n_padded
        d += n_padded
    return np.float64(total(squares))


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
def sigmoid_cross_entropy(buffer: Any, z: int, d: int, n: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ softplus(Z) - Y Z."""
    zero, one = splat(buffer, 0.0), splat(buffer, 1.0)
    losses = zero
    for j in range(0, n, width(buffer)):
        Z, Y = load(buffer, z + j), load(buffer, d + j)
        e = exp(zero - absolute(Z))
        softplus = where_less(Z, zero, zero, Z) + log1p(e)
        losses = losses + first(softplus - Y * Z, n - j, 0.0)
        A = where_less(Z, zero, e, one) / (one + e)
        store(buffer, d + j, first((A - Y) * splat(buffer, factor), n - j, 0.0))
    return np.float64(total(losses))


@jit
def softmax_cross_entropy_label(buffer: Any, z: int, d: int, label: int, n: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row, where Y is one-hot; return logsumexp(Z) - Z[label]."""
    taken = np.float64(buffer[z + label])
    highest, log_sum = softmax_row(buffer, z, n)
    scale_row(buffer, z, d, n, factor)
    buffer[d + label] -= number(buffer, factor)
    return log_sum - (taken - highest)


@jit
def softmax_cross_entropy(buffer: Any, z: int, d: int, n: int, factor: float) -> Any:
    """Write delta = factor · (A - Y) of one row in place of Y; return Σ Y (logsumexp(Z) - Z)."""
    share, taken = 0.0, 0.0
    for j in range(n):
        Y = np.float64(buffer[d + j])
        share += Y
        taken += Y * np.float64(buffer[z + j])
    highest, log_sum = softmax_row(buffer, z, n)
    for j in range(0, n, width(buffer)):
        delta = (load(buffer, z + j) - load(buffer, d + j)) * splat(buffer, factor)
        store(buffer, d + j, first(delta, n - j, 0.0))
    return log_sum * share - (taken - highest * share)


@jit
def scale_row(buffer: Any, a: int, d: int, n: int, factor: float) -> None:
    """Write ``factor`` times a row to another, or to itself; n is padded up to whole Vecs."""
    for j in range(0, n, width(buffer)):
        store(buffer, d + j, load(buffer, a + j) * splat(buffer, factor))


@jit
def through(activation: int, g: Any, A: Any) -> Any:
    """Return g · f'(Z), with f' computed from A; softmax's f' is no product of elements and is left to the caller."""
    one = splat(A, 1.0)
    if activation == SIGMOID:
        return g * (A * (one - A))
    if activation == TANH:
        return g * (one - A * A)
    if activation == RELU:
        zero = splat(A, 0.0)
        return where_less(zero, A, g, zero)
    return g


@jit
def backward_layer(
    job: Any, layer: Any, buffer: Any, P: Any, G: Any, m: int, rate: float, scale: float, lowest: bool
) -> None:
    """Write the delta of the layer below, unless ``lowest``; add dW and db to G.

    With a rate other than 0, G is the parameters: make the step of plain gradient descent, decay and l2 included.
    """
    n_in, n_out, A, D, W, b = layer.rows, layer.columns, layer.at_A, layer.at_D, layer.W, layer.b
    if not lowest:
        below = layer.at_below
        if layer.blas:
            blas(buffer, D, m, n_out, False, P, W, n_in, n_out, True, buffer, below)
        else:
            product(
                buffer, D, n_out, 1, buffer, layer.at_turned, n_in, buffer, job.at_zeros, 0,
                buffer, below, n_in, up(m), n_in, layer.n_out,
            )  # fmt: skip
        multiply_slope(layer.below_activation, buffer, below, A, m * n_in)
    if rate == 0.0:
        add_bias(job.bias, G, b, buffer, D, m, n_out, 1.0, job.at_row)
    else:
        shrink(G, W, n_in * n_out, rate * layer.rate_W * (layer.decay_W + layer.l2 * scale))
        shrink(G, b, layer.b_size, rate * layer.rate_b * layer.decay_b)
        add_bias(job.bias, G, b, buffer, D, m, n_out, -rate * layer.rate_b, job.at_row)
        scale_row(buffer, D, D, m * n_out, -rate * layer.rate_W)
    if layer.blas:
        blas(buffer, A, m, n_in, True, buffer, D, m, n_out, False, buffer, job.at_product)
        add(G, W, n_out, buffer, job.at_product, G, W, n_in, n_out)
    else:
        product(buffer, A, 1, n_in, buffer, D, n_out, G, W, n_out, G, W, n_out, n_in, n_out, m)


@jit
def multiply_slope(activation: int, buffer: Any, d: int, a: int, size: int) -> None:
    """Write dA · f'(Z) in place of dA."""
    for i in range(0, size, width(buffer)):
        store(buffer, d + i, through(activation, load(buffer, d + i), load(buffer, a + i)))


@jit
def add_bias(bias: int, G: Any, b: int, buffer: Any, d: int, m: int, n: int, factor: float, row: int) -> None:
    """Add factor · Σ_rows delta to the biases; to the one bias that a layer shares, the sum over neurons too."""
    if bias == BIAS_NONE:
        return
    lanes = width(buffer)
    if m <= SMALL_CHUNK:  # the rows are in cache: sum columns in a register
        for j in range(0, n, lanes):
            column = splat(buffer, 0.0)
            for i in range(m):
                column = column + load(buffer, d + i * n + j)
            store(buffer, row + j, column)
    else:  # stream through the rows once
        fill(buffer, row, n, 0.0)
        for i in range(m):
            for j in range(0, n, lanes):
                store(buffer, row + j, load(buffer, row + j) + load(buffer, d + i * n + j))
    shared = splat(buffer, 0.0)
    for j in range(0, n, lanes):
        column = load(buffer, row + j)
        shared = shared + column
        if bias == BIAS_NEURON:
            store(G, b + j, load(G, b + j) + column * splat(buffer, factor))
    if bias == BIAS_LAYER:
        G[b] += total(shared) * number(buffer, factor)


@jit
def transpose(P: Any, w: int, buffer: Any, t: int, n_in: int, n_out: int) -> None:
    """Write W.T, (n_out, n_in), to the workspace."""
    for i in range(n_in):
        for j in range(n_out):
            buffer[t + j * n_in + i] = P[w + i * n_out + j]
