"""The epoch loop: gather, forward, backward, update, step after step."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import Divergence, Position
from briskmlp.backends.numpy.backward import loss_and_gradient
from briskmlp.backends.numpy.forward import Places
from briskmlp.backends.numpy.update import clip, update
from briskmlp.backends.recording import NORM, UPDATE, Laps
from briskmlp.network import FloatArray
from briskmlp.plan import Floats, Ints, Plan
from briskmlp.random import sample_order


class Workspace(NamedTuple):
    """A gradient, the order of an epoch, and what records laps."""

    grad: FloatArray
    order: dict[int, Ints]
    laps: Laps


def train(
    plan: Plan,
    params: FloatArray,
    state: FloatArray,
    X: FloatArray,
    Y: Any,
    weight: FloatArray | None,
    order: Ints | None,
    position: Position,
    rates: Floats,
    max_steps: int,
    losses: Floats,
    work: Workspace,
) -> Divergence | None:
    """Make at most ``max_steps`` steps from ``position``."""
    n = len(X) if order is None else len(order)
    n_batches = -(-n // plan.batch_size)
    first, counts, laps = position.epoch, position.counts, work.laps
    for _ in range(max_steps):
        epoch, batch = position.epoch, position.batch
        if epoch - first == len(rates) or (order is not None and epoch > first):
            break
        start = batch * plan.batch_size
        rows = (_order(plan, epoch, n, work) if order is None else order)[start : start + plan.batch_size]
        batch_weight = float(len(rows)) if weight is None else float(weight[rows].sum(dtype=np.float64))
        if batch_weight > 0:
            laps.begin(position.step + 1, len(rows))
            work.grad[:] = 0
            places = Places(epoch, np.arange(start, start + len(rows)))
            loss = loss_and_gradient(plan, params, X, Y, weight, rows, 1 / batch_weight, work.grad, places, laps)
            if not np.isfinite(loss):
                laps.end()
                return Divergence(epoch, batch)
            if plan.clip_norm < math.inf:
                clip(work.grad, plan.clip_norm)
                laps.lap(-1, NORM)
            counts[2] += 1
            update(plan, params, work.grad, state, position.step, rates[epoch - first])
            laps.lap(-1, UPDATE)
            laps.end()
            if plan.report_rows:
                position.sums += (loss / batch_weight * len(rows), len(rows))
            else:
                position.sums += (loss, batch_weight)
        counts[1] += 1
        if counts[1] == n_batches:
            losses[epoch - first] = position.sums[0] / position.sums[1]
            counts[0] += 1
            position.drop_epoch()
    return None


def _order(plan: Plan, epoch: int, n: int, work: Workspace) -> Ints:
    """Return the built-in order of an epoch, drawn once."""
    if epoch not in work.order:
        work.order.clear()
        work.order[epoch] = sample_order(plan.seed % 2**64, epoch, n) if plan.shuffle else np.arange(n)
    return work.order[epoch]
