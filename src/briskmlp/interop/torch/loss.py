"""Lowering of PyTorch's losses to a Plan.

A kernel multiplies a batch's gradient Σ w·∂E by ``loss_scale`` and divides it as the plan's ``divisor`` says. PyTorch's
elementwise "mean" also divides by n_out; its "sum" divides by nothing; and class weights count in the divisor of labels
alone, not of probabilities.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.convert.torch.read import Dense, check_no_hooks
from briskmlp.data.inputs import check_targets
from briskmlp.losses import OUTPUTS
from briskmlp.network import FloatArray
from briskmlp.operations.activations import chosen
from briskmlp.plan import DIVISOR_NOTHING, DIVISOR_ROWS, DIVISOR_WEIGHT, HUBER_THRESHOLD

NAMES: dict[type[nn.Module], str] = {
    nn.MSELoss: "mse",
    nn.L1Loss: "absolute_error",
    nn.HuberLoss: "huber",
    nn.BCELoss: "cross_entropy",
    nn.BCEWithLogitsLoss: "cross_entropy",
    nn.CrossEntropyLoss: "cross_entropy",
}


class Task(NamedTuple):
    """A loss and its targets, as kernels read them."""

    loss: str
    output: str  # of the network: the activation that PyTorch has in the loss is ours
    scale: float
    threshold: float  # Huber's
    divisor: int  # DIVISOR_WEIGHT …
    Y: Any  # (n, n_out) of the dtype, or int64 labels (n,)
    weight: FloatArray | None  # (n,)


def lower(loss_fn: nn.Module, dense: Dense, Y: Any, n: int) -> Task:
    """Lower ``loss_fn`` with the ``n`` rows Y.

    Raises
    ------
    TypeError, ValueError
        The kernels do not support it; the message names what.
    """
    kind = type(loss_fn)
    if kind not in NAMES:
        accepted = ", ".join(loss.__name__ for loss in NAMES)
        raise TypeError(f"loss_fn is {loss_fn!r}, which is not supported; accepted: {accepted}")
    check_no_hooks(loss_fn, "loss_fn")
    if loss_fn.reduction not in ("mean", "sum"):
        raise ValueError(f"loss_fn has reduction={loss_fn.reduction!r}; accepted: 'mean', 'sum'")
    output, n_out = dense.network.output, dense.network.n_out
    if isinstance(loss_fn, nn.CrossEntropyLoss):
        _require(output == "identity", kind, "one that ends in a Linear, as its outputs are logits", output)
        return _classes(loss_fn, Y, n, n_out, dense.dtype)
    if kind is nn.BCEWithLogitsLoss:
        _require(output == "identity", kind, "one that ends in a Linear, as its outputs are logits", output)
        output = "sigmoid"
    elif kind is nn.BCELoss:
        _require(output == "sigmoid", kind, "one that ends in Sigmoid", output)
    else:
        outputs = OUTPUTS[NAMES[kind]]
        _require(chosen(output).row.name in outputs, kind, f"one that ends in {', '.join(outputs)}", output)
    if tuple(np.shape(Y)) != (n, n_out):
        raise ValueError(f"Y has shape {tuple(np.shape(Y))}, but must have the shape of the outputs, {(n, n_out)}")
    mean = loss_fn.reduction == "mean"
    task = Task(
        NAMES[kind],
        output,
        _one_weight(loss_fn) / (n_out if mean else 1),
        float(getattr(loss_fn, "delta", HUBER_THRESHOLD)),
        DIVISOR_WEIGHT if mean else DIVISOR_NOTHING,
        check_targets(Y, n, n_out, None, dense.dtype, domain="each" if NAMES[kind] == "cross_entropy" else None),
        None,
    )
    positive = getattr(loss_fn, "pos_weight", None)
    return task if positive is None else _positive(task, positive, n_out, DIVISOR_ROWS if mean else DIVISOR_NOTHING)


def _require(fits: bool, kind: type[nn.Module], wanted: str, output: str) -> None:
    if not fits:
        raise ValueError(f"loss_fn is {kind.__name__}, but the module ends in {output}; accepted: {wanted}")


def _one_weight(loss_fn: nn.Module) -> float:
    """Return the single value of an elementwise loss's ``weight``."""
    weight = getattr(loss_fn, "weight", None)
    if weight is None:
        return 1.0
    numbers = np.unique(_numbers(weight, "weight"))
    if len(numbers) != 1:
        raise ValueError("loss_fn has a weight that differs between outputs, which is not supported")
    return float(numbers[0])


