"""Reading Parquet files, as pyarrow, pandas and polars write them."""

import datetime as dt
import decimal
import sys

import numpy as np
import pytest

from briskmlp.tabular import reading as table
from briskmlp.tabular.reading import NUMBER, TEXT, parquet

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")
pl = pytest.importorskip("polars", reason="polars is not installed")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.parquet"


def write(path, columns, **options):
    pa.parquet.write_table(pa.table(columns), path, **options)


def read(path, **kinds):
    """Read the columns of these kinds, or all."""
    return table.read(path, lambda names: kinds or dict.fromkeys(names)).columns


@pytest.fixture(autouse=True)
def _parquet():
    import pyarrow.parquet  # noqa: F401 - which pyarrow alone does not import


ROWS = {"size": [1.5, -2.0, 0.25], "count": [1, 2, 3], "kind": ["a", "b", "a"], "flag": [True, False, True]}
READ = {**ROWS, "count": [1.0, 2.0, 3.0], "flag": ["True", "False", "True"]}


@pytest.mark.parametrize("compression", ["NONE", "snappy", "zstd"])
def test_pyarrow(path, compression):
    write(path, ROWS, compression=compression)
    columns = read(path)
    assert {name: column.tolist() for name, column in columns.items()} == READ
    assert [column.dtype for column in columns.values()] == [np.float64, np.float64, object, object]


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ".PARQUET"])
def test_pandas_without_its_index(tmp_path, suffix):
    frame = pd.DataFrame(ROWS).astype({"kind": "category"})
    frame.sample(frac=1, random_state=0).sort_values("count").to_parquet(tmp_path / f"data{suffix}")
    assert {name: column.tolist() for name, column in read(tmp_path / f"data{suffix}").items()} == READ


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["b", "a"])], ids=str)
def test_polars(path, kind):
    pl.DataFrame(ROWS).with_columns(pl.col("kind").cast(kind)).write_parquet(path)
    assert {name: column.tolist() for name, column in read(path).items()} == READ


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "int32", "uint64", "float16", "float32", "float64", "decimal"]
)
def test_numbers_of_every_type(path, kind):
    write(path, {"a": pa.array([3, 0, 7]).cast(pa.decimal256(30, 2) if kind == "decimal" else kind)})
    assert read(path)["a"].tolist() == [3.0, 0.0, 7.0]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([True, False]), NUMBER, [1.0, 0.0]),
        (pa.array([2, 10]), TEXT, ["2", "10"]),
        (pa.array([2.0, 0.5]), TEXT, ["2", "0.5"]),
        (pa.array([2**63, 2**63 + 1], pa.uint64()), TEXT, ["9223372036854775808", "9223372036854775809"]),
        (pa.array([2**53 + 1, -(2**63)]), NUMBER, [2.0**53, -(2.0**63)]),  # as float64 rounds them
        (pa.array([decimal.Decimal("0.10")]), TEXT, ["0.10"]),
        (pa.array(["a", "b"], pa.large_string()), TEXT, ["a", "b"]),
    ],
)
def test_the_caller_chooses_kinds(path, values, kind, expected):
    write(path, {"rest": pa.array([None] * len(values)), "a": values})
    assert read(path, a=kind)["a"].tolist() == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([dt.date(2020, 1, 1)]), r"date32\[day\]"),
        (pa.array([dt.datetime(2020, 1, 1)]), r"timestamp\[us\]"),  # noqa: DTZ001 - any
        (pa.array([dt.timedelta(1)]), r"duration\[us\]"),
        (pa.array([[1, 2]]), "list<"),
        (pa.array([{"b": 1}]), "struct<b: int64>"),
        (pa.array([b"a"]), "binary"),
        (pa.nulls(1), "null"),
    ],
)
def test_other_types_are_refused_by_name(path, values, kind):
    write(path, {"a": values, "b": [1.0]})
    message = rf"data\.parquet, column 'a' has type {kind}.*; accepted: numbers, bool or text"
    with pytest.raises(ValueError, match=message):
        read(path)
    assert read(path, b=None)["b"].tolist() == [1.0]  # which nobody needs to read


def test_text_is_no_number(path):
    write(path, {"a": ["1", "2"]})
    with pytest.raises(ValueError, match="column 'a' has type string; accepted: numbers or bool"):
        read(path, a=NUMBER)


@pytest.mark.parametrize("kind", [None, TEXT])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("row", [0, 1, 4])
def test_bad_numbers_say_where(path, monkeypatch, kind, bad, row):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 2)
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    values[row] = bad
    write(path, {"fine": [1, 2, 3, 4, 5], "a": pa.array(values)})
    came = "null" if bad is None else bad
    message = rf"data\.parquet, row {row} \(from 0\), column 'a' is {came}; every row needs"
    with pytest.raises(ValueError, match=message):
        read(path, fine=None, a=kind)


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.int32(), pa.dictionary(pa.int8(), pa.string())])
def test_nulls_of_any_type(path, kind):
    values = pa.array(["true", None, "true"]) if pa.types.is_dictionary(kind) else pa.array([1, None, 0])
    write(path, {"a": values.cast(kind)})
    with pytest.raises(ValueError, match=r"row 1 \(from 0\), column 'a' is null"):
        read(path)


def test_names_with_dots_and_repeated_names(path):
    write(path, {"a": [1], "a.b": [2]})
    assert {name: column.tolist() for name, column in read(path).items()} == {"a": [1.0], "a.b": [2.0]}
    pa.parquet.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), path)
    with pytest.raises(ValueError, match=r"data\.parquet: two columns are called 'a'"):
        read(path)


def test_nothing_in_it(path):
    write(path, {"a": pa.array([], "float64")})
    with pytest.raises(ValueError, match=r"data\.parquet has columns, but no rows"):
        read(path)
    pd.DataFrame(index=[3, 5]).to_parquet(path)
    with pytest.raises(ValueError, match=r"data\.parquet has no columns"):
        read(path)


def test_damaged_files_are_one_error(path):
    write(path, {"a": np.arange(50.0), "b": pa.array(["x", "y"] * 25).dictionary_encode()}, write_page_checksum=True)
    whole = path.read_bytes()
    for end in range(0, len(whole), 41):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"data\.parquet is not a whole Parquet file"):
            read(path)
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            read(path)
        except ValueError as error:
            assert "data.parquet" in str(error)  # noqa: PT017 - some bytes do not matter


def test_a_folder_and_no_file(path):
    with pytest.raises(FileNotFoundError):
        read(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        read(path)


def test_without_pyarrow(path, monkeypatch):
    write(path, ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"reading Parquet needs pyarrow: pip install 'briskmlp\[table\]'"):
        read(path)
