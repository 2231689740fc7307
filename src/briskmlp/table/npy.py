"""NPY files: the rows of one array, (n,) or (n, …), which may be larger than memory: they are read when needed.

The columns are called ``X[0]``, ``X[1]``, …, in C order of what follows the first axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from briskmlp.arrays import CHUNK_BYTES
from briskmlp.inputs import Inputs
from briskmlp.table.columns import Column, target_array

HELD_BYTES = 256 * 2**20  # what becomes no larger than this is converted once, not whenever a batch needs it

Floats = NDArray[np.float64]
Rows = NDArray[np.int64] | slice


class Moments(NamedTuple):
    """What some rows tell of each column; all (columns,)."""

    low: Floats
    high: Floats
    mean: Floats
    std: Floats


class Mapped:
    """The array of an NPY file.

    Attributes
    ----------
    n, width : int
        Rows, and columns when flattened.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no NPY file of numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._array = open_array(path)
        shape = self._array.shape
        if self._array.dtype.kind not in "buif":
            raise ValueError(f"{path} has dtype {self._array.dtype}; accepted: bool, integers or floats")
        self.n, self.width = shape[0], math.prod(shape[1:])

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [f"X[{j}]" for j in range(self.width)]

    def take(self, rows: Rows, columns: NDArray[np.int64]) -> Floats:
        """Return some rows (k, columns) as float64."""
        values = np.asarray(self._array[rows])
        values = values.reshape(len(values), self.width)
        whole = len(columns) == self.width and (columns == np.arange(self.width)).all()
        return np.array(values if whole else values[:, columns], dtype=np.float64)

    def column(self, j: int) -> Column:
        """Return one column (n,), of the file's dtype but in the machine's byte order."""
        flat = [np.asarray(self._array[rows]).reshape(-1, self.width)[:, j] for rows in self._chunks()]
        column = np.concatenate(flat)
        return target_array(self.path, f"X[{j}]", column.astype(column.dtype.newbyteorder("=")), self.n)

    def moments(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Moments:
        """Return the moments of some rows, read once; Chan, Golub and LeVeque 1979 merge those of chunks."""
        low, high = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
        n, mean, squares = 0, np.zeros(len(columns)), np.zeros(len(columns))
        with np.errstate(over="ignore", invalid="ignore"):
            for chunk in self._chunks(len(rows)):
                values = self.take(rows[chunk], columns)
                self.check_finite(values, np.isfinite(values), rows[chunk], columns)
                low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
                new, step = len(values), values.mean(axis=0) - mean
                mean = mean + step * (new / (n + new))
                values -= values.mean(axis=0)
                squares += (values**2).sum(axis=0) + step**2 * (n * new / (n + new))
                n += new
            return Moments(low, high, mean, np.sqrt(squares / n))

    def check_finite(self, values: Floats, good: Any, rows: Any, columns: NDArray[np.int64]) -> None:
        """Name the first of some values (k, columns) that is not good."""
        if good.all():
            return
        row, j = divmod(int(good.argmin()), len(columns))
        value = values[row, j]
        why = "too far from the training rows' mean" if np.isfinite(value) else "not finite"
        raise ValueError(f"{self.path}, row {rows[row]} (from 0), column 'X[{columns[j]}]': {value:g} is {why}")

    def _chunks(self, n: int | None = None) -> Iterator[slice]:
        step = max(1, CHUNK_BYTES // (8 * self.width))
        return (slice(start, start + step) for start in range(0, self.n if n is None else n, step))


class MappedInputs(Inputs):
    """Standardised rows of a file: ``(x - mean) / scale`` of some columns, as a Trainer takes them."""

    __slots__ = ("_columns", "_mapped", "_mean", "_rows", "_scale")

    def __init__(
        self,
        mapped: Mapped,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        mean: Floats,
        scale: Floats,
        dtype: np.dtype[Any],
    ) -> None:
        super().__init__(rows, len(columns), dtype, None)
        self._mapped, self._rows, self._columns, self._mean, self._scale = mapped, rows, columns, mean, scale
        if len(rows) * len(columns) * dtype.itemsize <= HELD_BYTES:
            self.array = self.take(slice(None))

    def take(self, rows: Rows) -> NDArray[Any]:
        """Return the rows of an index vector or a slice, (len(rows), n_in), of the dtype of the network."""
        if self.array is not None:
            return super().take(rows)
        wanted = self._rows[rows]
        out = np.empty((len(wanted), len(self._columns)), self._dtype)
        step = max(1, 2**20 // (8 * len(self._columns)))  # what a core's cache holds
        for start in range(0, len(wanted), step):
            part = wanted[start : start + step]
            values = self._mapped.take(part, self._columns)
            with np.errstate(over="ignore", invalid="ignore"):
                out[start : start + step] = (values - self._mean) / self._scale
            self._mapped.check_finite(values, np.isfinite(out[start : start + step]), part, self._columns)
        return out


def open_array(path: Path) -> NDArray[Any]:
    """Return the array of an NPY file as a memory map: numbers or text, one dimension or more, not empty."""
    accepted = "accepted: one array as numpy.save writes it, not empty, without objects"
    with path.open("rb"):  # a folder, or a file that is not there, is an OSError with its name
        pass
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # damaged headers raise almost anything
        raise ValueError(f"{path} cannot be mapped as an NPY file: {error}; {accepted}") from None
    if array.ndim < 1 or 0 in array.shape:
        raise ValueError(f"{path} has shape {array.shape}; {accepted}")
    return array
