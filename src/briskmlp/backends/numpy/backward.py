"""The loss and the backward pass: delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l]), dW[l] = A[l-1].T @ delta[l].

E of each row, and delta[L] = ∂E/∂Z[L], are in ``operations/losses.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.contract import LARGEST_CHUNK, Examples, Rows, State, refuse_unfilled
from briskmlp.backends.numpy.forward import Forward, Places, activations, draw_dropouts, dropped
from briskmlp.backends.numpy.layout import Workspace, quiet, tensors
from briskmlp.backends.numpy.products import product, stored
from briskmlp.backends.recording import DW, DX, GATHER, LOSS, PREPARE
from briskmlp.network import FloatArray
from briskmlp.operations.losses import BY_CODE, Output
from briskmlp.plan import BIAS_LAYER, BIAS_NONE


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

    ``places`` in an epoch say which dropout they have. Laps are noted inside a step.
    """
    refuse_unfilled(examples, dX=dX)
    plan, laps, (X, Y, weight, _) = work.plan, work.laps, examples
    penalty, data_loss = 0.0, 0.0
    weights, _ = tensors(plan, state.parameters)
    for l, (l2, W) in enumerate(zip(plan.l2[::2] * with_penalty, weights, strict=True)):
        if l2:
            penalty += l2 / 2 * float(np.sum(np.square(W, dtype=np.float64)))
            if grad is not None:
                dW = tensors(plan, grad)[0][l]
                dW += float(scale * l2) * W
    laps.lap(-1, PREPARE)
    for start in range(0, len(rows), LARGEST_CHUNK):
        chunk = slice(start, start + LARGEST_CHUNK)
        index = rows[chunk]
        dropouts = draw_dropouts(plan, places and Places(places.epoch, places.places[chunk]))
        batch = X[index]
        laps.lap(0, GATHER)
        forward = activations(work, state.parameters, batch, dropouts, slopes=True)
        loss, delta = loss_and_delta(work, forward, Y[index], None if weight is None else weight[index])
        laps.lap(-2, LOSS)
        data_loss += loss
        if grad is not None:
            _backward(work, weights, forward, stored(plan, scale * delta), grad)
    return plan.report_scale * data_loss + penalty


def loss_and_delta(work: Workspace, forward: Forward, Y: Any, weight: FloatArray | None) -> tuple[float, FloatArray]:
    """Return Σ w·E and its gradient with respect to the last Z, both un-normalised."""
    plan, A, saved = work.plan, forward.A[-1], forward.saved(len(work.f))
    output = Output(work.f[-1], forward.Z, A, saved, plan.huber, plan.clip_probability)
    losses, delta = BY_CODE[plan.loss].reference(output, Y)
    if weight is not None:
        losses, delta = losses * weight, delta * weight[:, None]
    return plan.loss_scale * float(losses.sum()), np.asarray(plan.loss_scale * delta, dtype=A.dtype)


def _backward(
    work: Workspace, weights: list[FloatArray], forward: Forward, delta: FloatArray, grad: FloatArray
) -> None:
    """Add every layer's dW and db, from the last layer to the first."""
    plan = work.plan
    for l, dW, db in reversed(list(zip(range(len(weights)), *tensors(plan, grad), strict=True))):
        dW += product(plan, dropped(forward.A[l], forward.dropouts[l]).T, delta)
        if plan.bias == BIAS_LAYER:
            db += delta.sum()
        elif plan.bias != BIAS_NONE:
            db += delta.sum(axis=0)
        work.laps.lap(l, DW)
        if l > 0:
            dA = dropped(product(plan, delta, weights[l].T), forward.dropouts[l])
            delta = stored(plan, work.f[l - 1].through(dA, forward.saved(l)))
            work.laps.lap(l, DX)
