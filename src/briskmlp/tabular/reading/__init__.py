"""Tables in CSV, NPZ and Parquet files, and the rows of NPY files.

A table is a dict from column names to columns: float64 ``(n,)`` for numbers, object ``(n,)`` of str for text.
The name of a file tells its format: ``.npz``, ``.parquet`` or ``.pq``, ``.npy``; all others are CSV.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from briskmlp.tabular.reading import csv, npy, parquet
from briskmlp.tabular.reading.columns import NUMBER, TEXT, Choose, Column, Part, Table, find_column, listed

__all__ = ["NUMBER", "TEXT", "Column", "Part", "Table", "check_given_once", "find_column", "listed", "read", "read_all"]


def read(path: Path, choose: Choose, target: str | None = None) -> Part:
    """Read those columns of a CSV, NPZ or Parquet file that ``choose`` returns, given the names of all.

    ``target`` is the array of an NPZ file that is the target, and therefore not X. An OSError says that the file cannot
    be read; a ValueError that it is no table, or at which line or row and column a cell is empty or not of its kind.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return npy.read_npz(path, choose, target)
    if suffix in (".parquet", ".pq"):
        return parquet.read(path, choose)
    return csv.read(path, choose)


def read_all(paths: Sequence[Path], choose: Choose, target: str | None = None, *, same: bool = False) -> list[Part]:
    """Read several files as `read` does; the first decides which columns are numbers.

    With ``same`` every file must have the columns of the first, in any order, and no others.
    """
    parts: list[Part] = []
    first: list[str] = []
    kinds: dict[str, str] = {}

    def chosen(names: list[str]) -> dict[str, str | None]:
        path = paths[len(parts)]
        first[:] = first or names
        if same and set(names) != set(first):
            raise ValueError(_difference(path, names, paths[0], first))
        try:
            wanted = choose(names)
        except ValueError as error:
            raise ValueError(f"{path}: {error}" if len(paths) > 1 else str(error)) from None
        return {name: kinds.get(name, kind) for name, kind in wanted.items()}

    for path in paths:
        parts.append(read(path, chosen, target))
        kinds |= {name: TEXT if column.dtype == object else NUMBER for name, column in parts[-1].columns.items()}
    return parts


def check_given_once(paths: Sequence[Path]) -> None:
    """Refuse a file that is given twice, by whatever names."""
    real = [os.path.realpath(path) for path in paths]
    for position, path in enumerate(paths):
        first = real.index(real[position])
        if first < position:
            also = "" if paths[first] == path else f", also as {paths[first]}"
            raise ValueError(f"{path} is given twice{also}: rows to score on would be among those trained on")


def _difference(path: Path, names: Sequence[str], first: Path, wanted: Sequence[str]) -> str:
    missing = [name for name in wanted if name not in names]
    more = [name for name in names if name not in wanted]
    missed = f"has no column {listed(missing)}, which {first} has" if missing else ""
    found = f"has a column {listed(more)}, which {first} has not" if more else ""
    return f"{path} {', and '.join(filter(None, (missed, found)))}; files given together must have the same columns"
