"""The NumPy backend: the equations line by line. Every other backend is held to it, and it runs where none can.

For layers l = 1…L, with A[0] = X[rows] of shape (n_batch, n_in) and f the layer's activation:

    forward    Z[l] = A[l-1] @ W[l] + b[l]             A[l] = f(Z[l])
    backward   delta[L] = ∂E/∂Z[L]                     delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
               dW[l] = A[l-1].T @ delta[l]             db[l] = delta[l].sum(axis=0)
    update     W[l] -= lr * dW[l]                      and the other rules

f' is computed from A alone, so no Z is kept. Lists here count from 0: ``weights[l]`` is W[l+1].
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import LARGEST_CHUNK, Divergence, Position, Rows, estimate_memory
from briskmlp.network import FloatArray
from briskmlp.plan import (
    BIAS_LAYER,
    BIAS_NONE,
    MSE,
    RELU,
    RULE_ADAM,
    RULE_MOMENTUM,
    RULE_SGD,
    SIGMOID,
    SOFTMAX,
    TANH,
    Floats,
    Ints,
    Plan,
)
from briskmlp.random import sample_order

NAME = "numpy"
RESTORES = False
USES_BLAS = True
_quiet = np.errstate(over="ignore", under="ignore", invalid="ignore")  # the loss reports what is not finite


class Workspace(NamedTuple):
    """A gradient, and the order of the epoch it was drawn for."""

    grad: FloatArray
    order: dict[int, Ints]


def isa() -> str | None:
    """Return None: the instruction set is NumPy's choice."""
    return None


def unavailable() -> str | None:
    """Return why this backend cannot run here, or None."""
    return None


def unsupported(plan: Plan, dtype: np.dtype[Any]) -> str | None:
    """Return why this backend cannot run this plan, or None."""
    return None


def workspace(
    plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool = True, threads: int = 1, isa: str | None = None
) -> Workspace:
    """Allocate the gradient; NumPy allocates the rest as it goes."""
    return Workspace(np.empty(plan.n_parameters if training else 0, dtype=dtype), {})


def memory(plan: Plan, dtype: np.dtype[Any], n: int, *, threads: int = 1, isa: str | None = None) -> int:
    """Return about how many bytes a workspace for training takes."""
    return estimate_memory(plan, dtype)


# --- forward ---------------------------------------------------------------------------------------------------------


@_quiet
def forward(plan: Plan, params: FloatArray, X: FloatArray, rows: Rows, out: FloatArray, work: Workspace) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    for start in range(0, len(rows), LARGEST_CHUNK):
        chunk = slice(start, start + LARGEST_CHUNK)
        out[chunk] = _activations(plan, params, X[rows[chunk]])[0][-1]


def _activations(plan: Plan, params: FloatArray, A: FloatArray) -> tuple[list[FloatArray], FloatArray]:
    """Return A[0]…A[L], and the last Z, which cross-entropy needs."""
    activations, Z = [A], A
    for W, b, activation in zip(*_tensors(plan, params), plan.activations, strict=True):
        Z = activations[-1] @ W
        if len(b):
            Z += b
        activations.append(_activate(Z, activation))
    return activations, Z


def _activate(Z: FloatArray, activation: int) -> FloatArray:
    """Return f(Z)."""
    if activation == SIGMOID:  # never overflows: exp of a negative number only
        e = np.exp(-np.abs(Z))
        return np.asarray(np.where(Z < 0, e, 1) / (1 + e))
    if activation == TANH:
        return np.tanh(Z)
    if activation == RELU:
        return np.maximum(Z, 0)
    if activation == SOFTMAX:
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    return Z


# --- loss and backward -----------------------------------------------------------------------------------------------


