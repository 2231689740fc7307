"""NPY files: the rows of arrays (n,) or (n, …), which may be larger than memory and are read when needed; and NPZ.

The columns are called ``X[0]``, ``X[1]``, …, in C order of what follows the first axis. An NPZ file is read whole: an
array X of shape (n, …), and a target (n,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from briskmlp.data.arrays import Dtype, chunks, refuse
from briskmlp.data.inputs import Inputs
from briskmlp.tabular.reading.columns import Choose, Column, Part, as_kind, listed, target_array

HELD_BYTES = 256 * 2**20  # what becomes no larger than this is converted once, not whenever a batch needs it

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
Rows = Index | slice


class Moments(NamedTuple):
    """Statistics of each column over some rows; all (columns,)."""

    low: Floats
    high: Floats
    mean: Floats
    std: Floats


class Mapped:
    """The arrays of NPY files, one after the other: n rows in all, of ``width`` columns when flattened."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self._arrays = [open_array(path) for path in paths]
        self._found = [path.stat() for path in paths]
        first = self._arrays[0].shape
        self.width = math.prod(first[1:])
        self.names = [f"X[{j}]" for j in range(self.width)]
        for path, array in zip(paths, self._arrays, strict=True):
            if array.dtype.kind not in "buif":
                raise ValueError(f"{path} has dtype {array.dtype}; accepted: bool, integers or floats")
            if math.prod(array.shape[1:]) != self.width:
                rule = "files given together must have the same number of columns"
                raise ValueError(f"{path} has shape {array.shape}, but {paths[0]} has {first}; {rule}")
        self._starts = np.cumsum([0, *map(len, self._arrays)], dtype=np.int64)  # the first row of each file, and n
        self.n = int(self._starts[-1])

    def place(self, row: int) -> str:
        """Return where a row is, for a message: its file, and its row there."""
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self.paths[file]}, row {row - self._starts[file]} (from 0)"

    def take(self, rows: Index, columns: Index) -> Floats:
        """Return some rows (k, columns) as float64."""
        chosen = slice(None) if np.array_equal(columns, np.arange(self.width)) else columns
        if len(self._arrays) == 1:
            return np.array(self._read(0, rows)[:, chosen], dtype=np.float64)
        out = np.empty((len(rows), len(columns)))
        order = np.argsort(rows)  # so that the rows of a file lie side by side, as they do in the file
        parts = np.split(order, np.searchsorted(rows[order], self._starts[1:-1]))
        for file, (start, part) in enumerate(zip(self._starts[:-1], parts, strict=True)):
            if len(part):
                out[part] = self._read(file, rows[part] - start)[:, chosen]
        return out

    def column(self, j: int) -> Column:
        """Return one column (n,), of the files' dtype but in the machine's byte order."""
        columns = []
        for file, (path, array) in enumerate(zip(self.paths, self._arrays, strict=True)):
            column = np.concatenate([self._read(file, rows)[:, j] for rows in chunks(len(array), self.width)])
            native = column.astype(column.dtype.newbyteorder("="))
            columns.append(target_array(path, f"X[{j}]", native, len(array)))
        return np.concatenate(columns)

    def moments(self, rows: Index, columns: Index) -> Moments:
        """Return the moments of some rows, read once; Chan, Golub and LeVeque 1979 merge those of chunks."""
        low, high = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
        n, mean, squares = 0, np.zeros(len(columns)), np.zeros(len(columns))
        with np.errstate(over="ignore", invalid="ignore"):
            for chunk in chunks(len(rows), self.width):
                # Columns, each in one piece of memory: their sums are pairwise, whatever the layout of the files.
                values = np.asfortranarray(self.take(rows[chunk], columns))
                self.check_finite(values, np.isfinite(values), rows[chunk], columns)
                low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
                new, step = len(values), values.mean(axis=0) - mean
                mean = mean + step * (new / (n + new))
                values -= values.mean(axis=0)
                squares += (values**2).sum(axis=0) + step**2 * (n * new / (n + new))
                n += new
            return Moments(low, high, mean, np.sqrt(squares / n))

    def check_finite(self, values: Floats, good: Any, rows: Any, columns: Index) -> None:
        """Name the first of some values (k, columns) that is not good."""
        if not good.all():
            row, j = divmod(int(good.argmin()), len(columns))
            value = values[row, j]
            why = "too far from the training rows' mean" if np.isfinite(value) else "not finite"
            raise ValueError(f"{self.place(rows[row])}, column 'X[{columns[j]}]': {value:g} is {why}")

    def _read(self, file: int, rows: Rows) -> NDArray[Any]:
        """Read rows, after a check that the file has not been cut: reading past its end would be a SIGBUS."""
        path, found = self.paths[file], self._found[file]
        with suppress(FileNotFoundError):  # one that was removed, or replaced by another, stays readable
            now = path.stat()
            if now.st_ino == found.st_ino and now.st_size < found.st_size:
                raise ValueError(f"{path} had {found.st_size} bytes and now has {now.st_size}: it was cut while in use")
        values = np.asarray(self._arrays[file][rows])
        return values.reshape(len(values), self.width)


