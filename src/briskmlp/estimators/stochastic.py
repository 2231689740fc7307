"""The stochastic solvers: scikit-learn's loop over epochs, each of which kernels train."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import _check_sample_weight, validate_data

from briskmlp.data.examples import Data, check_batches, check_validation
from briskmlp.estimators.lowering import data_of, left_to_scikit_learn, needs_kernels, other_layers
from briskmlp.estimators.model import Epochs, Model
from briskmlp.estimators.observers import CallbackSupportMixin, fit_task, observers
from briskmlp.plan import Ints

FROM_SCIKIT_LEARN = 3  # stacklevel: warnings name scikit-learn's _fit, as its own do, so that filters by module apply


class StochasticSolver(CallbackSupportMixin, BaseMultilayerPerceptron):  # type: ignore[misc] # scikit-learn has no types
    """``_fit_stochastic`` with its order of random numbers, schedules, stopping and messages as in scikit-learn."""

    _no_improvement_count: int
    _best_norms: list[dict[str, Any]] = []  # noqa: RUF012 - none, if no score was better than the first

    def _fit_stochastic(self, X: Any, y: Any, sample_weight: Any, activations: Any, *rest: Any) -> None:
        *buffers, layer_units, incremental = rest
        if len(self.coefs_) != len(layer_units) - 1:  # other widths alone go unheeded, as in scikit-learn
            raise other_layers(self.coefs_, layer_units)
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_optimizer()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if issparse(X):
            X = X.tocsr()  # rows are taken by their numbers
        weight = self._weights(y, sample_weight, incremental)
        validation = self._validation(X.dtype)
        rows, held_out = self._split(X, y, weight, validation)
        batch_size = self._clipped_batch_size(len(rows))

        def backpropagate(X: Any, y: Any, weight: Any) -> Any:
            activations[0] = X
            return self._backprop(X, y, weight, activations, *buffers)

        model = self._bind(self._optimizer)
        check_batches(model.network, len(rows), batch_size)
        output, dtype = self.out_activation_, model.session.dtype
        data = None if left_to_scikit_learn(self, X, weight) else data_of(X, y, weight, output, dtype)
        watched = None if validation is None else data_of(*validation[:3], output, dtype)
        epochs = Epochs(model, data, (X, y, weight), batch_size, backpropagate, must=needs_kernels(self))
        epochs.begin(len(self.loss_curve_), getattr(self._optimizer, "t", 0))
        try:
            # scikit-learn's callbacks know fit alone
            task = fit_task(self, X, lambda: self._as_given(y), sample_weight, self.max_iter)
            with nullcontext(bool) if incremental else task as tell, observers(self, tell) as after_epoch:
                self._run(epochs, rows, held_out, watched, after_epoch, incremental)
        finally:
            epochs.end()
            self._count_steps(model)
        if self.early_stopping:
            model.take(self._best_coefs, self._best_intercepts)
            model.take_norms(self._best_norms)
            coefs, intercepts = list(model.coefs), list(model.intercepts)
            best = {"_best_coefs": coefs, "_best_intercepts": intercepts}  # the same lists, as in scikit-learn
            self.__dict__.update(best, coefs_=coefs, intercepts_=intercepts)

    def _run(
        self, epochs: Epochs, rows: Ints, held_out: Any, watched: Data | None, after_epoch: Any, incremental: bool
    ) -> None:
        """Train until max_iter, or until nothing improves, or until an observer has seen enough."""
        optimizer = self._optimizer
        rated = "learning_rate_init" if isinstance(optimizer, AdamOptimizer) else "learning_rate"
        try:
            self.n_iter_ = 0
            for _ in range(self.max_iter):
                rate = float(getattr(optimizer, rated))
                if self.shuffle:  # the permutations compound, as in scikit-learn
                    permutation = np.arange(len(rows))
                    self._random_state.shuffle(permutation)
                    rows = rows[permutation]
                self.loss_ = epochs.train(rows, rate)
                self._count_steps(epochs.model)
                self.n_iter_ += 1
                self.t_ += len(rows)
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                logs = {"epoch": self.n_iter_, "loss": self.loss_, "learning_rate": rate}
                logs |= self._validate(epochs.model, held_out, watched)
                optimizer.iteration_ends(self.t_)
                asked = after_epoch(logs)
                if self._no_improvement_count > self.n_iter_no_change:
                    if optimizer.trigger_stopping(self._why_stop(), self.verbose):
                        break
                    self._no_improvement_count = 0
                if incremental or asked:
                    break
                if self.n_iter_ == self.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=FROM_SCIKIT_LEARN,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=FROM_SCIKIT_LEARN)

    def _validate(self, model: Model, held_out: Any, watched: Data | None) -> dict[str, float]:
        """Look at what was held out: for stopping, and for the user."""
        logs = {}
        if watched is not None:
            logs["val_loss"] = model.session.loss(watched)
            self.__dict__.setdefault("validation_loss_curve_", []).append(logs["val_loss"])
        best = vars(self).get("_best_coefs")
        self._update_no_improvement_count(self.early_stopping, *held_out)
        if self.early_stopping:
            if self._best_coefs is not best:  # scikit-learn has found a better score
                self._best_norms = copy.deepcopy(model.norms)
            logs["val_score"] = self.validation_scores_[-1]
        return logs

    def _why_stop(self) -> str:
        what = "Validation score" if self.early_stopping else "Training loss"
        return f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change:d} consecutive epochs."

    def _new_optimizer(self) -> Any:
        common = self.coefs_ + self.intercepts_, self.learning_rate_init
        if self.solver == "adam":
            return AdamOptimizer(*common, self.beta_1, self.beta_2, self.epsilon)
        return SGDOptimizer(*common, self.learning_rate, self.momentum, self.nesterovs_momentum, self.power_t)

    def _count_steps(self, model: Model) -> None:
        """Tell scikit-learn's Adam how many steps the kernels have made."""
        optimizer, step = self._optimizer, model.session.position.step
        if isinstance(optimizer, AdamOptimizer) and step > optimizer.t:
            optimizer.t = step
            correction = np.sqrt(1 - optimizer.beta_2**step) / (1 - optimizer.beta_1**step)
            optimizer.learning_rate = optimizer.learning_rate_init * correction

    def _clipped_batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=FROM_SCIKIT_LEARN,
            )
        return int(min(self.batch_size, n))

    def _split(self, X: Any, y: Any, weight: Any, validation: Any) -> tuple[Ints, tuple[Any, Any, Any]]:
        """Return the rows to train on, and (X, y, weight) to score for early stopping."""
        everything = np.arange(X.shape[0], dtype=np.int64)
        if not self.early_stopping:
            return everything, (None, None, None)
        if validation is not None:
            return everything, (validation[0], validation[3], validation[2])
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        rows, held_out = train_test_split(
            everything, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return rows, (X[held_out], self._as_given(y[held_out]), None if weight is None else weight[held_out])

    def _as_given(self, y: Any) -> Any:
        """Return y as the user has it, from what scikit-learn trains on."""
        return self._label_binarizer.inverse_transform(y) if is_classifier(self) else y

    def _validation(self, dtype: Any) -> tuple[Any, Any, Any, Any] | None:
        """Return X, targets, weight and y of the user's validation data, if there are any."""
        if (given := vars(self).get("_validation_data")) is None:
            return None
        X, y, weight = check_validation(given)
        checks = {"accept_sparse": ["csr", "csc"], "multi_output": True, "dtype": dtype, "reset": False}
        X, y = validate_data(self, X, y, y_numeric=not is_classifier(self), **checks)
        weight = None if weight is None else _check_sample_weight(weight, X)
        if is_classifier(self):
            if len(unknown := np.setdiff1d(unique_labels(y), self.classes_)):
                raise ValueError(f"validation_data has classes {unknown}, which y does not have")
            targets = self._label_binarizer.transform(y).astype(bool)
        else:
            targets = y.reshape(len(y), -1)
        if targets.shape[1] != self.n_outputs_:
            raise ValueError(f"validation_data has {targets.shape[1]} outputs, but y has {self.n_outputs_}")
        return X, targets, weight, y
