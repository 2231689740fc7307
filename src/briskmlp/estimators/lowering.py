"""Lowering of an estimator to the network, plan and data that kernels read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from briskmlp._messages import check_each, check_fraction
from briskmlp.data.arrays import in_place
from briskmlp.data.examples import Data
from briskmlp.data.inputs import Inputs
from briskmlp.network import Network
from briskmlp.operations.activations import of_estimator
from briskmlp.operations.rules import SGD, Lowered
from briskmlp.plan import Plan, make_plan

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")  # scikit-learn's
_SPARSE_FACTOR = 32  # SciPy's product of sparse rows takes about this many times as long for a number as a dense kernel


def lower(
    estimator: Any, layers: Sequence[int], output: str, optimizer: Any, seed: int, dtype: np.dtype[Any]
) -> tuple[Network, Plan]:
    """Lower an estimator, whose network has these ``layers``, to a network and a plan.

    ``output`` is scikit-learn's name of the output activation. ``optimizer`` is scikit-learn's, or None for predictions
    and gradients only; ``seed`` is that of the dropout masks. Reported log-losses clip probabilities at the precision
    of ``dtype``, as in scikit-learn.
    """
    n_hidden = len(layers) - 2
    *hidden, last = of_estimator(estimator.activation, output, n_hidden)
    network = Network(layers, hidden, last, norm=estimator.norm, norm_position=estimator.norm_position)
    plan = make_plan(
        network,
        loss=_loss(estimator.loss, output),
        optimizer=SGD(1.0),  # replaced by the rule's fields
        batch_size=0,  # known when training begins
        l2=float(estimator.alpha),
        seed=seed,
        dropout=check_each("dropout", estimator.dropout, n_hidden, check_fraction),
        clip_norm=math.inf if estimator.clip_norm is None else estimator.clip_norm,
    )
    return network, plan._replace(
        report_rows=1,
        clip_probability=float(np.finfo(dtype).eps),
        **_loss_scales(estimator.loss, layers[-1]),
        **_rule(optimizer).plan_fields(),
    )


def needs_kernels(estimator: Any) -> bool:
    """Return whether scikit-learn's code cannot compute this network's loss and gradient."""
    return (
        estimator.activation not in ACTIVATIONS
        or estimator.loss in ("absolute_error", "huber")
        or bool(np.any(estimator.dropout))
        or estimator.clip_norm is not None
        or estimator.norm is not None
    )


def is_sparse(X: Any) -> bool:
    """Return whether SciPy's sparse products are faster than dense kernels: fewer than 1/32 nonzero entries."""
    return bool(issparse(X) and X.nnz * _SPARSE_FACTOR < X.shape[0] * X.shape[1])


def left_to_scikit_learn(estimator: Any, X: Any, weight: Any) -> bool:
    """Return whether scikit-learn's code computes loss and gradient: for very sparse X or negative weights."""
    positive = weight is None or bool((weight >= 0).all() and weight.sum() > 0)
    if not needs_kernels(estimator):
        return is_sparse(X) or not positive
    if not positive:
        raise ValueError("sample_weight must be 0 or more, with a positive sum, where scikit-learn cannot train")
    return False


def inputs_of(X: Any, dtype: np.dtype[Any]) -> Inputs:
    """Return validated rows as kernels read them; sparse rows become dense a bounded number at a time."""
    if issparse(X):
        return Inputs(X.tocsr().astype(dtype, copy=False), X.shape[1], dtype, None)
    in_memory = in_place(X, X.shape[1], dtype)
    array = np.ascontiguousarray(X, dtype=dtype) if in_memory is None else in_memory
    return Inputs(array, X.shape[1], dtype, array)


def data_of(X: Any, y: Any, weight: Any, output: str, dtype: np.dtype[Any]) -> Data:
    """Return validated examples as kernels read them; one-hot rows become labels."""
    Y = y.argmax(axis=1).astype(np.int64) if output == "softmax" else np.ascontiguousarray(y, dtype=dtype)
    weight = None if weight is None else np.ascontiguousarray(weight, dtype=dtype)
    return Data(inputs_of(X, dtype), Y, weight)


def other_layers(coefs: Sequence[Any], layer_units: Sequence[int]) -> ValueError:
    """Return the error for a warm start or ``partial_fit`` whose layers do not match the fitted parameters."""
    learned = [np.shape(coefs[0])[0], *(np.shape(coef)[1] for coef in coefs)]
    return ValueError(
        f"coefs_ are those of layers {learned}, but hidden_layer_sizes, X and y ask for {list(layer_units)}; fit with "
        "warm_start=False for a new network"
    )


def _loss(loss: str, output: str) -> str:
    if loss == "log_loss":
        return "mse" if output == "identity" else "cross_entropy"  # a classifier's logits are only predicted
    return "mse" if loss == "squared_error" else loss


def _rule(optimizer: Any) -> Lowered:
    if isinstance(optimizer, AdamOptimizer):
        return Lowered("adam", (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon, 1))
    if isinstance(optimizer, SGDOptimizer) and optimizer.momentum:
        return Lowered("velocity", (optimizer.momentum, optimizer.nesterov))
    return Lowered("sgd")


def _loss_scales(loss: str, n_out: int) -> dict[str, Any]:
    """Return the factors of the loss in training and in reports."""
    if loss != "squared_error":
        return {}
    # the gradient is that of half the squared error summed over outputs, but some versions report the mean over outputs
    reported = float(LOSS_FUNCTIONS[loss](np.ones((1, n_out)), np.zeros((1, n_out))))
    return {"loss_scale": 0.5, "report_scale": reported / (0.5 * n_out)}
