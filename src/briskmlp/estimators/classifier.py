"""MLPClassifier: scikit-learn's classifier, trained by briskmlp's kernels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.neural_network import _multilayer_perceptron as stock
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if

from briskmlp.estimators.perceptron import CONSTRAINTS, Perceptron
from briskmlp.network import FloatArray


class MLPClassifier(Perceptron, stock.MLPClassifier):  # type: ignore[misc] # scikit-learn has no types
    """scikit-learn's multilayer perceptron classifier with the same results, trained faster by briskmlp's kernels.

    It has all of scikit-learn's parameters, attributes and methods. For a given ``random_state``, ``coefs_``,
    ``loss_curve_``, predictions and the stopping epoch equal scikit-learn's up to round-off in float64. In float32,
    where round-off is larger, parameters and losses differ by less than 1e-4 of their norm after some 100 steps of
    stable training. A batch whose weights are all 0 is skipped; scikit-learn raises ZeroDivisionError.

    Parameters
    ----------
    hidden_layer_sizes, solver, alpha, … : as in scikit-learn
    activation : str, LeakyReLU, ELU, CELU, Softplus or Hardtanh, or a list of one per hidden layer
        scikit-learn's ``"identity" "logistic" "tanh" "relu"``, and every hidden activation of `Trainer`, also with
        parameters, such as ``"leaky_relu(0.2)"``. With a list, the initial weights of every layer have the bound that
        scikit-learn uses for all activations but "logistic".
    class_weight : dict, list of dict or "balanced", default=None
        Multiplies ``sample_weight``, as in scikit-learn's other classifiers, and also weights the scores of early
        stopping.
    dropout : float or list of float, default=0.0
        Fraction of the hidden layers' outputs that training sets to 0, one for all layers or one per layer. The others
        are scaled up to compensate.
    clip_norm : float, default=None
        Largest norm of a step's gradient; larger gradients are scaled down to it.
    norm : {"batch", "layer"}, BatchNorm, LayerNorm, or a list of one per hidden layer, default=None
        Normalisation in the hidden layers, as in `Trainer`; needs solver "sgd" or "adam".
    norm_position : {"before", "after"} or a list of one per hidden layer, default="before"
        Before the activation or after it.
    initial_coefs, initial_intercepts : list of ndarray, default=None
        Initial ``coefs_`` and ``intercepts_``, instead of random values.
    dtype : {"float32", "float64"}, default=None
        Precision of training and prediction; None means that of X. solver="lbfgs" computes in float64, as in
        scikit-learn.
    n_threads : int, default=None
        Upper bound on the number of threads; None means what cores, affinity, cgroup quota and environment allow.
    callbacks : callable or list of callable, default=None
        Called after each epoch with ``(estimator, epoch, logs)``, where ``logs`` is a dict with ``loss``,
        ``learning_rate`` and, if available, ``val_loss`` and ``val_score``. Training stops if one returns True. From
        scikit-learn 1.9, ``set_callbacks`` accepts scikit-learn's callbacks.
    progress : bool, default=False
        Whether to show a progress bar; None shows it on a terminal only.
    logits : bool, default=False
        Whether the estimator has ``decision_function``, which scikit-learn's classifier lacks. Tools that prefer it to
        ``predict_proba``, such as CalibratedClassifierCV, then give different results.

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
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier((16,), max_iter=1000, learning_rate_init=0.02, random_state=0).fit(X, y)
    >>> classifier.predict(X[[0, 60, 149]])
    array([0, 1, 2])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **stock.MLPClassifier._parameter_constraints,
        **CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "logits": ["boolean"],
    }

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: Any = "relu", *, solver: Any = "adam", alpha: Any = 0.0001,
        batch_size: Any = "auto", learning_rate: Any = "constant", learning_rate_init: Any = 0.001, power_t: Any = 0.5,
        max_iter: Any = 200, shuffle: Any = True, random_state: Any = None, tol: Any = 1e-4, verbose: Any = False,
        warm_start: Any = False, momentum: Any = 0.9, nesterovs_momentum: Any = True, early_stopping: Any = False,
        validation_fraction: Any = 0.1, beta_1: Any = 0.9, beta_2: Any = 0.999, epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10, max_fun: Any = 15000,
        class_weight: Any = None, dropout: Any = 0.0, clip_norm: Any = None, initial_coefs: Any = None,
        initial_intercepts: Any = None, dtype: Any = None, n_threads: Any = None, callbacks: Any = None,
        progress: Any = False, logits: Any = False, norm: Any = None, norm_position: Any = "before",
    ) -> None:  # fmt: skip
        self._store(locals())

    def predict_proba(self, X: Any) -> FloatArray:
        """Return the probability of each class for each row of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        self._check_is_fitted()
        A = self._forward_pass_fast(X)
        return np.hstack([1 - A, A]) if self.n_outputs_ == 1 else A

    @available_if(lambda self: self.logits)  # type: ignore[untyped-decorator] # scikit-learn has no types
    def decision_function(self, X: Any) -> FloatArray:
        """Return the input of the last activation: log-odds for two classes, logits for more.

        Only an estimator with ``logits=True`` has this method.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        decision : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            The predicted class is ``classes_[1]`` if its log-odds are positive; with more classes, the one with the
            largest logit.
        """
        self._check_is_fitted()
        Z = self._forward_pass_fast(X, output="identity")
        return Z.ravel() if self.n_outputs_ == 1 else Z

    def _predict(self, X: Any, check_input: bool = True) -> Any:
        # What the label binarizer's inverse_transform does for one row in 100 µs.
        if self._label_binarizer.y_type_ not in ("binary", "multiclass") or len(self.classes_) < 2:
            return super()._predict(X, check_input)
        A = self._forward_pass_fast(X, check_input)
        return self.classes_[A.argmax(axis=1) if A.shape[1] > 1 else (A[:, 0] > 0.5).astype(np.intp)]

    def _weights(self, y: Any, sample_weight: Any, incremental: bool = False) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all of y at once, which partial_fit does not see; pass a dict, such as "
                "that of sklearn.utils.class_weight.compute_class_weight"
            )
        labels = self._as_given(y)
        if isinstance(self.class_weight, dict) and labels.ndim == 1:  # a part of y may lack classes that the dict has
            of_classes = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
            weight = of_classes[np.searchsorted(self.classes_, labels)]
        else:
            weight = compute_sample_weight(self.class_weight, labels)
        return weight if sample_weight is None else weight * sample_weight
