"""The rows that each epoch visits, and in which batches: of arrays as the arguments say, else as a DataLoader draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch.utils.data import BatchSampler

from briskmlp._messages import check_integer
from briskmlp.interop.torch.loader import random_states, restore
from briskmlp.network import MAX_SIZE
from briskmlp.plan import Ints

NO_BATCH = "has no batch; accepted: a batch_size, or a sampler, that leaves one"
# DataLoaders whose workers persist draw one base seed in all, at their first epoch
_seeded: WeakSet[Any] = WeakSet()


class Sampler:
    """The rows that each epoch of a PyTorch loop visits, in an order that is given or drawn, and in which batches."""

    name, least = "X", 1  # least: how many rows a batch must have

    def __init__(
        self,
        n: int,
        order: Sequence[Any] | None = None,
        *,
        batch_size: int | None,
        shuffle: bool,
        generator: torch.Generator | None,
        drop_last: bool,
    ) -> None:
        size = n if batch_size is None else check_integer("batch_size", batch_size, low=1, high=MAX_SIZE)
        if order is not None and shuffle:
            raise ValueError("order is given and shuffle is True; accepted: one of them")
        if generator is not None and not shuffle:
            raise ValueError("generator is given, but shuffle is False: it would not be used")
        self.shuffle, self.generator, self.n = shuffle, generator, n
        self.orders = None if order is None else [_indices(rows, epoch, n) for epoch, rows in enumerate(order)]
        lengths = {n} if self.orders is None else set(map(len, self.orders))
        self.dropped = size if drop_last else 1  # only multiples of it are visited
        if min(lengths, default=1) < self.dropped:
            raise ValueError(f"drop_last leaves no batch of {min(lengths)} rows; accepted: batch_size up to that")
        self.batch_size = min(size, n)
        self.lengths = sorted({length - length % self.dropped for length in lengths})  # of epochs, in rows
        self.sizes = {each for length in lengths for each in batch_sizes(length - length % self.dropped, size)}
        self.built_in = not shuffle and self.orders is None and n % self.dropped == 0  # all rows, as they lie

    def look_ahead(self) -> None:
        """Raise the errors of the next order; there are none."""

    def order(self, epoch: int) -> Ints:
        """Return the rows of an epoch, counted from 0."""
        if self.shuffle:
            rows: Ints = torch.randperm(self.n, generator=self.generator).numpy()
        else:
            rows = np.arange(self.n, dtype=np.int64) if self.orders is None else self.orders[epoch]
        return rows[: len(rows) - len(rows) % self.dropped]


def batch_sizes(n: int, size: int) -> set[int]:
    """Return how many rows the batches of n rows have."""
    return {min(size, n), n % size} - {0}


def _indices(rows: Any, epoch: int, n: int) -> Ints:
    indices = np.asarray(rows)
    if indices.ndim != 1 or not 0 < len(indices) <= n or indices.dtype.kind not in "iu":
        came = f"{indices.dtype} of shape {indices.shape}"
        raise ValueError(f"order[{epoch}] is {came}; accepted: integers, (m,) with m from 1 to {n}")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"order[{epoch}] has {indices.min()} to {indices.max()}; accepted: 0 to {n - 1}")
    return np.require(indices, np.int64, ["C", "A"])


class LoaderSampler:
    """The rows that each epoch over a DataLoader visits: what its batch sampler draws, as PyTorch lets it draw."""

    built_in = False
    least = 1  # how many rows a batch must have

    def __init__(self, loader: Any, n: int, name: str) -> None:
        self.loader, self.n, self.name = loader, n, name
        # a subclass of BatchSampler may make other batches of what its sampler yields
        self.plain = type(loader.batch_sampler) is BatchSampler
        self.batch_size: int = loader.batch_sampler.batch_size if self.plain else 0
        self._next: Ints | None = None

    @property
    def lengths(self) -> list[int]:
        """How many rows an epoch visits, where that can be told before it is drawn."""
        batches = self.loader.batch_sampler
        if not self.plain or not hasattr(batches.sampler, "__len__"):
            return []
        n = len(batches.sampler)
        return [n - n % batches.batch_size if batches.drop_last else n]

    @property
    def sizes(self) -> set[int]:
        """How many rows batches have; where a user's batch sampler decides it, one may have a single row."""
        batches = self.loader.batch_sampler
        if not self.lengths:
            return {1, 2}
        return batch_sizes(self.lengths[0], batches.batch_size) or {batches.batch_size}

    def check_length(self) -> None:
        """Refuse a DataLoader without a batch, where that can be told before one is drawn."""
        if self.plain and len(self.loader.batch_sampler) == 0:
            raise ValueError(f"{self.name} {NO_BATCH}")

    def look_ahead(self) -> None:
        """Draw the next order now; if it is refused, the random states are as before."""
        self._next = None
        with _restored_if_refused(self.loader):
            sizes, rows = self._draw()
            if not self.plain:
                self.batch_size = int(sizes[0])
            self._next = self._check(sizes, rows)

    def order(self, epoch: int) -> Ints:
        """Return the rows of the next epoch."""
        rows, self._next = self._check(*self._draw()) if self._next is None else self._next, None
        _seeded.add(self.loader)
        return rows

    def _draw(self) -> tuple[Ints, Ints]:
        """Return the sizes of an epoch's batches, and their rows, drawn when PyTorch's iterators draw them."""
        loader, batches = self.loader, iter(self.loader.batch_sampler)
        workers = loader.num_workers > 0
        if not (workers and loader.persistent_workers) or (loader._iterator is None and loader not in _seeded):
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)  # the workers' base seed
            batches = iter(loader.batch_sampler) if workers else batches
        if self.plain:
            rows = np.fromiter(map(int, loader.batch_sampler.sampler), np.int64)
            size = loader.batch_sampler.batch_size
            if loader.batch_sampler.drop_last:
                rows = rows[: len(rows) - len(rows) % size]
            sizes = np.diff(np.append(np.arange(0, len(rows), size), len(rows)))
        else:
            drawn = [list(map(int, batch)) for batch in batches]
            sizes = np.array(list(map(len, drawn)), dtype=np.int64)
            rows = np.array([row for batch in drawn for row in batch], dtype=np.int64)
        if len(rows) == 0:
            raise ValueError(f"{self.name} {NO_BATCH}")
        return sizes, rows

    def _check(self, sizes: Ints, rows: Ints) -> Ints:
        full, last = self.batch_size, int(sizes[-1])
        if (sizes[:-1] != full).any() or not 0 < last <= full:
            raise ValueError(
                f"{self.name} has a batch_sampler with batches of {sorted(set(sizes.tolist()))} rows; accepted: all of "
                f"{full} rows, as the first, but for a smaller one at the end"
            )
        if sizes.min() < self.least:
            came = f"{self.name} has a batch of one row"
            raise ValueError(f"{came}, but batch normalisation needs two or more; accepted: drop_last=True")
        if rows.min() < 0 or rows.max() >= self.n:
            came = f"{self.name} has a sampler that yields {rows.min()} to {rows.max()}"
            raise ValueError(f"{came}; accepted: 0 to {self.n - 1}, the items of its dataset")
        return rows


@contextmanager
def _restored_if_refused(loader: Any) -> Iterator[None]:
    """Restore all random states that a DataLoader is known to draw on, if it is refused."""
    owners = [loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    found = [getattr(owner, "generator", None) for owner in owners]
    states = [(generator, generator.get_state()) for generator in found if isinstance(generator, torch.Generator)]
    shared = random_states()
    try:
        yield
    except BaseException:
        restore(shared)
        for generator, state in states:
            generator.set_state(state)
        raise
