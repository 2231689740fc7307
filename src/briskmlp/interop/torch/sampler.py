"""The sampler: which rows each epoch of a PyTorch loop visits, in which order, in which batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from briskmlp.plan import Ints


class Sampler:
    """The rows of each epoch, in an order that is given or drawn."""

    def __init__(
        self, order: Any, shuffle: bool, generator: torch.Generator | None, n: int, batch_size: int, drop_last: bool
    ) -> None:
        if order is not None and shuffle:
            raise ValueError("order is given and shuffle is True; accepted: one of them")
        if generator is not None and not shuffle:
            raise ValueError("generator is given, but shuffle is False: it would not be used")
        self.shuffle, self.generator, self.n = shuffle, generator, n
        self.orders = None if order is None else [_indices(rows, epoch, n) for epoch, rows in enumerate(order)]
        lengths = {n} if self.orders is None else set(map(len, self.orders))
        self.dropped = batch_size if drop_last else 1  # only multiples of it are visited
        if min(lengths, default=1) < self.dropped:
            raise ValueError(f"drop_last leaves no batch of {min(lengths)} rows; accepted: batch_size up to that")
        self.batch_size = min(batch_size, n)
        self.built_in = not shuffle and self.orders is None and n % self.dropped == 0  # all rows, as they lie

    def check(self, epochs: int) -> None:
        """Raise an error if ``order`` has another number of epochs."""
        if self.orders is not None and len(self.orders) != epochs:
            raise ValueError(f"order has {len(self.orders)} epochs, but epochs is {epochs}")

    def order(self, epoch: int) -> Ints:
        """Return the rows of an epoch."""
        if self.shuffle:
            rows: Ints = torch.randperm(self.n, generator=self.generator).numpy()
        elif self.orders is not None:
            rows = self.orders[epoch]
        else:
            rows = np.arange(self.n, dtype=np.int64)
        return rows[: len(rows) - len(rows) % self.dropped]


def _indices(rows: Any, epoch: int, n: int) -> Ints:
    indices = np.asarray(rows)
    if indices.ndim != 1 or not 0 < len(indices) <= n or indices.dtype.kind not in "iu":
        came = f"{indices.dtype} of shape {indices.shape}"
        raise ValueError(f"order[{epoch}] is {came}; accepted: integers, (m,) with m from 1 to {n}")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"order[{epoch}] has {indices.min()} to {indices.max()}; accepted: 0 to {n - 1}")
    return np.require(indices, np.int64, ["C", "A"])
