"""Replacement of scikit-learn's classes by this library's, for code that cannot be edited."""

from __future__ import annotations

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron as stock

from briskmlp.estimators.classifier import MLPClassifier
from briskmlp.estimators.regressor import MLPRegressor


def patch_sklearn() -> None:
    """Replace ``sklearn.neural_network.MLPClassifier`` and ``MLPRegressor`` by this library's classes.

    Names imported before the patch still refer to scikit-learn's classes. Patching twice has no further effect.

    Examples
    --------
    >>> patch_sklearn()
    >>> from sklearn.neural_network import MLPClassifier as Patched
    >>> Patched.__module__
    'briskmlp.estimators.classifier'
    >>> unpatch_sklearn()
    """
    sklearn.neural_network.MLPClassifier = MLPClassifier
    sklearn.neural_network.MLPRegressor = MLPRegressor


def unpatch_sklearn() -> None:
    """Restore scikit-learn's classes; without a patch, do nothing."""
    sklearn.neural_network.MLPClassifier = stock.MLPClassifier
    sklearn.neural_network.MLPRegressor = stock.MLPRegressor
