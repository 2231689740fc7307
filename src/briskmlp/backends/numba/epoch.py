"""The kernels that Python calls: forward, gradient, update and train, over rows taken in chunks.

``train`` makes many steps in one call that holds no GIL: gather, forward, loss, backward, update. Parameters and
optimizer state are copied to the padded layout at entry and back at exit, unless nothing is padded. Plain gradient
descent on batches of one chunk is fused: dW and db are added to the parameters as they are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import entry, inline, jit
from briskmlp.backends.numba.backward import backward_layer, transpose
from briskmlp.backends.numba.forward import forward_chunk
from briskmlp.backends.numba.losses import of_rows
from briskmlp.backends.numba.norm import call_back
from briskmlp.backends.numba.random import draw_order
from briskmlp.backends.numba.recording import begin, end, lap
from briskmlp.backends.numba.update import advance, clip, update_layer, update_norm
from briskmlp.backends.numba.vector import offset, pointer
from briskmlp.backends.recording import LOSS, NORM, PREPARE, UPDATE
from briskmlp.plan import DIVISOR_NOTHING, DIVISOR_ROWS, RULE_SGD

call_loss = of_rows.call  # of_errors is called in the same way


@entry
def forward(
    job: Any, layers: Any, norms: Any, buffer: Any, params: Any, statistics: Any, X: Any, rows: Any, out: Any
) -> None:
    """Write the last activations of ``X[rows]`` to ``out``, (len(rows), n_out)."""
    k, B, data = job[0], pointer(buffer), (pointer(X), X.strides[0] // X.itemsize)
    P = enter(k, layers, norms, pointer(params), B, k.at_params)
    layer, n = layers[layers.size - 1], rows.size
    for start in range(0, n, k.chunk):
        m = min(k.chunk, n - start)
        chunk = offset(pointer(rows), start)
        forward_chunk(k, layers, norms, B, P, pointer(statistics), data, chunk, m, True, False, -1, 0, None)
        for i in range(m):
            for j in range(layer.n_out):
                out[start + i, j] = B[layer.at_Z + i * layer.columns + j]


@entry
def gradient(
    job: Any, layers: Any, norms: Any, buffer: Any, params: Any, statistics: Any, X: Any, Y: Any, labels: Any,
    weight: Any, rows: Any, scale: float, grad: Any,
) -> Any:  # fmt: skip
    """Add ``scale`` times the un-normalised gradient to ``grad``, unless it is empty; return the loss."""
    k, B, wanted = job[0], pointer(buffer), grad.size > 0
    P = enter(k, layers, norms, pointer(params), B, k.at_params)
    G = enter(k, layers, norms, pointer(grad), B, k.at_grad) if wanted else B
    data = pointer(X), X.strides[0] // X.itemsize, pointer(Y), pointer(labels), pointer(weight), weight.size > 0
    loss_sum = accumulate(
        k, layers, norms, B, P, pointer(statistics), G, wanted, data, pointer(rows), rows.size, scale, 0.0, -1, 0, None
    )
    if wanted:
        leave(k, layers, norms, G, pointer(grad))
    return loss_sum


@entry
def update(
    job: Any, layers: Any, norms: Any, params: Any, grad: Any, state: Any, scalars: Any, step: int, rate: float
) -> None:
    """Move dense parameters by one step; ``grad`` is used up."""
    advance(job[0], step, scalars)
    P, G, S = pointer(params), pointer(grad), pointer(state)
    for l in range(layers.size):
        update_layer(job[0], layers[l], P, G, S, scalars, params.size, step, rate)
    for place in range(norms.size):
        if norms[place].code != 0:
            update_norm(job[0], norms[place], P, G, S, scalars, params.size, step, rate)


@entry
def train(  # noqa: C901 - the epoch loop is one function, read from top to bottom
    job: Any, layers: Any, norms: Any, buffer: Any, order_epoch: Any, record: Any,
    params: Any, state: Any, scalars: Any, statistics: Any,
    X: Any, Y: Any, labels: Any, weight: Any, order: Any, given: bool,
    counts: Any, sums: Any, rates: Any, per_step: Any, max_steps: int, losses: Any,
) -> bool:  # fmt: skip
    """Make at most ``max_steps`` steps; return whether all losses were finite.

    An ``order`` that is not ``given`` is written here, at the start of each epoch. ``per_step`` is empty, or has a rate
    and hyperparameters for each step.
    """
    k, B = job[0], pointer(buffer)
    P, S, T = enter(k, layers, norms, pointer(params), B, k.at_params), pointer(state), pointer(statistics)
    for slot in range(k.n_slots):
        enter(k, layers, norms, offset(S, slot * params.size), B, k.at_state + slot * k.n_parameters)
    if not k.dense:
        S = offset(B, k.at_state)
    data = pointer(X), X.strides[0] // X.itemsize, pointer(Y), pointer(labels), pointer(weight), weight.size > 0
    visited, n = pointer(order), order.size
    first, n_batches = counts[0], (n + k.batch_size - 1) // k.batch_size
    fused = k.rule == RULE_SGD and k.batch_size <= k.chunk and k.clip_norm == np.inf
    finite = True
    for s in range(max_steps):
        epoch = counts[0]
        if epoch - first == losses.size or (given and epoch > first):
            break
        if not given and order_epoch[0] != epoch:
            if k.shuffle or order_epoch[0] < 0:
                draw_order(k.seed, epoch, k.shuffle, visited, n)
            order_epoch[0] = epoch
        start = counts[1] * k.batch_size
        m = min(k.batch_size, n - start)
        rows = offset(visited, start)
        divisor = divide_by(k.divisor, data[4], data[5], rows, m)
        if divisor > 0.0:
            rate, scale = rates[epoch - first], 1.0 / divisor
            if per_step.size > 0:
                rate = per_step[s, 0]
                for i in range(k.hyper.size):
                    k.hyper[i] = per_step[s, i + 1]
            begin(record, counts[2] + 1, m)
            if fused and rate != 0.0:
                G = P
            else:
                G = offset(B, k.at_grad)
                clear(G, k.n_parameters)
                lap(record, layers.size, PREPARE)
            fused_rate = rate if fused else 0.0
            loss_sum = accumulate(
                k, layers, norms, B, P, T, G, True, data, rows, m, scale, fused_rate, epoch, start, record
            )
            if not np.isfinite(loss_sum):
                end(record)
                finite = False
                break
            counts[2] += 1
            if not fused:
                if k.clip_norm < np.inf:
                    clip(G, k.n_parameters, k.clip_norm, k.clip_epsilon)
                    lap(record, layers.size, NORM)
                advance(k, counts[2], scalars)
                for l in range(layers.size):
                    update_layer(k, layers[l], P, G, S, scalars, k.n_parameters, counts[2], rate)
                    lap(record, l, UPDATE)
                for p in range(norms.size):
                    if norms[p].code != 0:
                        update_norm(k, norms[p], P, G, S, scalars, k.n_parameters, counts[2], rate)
                        lap(record, max(p - 1, 0), UPDATE)
            end(record)
            if k.report_rows:
                loss_sum, divisor = loss_sum * scale * m, np.float64(m)
            sums[0] += loss_sum
            sums[1] += divisor
        counts[1] += 1
        if counts[1] == n_batches:
            losses[epoch - first] = sums[0] / sums[1]
            counts[0] += 1
            counts[1] = 0
            sums[0] = sums[1] = 0.0
    leave(k, layers, norms, P, pointer(params))
    for slot in range(k.n_slots):
        leave(k, layers, norms, offset(S, slot * k.n_parameters), offset(pointer(state), slot * params.size))
    return finite


@inline
def accumulate(
    k: Any, layers: Any, norms: Any, B: Any, P: Any, T: Any, G: Any, wanted: bool, data: Any, rows: Any, n: int,
    scale: float, rate: float, epoch: int, place: int, record: Any,
) -> float:  # fmt: skip
    """Add ``scale`` times the gradient of these rows and of the penalty to G, if it is wanted; return the loss.

    With a rate other than 0, G is the parameters and the rows are one chunk: make the step of gradient descent.
    In an epoch >= 0, units are dropped as its examples from ``place`` on want it; with -1, none.
    """
    loss_sum = 0.0
    for l in range(layers.size):
        layer = layers[l]
        if layer.l2 != 0.0:
            factor = layer.l2 * scale if wanted and rate == 0.0 else 0.0
            loss_sum += layer.l2 * penalty(P, G, layer.W, layer.rows * layer.columns, factor)
        turns = layer.has_dX and wanted and not layer.blas
        if turns:
            transpose(P, layer.W, B, layer.at_turned, layer.rows, layer.columns)
        if layer.l2 != 0.0 or turns:
            lap(record, l, PREPARE)
    for start in range(0, n, k.chunk):
        m = min(k.chunk, n - start)
        chunk = offset(rows, start)
        forward_chunk(k, layers, norms, B, P, T, data, chunk, m, False, wanted, epoch, place + start, record)
        layer = layers[layers.size - 1]
        loss = call_loss(k.call_loss, B, k, layer, data, chunk, m, scale)
        lap(record, layers.size - 1, LOSS)
        loss_sum += k.report_scale * loss
        if wanted:
            norm = norms[layers.size]
            if norm.code != 0:
                call_back(norm.call_backward, B, P, G, norm, norm.at_D, m, rate)
            for l in range(layers.size - 1, -1, -1):
                backward_layer(k, layers, norms, l, B, P, G, m, rate, scale, epoch >= 0, record)
    return loss_sum


@jit
def penalty(P: Any, G: Any, at: int, size: int, factor: float) -> float:
    """Return Σ w² / 2; add ``factor`` · w to G unless it is 0."""
    squares = 0.0
    for i in range(at, at + size):
        squares += np.float64(P[i]) * np.float64(P[i])
        if factor != 0.0:
            G[i] += factor * P[i]
    return squares / 2.0


@jit
def clear(G: Any, size: int) -> None:
    """Write zeros."""
    for i in range(size):
        G[i] = 0.0


@jit
def divide_by(divisor: int, weight: Any, weighted: bool, rows: Any, m: int) -> float:
    """Return what the gradient of a batch is divided by."""
    if divisor == DIVISOR_NOTHING:
        return 1.0
    if divisor == DIVISOR_ROWS or not weighted:
        return np.float64(m)
    result = 0.0
    for i in range(m):
        result += np.float64(weight[rows[i]])
    return result


# --- dense and padded parameters -------------------------------------------------------------------------------------


@jit
def enter(k: Any, layers: Any, norms: Any, dense: Any, B: Any, at: int) -> Any:
    """Return dense parameters in the padded layout: themselves, or a copy in the workspace."""
    if k.dense:
        return dense
    padded = offset(B, at)
    clear(padded, k.n_parameters)  # a call that diverged leaves NaN in the pads
    copy_padded(layers, norms, dense, padded, True)
    return padded


@jit
def leave(k: Any, layers: Any, norms: Any, padded: Any, dense: Any) -> None:
    """Copy padded parameters back."""
    if not k.dense:
        copy_padded(layers, norms, dense, padded, False)


@jit
def copy_padded(layers: Any, norms: Any, dense: Any, padded: Any, enters: bool) -> None:
    """Copy a flat buffer to the padded layout, whose pads stay zero, or back."""
    for l in range(layers.size):
        layer = layers[l]
        for i in range(layer.n_in + 1):  # the rows of W, and b
            n, here, there = layer.n_out, layer.dense_W + i * layer.n_out, layer.W + i * layer.columns
            if i == layer.n_in:
                n, here, there = layer.n_b, layer.dense_b, layer.b
            for j in range(n):
                if enters:
                    padded[there + j] = dense[here + j]
                else:
                    dense[here + j] = padded[there + j]
    for p in range(norms.size):
        norm = norms[p]
        if norm.code != 0:
            for j in range(norm.n):
                if enters:
                    padded[norm.gamma + j] = dense[norm.dense_gamma + j]
                    padded[norm.beta + j] = dense[norm.dense_beta + j]
                else:
                    dense[norm.dense_gamma + j] = padded[norm.gamma + j]
                    dense[norm.dense_beta + j] = padded[norm.beta + j]
