"""The parts of both estimators that differ from scikit-learn: training, loss and gradient, and prediction by kernels.

The rest is scikit-learn's: validation, initial weights, random numbers, schedules, stopping, messages and attributes.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from briskmlp.backends.threads import blas_threads
from briskmlp.estimators.lowering import (
    data_of,
    inputs_of,
    is_sparse,
    left_to_scikit_learn,
    needs_kernels,
    other_layers,
)
from briskmlp.estimators.model import Model
from briskmlp.estimators.observers import fit_task, managed
from briskmlp.estimators.stochastic import StochasticSolver
from briskmlp.network import FloatArray
from briskmlp.operations.activations import IN_ESTIMATORS, Parametrised
from briskmlp.operations.layers import NORMS, POSITIONS, BatchNorm, LayerNorm

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class _Named(StrOptions):  # type: ignore[misc] # scikit-learn ships no types
    """The name of an activation, maybe with parameters, such as "elu(0.5)", which lowering checks."""

    def is_satisfied_by(self, value: Any) -> bool:
        """Return whether the name is one of them."""
        return bool(super().is_satisfied_by(value.partition("(")[0] if isinstance(value, str) else value))


# What the parameters may be that scikit-learn does not have, and activation, which may be more here.
CONSTRAINTS = {
    "activation": [_Named(set(IN_ESTIMATORS)), Parametrised, list, tuple],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "norm": [_Named(set(NORMS)), BatchNorm, LayerNorm, list, tuple, None],
    "norm_position": [StrOptions(set(POSITIONS)), list, tuple],
    "initial_coefs": ["array-like", None],
    "initial_intercepts": ["array-like", None],
    "dtype": [StrOptions({"float32", "float64"}), None],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "callbacks": [callable, list, tuple, None],
    "progress": ["boolean", None],
}

PASSING = ("_model", "_validation_data", "_batch")  # attributes that no copy has: the model, and what fit is at work on


class Perceptron(StochasticSolver):
    """Base class of MLPClassifier and MLPRegressor; it precedes scikit-learn's class in their bases."""

    norm: Any = None  # of estimators that were pickled before there were normalisations
    norm_position: Any = "before"

    def _store(self, arguments: dict[str, Any]) -> None:
        """Store the arguments of ``__init__`` under their names."""
        super().__init__()  # for parameters that later versions of scikit-learn may add
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    # --- fit ---------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Any:
        """Fit the model to X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or real numbers in regression.
        sample_weight : array-like of shape (n_samples,), default=None
        validation_data : (X, y) or (X, y, sample_weight), default=None
            Its loss after each epoch, without the l2 term, is recorded in ``validation_loss_curve_``. With
            ``early_stopping``, it is scored instead of a part of X.

        Returns
        -------
        self : object
        """
        self._validation_data = validation_data
        try:
            with managed(self):
                return super().fit(X, y, sample_weight)
        finally:
            self.__dict__.pop("_validation_data", None)  # gone if a callback called fit

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = super()._validate_input(X, y, incremental, reset)
        return X if self.dtype is None else _cast(X, np.dtype(self.dtype)), y

    def _initialize(self, y: Any, layer_units: list[int], dtype: Any) -> None:
        super()._initialize(y, layer_units, dtype)
        for name in ("coefs", "intercepts"):
            given, drawn = getattr(self, f"initial_{name}"), getattr(self, f"{name}_")
            if given is None:
                continue
            shapes = [np.shape(each) for each in given]
            if shapes != [each.shape for each in drawn]:
                raise ValueError(f"initial_{name} has shapes {shapes}, but needs {[each.shape for each in drawn]}")
            for own, each in zip(drawn, given, strict=True):
                own[...] = each
            setattr(self, f"_best_{name}", [own.copy() for own in drawn])
        for name in ("validation_loss_curve_", "norms_"):  # norms begin as in a new model
            self.__dict__.pop(name, None)

    def _weights(self, y: Any, sample_weight: Any, incremental: bool = False) -> Any:
        """Return the weights of the examples; MLPClassifier multiplies them by those of their classes."""
        return sample_weight

    # --- lbfgs -------------------------------------------------------------------------------------------------------

    def _fit_lbfgs(self, X: Any, y: Any, sample_weight: Any, *buffers: Any) -> None:
        layer_units = buffers[-1]
        if [np.shape(coef) for coef in self.coefs_] != list(pairwise(layer_units)):
            raise other_layers(self.coefs_, layer_units)
        epochs_need = {name: vars(self).get(name) for name in ("clip_norm", "norm", "callbacks", "_validation_data")}
        epochs_need["dropout"] = self.dropout if np.any(self.dropout) else None
        if given := [name.strip("_") for name, value in epochs_need.items() if value is not None]:
            raise ValueError(f"{given[0]} needs solver 'sgd' or 'adam'; 'lbfgs' has no epochs")
        weight = self._weights(y, sample_weight)
        try:
            self._batch = self._prepare(X, y, weight)
            # Between evaluations L-BFGS wants little of BLAS, whose threads then spin where the kernels' are to run.
            model = self._batch[1]
            alone = nullcontext() if model is None or model.session.backend.USES_BLAS else blas_threads(1)
            with alone, fit_task(self, X, lambda: self._as_given(y), sample_weight, 0):
                super()._fit_lbfgs(X, y, weight, *buffers)
        finally:
            self.__dict__.pop("_batch", None)
        self._bind()

    def _prepare(self, X: Any, y: Any, weight: Any) -> Any:
        """Return the arguments of the loss and gradient; the model is None where scikit-learn computes them."""
        if left_to_scikit_learn(self, X, weight):
            return X, None, None
        output, double = self.out_activation_, np.dtype(np.float64)  # SciPy's, and so scikit-learn's, for float32 too
        return X, Model.of(self, output, dtype=double), data_of(X, y, weight, output, double)

    def _loss_grad_lbfgs(self, packed_coef_inter: Any, X: Any, y: Any, sample_weight: Any, *buffers: Any) -> Any:
        batch = vars(self).get("_batch")
        _, model, data = batch if batch is not None and batch[0] is X else self._prepare(X, y, sample_weight)
        if model is None:
            return super()._loss_grad_lbfgs(packed_coef_inter, X, y, sample_weight, *buffers)
        self._unpack(packed_coef_inter)
        model.take(self.coefs_, self.intercepts_)
        loss, flat = model.session.gradient(data)
        tensors = model.network.weights(flat) + model.network.biases(flat)
        return np.float64(loss), np.concatenate([tensor.ravel() for tensor in tensors])

    # --- predictions -------------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """Predict the class of each row of X, or its targets in regression.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,), (n_samples, n_classes) or (n_samples, n_outputs)
        """
        self._check_is_fitted()
        return self._predict(X)

    def _check_is_fitted(self) -> None:
        if "_model" not in vars(self):  # with one it is, and scikit-learn takes long to say so
            check_is_fitted(self)

    def _forward_pass_fast(self, X: Any, check_input: bool = True, output: str | None = None) -> FloatArray:
        """Return the last activations; ``output`` replaces the network's output activation."""
        if check_input and not self._is_plain(X):
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        model = vars(self).get("_model") or self._bind()
        if not model.has(self) or model.activation != self.activation:  # the user's own arrays stay the user's
            model = Model.of(self, self.out_activation_)
        model.session.threads = self.n_threads
        must = needs_kernels(self) or output is not None
        dtype = model.session.dtype if self.dtype is not None else np.result_type(X.dtype, model.session.dtype)
        if self.dtype is not None:
            X = _cast(X, dtype)
        if (is_sparse(X) or dtype not in _FLOATS) and not must:
            A: FloatArray = super()._forward_pass_fast(X, check_input=False)
            return A
        if output is not None or dtype != model.session.dtype:
            dtype = dtype if dtype in _FLOATS else _FLOATS[1]
            model = Model.of(self, output or self.out_activation_, dtype=dtype)
        return model.session.predict(inputs_of(X, model.session.dtype))

    def _is_plain(self, X: Any) -> bool:
        """Return whether scikit-learn's validation would return X unchanged."""
        if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in _FLOATS or X.shape[0] == 0:
            return False
        if X.shape[1] != getattr(self, "n_features_in_", None) or hasattr(self, "feature_names_in_"):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(X.sum()))  # an overflow is looked into by scikit-learn

    def to_onnx(self, path: Any) -> None:
        """Write the fitted model to an ONNX file; see `briskmlp.convert.onnx.to_onnx`.

        Parameters
        ----------
        path : str or path-like
            Replaced if it exists.
        """
        from briskmlp.convert.onnx import to_onnx

        check_is_fitted(self)
        to_onnx(self, path)

    # --- the model ---------------------------------------------------------------------------------------------------

    def _bind(self, optimizer: Any = None) -> Model:
        """Return the model with this estimator's parameters, which become views of the model's buffer."""
        seed = int(self._random_state.randint(2**31)) if optimizer is not None and np.any(self.dropout) else 0
        model = Model.of(self, self.out_activation_, optimizer, seed=seed)
        bound: dict[str, Any] = {"coefs_": list(model.coefs), "intercepts_": list(model.intercepts), "_model": model}
        if model.norms:
            bound["norms_"] = list(model.norms)
        for best, own in (("_best_coefs", "coefs_"), ("_best_intercepts", "intercepts_")):
            if best in vars(self) and getattr(self, best) is getattr(self, own):  # one list, as in scikit-learn
                bound[best] = bound[own]
        self.__dict__.update(bound)  # at once, for other threads that predict
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in PASSING}


def _cast(X: Any, dtype: np.dtype[Any]) -> Any:
    """Return validated rows in this dtype; they must be finite after the conversion."""
    if X.dtype == dtype:
        return X
    with np.errstate(all="ignore"):
        X = X.astype(dtype)
        assert_all_finite(X, input_name="X")
    return X
