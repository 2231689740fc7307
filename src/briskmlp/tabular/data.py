"""The rows that a command is given: a table in memory, or NPY files that stay on the disk."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp.tabular import reading as table
from briskmlp.tabular.preparation import Preparation
from briskmlp.tabular.reading import Column, Part
from briskmlp.tabular.reading.columns import as_kind, target_array
from briskmlp.tabular.reading.npy import Mapped, Rows, open_array


class TableData:
    """The rows of CSV, NPZ or Parquet files, one file after the other, and for training their target."""

    def __init__(self, parts: Sequence[Part], target: str) -> None:
        self._columns = parts[0].columns
        if len(parts) > 1:
            self._columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in self._columns}
        self._parts = [part._replace(columns={}) for part in parts]  # the rows are held once
        self._starts = np.cumsum([0, *(part.n for part in parts)])  # the first row of each file, and n
        self.n, self.target = int(self._starts[-1]), target
        self.y = self._columns.get(target, np.empty(0))

    def fit(self, rows: NDArray[np.int64]) -> Preparation:
        """Learn from some rows how the columns become numbers."""
        return Preparation.fit(self._columns, self.target, rows)

    def inputs(self, preparation: Preparation, dtype: str) -> Callable[[Rows], Any]:
        """Convert all rows, and return the function from rows to their X."""
        return preparation.inputs(self._columns, dtype, self.place).__getitem__

    def place(self, row: int) -> str:
        """Return the file and line of a row, for a message."""
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[file].place(row - int(self._starts[file]))


class MappedData:
    """The rows of NPY files, one file after the other, and for training their target."""

    def __init__(self, mapped: Mapped, features: Sequence[str], target: str, y: Column) -> None:
        self._mapped, self.n, self.target, self.y = mapped, mapped.n, target, y
        self._features = np.flatnonzero(np.isin(mapped.names, features))
        self.place = mapped.place

    def fit(self, rows: NDArray[np.int64]) -> Preparation:
        """Learn from some rows how the columns become numbers."""
        return Preparation.fit_mapped(self._mapped, self._features, self.target, self.y, rows)

    def inputs(self, preparation: Preparation, dtype: str) -> Callable[[Rows], Any]:
        """Return the function from rows to their X, which is read when a batch needs it."""
        return lambda rows: preparation.mapped_inputs(self._mapped, np.arange(self.n)[rows], dtype)


Data = TableData | MappedData


def read_training(args: Namespace) -> Data:
    """Read the columns to learn from, and the target."""
    table.check_given_once(args.data)
    if _is_npy(args.data):
        return _read_npy(args)
    if args.target is None and any(path.suffix.lower() != ".npz" for path in args.data):
        raise ValueError("--target is missing: the name or index of the column to predict")
    wanted = args.target or "y"
    parts = table.read_all(args.data, lambda names: _choose(names, wanted, args), wanted, same=True)
    return TableData(parts, list(parts[0].columns)[-1])


def read_prediction(paths: Sequence[Path], preparation: Preparation) -> Data:
    """Read the columns that a model needs."""
    if not _is_npy(paths):
        return TableData(table.read_all(paths, preparation.choose, preparation.target.name), "")
    mapped = Mapped(*paths)
    kinds = preparation.choose(mapped.names)
    _refuse_text(paths[0], kinds)
    return MappedData(mapped, list(kinds), "", np.empty(0))


def _is_npy(paths: Sequence[Path]) -> bool:
    npy = [path for path in paths if path.suffix.lower() == ".npy"]
    if npy and (others := [path for path in paths if path not in npy]):
        raise ValueError(f"{npy[0]} is an NPY file and {others[0]} is not; accepted: only NPY files, or none")
    return bool(npy)


def _read_npy(args: Namespace) -> Data:
    """Read the target, which is in one file of its own or a column, by default the last."""
    path, wanted = args.data[0], args.target or "-1"
    if os.path.realpath(wanted) in map(os.path.realpath, args.data):
        raise ValueError(f"--target is {wanted!r}, which is also learned from; accepted: another file, or a column")
    mapped = Mapped(*args.data)
    if wanted.lower().endswith(".npy"):
        file = Path(wanted)
        if file.stem in mapped.names:
            raise ValueError(f"{file}: a target is called like its file, but {file.stem!r} is a column of {path}")
        target, y = file.stem, target_array(file, file.stem, np.asarray(open_array(file)), mapped.n)
        kinds = _choose([*mapped.names, target], "-1", args)
    else:
        kinds = _choose(mapped.names, wanted, args)
        file, target = path, list(kinds)[-1]
        y = mapped.column(mapped.names.index(target))
    y = as_kind(file, target, y, kinds.pop(target))
    _refuse_text(path, kinds)
    return MappedData(mapped, list(kinds), target, y)


def _refuse_text(path: Path, kinds: dict[str, str | None]) -> None:
    if text := [name for name, kind in kinds.items() if kind == table.TEXT]:
        accepted = "numbers, as NPY files are not held in memory"
        raise ValueError(f"{path}: {table.listed(text)} as text; accepted: {accepted}")


def _choose(names: list[str], wanted: str, args: Namespace) -> dict[str, str | None]:
    """Return the columns to read for training, the target last."""
    target = table.find_column(names, wanted, "--target")
    ignored = {table.find_column(names, name, "--ignore") for name in args.ignore}
    text = {table.find_column(names, name, "--text") for name in args.text}
    kinds = {name: table.TEXT if name in text else None for name in names}
    features = {name: kind for name, kind in kinds.items() if name not in ignored | {target}}
    if not features:
        raise ValueError(f"{args.data[0]} has no column to learn from besides the target {target!r}")
    task_kinds = {"classification": table.TEXT, "regression": table.NUMBER}
    return {**features, target: task_kinds.get(args.task, kinds[target])}
