"""What is known of a module after an epoch: the loss on validation data, and metrics, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from briskmlp.convert.torch.read import Dense
from briskmlp.data.inputs import check_inputs
from briskmlp.interop.torch import loader as loaders
from briskmlp.interop.torch import loss
from briskmlp.interop.torch.checks import check_readable
from briskmlp.interop.torch.sampler import LoaderSampler
from briskmlp.interop.torch.shapes import output_shape
from briskmlp.metrics import METRICS
from briskmlp.metrics import check_metrics as check_names

Metric = str | Callable[[Tensor, Tensor], Any]
TAKEN = ("epoch", "loss", "learning_rate", "time")  # names in the record


class Examples(NamedTuple):
    """Rows that a module is evaluated on."""

    X: Tensor
    Y: Tensor
    sampler: LoaderSampler | None  # None: all rows are one batch

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches, as PyTorch's loop over them would see them."""
        if self.sampler is None:
            yield self.X, self.Y
            return
        self.sampler.look_ahead()
        order = torch.from_numpy(self.sampler.order(0))
        for start in range(0, len(order), self.sampler.batch_size):
            rows = order[start : start + self.sampler.batch_size]
            yield self.X[rows], self.Y[rows]


def check_validation(validation_data: Any, loss_fn: nn.Module, dense: Dense) -> Examples:
    """Return validation data, (X, Y) or a DataLoader, as tensors that the module and the loss take."""
    name = "validation_data"
    if isinstance(validation_data, torch.utils.data.DataLoader):
        X, Y = loaders.read(validation_data, name)
        sampler = LoaderSampler(validation_data, len(X), name)
        sampler.check_length()
        return examples(X, Y, loss_fn, dense, name, sampler.sizes)._replace(sampler=sampler)
    pair = isinstance(validation_data, (tuple, list))
    if not pair or len(validation_data) != 2:
        came = type(validation_data).__name__ + (f" of {len(validation_data)}" if pair else "")
        raise TypeError(f"{name} is a {came}; accepted: (X, Y) or a DataLoader")
    X, Y = validation_data
    return examples(X, Y, loss_fn, dense, name, None)


def examples(X: Any, Y: Any, loss_fn: nn.Module, dense: Dense, name: str, sizes: set[int] | None) -> Examples:
    """Return X and Y as tensors of the module's dtype, labels as integers; refuse what training would refuse.

    ``sizes`` are those of batches; None is one batch.
    """
    try:
        check_readable(X, "X")
        check_readable(Y, "Y")
        inputs = check_inputs(X, dense.network.n_in, dense.dtype)
        shape = output_shape(dense, tuple(np.shape(X)[1:]), sizes or {inputs.n}, loss_fn)
        loss.lower(loss_fn, dense, Y, inputs.n, shape)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    labels = isinstance(loss_fn, (nn.CrossEntropyLoss, nn.NLLLoss)) and np.ndim(Y) == 1
    dtype = torch.int64 if labels else dense.present[0][1].dtype
    return Examples(_tensor(X, dense.present[0][1].dtype), _tensor(Y, dtype), None)


def _tensor(array: Any, dtype: torch.dtype) -> Tensor:
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
    return tensor.detach().to(dtype)


def check_metrics(metrics: Metric | Sequence[Metric]) -> dict[str, Metric]:
    """Return metrics by the names under which they are recorded.

    Examples
    --------
    >>> sorted(check_metrics(["accuracy", nn.functional.l1_loss]))
    ['accuracy', 'l1_loss']
    """
    several = [metrics] if isinstance(metrics, str) or callable(metrics) else metrics
    if not hasattr(several, "__iter__"):
        raise TypeError(f"metrics must be names or functions such as ['accuracy'], got {metrics!r}")
    found: dict[str, Metric] = {}
    for metric in several:
        name = getattr(metric, "__name__", type(metric).__name__) if callable(metric) else metric
        if not callable(metric):
            check_names(name)
        if name in found or name in TAKEN:
            raise ValueError(f"metrics has {name!r}, which is there already; accepted: each name once")
        found[name] = metric
    return found


class Evaluation:
    """The module's loss on validation data after each epoch, and metrics on these, or else on what is trained on."""

    def __init__(
        self, module: nn.Module, loss_fn: nn.Module, validation: Examples | None, metrics: dict[str, Metric]
    ) -> None:
        self.module, self.loss_fn, self.validation, self.metrics = module, loss_fn, validation, metrics
        if validation is not None:
            self.check(validation)

    def check(self, scored: Examples) -> None:
        """Refuse a metric that these data have no targets for."""
        for metric in self.metrics.values():
            if isinstance(metric, str):
                check_names(metric, labels=not scored.Y.is_floating_point())

    def record(self, scored: Examples) -> dict[str, list[float]]:
        """Return the values of one epoch, on validation data or on what is trained on."""
        prefix = "" if self.validation is None else "val_"
        outputs, targets, total, n = [], [], 0.0, 0
        with torch.no_grad(), evaluating(self.module):
            for X, Y in scored.batches():
                A = self.module(X)
                if self.validation is not None:
                    total, n = total + float(self.loss_fn(A, Y)) * len(X), n + len(X)
                outputs.append(A)
                targets.append(Y)
            values = {} if self.validation is None else {"val_loss": [total / n]}
            A, Y = torch.cat(outputs), torch.cat(targets)
            return values | {prefix + name: [self._value(metric, A, Y)] for name, metric in self.metrics.items()}

    def _value(self, metric: Metric, A: Tensor, Y: Tensor) -> float:
        if callable(metric):
            return float(metric(A, Y))
        activated = A.sigmoid() if isinstance(self.loss_fn, nn.BCEWithLogitsLoss) else A
        if isinstance(self.loss_fn, nn.CrossEntropyLoss):
            activated = A.softmax(dim=1)
        if A.ndim == 1:  # one output for each row
            activated, Y = activated[:, None], Y[:, None]
        return METRICS[metric](activated.numpy(), Y.numpy(), None)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and each of its submodules back in its own."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode
