"""The loss and the backward pass: delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l]), dW[l] = A[l-1].T @ delta[l]."""

from __future__ import annotations

import numpy as np

from briskmlp.backends.contract import LARGEST_CHUNK, Examples, Rows, State, refuse_unfilled
from briskmlp.backends.numpy.forward import Dropout, Forward, Places, activations, draw_dropouts, dropped
from briskmlp.backends.numpy.layout import Workspace, choices, quiet, tensors
from briskmlp.backends.numpy.losses import loss_and_delta
from briskmlp.backends.numpy.products import product, stored
from briskmlp.backends.recording import DW, DX, GATHER, LOSS, NO_LAPS, PREPARE, Laps
from briskmlp.network import FloatArray
from briskmlp.plan import BIAS_LAYER, BIAS_NONE, Plan


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
) -> float:
    """Add ``scale`` times the un-normalised gradient of these rows to ``grad``; return their un-normalised loss."""
    refuse_unfilled(examples, dX=dX)
    plan = work.plan if with_penalty else work.plan._replace(l2=np.zeros_like(work.plan.l2))
    work = work._replace(plan=plan, laps=NO_LAPS)
    return loss_and_gradient(work, state.parameters, examples, rows, scale, grad, None)


@quiet
def loss_and_gradient(
    work: Workspace,
    params: FloatArray,
    examples: Examples,
    rows: Rows,
    scale: float,
    grad: FloatArray | None,
    places: Places | None,
) -> float:
    """Do what `gradient` does, with the dropout of these places in an epoch, and note laps."""
    plan, laps, (X, Y, weight, _) = work.plan, work.laps, examples
    penalty, data_loss = 0.0, 0.0
    weights, _ = tensors(plan, params)
    for l2, W in zip(plan.l2[::2], weights, strict=True):
        penalty += l2 / 2 * float(np.sum(np.square(W, dtype=np.float64))) if l2 else 0.0
    if grad is not None:
        for l2, W, dW in zip(plan.l2[::2], weights, tensors(plan, grad)[0], strict=True):
            dW += float(scale * l2) * W
    laps.lap(-1, PREPARE)
    for start in range(0, len(rows), LARGEST_CHUNK):
        chunk = slice(start, start + LARGEST_CHUNK)
        index = rows[chunk]
        dropouts = draw_dropouts(plan, places and Places(places.epoch, places.places[chunk]))
        batch = X[index]
        laps.lap(0, GATHER)
        forward = activations(plan, params, batch, dropouts, laps, slopes=True)
        loss, delta = loss_and_delta(plan, forward, Y[index], None if weight is None else weight[index])
        laps.lap(-2, LOSS)
        data_loss += loss
        if grad is not None:
            _backward(plan, weights, forward, dropouts, stored(plan, scale * delta), grad, laps)
    return plan.report_scale * data_loss + penalty


def _backward(
    plan: Plan,
    weights: list[FloatArray],
    forward: Forward,
    dropouts: list[Dropout | None],
    delta: FloatArray,
    grad: FloatArray,
    laps: Laps,
) -> None:
    """Add every layer's dW and db, from the last layer to the first."""
    f = choices(plan)
    for l, dW, db in reversed(list(zip(range(len(weights)), *tensors(plan, grad), strict=True))):
        dW += product(plan, dropped(forward.A[l], dropouts[l]).T, delta)
        if plan.bias == BIAS_LAYER:
            db += delta.sum()
        elif plan.bias != BIAS_NONE:
            db += delta.sum(axis=0)
        laps.lap(l, DW)
        if l > 0:
            dA = dropped(product(plan, delta, weights[l].T), dropouts[l])
            delta = stored(plan, f[l - 1].through(dA, forward.saved(l)))
            laps.lap(l, DX)
