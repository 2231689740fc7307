"""The loss and the backward pass of one chunk of rows.

delta[L] = ∂E/∂Z[L]                       delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
dW[l] = A[l-1].T @ delta[l]               db[l] = delta[l].sum(axis=0)

``loss_chunk`` finishes the last layer: it writes A[L] and delta[L], scaled, and returns the un-normalised loss.
``backward_chunk`` adds ``factor`` times every dW and db to G, which has the layout of the padded parameters. For plain
gradient descent G is the parameters themselves and the factor -lr: the gradient never lies in memory. delta[l] is then
taken from W[l+1] before W[l+1] moves. Two delta buffers are used in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import inline, jit
from briskmlp.backends.numba.activations import exp, log1p
from briskmlp.backends.numba.forward import activate, add, blas, fill, softmax_row, up
from briskmlp.backends.numba.layout import SMALL_CHUNK, bias_size
from briskmlp.backends.numba.product import product
from briskmlp.backends.numba.update import shrink
from briskmlp.backends.numba.vector import absolute, first, load, splat, store, total, where_less, width
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, MSE, RELU, SIGMOID, SOFTMAX, TANH


@inline
def loss_chunk(plan: Any, work: Any, Y: Any, labels: Any, weight: Any, rows: Any, scale: float) -> float:
    """Write A[L] and delta[L] = ``scale`` · w · ∂E/∂Z[L] from Z[L]; return Σ w·E."""
    buffer, m, n_layers = work.buffer, rows.size, plan.activations.size
    activation, n, n_padded = plan.activations[n_layers - 1], plan.layers[n_layers], work.widths[n_layers]
    A, D, target = work.activations[n_layers], work.delta[n_layers % 2], work.row
    if plan.loss == MSE or activation == SIGMOID:
        loss_sum = 0.0
        if plan.loss == MSE:
            activate(activation, buffer, A, m, n_padded, n)
        for i in range(m):
            w = plan.loss_scale * (weight[rows[i]] if weight.size else 1.0)
            load_target(Y, rows[i], buffer, target, n)
            at, to = A + i * n_padded, D + i * n_padded
            if plan.loss == MSE:
                loss_sum += w * squared_error(activation, buffer, at, to, target, n, w * scale)
            else:
                loss_sum += w * sigmoid_cross_entropy(buffer, at, to, target, n, w * scale)
        if plan.loss != MSE:
            activate(activation, buffer, A, m, n_padded, n)
        return loss_sum
    return softmax_chunk(plan, work, Y, labels, weight, rows, scale)


@jit
def load_target(Y: Any, row: int, buffer: Any, target: int, n: int) -> None:
    """Copy one row of Y to the workspace."""
    for j in range(n):
        buffer[target + j] = Y[row, j]


@jit
def squared_error(activation: int, buffer: Any, a: int, d: int, target: int, n: int, factor: float) -> float:
    """Write delta = factor · 2 (A - Y) f'(Z) of one row; return Σ (A - Y)²."""
    lanes = width(buffer)
    squares, along = splat(buffer, 0.0), splat(buffer, 0.0)
    for j in range(0, n, lanes):
        A = load(buffer, a + j)
        error = first(A - load(buffer, target + j), n - j, 0.0)
        squares = squares + error * error
        g = error * splat(buffer, 2.0 * factor)
        along = along + g * A
        if activation != SOFTMAX:
            g = through(activation, g, A)
        store(buffer, d + j, g)
    if activation == SOFTMAX:  # the Jacobian product A (g - Σ g A)
        mean = splat(buffer, total(along))
        for j in range(0, n, lanes):
            store(buffer, d + j, first(load(buffer, a + j) * (load(buffer, d + j) - mean), n - j, 0.0))
    return np.float64(total(squares))


@jit
def sigmoid_cross_entropy(buffer: Any, z: int, d: int, target: int, n: int, factor: float) -> float:
    """Write delta = factor · (A - Y) of one row from Z; return Σ softplus(Z) - Y Z."""
    zero, one = splat(buffer, 0.0), splat(buffer, 1.0)
    losses = zero
    for j in range(0, n, width(buffer)):
        Z, Y = load(buffer, z + j), load(buffer, target + j)
        e = exp(zero - absolute(Z))
        softplus = where_less(Z, zero, zero, Z) + log1p(e)
        losses = losses + first(softplus - Y * Z, n - j, 0.0)
        A = where_less(Z, zero, e, one) / (one + e)
        store(buffer, d + j, first((A - Y) * splat(buffer, factor), n - j, 0.0))
    return np.float64(total(losses))