class MappedInputs(Inputs):
    """Standardised rows of files: ``(x - mean) / scale`` of some columns, as a Trainer takes them."""

    __slots__ = ("_columns", "_mapped", "_mean", "_rows", "_scale")

    def __init__(self, mapped: Mapped, rows: Index, columns: Index, mean: Floats, scale: Floats, dtype: Dtype) -> None:
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
    if path.exists() and not (path.is_file() or path.is_dir()):  # would block, or lose what is read of it
        raise ValueError(f"{path} is a pipe or device, which cannot be mapped; accepted: an NPY file on a disk")
    with path.open("rb"):  # a folder, or a file that may not be read, is an OSError with its name
        pass
    try:
        with np.errstate(over="ignore"):  # of a size that is refused
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:  # such as too many open files, which comes without a name
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    except Exception as error:  # damaged headers raise almost anything
        raise ValueError(f"{path} cannot be mapped as an NPY file: {error}; {accepted}") from None
    if array.ndim < 1 or 0 in array.shape:
        raise ValueError(f"{path} has shape {array.shape}; {accepted}")
    return array


def read_npz(path: Path, choose: Choose, target: str | None) -> Part:
    """Read columns of X of an NPZ file, and its array ``target``."""
    arrays = _load(path)
    feature = _feature_array(path, arrays, target)
    X = arrays[feature]
    if X.dtype.kind not in "buif":
        raise ValueError(f"{path}: array {feature!r} has dtype {X.dtype}; accepted: bool, integers or floats")
    if X.ndim < 1 or 0 in X.shape:
        raise ValueError(f"{path}: array {feature!r} has shape {X.shape}; accepted: (n, …), not empty")
    X = X.reshape(len(X), -1).astype(np.float64, copy=False)
    refuse(~np.isfinite(X), X, f"{path}: array {feature!r} has", "values must be finite")
    table = {f"X[{j}]": X[:, j] for j in range(X.shape[1])}
    if target in arrays:
        table[target] = target_array(path, target, arrays[target], len(X))
    try:
        kinds = choose(list(table))
    except ValueError as error:
        raise ValueError(f"{error}; the arrays of {path} are {listed(list(arrays))}") from None
    return Part(path, {name: as_kind(path, name, table[name], kind) for name, kind in kinds.items()})


def _load(path: Path) -> dict[str, Column]:
    wanted = "accepted: an NPZ file as numpy.savez writes it"
    arrays = {}
    with path.open("rb") as file:  # given the path, np.load leaves damaged files open
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception:  # damaged archives raise almost anything
            raise ValueError(f"{path} is not an NPZ file; {wanted}") from None
        if not hasattr(archive, "files"):
            raise ValueError(f"{path} is a single array (NPY); {wanted}")
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except Exception as error:
                raise ValueError(f"{path}: array {name!r} cannot be read: {error}; {wanted}, without objects") from None
    return arrays


def _feature_array(path: Path, arrays: Mapping[str, Column], target: str | None) -> str:
    if "X" in arrays and target != "X":
        return "X"
    others = [name for name, array in arrays.items() if name != target and array.ndim >= 2]
    if len(others) == 1:
        return others[0]
    shapes = ", ".join(f"{name!r} {array.shape}" for name, array in arrays.items()) or "none"
    raise ValueError(f"{path} has the arrays {shapes}; accepted: one called 'X', or just one of 2 or more dimensions")
