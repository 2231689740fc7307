"""The model: a session whose flat buffers are an estimator's ``coefs_``, ``intercepts_`` and optimizer state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from briskmlp.data.examples import Data
from briskmlp.estimators.lowering import lower
from briskmlp.network import FloatArray, Network
from briskmlp.operations.layers import INITIAL
from briskmlp.plan import Ints, Plan
from briskmlp.session import Completed, Session, drive

_STATE = {"SGDOptimizer": ("velocities",), "AdamOptimizer": ("ms", "vs")}


class Model:
    """A session, and views of its parameters in scikit-learn's order: ``coefs``, ``intercepts``; and ``norms``.

    These have for each normalisation, by their names, γ and β, and the running mean and variance if it has them.
    """

    def __init__(self, network: Network, plan: Plan, dtype: np.dtype[Any]) -> None:
        self.network, self.session = network, Session(plan, dtype)
        self.activation: Any = None  # the estimator's for which this is the model
        self.kind = network, plan.rule, dtype  # what cannot change
        self.coefs = tuple(network.weights(self.session.parameters))
        self.intercepts = tuple(network.biases(self.session.parameters))
        gammas, betas = network.gammas(self.session.parameters), network.betas(self.session.parameters)
        running = iter(network.split_statistics(self.session.state.statistics))
        self.norms: list[dict[str, FloatArray]] = []
        for norm, gamma, beta in zip(network.norms, gammas, betas, strict=True):
            gamma[...] = INITIAL["gamma"]
            statistics = next(running) if norm.row.statistics else ()
            names = (*norm.row.tensors, *norm.row.statistics)
            self.norms.append(dict(zip(names, (gamma, beta, *statistics), strict=True)))

    @classmethod
    def of(cls, estimator: Any, output: str, optimizer: Any = None, *, seed: int = 0, dtype: Any = None) -> Model:
        """Return the model that trains an estimator: the one it has, if that still fits, else a new one.

        Its parameters and state are the estimator's, those that the user may have assigned included, in the dtype of
        ``coefs_``. With another ``dtype``, float32 or float64, the model is always new.
        """
        coefs = [np.asarray(coef) for coef in estimator.coefs_]
        layers = [len(coefs[0]), *(coef.shape[1] for coef in coefs)]
        new, dtype = dtype is not None, dtype or (coefs[0].dtype if coefs[0].dtype == np.float32 else np.dtype(float))
        network, plan = lower(estimator, layers, output, optimizer, seed, dtype)
        model: Model | None = None if new else vars(estimator).get("_model")
        if model is None or model.kind != (network, plan.rule, dtype) or not model.has(estimator):
            model = cls(network, plan, dtype)
        model.session.replace_plan(plan)
        model.session.threads = estimator.n_threads
        model.activation = copy.copy(estimator.activation)  # a list may change
        model.take(estimator.coefs_, estimator.intercepts_)
        model.take_norms(vars(estimator).get("norms_", []))
        model._take_state(optimizer)
        return model

    def has(self, estimator: Any) -> bool:
        """Return whether the estimator's parameters are this model's, not arrays that were assigned since."""
        own, norms = chain(self.coefs, self.intercepts), vars(estimator).get("norms_", [])
        return (
            all(a is b for a, b in zip(own, chain(estimator.coefs_, estimator.intercepts_), strict=True))
            and len(norms) == len(self.norms)
            and all(a is b for own, theirs in zip(self.norms, norms, strict=True) for a, b in _pairs(own, theirs))
        )

    def take(self, coefs: Any, intercepts: Any) -> None:
        """Copy parameters from elsewhere."""
        for own, given in zip(chain(self.coefs, self.intercepts), chain(coefs, intercepts), strict=True):
            if given is not own:
                own[...] = given

    def take_norms(self, norms: list[dict[str, Any]]) -> None:
        """Copy normalisations from elsewhere, if there are any; else they stay."""
        given, own = ([_shapes(norm) for norm in each] for each in (norms, self.norms))
        if norms and given != own:
            raise ValueError(
                f"norms_ are {given}, but norm and hidden_layer_sizes ask for {own}; fit with warm_start=False for a "
                "new network"
            )
        for norm, source in zip(self.norms, norms, strict=False):
            for array, values in _pairs(norm, source):
                if values is not array:
                    array[...] = values

    def _take_state(self, optimizer: Any) -> None:
        """Copy an optimizer's state, and let the optimizer have it as views."""
        names = _STATE.get(type(optimizer).__name__, ())
        for name, row in zip(names, self.session.state.slots, strict=False):  # without momentum there is no state
            views = self.network.weights(row) + self.network.biases(row)
            views += self.network.gammas(row) + self.network.betas(row)
            kept = getattr(optimizer, name)  # a new one's is that of coefs_ and intercepts_ alone
            for own in views[len(kept) :]:
                own[...] = 0.0
            for own, given in zip(views, kept, strict=False):
                if own.ctypes.data != np.asarray(given).ctypes.data:
                    own[...] = given
            setattr(optimizer, name, views)


def _shapes(norm: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(array) for name, array in norm.items()}


def _pairs(own: dict[str, Any], given: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(array, given.get(name)) for name, array in own.items()]


@dataclass
class Epochs:
    """Trains a model epoch by epoch, by the kernels or by scikit-learn's own backpropagation."""

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
        """Train one epoch in this order of rows; return its loss, the mean of the batches' by their rows."""
        if self.data is not None:
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