@jit
def softmax_chunk(
    plan: Any, work: Any, Y: Any, labels: Any, weight: Any, rows: Any, scale: float
) -> float:
    """Write A[L] = softmax(Z[L]) and delta[L] = factor · (A - Y); return Σ w (logsumexp(Z) ΣY - Σ Y Z)."""
    buffer, n_layers = work.buffer, plan.activations.size
    n, n_padded = plan.layers[n_layers], work.widths[n_layers]
    lanes = width(buffer)
    loss_sum = 0.0
    for i in range(rows.size):
        row = rows[i]
        a, d = work.activations[n_layers] + i * n_padded, work.delta[n_layers % 2] + i * n_padded
        w = plan.loss_scale * (weight[row] if weight.size else 1.0)
        factor = buffer.dtype.type(w * scale)
        taken, weight_sum = 0.0, 1.0
        if labels.size:
            taken = np.float64(buffer[a + labels[row]])
        else:
            weight_sum = 0.0
            for j in range(n):
                weight_sum += np.float64(Y[row, j])
                taken += np.float64(Y[row, j]) * np.float64(buffer[a + j])
        highest, log_sum = softmax_row(buffer, a, n)
        loss_sum += w * (log_sum * weight_sum - (taken - highest * weight_sum))
        for j in range(0, n, lanes):
            store(buffer, d + j, load(buffer, a + j) * splat(buffer, factor))
        if labels.size:
            buffer[d + labels[row]] -= factor
        else:
            for j in range(n):
                buffer[d + j] -= factor * Y[row, j]
    return loss_sum


@jit
def through(activation: int, g: Any, A: Any) -> Any:
    """Return g · f'(Z), with f' computed from A."""
    one = splat(A, 1.0)
    if activation == SIGMOID:
        return g * (A * (one - A))
    if activation == TANH:
        return g * (one - A * A)
    if activation == RELU:
        zero = splat(A, 0.0)
        return where_less(zero, A, g, zero)
    return g


@inline
def backward_chunk(plan: Any, work: Any, P: Any, G: Any, m: int, rate: float, scale: float) -> None:
    """Add every dW and db to G, from the last layer to the first.

    With a rate other than 0, G is the parameters: make the step of plain gradient descent, decay and l2 included.
    """
    buffer = work.buffer
    for l in range(plan.activations.size - 1, -1, -1):
        n_in, n_out, A = work.widths[l], work.widths[l + 1], work.activations[l]
        W, b = work.weights[l], work.biases[l]
        D, below = work.delta[(l + 1) % 2], work.delta[l % 2]
        if l > 0:
            if work.blas[l]:
                blas(buffer, D, m, n_out, False, P, W, n_in, n_out, True, buffer, below)
            else:
                product(
                    buffer, D, n_out, 1, buffer, work.transposed[l], n_in, buffer, work.zeros, 0,
                    buffer, below, n_in, up(m), n_in, plan.layers[l + 1],
                )  # fmt: skip
            multiply_slope(plan.activations[l - 1], buffer, below, A, m, n_in)
        if rate == 0.0:
            add_bias(plan.bias, G, b, buffer, D, m, n_out, 1.0, work.row)
        else:
            pull(plan, 2 * l, G[W : W + n_in * n_out], rate, scale)
            pull(plan, 2 * l + 1, G[b : b + bias_size(plan.bias, n_out)], rate, scale)
            add_bias(plan.bias, G, b, buffer, D, m, n_out, -rate * plan.rate_scale[2 * l + 1], work.row)
            scale_rows(buffer, D, m, n_out, -rate * plan.rate_scale[2 * l])
        if work.blas[l]:
            blas(buffer, A, m, n_in, True, buffer, D, m, n_out, False, buffer, work.product)
            add(G, W, n_out, buffer, work.product, G, W, n_in, n_out)
        else:
            product(buffer, A, 1, n_in, buffer, D, n_out, G, W, n_out, G, W, n_out, n_in, n_out, m)


@jit
def pull(plan: Any, tensor: int, w: Any, rate: float, scale: float) -> None:
    """Apply weight decay and l2 to a tensor: their gradients are multiples of w."""
    share = plan.decay[tensor] + plan.l2[tensor] * scale
    if share != 0.0:
        shrink(w, w.dtype.type(1.0 - rate * plan.rate_scale[tensor] * share))


@jit
def multiply_slope(activation: int, buffer: Any, d: int, a: int, m: int, n: int) -> None:
    """Write dA · f'(Z) in place of dA."""
    for i in range(0, m * n, width(buffer)):
        store(buffer, d + i, through(activation, load(buffer, d + i), load(buffer, a + i)))


@jit
def add_bias(bias: int, G: Any, b: int, buffer: Any, d: int, m: int, n: int, factor: float, row: int) -> None:
    """Add factor · Σ_rows delta to the biases; to the one bias that a layer shares, the sum over neurons too."""
    if bias != BIAS_NEURON and bias != BIAS_LAYER:
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
        G[b] += total(shared) * buffer.dtype.type(factor)


@jit
def scale_rows(buffer: Any, d: int, m: int, n: int, factor: float) -> None:
    """Multiply m rows by a factor."""
    for i in range(0, m * n, width(buffer)):
        store(buffer, d + i, load(buffer, d + i) * splat(buffer, factor))


@jit
def transpose(P: Any, w: int, buffer: Any, t: int, n_in: int, n_out: int) -> None:
    """Write W.T, (n_out, n_in), to the workspace."""
    for i in range(n_in):
        for j in range(n_out):
            buffer[t + j * n_in + i] = P[w + i * n_out + j]
