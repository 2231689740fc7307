"""Lowering of PyTorch's losses to a Plan.

A kernel multiplies a batch's gradient Σ w·∂E by ``loss_scale`` and divides it as the plan's ``divisor`` says. PyTorch's
elementwise "mean" also divides by n_out; its "sum" divides by nothing; and class weights count in the divisor of labels
alone, not of probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from briskmlp.convert.torch.modules import check_no_hooks
from briskmlp.convert.torch.read import Dense
from briskmlp.data.inputs import check_targets
from briskmlp.interop.torch.shapes import check_classes, check_shape
from briskmlp.losses import OUTPUTS
from briskmlp.network import FloatArray
from briskmlp.plan import DIVISOR_NOTHING, DIVISOR_ROWS, DIVISOR_WEIGHT, HUBER_THRESHOLD, Ints

NAMES: dict[type[nn.Module], str] = {
    nn.MSELoss: "mse",
    nn.L1Loss: "absolute_error",
    nn.HuberLoss: "huber",
    nn.SmoothL1Loss: "huber",
    nn.BCELoss: "cross_entropy",
    nn.BCEWithLogitsLoss: "cross_entropy",
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "cross_entropy",
    nn.PoissonNLLLoss: "poisson",
}
FUNCTIONS: dict[Callable[..., Any], type[nn.Module]] = {
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.huber_loss: nn.HuberLoss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss,
}
# these apply the output's activation themselves, of NLLLoss the logarithm of it is the module's last layer
OF_LOGITS: dict[type[nn.Module], str] = {
    nn.BCEWithLogitsLoss: "sigmoid",
    nn.CrossEntropyLoss: "softmax",
    nn.NLLLoss: "softmax",
    nn.PoissonNLLLoss: "exp",
}
# what modules may end in, where the table of losses does not say it
ENDS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.BCELoss: ("sigmoid",),
    nn.BCEWithLogitsLoss: ("identity",),
    nn.CrossEntropyLoss: ("identity", "log_softmax"),  # log_softmax of log_softmax is the same again
    nn.NLLLoss: ("log_softmax",),
    nn.PoissonNLLLoss: ("identity",),
}


class Task(NamedTuple):
    """A loss and its targets, as kernels read them."""

    loss: str
    output: str  # activation of the network, also where PyTorch applies it in the loss
    Y: Any  # (n, n_out) of the dtype, or int64 labels (n,)
    weight: FloatArray | None = None  # (n,)
    scale: float = 1.0
    threshold: float = HUBER_THRESHOLD
    divisor: int = DIVISOR_WEIGHT
    constants: FloatArray | None = None  # (n,) what PyTorch's loss of each row has besides, which moves no weight

    def constant(self, order: Ints | None, batch_size: int) -> float:
        """Return what PyTorch's mean of the batches' losses by their rows has besides, of rows in this order."""
        if self.constants is None:
            return 0.0
        each = self.constants if self.weight is None else self.constants * self.weight
        each = each if order is None else each[order]
        if self.divisor != DIVISOR_NOTHING:
            return float(each.mean())
        starts = np.arange(0, len(each), batch_size)
        sizes = np.diff(np.append(starts, len(each)))
        return float(np.add.reduceat(each, starts) @ sizes / len(each))


def as_module(loss_fn: Any) -> Any:
    """Return a loss as a module, also where it is one of ``torch.nn.functional``, or a ``partial`` of one with options.

    Examples
    --------
    >>> as_module(F.mse_loss), as_module(partial(F.cross_entropy, label_smoothing=0.1)).label_smoothing
    (MSELoss(), 0.1)
    """
    function, options = loss_fn, {}
    if isinstance(loss_fn, partial) and not loss_fn.args:
        function, options = loss_fn.func, loss_fn.keywords
    known = not isinstance(function, nn.Module) and callable(function) and function in FUNCTIONS
    return FUNCTIONS[function](**options) if known else loss_fn


def lower(loss_fn: nn.Module, dense: Dense, Y: Any, n: int, shape: tuple[int, ...]) -> Task:
    """Lower ``loss_fn`` with the ``n`` rows Y, where the outputs of a row have this shape.

    Raise an error that names what the kernels do not support.
    """
    kind, output = type(loss_fn), dense.output
    if kind not in NAMES:
        accepted = ", ".join(loss.__name__ for loss in NAMES)
        raise TypeError(f"loss_fn is {loss_fn!r}, which is not supported; accepted: {accepted}")
    check_no_hooks(loss_fn, "loss_fn")
    if loss_fn.reduction not in ("mean", "sum"):
        raise ValueError(f"loss_fn has reduction={loss_fn.reduction!r}; accepted: 'mean', 'sum'")
    outputs = ENDS.get(kind, OUTPUTS[NAMES[kind]])
    if output.partition("(")[0] not in outputs:
        last = "a Linear, as its outputs are logits" if "identity" in outputs[:1] else ", ".join(outputs)
        came = f"loss_fn is {kind.__name__}, but the module ends in {output}"
        raise ValueError(f"{came}; accepted: one that ends in {last}")
    n_out, task = dense.network.n_out, Task(NAMES[kind], OF_LOGITS.get(kind, output), Y)
    if OF_LOGITS.get(kind) == "softmax":
        check_classes(loss_fn, Y, n, shape)
        task = _classes(loss_fn, task, n, n_out, dense.dtype)
    else:
        check_shape(Y, n, shape)
        task = _elementwise(loss_fn, task, n, n_out, dense.dtype)
    return task if loss_fn.reduction == "mean" else task._replace(divisor=DIVISOR_NOTHING)


def _elementwise(loss_fn: nn.Module, task: Task, n: int, n_out: int, dtype: np.dtype[Any]) -> Task:
    domain = {"cross_entropy": "each", "poisson": "counts"}.get(task.loss)
    Y = check_targets(task.Y, n, n_out, None, dtype, domain=domain)
    weights, positive = np.unique(_numbers(loss_fn, "weight")), _numbers(loss_fn, "pos_weight")
    if len(weights) != 1:
        raise ValueError("loss_fn has a weight that differs between outputs, which is not supported")
    scale = float(weights[0]) / (n_out if loss_fn.reduction == "mean" else 1)
    if task.loss == "poisson":
        return _poisson(loss_fn, task._replace(Y=Y, scale=scale))
    threshold = float(getattr(loss_fn, "delta", HUBER_THRESHOLD))
    if isinstance(loss_fn, nn.SmoothL1Loss):  # HuberLoss over its threshold
        threshold = float(loss_fn.beta)
        if not 0 <= threshold < np.inf:
            raise ValueError(f"loss_fn has beta={loss_fn.beta}; accepted: a finite number >= 0")
        task = task._replace(loss=task.loss if threshold else "absolute_error")
        scale /= threshold or 1.0
    task = task._replace(Y=Y, scale=scale, threshold=threshold or HUBER_THRESHOLD)
    if (positive == 1).all():
        return task
    if n_out != 1 or positive.size != 1:
        raise ValueError(f"loss_fn has a pos_weight, which is not supported with {n_out} outputs; accepted: with 1")
    # With s = p Y + 1 - Y, the loss of weight p is s times that without it, of targets p Y / s.
    p = float(positive.ravel()[0])
    s = p * Y + (1 - Y)
    return task._replace(Y=_divide(p * Y, s), weight=_weights(s[:, 0]), divisor=DIVISOR_ROWS)


def _poisson(loss_fn: nn.Module, task: Task) -> Task:
    """Return the task of PoissonNLLLoss, A - Y log A: half the deviance is Y log Y - Y more."""
    for option, value in (("log_input", True), ("full", False)):
        if getattr(loss_fn, option) is not value:
            raise ValueError(f"loss_fn has {option}={getattr(loss_fn, option)}, which is not supported")
    Y = task.Y.astype(np.float64)
    return task._replace(constants=task.scale * (Y - Y * np.log(np.where(Y == 0, 1, Y))).sum(axis=1))


def _classes(loss_fn: Any, task: Task, n: int, n_out: int, dtype: np.dtype[Any]) -> Task:
    targets = check_targets(task.Y, n, n_out, n_out, dtype, domain="each")
    if targets.ndim == 1 and loss_fn.ignore_index in targets:
        raise ValueError(f"Y has rows of ignore_index={loss_fn.ignore_index}, which is not supported; leave them out")
    weight: Any = None if loss_fn.weight is None else _numbers(loss_fn, "weight").astype(dtype)
    smoothing = float(getattr(loss_fn, "label_smoothing", 0.0))
    if smoothing and targets.ndim == 1:
        if weight is not None and loss_fn.reduction == "mean":  # which is over the weights of the labels alone
            raise ValueError(f"loss_fn has label_smoothing={smoothing} and weight; accepted: one, or reduction='sum'")
        targets = np.eye(n_out, dtype=dtype)[targets]
    if smoothing:
        targets = targets * dtype.type(1 - smoothing) + dtype.type(smoothing / n_out)
    if targets.ndim == 1:
        return task._replace(Y=targets, weight=None if weight is None else _weights(weight[targets]))
    # -Σ w Y log A is s times the same without w, of Y' = w Y / s, whose rows sum to 1 as the kernels' formula needs.
    weighted = targets if weight is None else targets * weight
    s = weighted.sum(axis=1, dtype=np.float64, keepdims=True)
    if (abs(s - 1) <= n_out * np.finfo(dtype).eps).all():
        return task._replace(Y=weighted)
    return task._replace(Y=_divide(weighted, s), weight=_weights(s[:, 0].astype(dtype)), divisor=DIVISOR_ROWS)


def _numbers(loss_fn: nn.Module, name: str) -> FloatArray:
    """Return one of the loss's weights, by default a single 1."""
    if (weight := getattr(loss_fn, name, None)) is None:
        return np.ones(1)
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