@_quiet
def gradient(
    plan: Plan,
    params: FloatArray,
    X: FloatArray,
    Y: Any,
    weight: FloatArray | None,
    rows: Rows,
    scale: float,
    grad: FloatArray | None,
    work: Workspace,
) -> float:
    """Add ``scale`` times the un-normalised gradient of these rows to ``grad``; return their un-normalised loss."""
    total = 0.0
    weights, _ = _tensors(plan, params)
    for l2, W in zip(plan.l2[::2], weights, strict=True):
        total += l2 / 2 * float(np.sum(np.square(W, dtype=np.float64))) if l2 else 0.0
    if grad is not None:
        for l2, W, dW in zip(plan.l2[::2], weights, _tensors(plan, grad)[0], strict=True):
            dW += float(scale * l2) * W
    for start in range(0, len(rows), LARGEST_CHUNK):
        chunk = rows[start : start + LARGEST_CHUNK]
        A, Z = _activations(plan, params, X[chunk])
        chunk_weight = None if weight is None else weight[chunk]
        loss, delta = _loss(plan, A[-1], Z, Y[chunk], chunk_weight)
        total += loss
        if grad is not None:
            _backward(plan, weights, A, scale * delta, grad)
    return total


def _loss(plan: Plan, A: FloatArray, Z: FloatArray, Y: Any, weight: FloatArray | None) -> tuple[float, FloatArray]:
    """Return Σ w·E and its gradient with respect to the last Z, both un-normalised."""
    activation = int(plan.activations[-1])
    if plan.loss == MSE:
        error = A - Y
        losses = np.square(error, dtype=np.float64).sum(axis=1)
        delta = _through(2 * error, A, activation)
    elif activation == SOFTMAX:
        losses, delta = _softmax_cross_entropy(A, Z.astype(np.float64), Y)
    else:
        losses = _sigmoid_cross_entropy(Z.astype(np.float64), Y).sum(axis=1)
        delta = A - Y
    if weight is not None:
        losses, delta = losses * weight, delta * weight[:, None]
    return plan.loss_scale * float(losses.sum()), np.asarray(plan.loss_scale * delta, dtype=A.dtype)


def _softmax_cross_entropy(A: FloatArray, Z: Floats, Y: Any) -> tuple[Floats, FloatArray]:
    """Return per row ``-Σ Y log A = Σ Y (logsumexp(Z) - Z)``, and ``A - Y``; labels stand for one-hot rows."""
    Z -= Z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(Z).sum(axis=1))
    if Y.ndim == 2:
        return np.asarray((Y * (log_sum[:, None] - Z)).sum(axis=1)), A - Y
    each, delta = np.arange(len(Y)), A.copy()
    delta[each, Y] -= 1
    return log_sum - Z[each, Y], delta


def _sigmoid_cross_entropy(Z: Floats, Y: FloatArray) -> Floats:
    """Return ``-Y log A - (1-Y) log(1-A) = softplus(Z) - Y Z`` of each output."""
    return np.asarray(np.maximum(Z, 0) + np.log1p(np.exp(-np.abs(Z))) - Y * Z)


def _through(dA: FloatArray, A: FloatArray, activation: int) -> FloatArray:
    """Return delta = dA * f'(Z), with f' computed from A."""
    if activation == SIGMOID:
        return dA * (A * (1 - A))
    if activation == TANH:
        return dA * (1 - A * A)
    if activation == RELU:
        return dA * (A > 0)
    if activation == SOFTMAX:  # the Jacobian product
        return np.asarray(A * (dA - (dA * A).sum(axis=1, keepdims=True)))
    return dA


def _backward(plan: Plan, weights: list[FloatArray], A: list[FloatArray], delta: FloatArray, grad: FloatArray) -> None:
    """Add every layer's dW and db, from the last layer to the first."""
    for l, dW, db in reversed(list(zip(range(len(weights)), *_tensors(plan, grad), strict=True))):
        dW += A[l].T @ delta
        if plan.bias == BIAS_LAYER:
            db += delta.sum()
        elif plan.bias != BIAS_NONE:
            db += delta.sum(axis=0)
        if l > 0:
            delta = _through(delta @ weights[l].T, A[l], int(plan.activations[l - 1]))


# --- update ----------------------------------------------------------------------------------------------------------


