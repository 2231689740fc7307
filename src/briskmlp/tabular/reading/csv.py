"""CSV files: a header row, and ``,`` ``;`` or tab between cells; maybe compressed, as ``.csv.gz``."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from briskmlp.tabular.reading.columns import NUMBER, TEXT, Choose, Column, Part, check_distinct

DELIMITERS = (",", ";", "\t")
CHUNK_ROWS = 1000  # rows held as text at a time; the first ones tell numbers from text


def read(path: Path, choose: Choose) -> Part:
    """Read columns; each error names the line on which its row begins."""
    try:
        with _open(path) as file:
            return _read(path, file, choose)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ValueError(f"{path}{_undecodable_line(path)}: {byte} is not UTF-8; accepted: UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from None


def _open(path: Path, **how: Any) -> Any:
    how = how or {"mode": "rt", "newline": "", "encoding": "utf-8-sig"}
    return gzip.open(path, **how) if path.suffix.lower() == ".gz" else path.open(**how)


def _read(path: Path, file: TextIO, choose: Choose) -> Part:
    head = [""]
    while not head[-1].strip() and (line := file.readline()):
        head.append(line)
    delimiter = max(DELIMITERS, key=lambda mark: len(next(csv.reader(head[-1:], delimiter=mark), [])))
    lines = itertools.chain(head[1:], file)
    rows = _rows(path, csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    names = _header(path, *next(rows, (1, [])))
    kinds = choose(names)
    parts: dict[str, list[Column]] = {name: [] for name in kinds}
    begins: list[Column] = []
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        for number, row in chunk:
            if (length := len(row)) != len(names):
                raise ValueError(f"{path}, line {number}: the row's length is {length}, but the header's {len(names)}")
        begins.append(np.array([number for number, _ in chunk], dtype=np.int64))
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
    if not begins:
        raise ValueError(f"{path} has a header, but no rows below it")
    return Part(path, {name: np.concatenate(columns) for name, columns in parts.items()}, np.concatenate(begins))


def _rows(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the number of its first line; a quoted cell may hold several."""
    before = 0
    try:
        for cells in reader:
            if cells not in ([], [""]):
                yield before + 1, cells
            before = reader.line_num
    except csv.Error as error:
        raise ValueError(f"{path}, line {before + 1}: {error}") from None


def _undecodable_line(path: Path) -> str:
    with _open(path, mode="rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number}"
    return ""  # a pipe is empty by now


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    if not any(cell.strip() for cell in cells):
        raise ValueError(f"{path} is empty; accepted: a header row with column names, and rows below it")
    indices = [cell.strip() for cell in cells if cell.strip().isdigit()]
    if all(map(_is_number, cells)) and len(set(indices)) < len(cells):  # 0,1,2 may be names, 0,0,1 are not
        raise ValueError(f"{path}, line {line}: every cell is a number; accepted: a header row with column names")
    names = [cell.strip() or f"column {index}" for index, cell in enumerate(cells)]
    check_distinct(f"{path}, line {line}", names)
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
