"""Reading a DataLoader: its data, stacked once, and what it does that cannot be done beforehand, refused by name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from briskmlp._messages import describe_bytes

ASKED_TWICE = 64  # so many items of a dataset, to find out whether they are the same each time
CHUNK = 1024  # items that are stacked at once
INSTEAD = "train such data by PyTorch's own loop"


def is_loader(X: Any) -> bool:
    """Return whether this is a DataLoader; refuse a dataset, which has no batches."""
    if isinstance(X, Dataset):
        raise TypeError(f"X is a {type(X).__name__}; accepted: tensors, arrays, or a DataLoader over it")
    return isinstance(X, DataLoader)


def check_loader(loader: Any, name: str) -> None:
    """Refuse a DataLoader whose items cannot be asked for by number, or that does not draw batches of them."""
    if type(loader).__iter__ is not DataLoader.__iter__ or type(loader)._get_iterator is not DataLoader._get_iterator:
        raise TypeError(f"{name} is a {type(loader).__name__}, which iterates in its own way; accepted: a DataLoader")
    if isinstance(loader.dataset, IterableDataset):
        kind = type(loader.dataset).__name__
        raise TypeError(f"{name} is over an IterableDataset, {kind}; accepted: a Dataset with a length; {INSTEAD}")
    if loader.batch_sampler is None:
        raise ValueError(f"{name} has batch_size=None; accepted: one that stacks items to batches")
    if not hasattr(loader.dataset, "__len__"):
        raise TypeError(f"{name} is over a {type(loader.dataset).__name__} without a length, which is not supported")


def read(loader: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return all items of a DataLoader's dataset, stacked as X and Y.

    Each item is asked for once, and some twice, with all global random states restored afterwards. The tensors of a
    TensorDataset, and of subsets of it, are taken as they are.

    Raises
    ------
    TypeError, ValueError
        The items are no pairs of tensors, arrays or numbers, differ in shape or dtype, change from one time to the
        next, or do not fit in memory; or a ``collate_fn`` does not stack them.
    """
    check_loader(loader, name)
    with kept_random_states():
        X, Y = _stacked(loader.dataset, name)
        if loader.collate_fn is not default_collate:
            _check_collate(loader, name)
    return X, Y


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore the global random states of PyTorch, NumPy and Python afterwards."""
    states = random_states()
    try:
        yield
    finally:
        restore(states)


def random_states() -> tuple[Any, ...]:
    """Return the global random states of PyTorch, NumPy and Python."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - users' datasets draw on it


def restore(states: tuple[Any, ...]) -> None:
    """Go back to what ``random_states`` returned."""
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


# --- items -----------------------------------------------------------------------------------------------------------


