"""Checked examples: what is trained on, and what a loss is taken over."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np

from briskmlp.data.inputs import Inputs
from briskmlp.network import FloatArray


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
