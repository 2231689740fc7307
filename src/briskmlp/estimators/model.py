"""The model: a session whose flat buffers are an estimator's ``coefs_``, ``intercepts_`` and optimizer state."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import numpy as np

from briskmlp.estimators.lowering import inputs_of, lower
from briskmlp.network import FloatArray, Network
from briskmlp.session import Session

_STATE = {"SGDOptimizer": ("velocities",), "AdamOptimizer": ("ms", "vs")}


class Model:
    """A session, and ``coefs`` and ``intercepts``: views of its parameters in scikit-learn's order."""

    activation: Any = None  # the estimator's for which this is the model

    def __init__(self, network: Network, session: Session) -> None:
        self.network, self.session = network, session
        self.coefs = tuple(network.weights(session.parameters))
        self.intercepts = tuple(network.biases(session.parameters))

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
        model: Model | None = vars(estimator).get("_model")
        if (
            new
            or model is None
            or (model.network, model.session.plan.rule, model.session.dtype) != (network, plan.rule, dtype)
            or not model.has(estimator)
        ):
            model = cls(network, Session(plan, dtype))
        model.session.replace_plan(plan)
        model.session.threads = estimator.n_threads
        model.activation = copy.copy(estimator.activation)  # a list may change
        model.take(estimator.coefs_, estimator.intercepts_)
        model._take_state(optimizer)
        return model

    def has(self, estimator: Any) -> bool:
        """Return whether the estimator's parameters are this model's, not arrays that were assigned since."""
        own = chain(self.coefs, self.intercepts)
        return all(a is b for a, b in zip(own, chain(estimator.coefs_, estimator.intercepts_), strict=True))

    def take(self, coefs: Any, intercepts: Any) -> None:
        """Copy parameters from elsewhere."""
        for own, given in zip(chain(self.coefs, self.intercepts), chain(coefs, intercepts), strict=True):
            if given is not own:
                own[...] = given

    def _take_state(self, optimizer: Any) -> None:
        """Copy an optimizer's state, and let the optimizer have it as views."""
        names = _STATE.get(type(optimizer).__name__, ())
        for name, row in zip(names, self.session.state.slots, strict=False):  # without momentum there is no state
            views = self.network.weights(row) + self.network.biases(row)
            for own, given in zip(views, getattr(optimizer, name), strict=True):
                if own.ctypes.data != np.asarray(given).ctypes.data:
                    own[...] = given
            setattr(optimizer, name, views)

    def predict(self, X: Any) -> FloatArray:
        """Return the outputs (n, n_out) for validated rows."""
        return self.session.predict(inputs_of(X, self.session.dtype))
