"""A backend whose batches are divided by their rows or by nothing, while their examples have weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.contract import Backend, Divergence, Position
from briskmlp.network import FloatArray
from briskmlp.plan import Floats, Ints, Plan


class Stepwise:
    """Trains by a backend's ``gradient`` and ``update``, as its ``train`` divides by the sum of weights.

    Parameters
    ----------
    backend : Backend
    by_rows : bool
        Divide the sum over a batch by its rows; else by nothing.
    """

    RESTORES = False

    def __init__(self, backend: Backend, by_rows: bool) -> None:
        self.backend, self.by_rows = backend, by_rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def train(
        self,
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
        work: Any,
    ) -> Divergence | None:
        """Make at most ``max_steps`` steps of the epoch in progress, as a backend's ``train`` does."""
        order = np.arange(len(X), dtype=np.int64) if order is None else order
        grad, counts, size = np.empty_like(params), position.counts, plan.batch_size
        n_batches = -(-len(order) // size)
        for batch in range(position.batch, min(position.batch + max_steps, n_batches)):
            rows = np.ascontiguousarray(order[batch * size : (batch + 1) * size])
            scale = 1 / len(rows) if self.by_rows else 1.0
            grad[:] = 0
            loss = scale * self.backend.gradient(plan, params, X, Y, weight, rows, scale, grad, work)
            if not np.isfinite(loss):
                return Divergence(position.epoch, batch)
            counts[2] += 1
            self.backend.update(plan, params, grad, state, position.step, float(rates[0]))
            position.sums += (loss * len(rows), len(rows))
            counts[1] += 1
        if position.batch == n_batches:
            losses[0] = position.sums[0] / position.sums[1]
            counts[0] += 1
            position.drop_epoch()
        return None
