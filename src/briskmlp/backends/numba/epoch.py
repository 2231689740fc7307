"""The kernels that Python calls: forward, gradient, update and train, over rows taken in chunks.

``train`` makes many steps in one call that holds no GIL: gather, forward, loss, backward, update. Parameters and
optimizer state are copied to the padded layout at entry and back at exit, unless nothing is padded. Plain gradient
descent on batches of one chunk is fused: dW and db are added to the parameters as they are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import entry, inline, jit
from briskmlp.backends.numba.backward import backward_chunk, loss_chunk, transpose
from briskmlp.backends.numba.forward import forward_chunk
from briskmlp.backends.numba.layout import bias_size
from briskmlp.backends.numba.order import draw_order
from briskmlp.backends.numba.update import update_tensor
from briskmlp.plan import RULE_SGD


@entry
def forward(plan: Any, work: Any, params: Any, X: Any, rows: Any, out: Any) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    P = enter(plan, work, params, work.params)
    last, n_out = plan.activations.size, out.shape[1]
    for start in range(0, rows.size, work.chunk):
        chunk = rows[start : start + work.chunk]
        forward_chunk(plan, work, P, X, chunk, 1)
        for i in range(chunk.size):
            at = work.activations[last] + i * work.widths[last]
            for j in range(n_out):
                out[start + i, j] = work.buffer[at + j]


@entry
def gradient(
    plan: Any, work: Any, params: Any, X: Any, Y: Any, labels: Any, weight: Any, rows: Any, scale: float, grad: Any
) -> float:
    """Add ``scale`` times the un-normalised gradient to ``grad``, unless it is empty; return the loss."""
    P = enter(plan, work, params, work.params)
    G = enter(plan, work, grad, work.grad) if grad.size else grad
    loss_sum = accumulate(plan, work, P, G, X, Y, labels, weight, rows, scale, 0.0)
    if grad.size:
        leave(plan, work, G, grad)
    return loss_sum


@entry
def update(plan: Any, params: Any, grad: Any, state: Any, step: int, rate: float) -> None:
    """Move dense parameters by one step; ``grad`` is left as it came."""
    for tensor in range(2 * plan.activations.size):
        start, size = dense_part(plan, tensor)
        g = grad[start : start + size].copy()
        update_tensor(plan, tensor, params[start : start + size], g, state, start, step, rate)


@entry
def train(
    plan: Any, work: Any, params: Any, state: Any, X: Any, Y: Any, labels: Any, weight: Any, order: Any,
    given: int, counts: Any, sums: Any, rates: Any, max_steps: int, losses: Any,
) -> int:  # fmt: skip
    """Make at most ``max_steps`` steps; return 0 if a loss is not finite, else 1. ``given`` tells ``order`` from none."""
    P = enter(plan, work, params, work.params)
    S = work.buffer[work.state : work.state + plan.n_slots * work.n_padded].reshape(plan.n_slots, work.n_padded)
    if work.dense:
        S = state
    else:
        for slot in range(plan.n_slots):
            copy_padded(plan, work, state[slot], S[slot], True)
    visited = order if given else work.order
    n, first, finite = visited.size, counts[0], 1
    n_batches = (n + plan.batch_size - 1) // plan.batch_size
    fused = plan.rule == RULE_SGD and plan.batch_size <= work.chunk
    for _ in range(max_steps):
        epoch = counts[0]
        if epoch - first == losses.size or (given and epoch > first):
            break
        if not given and work.order_epoch[0] != epoch:
            if plan.shuffle or work.order_epoch[0] < 0:
                draw_order(plan.seed, epoch, plan.shuffle, work.order)
            work.order_epoch[0] = epoch
        start = counts[1] * plan.batch_size
        rows = visited[start : min(start + plan.batch_size, n)]
        batch_weight = np.float64(rows.size)
        if weight.size:
            batch_weight = weigh(weight, rows)
        if batch_weight > 0.0:
            rate = rates[epoch - first]
            in_place = fused and rate != 0.0
            G = P if in_place else work.buffer[work.grad : work.grad + work.n_padded]
            if not in_place:
                clear(G)
            scale = 1.0 / batch_weight
            loss_sum = accumulate(plan, work, P, G, X, Y, labels, weight, rows, scale, rate if in_place else 0.0)
            if not in_place:
                move(plan, work, P, G, S, counts[2] + 1, rate)
            if not np.isfinite(loss_sum):
                finite = 0
                break
            counts[2] += 1
            sums[0] += loss_sum
            sums[1] += batch_weight
        counts[1] += 1
        if counts[1] == n_batches:
            losses[epoch - first] = sums[0] / sums[1]
            counts[0] += 1
            counts[1] = 0
            sums[:] = 0.0
    if finite:
        leave(plan, work, P, params)
        if not work.dense:
            for slot in range(plan.n_slots):
                copy_padded(plan, work, state[slot], S[slot], False)
    return finite


# --- a step ----------------------------------------------------------------------------------------------------------


@inline
def accumulate(
    plan: Any, work: Any, P: Any, G: Any, X: Any, Y: Any, labels: Any, weight: Any, rows: Any, scale: float,
    rate: float,
) -> float:  # fmt: skip
    """Add ``scale`` times the gradient of these rows and of the penalty to G, unless it is empty; return the loss.

    With a rate other than 0, G is the parameters and the rows are one chunk: make the step of gradient descent.
    """
    loss_sum = 0.0
    for l in range(plan.activations.size):
        start, size = work.weights[l], work.widths[l] * work.widths[l + 1]
        if plan.l2[2 * l] != 0.0:
            factor = plan.l2[2 * l] * scale if rate == 0.0 else 0.0
            loss_sum += plan.l2[2 * l] * penalty(P[start : start + size], G[start : start + size], factor)
        if l > 0 and G.size and not work.blas[l]:
            transpose(P, start, work.buffer, work.transposed[l], work.widths[l], work.widths[l + 1])
    for start in range(0, rows.size, work.chunk):
        chunk = rows[start : start + work.chunk]
        forward_chunk(plan, work, P, X, chunk, 0)
        loss_sum += loss_chunk(plan, work, Y, labels, weight, chunk, scale)
        if G.size:
            backward_chunk(plan, work, P, G, chunk.size, rate, scale)
    return loss_sum


@jit
def penalty(w: Any, g: Any, factor: float) -> float:
    """Add ``factor`` · w to g, unless it is empty; return Σ w² / 2."""
    squares = 0.0
    for i in range(w.size):
        squares += np.float64(w[i]) * np.float64(w[i])
    for i in range(g.size):
        g[i] += w.dtype.type(factor) * w[i]
    return squares / 2.0


@inline
def move(plan: Any, work: Any, P: Any, G: Any, S: Any, step: int, rate: float) -> None:
    """Update every padded tensor."""
    for tensor in range(2 * plan.activations.size):
        l = tensor // 2
        start, size = work.weights[l], work.widths[l] * work.widths[l + 1]
        if tensor % 2:
            start, size = work.biases[l], bias_size(plan.bias, work.widths[l + 1])
        update_tensor(plan, tensor, P[start : start + size], G[start : start + size], S, start, step, rate)


@jit
def clear(G: Any) -> None:
    """Write zeros."""
    for i in range(G.size):
        G[i] = 0.0


@jit
def weigh(weight: Any, rows: Any) -> float:
    """Return the weight of a batch."""
    result = 0.0
    for row in rows:
        result += np.float64(weight[row])
    return result


# --- dense and padded parameters -------------------------------------------------------------------------------------


@jit
def dense_part(plan: Any, tensor: int) -> Any:
    """Return where a tensor starts in the dense parameters, and its size."""
    l = tensor // 2
    if tensor % 2 == 0:
        return plan.weight_offsets[l], plan.layers[l] * plan.layers[l + 1]
    return plan.bias_offsets[l], bias_size(plan.bias, plan.layers[l + 1])


@jit
def enter(plan: Any, work: Any, dense: Any, start: int) -> Any:
    """Return dense parameters in the padded layout: themselves, or a copy in the workspace."""
    if work.dense:
        return dense
    padded = work.buffer[start : start + work.n_padded]
    copy_padded(plan, work, dense, padded, True)
    return padded


@jit
def leave(plan: Any, work: Any, padded: Any, dense: Any) -> None:
    """Copy the padded parameters back."""
    if not work.dense:
        copy_padded(plan, work, dense, padded, False)


@jit
def copy_padded(plan: Any, work: Any, dense: Any, padded: Any, enters: bool) -> None:
    """Copy a flat buffer to the padded layout, whose pads stay zero, or back."""
    for l in range(plan.activations.size):
        n_in, n_out = plan.layers[l], plan.layers[l + 1]
        for i in range(n_in):
            here, there = plan.weight_offsets[l] + i * n_out, work.weights[l] + i * work.widths[l + 1]
            copy(dense, here, padded, there, n_out, enters)
        copy(dense, plan.bias_offsets[l], padded, work.biases[l], bias_size(plan.bias, n_out), enters)


@jit
def copy(dense: Any, here: int, padded: Any, there: int, n: int, enters: bool) -> None:
    """Copy n numbers one way or the other."""
    for i in range(n):
        if enters:
            padded[there + i] = dense[here + i]
        else:
            dense[here + i] = padded[there + i]
