"""Tables in CSV and NPZ files.

A table is a dict from column names to columns: float64 ``(n,)`` for numbers, object ``(n,)`` of str for text.
A CSV file has a header row, and ``,`` ``;`` or tab between cells. An NPZ file has an array X of shape (n, …), whose
columns are called ``X[0]``, ``X[1]``, …, and may have a target of shape (n,).
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

NUMBER, TEXT = "number", "text"
DELIMITERS = (",", ";", "\t")
CHUNK_ROWS = 1000  # rows held as text at a time; the first ones tell numbers from text

Column = NDArray[Any]
Table = dict[str, Column]
# From the names of all columns to those wanted, each with the kind it must have, or None for what its cells are.
Choose = Callable[[list[str]], dict[str, str | None]]


def read(path: Path, choose: Choose, target: str | None = None) -> Table:
    """Read some columns of a CSV or NPZ file.

    Parameters
    ----------
    path : Path
        Read as NPZ if its name ends in ``.npz``, else as CSV.
    choose : callable
        Is given the names of all columns and returns those to read, with their kinds.
    target : str, optional
        The array of an NPZ file that is the target, and therefore not X.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        Its content is not a table, or a cell is empty or not of its column's kind: with file, line and column.
    """
    if path.suffix.lower() == ".npz":
        return _read_npz(path, choose, target)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read_csv(path, file, choose)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"{path}{_undecodable_line(path)}: byte 0x{byte:02x} is not UTF-8; accepted: UTF-8 text"
        ) from None


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
        raise ValueError(
            f"{option} is {wanted!r}, but the columns are {listed(names)}, or their index from 0"
        ) from None


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names for a message, the first few of many.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b', … (3 in all)"
    """
    text = ", ".join(map(repr, names[:most]))
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


# CSV


def _read_csv(path: Path, file: TextIO, choose: Choose) -> Table:
    head = [""]
    while not head[-1].strip() and (line := file.readline()):
        head.append(line)
    delimiter = max(DELIMITERS, key=lambda mark: len(next(csv.reader(head[-1:], delimiter=mark), [])))
    lines = itertools.chain(head[1:], file)
    rows = _rows(path, csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    names = _header(path, next(rows, (1, []))[1])
    kinds = choose(names)
    parts: dict[str, list[Column]] = {name: [] for name in kinds}
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        for number, row in chunk:
            if len(row) != len(names):
                raise ValueError(
                    f"{path}, line {number}: the row's length is {len(row)}, but the header's {len(names)}"
                )
        by_name = dict(zip(names, zip(*(row for _, row in chunk), strict=True), strict=True))
        for name, columns in parts.items():
            cells = [cell.strip() for cell in by_name[name]]
            numbers = [_is_number(cell) for cell in cells]
            kind = kinds[name] = kinds[name] or (NUMBER if 2 * sum(numbers) > len(cells) else TEXT)
            fits = numbers if kind == NUMBER else list(map(bool, cells))
            if not all(fits):
                bad = fits.index(False)
                raise ValueError(f"{path}, line {chunk[bad][0]}, column {name!r}: {_complaint(cells[bad])}")
            columns.append(np.array(cells, dtype=np.float64 if kind == NUMBER else object))
    if not all(parts.values()):
        raise ValueError(f"{path} has a header, but no rows below it")
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def _rows(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the number of its (last) line."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
        if cells not in ([], [""]):
            yield reader.line_num, cells


def _undecodable_line(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number}"
    return ""  # a pipe is empty by now


def _header(path: Path, cells: list[str]) -> list[str]:
    if not any(cell.strip() for cell in cells):
        raise ValueError(f"{path} is empty; accepted: a header row with column names, and rows below it")
    if all(map(_is_number, cells)) and not all(cell.strip().isdigit() for cell in cells):
        raise ValueError(f"{path}, line 1: every cell is a number; accepted: a header row with column names")
    names = [cell.strip() or f"column {index}" for index, cell in enumerate(cells)]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{path}, line 1: two columns are called {name!r}; names must differ")
    return names


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _complaint(cell: str) -> str:
    if not cell:
        return "the cell is empty; every cell needs a value"
    comma = "; decimals are written with a point" if _is_number(cell.replace(",", ".")) else ""
    return f"{cell!r} is not a finite number, and this is a column of numbers{comma}"


# NPZ


def _read_npz(path: Path, choose: Choose, target: str | None) -> Table:
    arrays = _load_npz(path)
    feature = _feature_array(path, arrays, target)
    X = arrays[feature]
    if X.dtype.kind not in "buif":
        raise ValueError(f"{path}: array {feature!r} has dtype {X.dtype}; accepted: bool, integers or floats")
    if X.ndim < 1 or 0 in X.shape:
        raise ValueError(f"{path}: array {feature!r} has shape {X.shape}; accepted: (n, …), not empty")
    X = X.reshape(len(X), -1).astype(np.float64, copy=False)
    if not (finite := np.isfinite(X)).all():
        row, column = divmod(int(finite.argmin()), X.shape[1])
        raise ValueError(f"{path}: array {feature!r} has {X[row, column]} at row {row}, column {column}")
    table = {f"X[{j}]": X[:, j] for j in range(X.shape[1])}
    if target in arrays:
        table[target] = _target_array(path, target, arrays[target], len(X))
    try:
        kinds = choose(list(table))
    except ValueError as error:
        raise ValueError(f"{error}; the arrays of {path} are {listed(list(arrays))}") from None
    return {name: _as_kind(path, name, table[name], kind) for name, kind in kinds.items()}


def _load_npz(path: Path) -> dict[str, Column]:
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


def _target_array(path: Path, name: str, y: Column, n: int) -> Column:
    if y.shape not in ((n,), (n, 1)):
        raise ValueError(f"{path}: array {name!r} has shape {y.shape}; accepted: ({n},), one value for each row of X")
    if y.dtype.kind not in "buifSU":
        raise ValueError(f"{path}: array {name!r} has dtype {y.dtype}; accepted: numbers, bool or strings")
    y = y.reshape(n)
    if y.dtype.kind == "f" and not (finite := np.isfinite(y)).all():
        row = int(finite.argmin())
        raise ValueError(f"{path}: array {name!r} has {y[row]} at row {row}; values must be finite")
    return y


def _as_kind(path: Path, name: str, column: Column, kind: str | None) -> Column:
    if (kind or (NUMBER if column.dtype.kind in "uif" else TEXT)) == TEXT:
        return np.array([_text(value) for value in column.tolist()], dtype=object)
    if column.dtype.kind not in "buif":
        raise ValueError(f"{path}: array {name!r} has dtype {column.dtype}; accepted: numbers")
    return column.astype(np.float64, copy=False)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
