"""Data for plots, read from a Trainer or a fitted estimator."""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import of_estimator
from briskmlp.trainer import Trainer


def check_trainer(trainer: Any) -> Trainer:
    """Return a Trainer; raise an error for anything else."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a Trainer, got {type(trainer).__name__}")
    return trainer


def check_finite(argument: str, numbers: FloatArray) -> None:
    """Raise an error for NaN and infinity, which cannot be drawn."""
    if not np.isfinite(numbers).all():
        raise ValueError(f"{argument} has numbers that are not finite")


def fitted_attribute(estimator: Any, name: str, why: str = "") -> Any:
    """Return a fitted attribute of an estimator, this library's or scikit-learn's."""
    if not hasattr(estimator, "coefs_"):
        if not hasattr(estimator, "hidden_layer_sizes"):
            raise TypeError(f"estimator must be an MLPClassifier or MLPRegressor, got {type(estimator).__name__}")
        raise ValueError(f"estimator is not fitted: call fit of this {type(estimator).__name__} first")
    if not hasattr(estimator, name):
        raise ValueError(f"estimator has no {name}{why}")
    return getattr(estimator, name)


def network_of(estimator: Any) -> tuple[Network, FloatArray]:
    """Return a fitted estimator's network and a flat copy of its parameters."""
    coefs, intercepts = fitted_attribute(estimator, "coefs_"), estimator.intercepts_
    widths = [len(coefs[0]), *(W.shape[1] for W in coefs)]
    *hidden, output = of_estimator(estimator.activation, estimator.out_activation_, len(coefs) - 1)
    network = Network(widths, hidden, output)
    parts = [part.ravel() for pair in zip(coefs, intercepts, strict=True) for part in pair]
    return network, np.concatenate(parts)
