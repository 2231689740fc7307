"""Checked examples: what is trained on, and what a loss is taken over."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np

from briskmlp.data.arrays import Dtype
from briskmlp.data.inputs import Inputs, check_inputs, check_targets, check_weight
from briskmlp.losses import target_rules
from briskmlp.network import FloatArray, Network


class Data(NamedTuple):
    """Checked examples."""

    inputs: Inputs
    Y: Any  # (n, n_out) of the dtype, or int64 labels (n,)
    weight: FloatArray | None

    @property
    def total_weight(self) -> float:
        """Σ weight, or the number of examples."""
        return float(self.inputs.n if self.weight is None else self.weight.sum(dtype=np.float64))

    def checksum(self) -> int:
        """Return a checksum over the shapes and up to 64 of the rows."""
        n = self.inputs.n
        rows = np.unique(np.linspace(0, n - 1, min(n, 64)).astype(np.int64))
        checksum = zlib.crc32(repr((n, self.Y.shape, self.weight is None)).encode())
        for part in (self.inputs.take(rows), self.Y[rows], None if self.weight is None else self.weight[rows]):
            checksum = checksum if part is None else zlib.crc32(part.tobytes(), checksum)
        return checksum


def check_data(task: tuple[Network, str, Dtype], X: Any, Y: Any, sample_weight: Any = None, prefix: str = "") -> Data:
    """Return a user's arrays as what a task (network, loss and dtype) takes, or raise one clear error.

    Messages have the prefix before the names of the arrays.
    """
    network, loss, dtype = task
    n_labels, domain = target_rules(loss, network)
    inputs = check_inputs(X, network.n_in, dtype, name=f"{prefix}X")
    targets = check_targets(Y, inputs.n, network.n_out, n_labels, dtype, name=f"{prefix}Y", domain=domain)
    return Data(inputs, targets, check_weight(sample_weight, inputs.n, dtype, f"{prefix}sample_weight"))


def check_batches(network: Network, n: int, batch_size: int | None, name: str = "X") -> None:
    """Raise an error if batch normalisation would meet a batch of one row among the n of each epoch.

    It names the nearest batch size that leaves none.

    Examples
    --------
    >>> check_batches(Network([2, 3, 1], norm="batch"), 33, 32)
    Traceback (most recent call last):
    ...
    ValueError: X has 33 rows and batch_size is 32, which leaves a batch of one row, but batch normalisation needs two \
or more; accepted: batch_size=31
    """
    if not network.has_batch_norm:
        return
    if n == 1:
        raise ValueError(f"{name} has 1 row, but batch normalisation needs batches of two or more; accepted: more rows")
    size = min(batch_size or n, n)
    if size > 1 and n % size != 1:
        return
    sizes = (size + sign * distance for distance in range(n) for sign in (-1, 1))
    works = next(other for other in sizes if 2 <= other <= n and n % other != 1)
    raise ValueError(
        f"{name} has {n} rows and batch_size is {batch_size}, which leaves a batch of one row, but batch normalisation "
        f"needs two or more; accepted: batch_size={works}"
    )


def check_validation(validation_data: Any) -> tuple[Any, Any, Any]:
    """Return ``validation_data`` as (X, Y, sample_weight)."""
    sequence = isinstance(validation_data, (tuple, list))
    if not sequence or len(validation_data) not in (2, 3):
        came = type(validation_data).__name__ + (f" of {len(validation_data)}" if sequence else "")
        raise TypeError(f"validation_data must be (X, Y) or (X, Y, sample_weight), got a {came}")
    X, Y, weight = (*validation_data, None)[:3]
    return X, Y, weight
