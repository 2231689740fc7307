"""The loss and the backward pass: delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l]), dW[l] = A[l-1].T @ delta[l].

E of each row, and delta[L] = ∂E/∂Z[L], are in ``operations/losses.py``. The way back through
normalisations is in ``norm.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.contract import LARGEST_CHUNK, Examples, Rows, State, refuse_unfilled
from briskmlp.backends.numpy.forward import Forward, Places, activations, draw_dropouts, dropped
from briskmlp.backends.numpy.layout import Workspace, quiet, tensors
from briskmlp.backends.numpy.norm import move_statistics, norm_backward
from briskmlp.backends.numpy.products import product, stored
from briskmlp.backends.recording import DW, DX, GATHER, LOSS, PREPARE
from briskmlp.network import FloatArray
from briskmlp.operations.losses import BY_CODE, Output
from briskmlp.plan import BIAS_LAYER, BIAS_NONE, whole_batches


@quiet
def gradient(
    work: Workspace,
    state: State,
    examples: Examples,
    rows: Rows,
    scale: float,
    grad: FloatArray | None = None,
    dX: FloatArray | None = None,
    *,
    with_penalty: bool = True,
    places: Places | None = None,
) -> float:
    """Add ``scale`` times the un-normalised gradient of these rows to ``grad``; return their un-normalised loss.

    ``places`` in an epoch say which dropout they have, and that this is a step: it moves running statistics, and notes
    laps.
    """
    refuse_unfilled(examples, dX=dX)
    plan, laps, (X, Y, weight, _) = work.plan, work.laps, examples
    penalty, data_loss = 0.0, 0.0
    weights, _ = tensors(plan, state.parameters)
    for l, (l2, W) in enumerate(zip(plan.l2[: 2 * len(weights) : 2] * with_penalty, weights, strict=True)):
        if l2:
            penalty += l2 / 2 * float(np.sum(np.square(W, dtype=np.float64)))
            if grad is not None:
                dW = tensors(plan, grad)[0][l]
                dW += float(scale * l2) * W
    laps.lap(-1, PREPARE)
    by_batch = grad is not None
    size = max(len(rows), 1) if by_batch and whole_batches(plan) else LARGEST_CHUNK
    for start in range(0, len(rows), size):
        chunk = slice(start, start + size)
        index = rows[chunk]
        dropouts = draw_dropouts(plan, places and Places(places.epoch, places.places[chunk]))
        batch = X[index]
        laps.lap(0, GATHER)
        forward = activations(work, state, batch, dropouts, slopes=True, by_batch=by_batch)
        if places is not None:
            for place, norm in enumerate(forward.norms):
                if norm is not None:
                    move_statistics(plan, place, norm, state)
        loss, delta = loss_and_delta(work, forward, Y[index], None if weight is None else weight[index])
        laps.lap(-2, LOSS)
        data_loss += loss
        if grad is not None:
            _backward(work, state, forward, scale * delta, grad)
    return plan.report_scale * data_loss + penalty


def loss_and_delta(work: Workspace, forward: Forward, Y: Any, weight: FloatArray | None) -> tuple[float, FloatArray]:
    """Return Σ w·E and its gradient with respect to the last Z, both un-normalised."""
    plan, A, saved = work.plan, forward.A[-1], forward.saved(len(work.f))
    output = Output(work.f[-1], forward.Z, A, saved, plan.huber, plan.clip_probability)
    losses, delta = BY_CODE[plan.loss].reference(output, Y)
    if weight is not None:
        losses, delta = losses * weight, delta * weight[:, None]
    return plan.loss_scale * float(losses.sum()), np.asarray(plan.loss_scale * delta, dtype=A.dtype)


def _backward(work: Workspace, state: State, forward: Forward, delta: FloatArray, grad: FloatArray) -> None:
    """Add every layer's dW and db, from the last layer to the first, and dγ and dβ of normalisations."""
    plan = work.plan
    weights, _ = tensors(plan, state.parameters)

    def through_norm(place: int, d: FloatArray) -> FloatArray:
        norm = forward.norms[place]
        return d if norm is None else norm_backward(plan, place, d, norm, state.parameters, grad)

    if plan.norms[-1]:
        delta = through_norm(len(weights), delta)
    delta = stored(plan, delta)
    for l, dW, db in reversed(list(zip(range(len(weights)), *tensors(plan, grad), strict=True))):
        dW += product(plan, dropped(forward.A[l], forward.dropouts[l]).T, delta)
        if plan.bias == BIAS_LAYER:
            db += delta.sum()
        elif plan.bias != BIAS_NONE:
            db += delta.sum(axis=0)
        work.laps.lap(l, DW)
        if l == 0 and not plan.norms[0]:
            break
        dA = dropped(product(plan, delta, weights[l].T), forward.dropouts[l])
        if l == 0:
            through_norm(0, dA)
        elif plan.norm_after[l]:
            delta = stored(plan, work.f[l - 1].through(through_norm(l, dA), forward.saved(l)))
        else:
            delta = stored(plan, through_norm(l, work.f[l - 1].through(dA, forward.saved(l))))
        work.laps.lap(l, DX)
