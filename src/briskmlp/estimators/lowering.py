"""From an estimator to what kernels take: its network and plan, and its data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from briskmlp._messages import check_number
from briskmlp.data.arrays import in_place
from briskmlp.data.examples import Data
from briskmlp.data.inputs import Inputs
from briskmlp.network import Network
from briskmlp.optimizers import SGD, Adam
from briskmlp.plan import Plan, make_plan, rule_fields

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")  # scikit-learn's
HIDDEN_ACTIVATIONS = (*ACTIVATIONS, "leaky_relu")
_SPARSE_FACTOR = 32  # SciPy's product of sparse rows takes about this many times as long for a number as a dense kernel


def lower(
    estimator: Any, layers: Sequence[int], output: str, optimizer: Any, seed: int, dtype: np.dtype[Any]
) -> tuple[Network, Plan]:
    """Lower an estimator to a network and a plan.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    layers : sequence of int
        Widths from input to output.
    output : str
        scikit-learn's name of the output activation.
    optimizer : SGDOptimizer, AdamOptimizer or None
        None for predictions and gradients alone.
    seed : int
        Of the dropout.
    dtype : dtype
        float32 or float64; scikit-learn tells log-losses of probabilities clipped at its precision.
    """
    n_hidden = len(layers) - 2
    hidden = _per_layer("activation", estimator.activation, n_hidden)
    for activation in hidden:
        if activation not in HIDDEN_ACTIVATIONS:
            raise ValueError(f"activation has {activation!r}, but takes {', '.join(HIDDEN_ACTIVATIONS)}")
    network = Network(layers, [_name(activation) for activation in hidden], _name(output))
    plan = make_plan(
        network,
        loss=_loss(estimator.loss, output),
        optimizer=_rule(optimizer),
        batch_size=0,  # known when training begins
        l2=float(estimator.alpha),
        shuffle=False,
        seed=seed,
        dropout=[_rate(rate) for rate in _per_layer("dropout", estimator.dropout, n_hidden)],
        clip_norm=math.inf if estimator.clip_norm is None else estimator.clip_norm,
    )
    return network, plan._replace(
        report_rows=1,
        clip_probability=float(np.finfo(dtype).eps),
        **_loss_scales(estimator.loss, layers[-1]),
        **_hyperparameters(optimizer),
    )


def needs_kernels(estimator: Any) -> bool:
    """Return whether scikit-learn's own code could not compute this network's loss and gradient."""
    return (
        estimator.activation not in ACTIVATIONS
        or estimator.loss in ("absolute_error", "huber")
        or bool(np.any(estimator.dropout))
        or estimator.clip_norm is not None
    )


def is_sparse(X: Any) -> bool:
    """Return whether X is so sparse that SciPy's products beat those of dense kernels: below 1/32 of its entries."""
    return bool(issparse(X) and X.nnz * _SPARSE_FACTOR < X.shape[0] * X.shape[1])


def left_to_scikit_learn(estimator: Any, X: Any, weight: Any) -> bool:
    """Return whether scikit-learn's code computes loss and gradient: for very sparse X, and negative weights."""
    positive = weight is None or bool((weight >= 0).all() and weight.sum() > 0)
    if not needs_kernels(estimator):
        return is_sparse(X) or not positive
    if not positive:
        raise ValueError("sample_weight must be 0 or more, with a positive sum, where scikit-learn cannot train")
    return False


def inputs_of(X: Any, dtype: np.dtype[Any]) -> Inputs:
    """Return validated rows as kernels read them; a sparse X is made dense a bounded number of rows at a time."""
    if issparse(X):
        return Inputs(X.tocsr().astype(dtype, copy=False), X.shape[1], dtype, None)
    array = in_place(X, X.shape[1], dtype)
    if array is None:
        array = np.ascontiguousarray(X, dtype=dtype)
    return Inputs(array, X.shape[1], dtype, array)


def data_of(X: Any, y: Any, weight: Any, output: str, dtype: np.dtype[Any]) -> Data:
    """Return validated examples as kernels read them; one-hot rows become labels."""
    Y = y.argmax(axis=1).astype(np.int64) if output == "softmax" else np.ascontiguousarray(y, dtype=dtype)
    weight = None if weight is None else np.ascontiguousarray(weight, dtype=dtype)
    return Data(inputs_of(X, dtype), Y, weight)


def other_layers(coefs: Sequence[Any], layer_units: Sequence[int]) -> ValueError:
    """Return the error for a warm start or ``partial_fit`` of a network with other layers than its parameters."""
    learned = [np.shape(coefs[0])[0], *(np.shape(coef)[1] for coef in coefs)]
    return ValueError(
        f"coefs_ are those of layers {learned}, but hidden_layer_sizes, X and y ask for {list(layer_units)}; fit with "
        "warm_start=False for a new network"
    )


def _name(activation: Any) -> Any:
    return "sigmoid" if activation == "logistic" else activation


def _loss(loss: str, output: str) -> str:
    if loss == "log_loss":
        return "mse" if output == "identity" else "cross_entropy"  # a classifier's logits are only predicted
    return "mse" if loss == "squared_error" else loss


def _rate(rate: Any) -> float:
    number = check_number("dropout", rate, low=0.0)
    if number >= 1:
        raise ValueError(f"dropout is {number:g}, but must be below 1")
    return number


def _per_layer(name: str, value: Any, n_hidden: int) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * n_hidden
    if len(value) != n_hidden:
        raise ValueError(f"{name} has {len(value)} values, but hidden_layer_sizes has {n_hidden} layers")
    return list(value)


def _rule(optimizer: Any) -> SGD | Adam:
    """Return the kind of rule; its numbers are set by ``_hyperparameters``."""
    if isinstance(optimizer, AdamOptimizer):
        return Adam()
    return SGD(1.0, momentum=0.5) if optimizer is not None and optimizer.momentum else SGD(1.0)


def _hyperparameters(optimizer: Any) -> dict[str, Any]:
    if isinstance(optimizer, AdamOptimizer):
        return rule_fields("adam", (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon, 1))
    if isinstance(optimizer, SGDOptimizer) and optimizer.momentum:
        return rule_fields("velocity", (optimizer.momentum, optimizer.nesterov))
    return {}


def _loss_scales(loss: str, n_out: int) -> dict[str, Any]:
    """Return the factors of the loss and of what is reported of it.

    The gradient is that of half the squared error summed over outputs. Versions of scikit-learn whose reported loss is
    the mean over outputs are recognised by asking them.
    """
    if loss != "squared_error":
        return {}
    reported = float(LOSS_FUNCTIONS[loss](np.ones((1, n_out)), np.zeros((1, n_out))))
    return {"loss_scale": 0.5, "report_scale": reported / (0.5 * n_out)}
