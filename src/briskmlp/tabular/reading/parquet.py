"""Parquet files, through pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from briskmlp.tabular.reading.columns import NUMBER, TEXT, Choose, Column, Part, as_text, check_distinct

BATCH_ROWS = 2**16  # rows converted at a time
PANDAS_INDEX = "__index_level_"  # what pandas calls the column of an index without a name: it is no data


def read(path: Path, choose: Choose) -> Part:
    """Read columns: integers, floats and decimals are numbers; bool, text and categories of text are text."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError("reading Parquet needs pyarrow: pip install 'briskmlp[table]'") from None
    with path.open("rb") as file:  # an OSError of pyarrow's would not name the file
        try:
            return _read(path, pyarrow.parquet.ParquetFile(file, page_checksum_verification=True), choose)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a whole Parquet file: {error}") from None


def _read(path: Path, parquet: Any, choose: Choose) -> Part:
    schema = parquet.schema_arrow
    names = [name for name in schema.names if not name.startswith(PANDAS_INDEX)]
    check_distinct(path, names)
    if not names:
        raise ValueError(f"{path} has no columns")
    kinds = {name: _kind(path, schema.field(name), kind) for name, kind in choose(names).items()}
    parts: dict[str, list[Column]] = {name: [] for name in kinds}
    row = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=list(kinds)):
        for name, kind in kinds.items():
            parts[name].append(_values(path, name, batch.column(name), kind, row))
        row += len(batch)
    if not row:
        raise ValueError(f"{path} has columns, but no rows")
    return Part(path, {name: np.concatenate(columns) for name, columns in parts.items()})


def _kind(path: Path, field: Any, wanted: str | None) -> str:
    """Return the kind of a column, which must be the one that is wanted, or can become it."""
    from pyarrow import types

    values = field.type.value_type if types.is_dictionary(field.type) else field.type
    number = types.is_integer(values) or types.is_floating(values) or types.is_decimal(values)
    text = types.is_string(values) or types.is_large_string(values) or types.is_string_view(values)
    if not (number or text or types.is_boolean(values)) or (text and wanted == NUMBER):
        accepted = "numbers or bool" if wanted == NUMBER else "numbers, bool or text"
        raise ValueError(f"{path}, column {field.name!r} has type {field.type}; accepted: {accepted}")
    return wanted or (NUMBER if number else TEXT)


def _values(path: Path, name: str, column: Any, kind: str, first: int) -> Column:
    """Return the values of one batch, whose first row is this one."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        bad, came = int(column.is_null().to_numpy(zero_copy_only=False).argmax()), "null"
    elif kind == TEXT and not types.is_floating(column.type):
        return as_text(column.to_pylist())
    else:
        values = column.cast("float64") if types.is_decimal(column.type) else column
        numbers: Column = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        if (finite := np.isfinite(numbers)).all():
            return numbers if kind == NUMBER else as_text(column.to_pylist())
        bad, came = int(finite.argmin()), str(numbers[finite.argmin()])
    wanted = "a finite number" if kind == NUMBER else "a value"
    raise ValueError(f"{path}, row {first + bad} (from 0), column {name!r} is {came}; every row needs {wanted}")
