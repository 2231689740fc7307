"""scikit-learn's names for this library's classes, for code that cannot be edited."""

from __future__ import annotations

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron as stock

from briskmlp.estimators.classifier import MLPClassifier
from briskmlp.estimators.regressor import MLPRegressor


def patch_sklearn() -> None:
    """Let ``sklearn.neural_network.MLPClassifier`` and ``MLPRegressor`` be this library's.

    Code that imported the names before keeps scikit-learn's own. Doing it twice does no harm.

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
    """Give scikit-learn its own classes back; without a patch, do nothing."""
    sklearn.neural_network.MLPClassifier = stock.MLPClassifier
    sklearn.neural_network.MLPRegressor = stock.MLPRegressor
