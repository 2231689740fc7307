"""Tables in CSV and NPZ files, and how their columns become the numbers that a network reads.

A table is a dict from column names to columns: float64 ``(n,)`` for numbers, object ``(n,)`` of str for text.
A CSV file has a header row, and ``,`` ``;`` or tab between cells. An NPZ file has an array X of shape (n, …), whose
columns are called ``X[0]``, ``X[1]``, …, and may have a target of shape (n,).
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

NUMBER, TEXT = "number", "text"
DELIMITERS = (",", ";", "\t")
MAX_CATEGORIES = 100  # of a text column; more are names or identifiers, from which nothing general is learnt
MAX_CLASSES = 1000
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
        _check_widths(path, chunk, len(names))
        by_name = dict(zip(names, zip(*(cells for _, cells in chunk), strict=True), strict=True))
        for name, columns in parts.items():
            cells = [cell.strip() for cell in by_name[name]]
            kind = kinds[name] = kinds[name] or _guess_kind(cells)
            if (bad := _first_bad(cells, kind)) is not None:
                raise ValueError(f"{path}, line {chunk[bad][0]}, column {name!r}: {_complaint(cells[bad])}")
            columns.append(np.array(cells, dtype=object) if kind == TEXT else np.array(cells, dtype=np.float64))
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


def _check_widths(path: Path, chunk: list[tuple[int, list[str]]], width: int) -> None:
    for line, cells in chunk:
        if len(cells) != width:
            raise ValueError(f"{path}, line {line}: {_cells(len(cells))}, but the header has {_cells(width)}")


def _cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _guess_kind(cells: list[str]) -> str:
    return NUMBER if 2 * sum(map(_is_number, cells)) > len(cells) else TEXT


def _first_bad(cells: list[str], kind: str) -> int | None:
    fits = bool if kind == TEXT else _is_number
    return next((row for row, cell in enumerate(cells) if not fits(cell)), None)


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
    X = X.reshape(len(X), -1)
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
    raise ValueError(
        f"{path} has the arrays {shapes}; accepted: one called 'X', or a single one of 2 dimensions or more"
    )


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
    numeric = column.dtype.kind in ("uif" if name[:2] != "X[" else "buif")
    if (kind or (NUMBER if numeric else TEXT)) == TEXT:
        return np.array([_text(value) for value in column.tolist()], dtype=object)
    if column.dtype.kind not in "buif":
        raise ValueError(f"{path}: array {name!r} has dtype {column.dtype}; accepted: numbers")
    return column.astype(np.float64)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# Preparation: standardised numbers, one-hot text


@dataclass(frozen=True)
class Feature:
    """How one column is turned into numbers: what training rows have taught about it.

    Parameters
    ----------
    name : str
    mean, scale : float
        A number x becomes ``(x - mean) / scale``.
    categories : tuple of str, optional
        Given for a text column: it becomes one column of 0 and 1 for each; an unknown text becomes zeros.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    categories: tuple[str, ...] | None = None

    @classmethod
    def fit(cls, name: str, column: Column, most: int = MAX_CATEGORIES) -> Feature:
        """Learn the mean and standard deviation, or the categories, of a column of training rows.

        Raises
        ------
        ValueError
            There are more than ``most`` categories, or the numbers are too large to be squared.
        """
        if column.dtype == object:
            categories = sorted(set(column.tolist()))
            if len(categories) > most:
                raise ValueError(
                    f"column {name!r} has too many different texts: {listed(categories, 3)}; accepted: at most {most}"
                )
            return cls(name, categories=tuple(categories))
        if column.min() == column.max():
            return cls(name, mean=float(column[0]))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = float(column.mean()), float(column.std())
        if not (math.isfinite(mean) and math.isfinite(scale)):
            raise ValueError(f"column {name!r} has numbers up to {abs(column).max():g}, too large to standardise")
        return cls(name, mean, scale or 1.0)

    @property
    def kind(self) -> str:
        """``"number"`` or ``"text"``."""
        return NUMBER if self.categories is None else TEXT

    @property
    def width(self) -> int:
        """How many columns of numbers this column becomes."""
        return 1 if self.categories is None else len(self.categories)

    def encode(self, column: Column, out: NDArray[Any]) -> None:
        """Write the numbers of a column to ``out``, shape (n, width)."""
        if self.categories is not None:
            out[:] = column[:, None] == np.array(self.categories, dtype=object)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            out[:, 0] = (column - self.mean) / self.scale
        if not (finite := np.isfinite(out[:, 0])).all():
            row = int(finite.argmin())
            raise ValueError(
                f"column {self.name!r}, row {row}: {column[row]:g} is too far from the training rows' mean"
            )


