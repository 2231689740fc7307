"""The epoch loop: gather, forward, backward, update, step after step."""

from __future__ import annotations

import math

import numpy as np

from briskmlp.backends.contract import Divergence, Examples, State, Steps, built_in_order, refuse_unfilled
from briskmlp.backends.numpy.backward import gradient
from briskmlp.backends.numpy.forward import Places
from briskmlp.backends.numpy.layout import Workspace
from briskmlp.backends.numpy.update import clip, update
from briskmlp.backends.recording import NORM, UPDATE
from briskmlp.network import FloatArray
from briskmlp.plan import DIVISOR_NOTHING, DIVISOR_ROWS, Ints, Plan


def train(work: Workspace, state: State, examples: Examples, steps: Steps) -> Divergence | None:
    """Make steps from the state's position: gather, forward, backward, update."""
    refuse_unfilled(examples)
    plan, order, position, laps = work.plan, steps.order, state.position, work.laps
    n = len(examples.X) if order is None else len(order)
    n_batches = -(-n // plan.batch_size)
    first, counts = position.epoch, position.counts
    for step in range(steps.max_steps):
        epoch, batch = position.epoch, position.batch
        if epoch - first == len(steps.rates) or (order is not None and epoch > first):
            break
        start = batch * plan.batch_size
        rows = (_order(work, epoch, n) if order is None else order)[start : start + plan.batch_size]
        divisor = _divisor(plan, examples.weight, rows)
        if divisor > 0:
            laps.begin(position.step + 1, len(rows))
            work.grad[:] = 0
            places = Places(epoch, np.arange(start, start + len(rows)))
            loss = gradient(work, state, examples, rows, 1 / divisor, work.grad, places=places)
            if not np.isfinite(loss):
                laps.end()
                return Divergence(epoch, batch)
            if plan.clip_norm < math.inf:
                clip(work.grad, plan.clip_norm, plan.clip_epsilon)
                laps.lap(-1, NORM)
            if steps.per_step is None:
                update(plan, state, work.grad, steps.rates[epoch - first])
            else:
                rate, *hyper = steps.per_step[step]
                update(plan._replace(hyper=np.array(hyper)), state, work.grad, rate)
            laps.lap(-1, UPDATE)
            laps.end()
            if plan.report_rows:
                position.sums += (loss / divisor * len(rows), len(rows))
            else:
                position.sums += (loss, divisor)
        counts[1] += 1
        if counts[1] == n_batches:
            steps.losses[epoch - first] = position.sums[0] / position.sums[1]
            counts[0] += 1
            position.drop_epoch()
    return None


def _divisor(plan: Plan, weight: FloatArray | None, rows: Ints) -> float:
    """Return what the gradient of a batch is divided by."""
    if plan.divisor == DIVISOR_NOTHING:
        return 1.0
    if plan.divisor == DIVISOR_ROWS or weight is None:
        return float(len(rows))
    return float(weight[rows].sum(dtype=np.float64))


def _order(work: Workspace, epoch: int, n: int) -> Ints:
    """Return the built-in order of an epoch, drawn once."""
    if epoch not in work.order:
        work.order.clear()
        work.order[epoch] = built_in_order(work.plan, epoch, n)
    return work.order[epoch]
