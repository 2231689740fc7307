"""Conversion of scikit-learn's estimators to briskmlp's and back, and replacement of its classes by briskmlp's."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron as stock

from briskmlp.estimators.classifier import MLPClassifier
from briskmlp.estimators.lowering import ACTIVATIONS
from briskmlp.estimators.perceptron import PASSING
from briskmlp.estimators.regressor import MLPRegressor

_STOCK = {MLPClassifier: stock.MLPClassifier, MLPRegressor: stock.MLPRegressor}


def from_sklearn(estimator: Any) -> Any:
    """Convert scikit-learn's MLPClassifier or MLPRegressor, fitted or not, to a new estimator of this library.

    ``partial_fit`` and warm starts continue with its optimizer's state.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor

    Returns
    -------
    MLPClassifier or MLPRegressor

    Raises
    ------
    TypeError
        ``estimator`` is neither of the two.

    Examples
    --------
    >>> from sklearn.neural_network import _multilayer_perceptron as stock
    >>> from_sklearn(stock.MLPRegressor(alpha=0.5))
    MLPRegressor(alpha=0.5)
    """
    return _with_state(_class_for(estimator, {theirs: own for own, theirs in _STOCK.items()}), estimator)


def to_sklearn(estimator: Any) -> Any:
    """Convert an estimator of this library, fitted or not, to a new one of scikit-learn's class.

    Parameters that scikit-learn lacks and that only affect training, such as ``dropout``, are dropped.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Of this library.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor

    Raises
    ------
    TypeError
        ``estimator`` is not of this library.
    ValueError
        scikit-learn does not have its activations, loss or normalisation.

    Examples
    --------
    >>> type(to_sklearn(MLPRegressor(alpha=0.5, dropout=0.2))) is stock.MLPRegressor
    True
    """
    theirs = _class_for(estimator, _STOCK)
    if estimator.activation not in ACTIVATIONS:
        raise ValueError(f"scikit-learn has no activation {estimator.activation!r}; it has {', '.join(ACTIVATIONS)}")
    if estimator.loss in ("absolute_error", "huber"):
        raise ValueError(f"scikit-learn has no loss {estimator.loss!r}; it has squared_error and poisson")
    if estimator.norm is not None:
        raise ValueError(f"scikit-learn has no normalisation, but norm is {estimator.norm!r}; accepted: None")
    extras = estimator.get_params(deep=False).keys() - theirs().get_params(deep=False).keys()
    return _with_state(theirs, estimator, leave_out=extras)


def _class_for(estimator: Any, classes: dict[Any, Any]) -> Any:
    for cls, other in classes.items():
        if isinstance(estimator, cls):
            return other
    raise TypeError(f"estimator must be an MLPClassifier or MLPRegressor, got {type(estimator).__name__}")


def _with_state(cls: Any, estimator: Any, leave_out: Iterable[str] = ()) -> Any:
    twin = cls()
    state = {name: value for name, value in vars(estimator).items() if name not in {*PASSING, *leave_out}}
    vars(twin).update(copy.deepcopy(state))
    return twin


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
    for own in _STOCK:
        setattr(sklearn.neural_network, own.__name__, own)


def unpatch_sklearn() -> None:
    """Restore scikit-learn's classes; without a patch, do nothing."""
    for own, theirs in _STOCK.items():
        setattr(sklearn.neural_network, own.__name__, theirs)