def _positive(task: Task, positive: Tensor, n_out: int, divisor: int) -> Task:
    """Lower pos_weight p to weights s = p Y + 1 - Y and targets p Y / s: s times the plain loss is the same."""
    numbers = _numbers(positive, "pos_weight")
    if (numbers == 1).all():
        return task
    if n_out != 1 or numbers.size != 1:
        raise ValueError(f"loss_fn has a pos_weight, which is not supported with {n_out} outputs; accepted: with 1")
    p, Y = float(numbers.ravel()[0]), task.Y
    s = p * Y + (1 - Y)
    return task._replace(Y=_divide(p * Y, s), weight=_weights(s[:, 0]), divisor=divisor)


def _classes(loss_fn: nn.CrossEntropyLoss, Y: Any, n: int, n_out: int, dtype: np.dtype[Any]) -> Task:
    if loss_fn.label_smoothing:
        raise ValueError(f"loss_fn has label_smoothing={loss_fn.label_smoothing}, which is not supported")
    if loss_fn.ignore_index != -100:
        raise ValueError(f"loss_fn has ignore_index={loss_fn.ignore_index}, which is not supported")
    if n_out < 2:
        raise ValueError("loss_fn is CrossEntropyLoss, but the module has 1 output; accepted: 2 or more")
    if np.ndim(Y) not in (1, 2):
        raise ValueError(f"Y has shape {tuple(np.shape(Y))}; accepted: labels ({n},) or probabilities {(n, n_out)}")
    targets = check_targets(Y, n, n_out, n_out, dtype, domain="each")
    weight: Any = None if loss_fn.weight is None else _numbers(loss_fn.weight, "weight").astype(dtype)
    mean = loss_fn.reduction == "mean"
    task = Task(
        "cross_entropy", "softmax", 1.0, HUBER_THRESHOLD, DIVISOR_WEIGHT if mean else DIVISOR_NOTHING, targets, None
    )
    if targets.ndim == 1:
        return task if weight is None else task._replace(weight=_weights(weight[targets]))
    # -Σ w Y log A is s times the same without w, of Y' = w Y / s, whose rows sum to 1 as the kernels' formula needs.
    weighted = targets if weight is None else targets * weight
    s = weighted.sum(axis=1, dtype=np.float64, keepdims=True)
    if (abs(s - 1) <= n_out * np.finfo(dtype).eps).all():
        return task._replace(Y=weighted)
    divisor = DIVISOR_ROWS if mean else DIVISOR_NOTHING
    return task._replace(Y=_divide(weighted, s), weight=_weights(s[:, 0].astype(dtype)), divisor=divisor)


def _numbers(weight: Tensor, name: str) -> FloatArray:
    numbers: FloatArray = weight.detach().to("cpu", torch.float64).numpy()
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ValueError(f"loss_fn has a {name} below 0 or not finite, which is not supported")
    return numbers


def _weights(weight: FloatArray) -> FloatArray:
    if not weight.any():
        raise ValueError("loss_fn gives every row of Y the weight 0")
    return np.ascontiguousarray(weight)


def _divide(numerator: FloatArray, s: FloatArray) -> FloatArray:
    """Return the quotient in the numerator's dtype; 0 / 0 is 0, as such an example has no weight."""
    quotient: FloatArray = (numerator / np.where(s == 0, 1, s)).astype(numerator.dtype)
    return np.ascontiguousarray(quotient)