@_quiet
def update(plan: Plan, params: FloatArray, grad: FloatArray, state: FloatArray, step: int, rate: float) -> None:
    """Move ``params`` by one step of the plan's rule; ``step`` counts from 1."""
    for tensor, part in enumerate(_parts(plan)):
        lr = float(rate * plan.rate_scale[tensor])  # NumPy's own float64 would make float32 arithmetic float64
        _move(plan, params[part], grad[part], state[:, part], step, lr, float(plan.decay[tensor]))


def _move(plan: Plan, w: FloatArray, g: FloatArray, state: FloatArray, step: int, lr: float, decay: float) -> None:
    if decay and plan.decoupled:
        w -= lr * decay * w
    elif decay:
        g = g + decay * w
    if plan.rule == RULE_SGD:
        w -= lr * g
    elif plan.rule == RULE_MOMENTUM:
        v = state[0]
        v[...] = plan.momentum * v + g
        w -= lr * (g + plan.momentum * v if plan.nesterov else v)
    elif plan.rule == RULE_ADAM:
        m, v = state
        m += (1 - plan.beta1) * (g - m)
        v[...] = plan.beta2 * v + (1 - plan.beta2) * (g * g)
        correction1, correction2 = 1 - plan.beta1**step, 1 - plan.beta2**step
        w -= lr / correction1 * m / (np.sqrt(v) / correction2**0.5 + plan.epsilon)
    else:
        v = state[0]
        v[...] = plan.beta2 * v + (1 - plan.beta2) * (g * g)
        w -= lr * g / (np.sqrt(v) + plan.epsilon)


# --- the epoch loop --------------------------------------------------------------------------------------------------


def train(
    plan: Plan,
    params: FloatArray,
    state: FloatArray,
    X: FloatArray,
    Y: Any,
    weight: FloatArray | None,
    order: Ints | None,
    position: Position,
    rates: Floats,
    max_steps: int,
    losses: Floats,
    work: Workspace,
) -> Divergence | None:
    """Make at most ``max_steps`` steps from ``position``: gather, forward, backward, update."""
    n = len(X) if order is None else len(order)
    n_batches = -(-n // plan.batch_size)
    first, counts = position.epoch, position.counts
    for _ in range(max_steps):
        epoch, batch = position.epoch, position.batch
        if epoch - first == len(rates) or (order is not None and epoch > first):
            break
        rows = (_order(plan, epoch, n, work) if order is None else order)[batch * plan.batch_size :]
        rows = rows[: plan.batch_size]
        batch_weight = float(len(rows)) if weight is None else float(weight[rows].sum(dtype=np.float64))
        if batch_weight > 0:
            work.grad[:] = 0
            loss = gradient(plan, params, X, Y, weight, rows, 1 / batch_weight, work.grad, work)
            if not np.isfinite(loss):
                return Divergence(epoch, batch)
            counts[2] += 1
            update(plan, params, work.grad, state, position.step, rates[epoch - first])
            position.sums += (loss, batch_weight)
        counts[1] += 1
        if counts[1] == n_batches:
            losses[epoch - first] = position.sums[0] / position.sums[1]
            counts[0] += 1
            position.drop_epoch()
    return None


def _order(plan: Plan, epoch: int, n: int, work: Workspace) -> Ints:
    """Return the built-in order of an epoch, drawn once."""
    if epoch not in work.order:
        work.order.clear()
        work.order[epoch] = sample_order(plan.seed % 2**64, epoch, n) if plan.shuffle else np.arange(n)
    return work.order[epoch]


def _parts(plan: Plan) -> list[slice]:
    """Return where each tensor W1 b1 W2 b2 … lies in a flat buffer."""
    starts = [*np.stack([plan.weight_offsets, plan.bias_offsets], axis=1).ravel().tolist(), plan.n_parameters]
    return [slice(start, stop) for start, stop in pairwise(starts)]


def _tensors(plan: Plan, flat: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return views of the weights (n_in, n_out) and biases in a flat buffer."""
    parts = [flat[part] for part in _parts(plan)]
    return [W.reshape(n_in, -1) for W, n_in in zip(parts[::2], plan.layers[:-1], strict=True)], parts[1::2]