@dataclass(frozen=True)
class Preparation:
    """How a table becomes X and Y: stored with a model, so that new rows are treated as the training rows were."""

    features: tuple[Feature, ...]
    target: Feature

    @classmethod
    def fit(cls, table: Table, target: str, rows: NDArray[np.int64]) -> Preparation:
        """Learn from the training rows alone; only the classes are those of all rows."""
        features = tuple(Feature.fit(name, column[rows]) for name, column in table.items() if name != target)
        classes = table[target].dtype == object
        return cls(features, Feature.fit(target, table[target] if classes else table[target][rows], MAX_CLASSES))

    @property
    def n_in(self) -> int:
        """Columns of X."""
        return sum(feature.width for feature in self.features)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes, or None for regression."""
        return self.target.categories

    @property
    def n_out(self) -> int:
        """Columns of what the network predicts."""
        return self.target.width

    def choose(self, names: list[str]) -> dict[str, str | None]:
        """Return the columns to read from a table with these names, for `read`."""
        missing = [feature.name for feature in self.features if feature.name not in names]
        if missing:
            raise ValueError(f"the model needs the columns {listed(missing)}, but the file has {listed(names)}")
        return {feature.name: feature.kind for feature in self.features}

    def inputs(self, table: Table, dtype: str) -> NDArray[Any]:
        """Return X, shape (n, n_in), of this dtype."""
        n = len(table[self.features[0].name])
        X = np.empty((n, self.n_in), dtype=dtype)
        start = 0
        for feature in self.features:
            feature.encode(table[feature.name], X[:, start : start + feature.width])
            start += feature.width
        return X

    def targets(self, table: Table) -> NDArray[Any]:
        """Return Y: labels (n,) of int64, or standardised numbers (n, 1) of float64."""
        column = table[self.target.name]
        if self.classes is not None:
            index = {name: label for label, name in enumerate(self.classes)}
            return np.array([index[name] for name in column.tolist()], dtype=np.int64)
        Y = np.empty((len(column), 1))
        self.target.encode(column, Y)
        return Y

    def original_units(self, Y: NDArray[Any]) -> NDArray[np.float64]:
        """Return predictions (n, 1) of a standardised target as (n,) in the target's own units.

        In float64, because a float32 holds few digits of a small difference from a large mean; without the digits
        that a float32 prediction cannot tell.
        """
        values = Y[:, 0].astype(np.float64) * self.target.scale + self.target.mean
        if Y.dtype != np.float32:
            return values
        return values.round(min(8 - math.floor(math.log10(self.target.scale)), 300))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Preparation:
        """Undo `to_json`.

        Raises
        ------
        ValueError
            This is not what `to_json` returns.
        """
        try:
            features = tuple(map(_feature, data["features"]))
            if not features:
                raise ValueError("there are no columns")
            return cls(features, _feature(data["target"]))
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"the model's preparation of columns is damaged: {error!r}") from None


def _feature(data: Any) -> Feature:
    name, categories = str(data["name"]), data["categories"]
    if categories is not None:
        return Feature(name, categories=tuple(map(str, categories)))
    mean, scale = float(data["mean"]), float(data["scale"])
    if not (math.isfinite(mean) and 0 < scale < math.inf):
        raise ValueError(f"column {name!r} has mean {mean} and scale {scale}")
    return Feature(name, mean, scale)
