"""Reading CSV and NPZ files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from briskmlp.tabular import reading as table
from briskmlp.tabular.reading import NUMBER, TEXT
from briskmlp.tabular.reading.csv import CHUNK_ROWS


def everything(names):
    return dict.fromkeys(names)


def read(*arguments):
    return table.read(*arguments).columns


def csv_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "data.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_csv(folder, content, choose=everything):
    return read(csv_file(folder, content), choose)


def npz_file(folder: Path, **arrays) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_csv_dialects(tmp_path, delimiter, newline, start):
    lines = ["size,colour", "1, red ", "-2.5e1,blau|grün"]
    columns = read_csv(tmp_path, start + newline.join(lines).replace(",", delimiter))
    assert list(columns) == ["size", "colour"]
    assert columns["size"].tolist() == [1.0, -25.0]
    assert columns["colour"].tolist() == ["red", "blau|grün"]


def test_csv_quotes_hold_delimiters_and_lines(tmp_path):
    columns = read_csv(tmp_path, '"a;b","c"\n"x, y","1"\n"two\nlines","2"\n')
    assert columns["a;b"].tolist() == ["x, y", "two\nlines"]
    assert columns["c"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_lines_are_those_of_the_file(tmp_path, newline):
    """A row is named by the line on which it begins, whatever its quotes hold."""
    content = '\n"a\nb",c\n"one\ntwo\n",1\n\n"three",2\n"four\nfive",x\n'.replace("\n", newline)
    part = table.read(csv_file(tmp_path, content.replace("x", "3")), everything)
    assert [part.place(row) for row in range(3)] == [f"{part.path}, line {line}" for line in (4, 8, 9)]
    with pytest.raises(ValueError, match=r"data\.csv, line 9, column 'c': 'x' is not a finite number"):
        read_csv(tmp_path, content)
    with pytest.raises(ValueError, match=r"data\.csv, line 9: the row's length is 3, but the header's 2"):
        read_csv(tmp_path, content.replace("x", "3,4"))


def test_csv_skips_blank_lines_and_counts_them(tmp_path):
    assert read_csv(tmp_path, "a,b\n\n1,2\n  \n3,4\n\n")["a"].tolist() == [1.0, 3.0]
    with pytest.raises(ValueError, match=r"data\.csv, line 5, column 'b'"):
        read_csv(tmp_path, "a,b\n\n1,2\n\n3,x\n4,5\n")


def test_a_column_keeps_the_kind_of_its_first_rows(tmp_path):
    rows = [f"{i},{i % 2}" for i in range(CHUNK_ROWS)]
    columns = read_csv(tmp_path, "\n".join(["a,b", *rows, "7,1"]))
    assert len(columns["a"]) == CHUNK_ROWS + 1
    assert columns["a"][-1] == 7.0
    with pytest.raises(ValueError, match=f"line {CHUNK_ROWS + 2}, column 'a': 'seven' is not a finite number"):
        read_csv(tmp_path, "\n".join(["a,b", *rows, "seven,1"]))


def test_the_caller_chooses_columns_and_kinds(tmp_path):
    content = "zip,rest,size\n01234,,1\n56789,x,2\n"
    columns = read_csv(tmp_path, content, lambda _: {"size": NUMBER, "zip": TEXT})
    assert list(columns) == ["size", "zip"]
    assert columns["zip"].tolist() == ["01234", "56789"]


def test_unnamed_columns_are_called_by_their_index(tmp_path):
    assert list(read_csv(tmp_path, ",a\n0,1\n")) == ["column 0", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; accepted: a header row"),
        ("\n \n", "is empty; accepted: a header row"),
        ("a,b\n", "has a header, but no rows below it"),
        ("a,b,a\n1,2,3\n", "line 1: two columns are called 'a'"),
        ("1.5,2\n3,4\n", "line 1: every cell is a number; accepted: a header row"),
        ("0,1,0\n0,1,0\n", "line 1: every cell is a number; accepted: a header row"),
        ('\n\na,"b\nc",a\n', "line 3: two columns are called 'a'"),
        ('a,b\n1,2\n3,"4\n5\n', "line 3: unexpected end of data"),
        ("a,b\n1,2\n3\n", "line 3: the row's length is 1, but the header's 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3: the row's length is 3, but the header's 2"),
        ("a,b\n1,2\n,4\n", "line 3, column 'a': the cell is empty"),
        ("a,b\nx,2\n ,4\n", "line 3, column 'a': the cell is empty"),
        ("a,b\n1,2\n3,4\nNA,6\n", "line 4, column 'a': 'NA' is not a finite number"),
        ("a,b\nNA,6\n1,2\n3,4\n", "line 2, column 'a': 'NA' is not a finite number"),
        ("a,b\n1,2\n3,4\ninf,6\n", "line 4, column 'a': 'inf' is not a finite number"),
        ("a,b\n1,2\n3,4\n1e999,6\n", "line 4, column 'a': '1e999' is not a finite number"),
        ("a;b\n1;2\n3;4\n5;6,5\n", "line 4, column 'b': '6,5' .*; decimals are written with a point"),
        ('a,b\n1,"2\n', "line 2: unexpected end of data"),
        (b"a,b\n1,2\n3,caf\xe9\n", "line 3: byte 0xe9 is not UTF-8"),
    ],
)
def test_csv_errors_say_where(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"data\.csv.*{message}"):
        read_csv(tmp_path, content)


def test_csv_compressed(tmp_path):
    path = tmp_path / "data.csv.gz"
    content = b"a,b\n" + b"1,2\n" * 3000
    path.write_bytes(gzip.compress(content))
    assert read(path, everything)["b"].tolist() == [2.0] * 3000
    path.write_bytes(gzip.compress(content + b"1,\xe9\n"))
    with pytest.raises(ValueError, match=r"data\.csv\.gz, line 3002: byte 0xe9 is not UTF-8"):
        read(path, everything)
    whole = gzip.compress(content)
    for damaged in (b"no gzip", whole[:-4], whole[:20] + b"damaged" + whole[27:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"data\.csv\.gz is not a whole gzip file"):
            read(path, everything)


def test_npz_columns(tmp_path):
    path = npz_file(tmp_path, X=np.arange(8).reshape(2, 2, 2), y=np.array([3, 4]))
    columns = read(path, everything, "y")
    assert list(columns) == ["X[0]", "X[1]", "X[2]", "X[3]", "y"]
    assert columns["X[3]"].tolist() == [3.0, 7.0]
    assert columns["y"].dtype == np.float64
    assert "y" not in read(path, everything)


@pytest.mark.parametrize(
    ("y", "kind", "expected"),
    [
        (np.array(["a", "b"]), None, ["a", "b"]),
        (np.array([b"a", b"b"]), None, ["a", "b"]),
        (np.array([True, False]), None, ["True", "False"]),
        (np.array([2, 10]), TEXT, ["2", "10"]),
        (np.array([2.0, 0.5]), TEXT, ["2", "0.5"]),
        (np.array([[2], [10]]), NUMBER, [2.0, 10.0]),
        (np.array([True, False]), NUMBER, [1.0, 0.0]),
    ],
)
def test_npz_targets(tmp_path, y, kind, expected):
    path = npz_file(tmp_path, data=np.eye(2), y=y)
    assert read(path, lambda _: {"y": kind}, "y")["y"].tolist() == expected


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has the arrays none"),
        ({"A": np.eye(2), "B": np.eye(2)}, r"has the arrays 'A' \(2, 2\), 'B' \(2, 2\); accepted: one called 'X'"),
        ({"X": np.array(["a"])}, "array 'X' has dtype <U1"),
        ({"X": np.ones((2, 0))}, r"array 'X' has shape \(2, 0\)"),
        ({"X": np.float64(1)}, r"array 'X' has shape \(\)"),
        ({"X": np.array([[1, np.nan]])}, "array 'X' has nan at row 0, column 1"),
        ({"X": np.array([None])}, "array 'X' cannot be read: Object arrays"),
        ({"X": np.eye(2), "y": np.ones(3)}, r"array 'y' has shape \(3,\); accepted: \(2,\)"),
        ({"X": np.eye(2), "y": np.ones(2) * 1j}, "array 'y' has dtype complex128"),
        ({"X": np.eye(2), "y": np.array([1, np.inf])}, "array 'y' has inf at row 1"),
    ],
)
def test_npz_errors(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        read(npz_file(tmp_path, **arrays), everything, "y")


def test_npz_errors_of_choice_name_the_arrays(tmp_path):
    path = npz_file(tmp_path, X=np.eye(2), label=np.ones(2))
    with pytest.raises(ValueError, match=r"--target is 'y'.*the arrays of .* are 'X', 'label'"):
        read(path, lambda names: {table.find_column(names, "y", "--target"): None}, "y")


def test_what_is_no_npz(tmp_path):
    path = tmp_path / "data.npz"
    for content in (b"", b"not a zip", b"PK\x03\x04 damaged"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not an NPZ file"):
            read(path, everything)
    with path.open("wb") as file:
        np.save(file, np.eye(2))
    with pytest.raises(ValueError, match="is a single array"):
        read(path, everything)


def test_damaged_npz_is_one_error(tmp_path):
    path = npz_file(tmp_path, X=np.arange(100.0).reshape(25, 4))
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read(path, everything)
        except ValueError as error:
            assert "data.npz" in str(error)  # noqa: PT017 - some bytes do not matter


def test_find_column_by_name_then_index():
    names = ["b", "1", "c"]
    assert [table.find_column(names, wanted, "--target") for wanted in ("b", "1", "0", "-1")] == ["b", "1", "b", "c"]
    for wanted in ("3", "-4", "x"):
        with pytest.raises(ValueError, match=f"--target is '{wanted}', but the columns are 'b', '1', 'c'"):
            table.find_column(names, wanted, "--target")
