"""One epoch of an estimator's training: by the kernels, or by scikit-learn's own backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from briskmlp.data.examples import Data
from briskmlp.estimators.model import Model
from briskmlp.plan import Ints
from briskmlp.session import Completed, drive


@dataclass
class Epochs:
    """Trains a model epoch by epoch, each in an order of rows that the caller gives."""

    model: Model
    data: Data | None  # what kernels read; None leaves all epochs to scikit-learn's backpropagation
    rows: tuple[Any, Any, Any]  # X, y and sample_weight: what scikit-learn reads
    batch_size: int
    # scikit-learn's: a batch of ``rows`` → its loss, and the gradients of ``coefs_`` and of ``intercepts_``
    backpropagate: Callable[[Any, Any, Any], tuple[float, list[Any], list[Any]]]
    must: bool  # whether scikit-learn's cannot replace the kernels

    def begin(self, epochs_done: int, steps_done: int) -> None:
        """Prepare for training; the counts are those from earlier calls of ``fit``."""
        session = self.model.session
        session.position.counts[:] = epochs_done, 0, steps_done
        session.position.sums[:] = 0
        if self.data is not None:
            session.begin(self.batch_size, self.data)

    def end(self) -> None:
        """Drop an epoch that was interrupted, and free what only training needs."""
        self.model.session.position.drop_epoch()
        self.model.session.end()

    def train(self, order: Ints, rate: float) -> np.float64:
        """Train one epoch; return its loss, the mean of the batches' by their rows."""
        if self.data is None:
            return self._without_kernels(order, rate)
        try:
            return self._with_kernels(order, rate)
        except FloatingPointError as error:
            if self.must:
                raise ValueError(str(error).replace("learning rate", "learning_rate_init or scale X")) from None
            self.model.session.end()
            self.data = None  # scikit-learn goes on with numbers that are not finite, and so do we
            return self._without_kernels(order, rate)

    def _with_kernels(self, order: Ints, rate: float) -> np.float64:
        session, completed = self.model.session, list[Completed]()
        until = session.position.epoch + 1
        drive(session, until, lambda *_: np.array([rate]), completed.append, orders=lambda _: order)
        return np.float64(completed[0].losses[0])

    def _without_kernels(self, order: Ints, rate: float) -> np.float64:
        """Go on from the session's position with scikit-learn's gradients; the updates are the kernels'."""
        session, position = self.model.session, self.model.session.position
        grad = np.empty_like(session.parameters)
        own = (*self.model.network.weights(grad), *self.model.network.biases(grad))
        X, y, weight = self.rows
        for start in range(position.batch * self.batch_size, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            if weight is not None and not weight[rows].any() and weight.any():
                position.counts[1] += 1  # skipped, as by the kernels
                continue
            batch = X[rows], y[rows], None if weight is None else weight[rows]
            loss, coef_grads, intercept_grads = self.backpropagate(*batch)
            for view, given in zip(own, (*coef_grads, *intercept_grads), strict=True):
                view[...] = given
            position.counts[1] += 1
            position.sums += (loss * len(rows), len(rows))
            session.backend.update(session.plan, session.state, grad, rate)
        total, n = position.sums.copy()
        position.counts[0] += 1
        position.drop_epoch()
        return np.float64(total / n)