def _stacked(dataset: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return X and Y of a dataset."""
    if type(dataset) is TensorDataset:
        if len(dataset.tensors) != 2:
            raise ValueError(f"{name} has items of {len(dataset.tensors)} parts; accepted: of two, X and Y")
        return dataset.tensors
    if type(dataset) is Subset and _is_of_tensors(dataset.dataset):
        X, Y = _stacked(dataset.dataset, name)
        rows = torch.as_tensor(dataset.indices, dtype=torch.int64)
        _check_memory(len(rows) * (_row_bytes(X) + _row_bytes(Y)), name)
        return X[rows], Y[rows]
    if type(dataset) is ConcatDataset:
        parts = [_stacked(part, name) for part in dataset.datasets]
        kinds = {(X.dtype, X.shape[1:], Y.dtype, Y.shape[1:]) for X, Y in parts}
        if len(kinds) > 1:
            raise ValueError(f"{name} is over datasets of different dtypes or shapes: {sorted(map(str, kinds))}")
        _check_memory(sum(len(X) * (_row_bytes(X) + _row_bytes(Y)) for X, Y in parts), name)
        return torch.cat([X for X, _ in parts]), torch.cat([Y for _, Y in parts])
    return _asked(dataset, name)


def _is_of_tensors(dataset: Any) -> bool:
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return type(dataset) is TensorDataset


def _asked(dataset: Any, name: str) -> tuple[Tensor, Tensor]:
    """Ask a dataset for each of its items once, and for some twice."""
    n = len(dataset)
    if n == 0:
        raise ValueError(f"{name} is over a dataset without items")
    first = _chunk(dataset, range(1), name)
    _check_memory(n * sum(map(_row_bytes, first)), name)
    stacked = [torch.empty((n, *part.shape[1:]), dtype=part.dtype) for part in first]
    for part, whole in zip(first, stacked, strict=True):
        whole[:1] = part
    for start in range(1, n, CHUNK):
        rows = range(start, min(start + CHUNK, n))
        for part, whole, of in zip(_chunk(dataset, rows, name), stacked, "XY", strict=True):
            if (part.dtype, part.shape[1:]) != (whole.dtype, whole.shape[1:]):
                came = f"{part.dtype} of shape {tuple(part.shape[1:])} among items {rows[0]} to {rows[-1]}"
                raise ValueError(f"{name} has {of} of {whole.dtype}, {tuple(whole.shape[1:])}, but {came}")
            whole[rows.start : rows.stop] = part
    for row in np.unique(np.linspace(0, n - 1, min(n, ASKED_TWICE)).astype(int)).tolist():
        for part, whole in zip(_chunk(dataset, range(row, row + 1), name), stacked, strict=True):
            if part.shape[1:] != whole.shape[1:] or not torch.allclose(part[0], whole[row], 0.0, 0.0, equal_nan=True):
                raise ValueError(f"{name} has items that change, such as by random augmentation: item {row}; {INSTEAD}")
    return stacked[0], stacked[1]


def _chunk(dataset: Any, rows: range, name: str) -> list[Tensor]:
    """Return some items, stacked as PyTorch stacks a batch."""
    items = _items(dataset, rows)
    for row, item in zip(rows, items, strict=True):
        _check_item(item, f"{name}'s item {row}")
    try:
        stacked: list[Tensor] = list(default_collate([tuple(item) for item in items]))
    except RuntimeError as error:
        raise ValueError(f"{name} has items that cannot be stacked: {error}") from None
    return stacked


def _items(dataset: Any, rows: range) -> list[Any]:
    several = getattr(dataset, "__getitems__", None)  # PyTorch asks so, where a dataset has it
    return list(several(list(rows))) if several else [dataset[row] for row in rows]


def _check_item(item: Any, name: str) -> None:
    if not isinstance(item, (tuple, list)):
        raise TypeError(f"{name} is a {type(item).__name__}; accepted: pairs (x, y) of tensors, arrays or numbers")
    if len(item) != 2:
        raise ValueError(f"{name} has {len(item)} parts; accepted: two, x and y")
    for part, of in zip(item, "xy", strict=True):
        if isinstance(part, Tensor) and part.device.type != "cpu":
            raise ValueError(f"{name} has {of} on {part.device}; accepted: CPU tensors")
        if isinstance(part, (np.ndarray, np.generic)) and part.dtype.kind not in "biuf":
            raise TypeError(f"{name} has {of} of dtype {part.dtype}; accepted: numbers")
        if not isinstance(part, (Tensor, np.ndarray, np.generic, bool, int, float)):
            raise TypeError(f"{name} has a {type(part).__name__} for {of}; accepted: a tensor, an array or a number")


def _check_collate(loader: Any, name: str) -> None:
    """Refuse a ``collate_fn`` that makes anything else of a batch than its items, stacked."""
    size = getattr(loader.batch_sampler, "batch_size", None) or 2
    items = _items(loader.dataset, range(min(size, len(loader.dataset))))
    expected, found = default_collate([tuple(item) for item in items]), loader.collate_fn(items)
    same = isinstance(found, (tuple, list)) and len(found) == 2
    for part, stacked in zip(found, expected, strict=True) if same else ():
        same &= isinstance(part, Tensor) and part.dtype == stacked.dtype and part.shape == stacked.shape
        same = same and torch.allclose(part, stacked, 0.0, 0.0, equal_nan=True)
    if not same:
        raise ValueError(
            f"{name} has a collate_fn that does not stack the items of its first batch; accepted: torch.stack of x and "
            "of y; do what it does in the Dataset"
        )


# --- memory ----------------------------------------------------------------------------------------------------------


def _row_bytes(stacked: Tensor) -> int:
    return stacked[:1].numel() * stacked.element_size()


def _check_memory(needed: int, name: str) -> None:
    free = free_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"{name} has data of {describe_bytes(needed)}, but {describe_bytes(free)} of memory are free; accepted: X "
            "and Y as NumPy memory maps, such as of np.load(…, mmap_mode='r')"
        )


def free_memory() -> int | None:
    """Return how many bytes are free, of the machine and of the process's control group; None if that is not told.

    Examples
    --------
    >>> free = free_memory()
    >>> free is None or free > 2**20
    True
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        found += [max(0, int(limit) - int(used))] if limit.strip().isdigit() else []
    except (OSError, ValueError):
        pass
    return min(found, default=None)
