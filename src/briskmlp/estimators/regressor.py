"""MLPRegressor: scikit-learn's regressor, trained by briskmlp's kernels."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.neural_network import _multilayer_perceptron as stock
from sklearn.utils._param_validation import StrOptions

from briskmlp.estimators.perceptron import CONSTRAINTS, Perceptron


class MLPRegressor(Perceptron, stock.MLPRegressor):  # type: ignore[misc] # scikit-learn has no types
    """scikit-learn's multilayer perceptron regressor with the same results, trained faster by briskmlp's kernels.

    It has all of scikit-learn's parameters, attributes and methods. For a given ``random_state``, ``coefs_``,
    ``loss_curve_``, predictions and the stopping epoch equal scikit-learn's up to round-off in float64. In float32,
    where round-off is larger, parameters and losses differ by less than 1e-4 of their norm after some 100 steps of
    stable training. A batch whose weights are all 0 is skipped; scikit-learn raises ZeroDivisionError.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber"}
        The last two are summed over outputs; ``huber`` is half the squared error for errors up to 1, and linear beyond.
        Where predictions overflow or are exactly 0, the reported ``poisson`` loss may be a number; scikit-learn's is
        NaN.
    hidden_layer_sizes, solver, alpha, … : as in scikit-learn
    activation, dropout, clip_norm, norm, norm_position, initial_coefs, initial_intercepts : as in `MLPClassifier`
    dtype, n_threads, callbacks, progress : as in `MLPClassifier`

    Attributes
    ----------
    coefs_, intercepts_, loss_curve_, … : as in scikit-learn
        ``coefs_`` and ``intercepts_`` are views of one flat buffer, which training updates in place.
    norms_ : list of dict
        With ``norm``: ``gamma``, ``beta`` and, over a batch, ``running_mean`` and ``running_var`` of each hidden layer
        that has a normalisation, (n,) each.
    validation_loss_curve_ : list of float
        One per epoch, if ``fit`` was given ``validation_data``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> regressor = MLPRegressor(hidden_layer_sizes=(32,), solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> regressor.predict([[0.5]]).round(2)
    array([0.25])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **stock.MLPRegressor._parameter_constraints,
        **CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "poisson", "absolute_error", "huber"})],
    }

    def __init__(
        self, loss: Any = "squared_error", hidden_layer_sizes: Any = (100,), activation: Any = "relu", *,
        solver: Any = "adam", alpha: Any = 0.0001, batch_size: Any = "auto", learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001, power_t: Any = 0.5, max_iter: Any = 200, shuffle: Any = True,
        random_state: Any = None, tol: Any = 1e-4, verbose: Any = False, warm_start: Any = False, momentum: Any = 0.9,
        nesterovs_momentum: Any = True, early_stopping: Any = False, validation_fraction: Any = 0.1, beta_1: Any = 0.9,
        beta_2: Any = 0.999, epsilon: Any = 1e-8, n_iter_no_change: Any = 10, max_fun: Any = 15000,
        dropout: Any = 0.0, clip_norm: Any = None, initial_coefs: Any = None, initial_intercepts: Any = None,
        dtype: Any = None, n_threads: Any = None, callbacks: Any = None, progress: Any = False,
        norm: Any = None, norm_position: Any = "before",
    ) -> None:  # fmt: skip
        self._store(locals())
