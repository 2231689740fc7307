"""What the user gives to train on, read for a module and a loss, and only once if it stays the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from briskmlp.convert.torch.read import Dense
from briskmlp.data import arrays
from briskmlp.data.examples import Data
from briskmlp.data.inputs import check_inputs, check_weight
from briskmlp.interop.torch import loader as loaders
from briskmlp.interop.torch import loss
from briskmlp.interop.torch.checks import check_readable
from briskmlp.interop.torch.shapes import output_shape
from briskmlp.interop.torch.validation import Evaluation, Examples, examples
from briskmlp.network import FloatArray
from briskmlp.plan import DIVISOR_ROWS, DIVISOR_WEIGHT


class Given(NamedTuple):
    """What the user gives to train on."""

    X: Any
    Y: Any = None
    sample_weight: Any = None
    orders: Sequence[Any] | None = None  # one for each epoch


class Stacked(NamedTuple):
    """X and Y as they are given, or stacked from a DataLoader."""

    X: Any
    Y: Any
    n: int
    row: tuple[int, ...]  # the shape of a row of X


class Read(NamedTuple):
    """Data that have been read."""

    stacked: Stacked
    held: list[Any] | None  # while these objects, and these numbers, are the same, they need not be read again
    data: Data
    task: loss.Task
    scored: Examples | None  # what the module is evaluated on after each epoch


def stack(given: Given, of_arrays: dict[str, Any]) -> Stacked:
    """Return X and Y, of a DataLoader's items if one is given; then options that are for arrays alone are refused."""
    X, Y = given.X, given.Y
    if loaders.is_loader(X):
        for name, value in {"Y": Y, "order": given.orders, **of_arrays}.items():
            if value is not None and value is not False:
                raise ValueError(f"{name} is given beside a DataLoader, which has its own; accepted: one of them")
        X, Y = loaders.read(X, "X")
    elif Y is None:
        raise ValueError(f"Y is missing, and X is a {type(X).__name__}; accepted: X and Y, or a DataLoader")
    check_readable(X, "X")
    check_readable(Y, "Y")
    n, *row = getattr(X, "shape", ()) or arrays.read(X, "X").shape
    return Stacked(X, Y, n, tuple(row))


def read(
    given: Given, stacked: Stacked, loss_fn: nn.Module, dense: Dense, evaluation: Evaluation, sizes: set[int]
) -> Read:
    """Check what is given, of which batches have these sizes, and return it as kernels take it."""
    X, Y, _, row = stacked
    inputs = check_inputs(X, dense.network.n_in, dense.dtype)
    task = loss.lower(loss_fn, dense, Y, inputs.n, output_shape(dense, row, sizes, loss_fn))
    check_readable(given.sample_weight, "sample_weight")
    task = _weighed(task, check_weight(given.sample_weight, inputs.n, dense.dtype))
    scored = evaluation.validation
    if evaluation.metrics and scored is None:
        scored = examples(X, Y, loss_fn, dense, "metrics", {inputs.n})
        evaluation.check(scored)
    return Read(stacked, _held(given), Data(inputs, task.Y, task.weight), task, scored)


def _weighed(task: loss.Task, weight: FloatArray | None) -> loss.Task:
    """Return a task whose rows have these weights besides: its mean is divided by the number of rows."""
    if weight is None:
        return task
    if task.divisor == DIVISOR_WEIGHT and task.weight is not None:
        raise ValueError(
            "sample_weight is given, but loss_fn has class weights, by whose sum its mean is divided; accepted: a "
            "loss_fn without weight, and sample_weight times weight[Y]"
        )
    divisor = DIVISOR_ROWS if task.divisor == DIVISOR_WEIGHT else task.divisor
    return task._replace(weight=weight if task.weight is None else task.weight * weight, divisor=divisor)


# --- what stays the same ---------------------------------------------------------------------------------------------


def same(given: Given, before: Read | None) -> bool:
    """Return whether what is given has been read before, and PyTorch has not changed it since."""
    held = _held(given)
    if before is None or before.held is None or held is None or len(held) != len(before.held):
        return False
    return all(new is old or (isinstance(new, int) and new == old) for new, old in zip(held, before.held, strict=True))


def _held(given: Given) -> list[Any] | None:
    """Return tensors with their versions, and DataLoaders; None if there are others, which may change unseen."""
    held: list[Any] = []
    for value in (given.X, given.Y, given.sample_weight):
        if isinstance(value, DataLoader):
            held += [value, value.dataset, value.collate_fn]
            for tensor in _tensors(value.dataset):
                held += [tensor, tensor._version]
        elif isinstance(value, Tensor):
            held += [value, value._version]
        elif value is None:
            held.append(None)
        else:
            return None
    return held


def _tensors(dataset: Any) -> Iterator[Tensor]:
    """Yield the tensors that a dataset is known to be of."""
    if isinstance(dataset, TensorDataset):
        yield from dataset.tensors
    elif isinstance(dataset, Subset):
        yield from _tensors(dataset.dataset)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _tensors(part)
