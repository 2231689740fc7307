"""Shared by the readers of all formats: the kinds of columns, their names, and the rows of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from briskmlp.data.arrays import refuse

NUMBER, TEXT = "number", "text"

Column = NDArray[Any]
Table = dict[str, Column]
# From the names of all columns to those wanted, each with the kind it must have, or None for what its cells are.
Choose = Callable[[list[str]], dict[str, str | None]]


class Part(NamedTuple):
    """The columns read from one file."""

    path: Path
    columns: Table
    lines: NDArray[np.int64] | None = None  # where each row of a CSV file begins, from 1

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def place(self, row: int) -> str:
        """Return where a row is, for a message."""
        return f"{self.path}, row {row} (from 0)" if self.lines is None else f"{self.path}, line {self.lines[row]}"


def find_column(names: Sequence[str], wanted: str, option: str) -> str:
    """Return the column that a name, or an index from 0 (or from -1 backwards), stands for.

    Examples
    --------
    >>> find_column(["height", "width"], "-1", "--target")
    'width'
    """
    if wanted in names:
        return wanted
    try:
        return names[int(wanted)]
    except (ValueError, IndexError):
        accepted = f"the columns are {listed(names)}, or their index from 0"
        raise ValueError(f"{option} is {wanted!r}, but {accepted}") from None


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names for a message, the first few of many.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b', … (3 in all)"
    """
    text = ", ".join(map(repr, names[:most]))
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


def check_distinct(where: object, names: Sequence[str]) -> None:
    """Refuse columns of the same name."""
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{where}: two columns are called {repeated[0]!r}; names must differ")


def as_kind(path: Path, name: str, column: Column, kind: str | None) -> Column:
    """Return an array (n,) as a column of this kind; by default numbers are numbers, and bool and text are text."""
    if (kind or (NUMBER if column.dtype.kind in "uif" else TEXT)) == TEXT:
        return as_text(column.tolist())
    if column.dtype.kind not in "buif":
        raise ValueError(f"{path}: array {name!r} has dtype {column.dtype}; accepted: numbers")
    return column.astype(np.float64, copy=False)


def as_text(values: Sequence[Any]) -> Column:
    """Return values as an object array of str; whole floats look like integers.

    Examples
    --------
    >>> as_text([2.0, 0.5, True, b"a"]).tolist()
    ['2', '0.5', 'True', 'a']
    """
    return np.array([_text(value) for value in values], dtype=object)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def target_array(path: Path, name: str, y: Column, n: int) -> Column:
    """Check an array that is the target, and return it as (n,)."""
    if y.shape not in ((n,), (n, 1)):
        raise ValueError(f"{path}: array {name!r} has shape {y.shape}; accepted: ({n},), one value for each row of X")
    if y.dtype.kind not in "buifSU":
        raise ValueError(f"{path}: array {name!r} has dtype {y.dtype}; accepted: numbers, bool or strings")
    y = y.reshape(n)
    if y.dtype.kind == "f":
        refuse(~np.isfinite(y), y, f"{path}: array {name!r} has", "values must be finite")
    return y
