"""NPY files: what is read of them, what is refused, and that they are never in memory as a whole."""

import errno
import itertools
import os
import sys

import numpy as np
import pytest
from tasks import run_script

from briskmlp import Trainer
from briskmlp.tabular.preparation import Preparation
from briskmlp.tabular.reading import npy
from briskmlp.tabular.reading.npy import Mapped, open_array

X = np.random.RandomState(0).randn(40, 2, 3) * [1, 10, 100] + [0, 5, 1000]  # its streams never change
FLAT = X.reshape(40, 6)
ROWS, COLUMNS = np.arange(3, 40, 2), np.array([4, 0, 5])


@pytest.fixture
def mapped(tmp_path):
    """Write arrays, each to a file of its own; return what is mapped of them."""
    calls = itertools.count()

    def mapped(*arrays):
        folder = tmp_path / f"{next(calls)}"
        folder.mkdir()
        paths = [folder / f"X{index}.npy" for index in range(len(arrays))]
        for path, array in zip(paths, arrays, strict=True):
            np.save(path, array)
        return Mapped(*paths)

    return mapped


@pytest.fixture(params=[0, npy.HELD_BYTES], ids=["staged", "held"])
def _held(request, monkeypatch):
    monkeypatch.setattr(npy, "HELD_BYTES", request.param)


@pytest.fixture(params=["all at once", "row by row"])
def _chunks(request, monkeypatch):
    if request.param == "row by row":
        monkeypatch.setattr("briskmlp.data.arrays.CHUNK_BYTES", 1)


EVERY = np.arange(40)
LAYOUTS = {
    "C": X,
    "Fortran": np.asfortranarray(X),
    "big-endian": X.astype(">f8"),
    "longdouble": X.astype(np.longdouble),
}


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(mapped, layout):
    data = mapped(LAYOUTS[layout])
    assert (data.n, data.width, data.names[-1]) == (40, 6, "X[5]")
    np.testing.assert_array_equal(data.take(ROWS, COLUMNS), FLAT[ROWS][:, COLUMNS])
    np.testing.assert_array_equal(data.take(EVERY, np.arange(6)), FLAT)
    np.testing.assert_array_equal(data.column(4), FLAT[:, 4])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, ">i4"])
def test_types(mapped, dtype):
    values = np.array([0, 1, 1]).astype(dtype)
    data = mapped(values)
    assert (data.n, data.width) == (3, 1)
    assert data.take(np.arange(3), np.array([0])).tolist() == [[0.0], [1.0], [1.0]]


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_moments_are_those_of_the_rows(mapped, shift):
    wanted = (FLAT + shift)[ROWS][:, COLUMNS]
    moments = mapped(X + shift).moments(ROWS, COLUMNS)
    assert moments.low.tolist() == wanted.min(axis=0).tolist()
    assert moments.high.tolist() == wanted.max(axis=0).tolist()
    np.testing.assert_allclose(moments.mean, wanted.mean(axis=0), rtol=1e-13)
    # A mean is off by an ulp of the values or so; the deviations and their root mean square are as well.
    np.testing.assert_allclose(moments.std, wanted.std(axis=0), rtol=1e-13, atol=4 * np.spacing(np.abs(wanted).max()))


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_inputs_as_of_a_table(mapped, dtype):
    table = {f"X[{j}]": FLAT[:, j] for j in COLUMNS}
    y = FLAT[:, 1]
    preparation = Preparation.fit({**table, "y": y}, "y", ROWS)
    inputs = preparation.mapped_inputs(mapped(X), ROWS, dtype)
    wanted = preparation.inputs(table, dtype)[ROWS]
    picked = np.array([7, 0, 7])
    assert (inputs.array is None) == (npy.HELD_BYTES == 0)
    assert inputs.take(slice(None)).tobytes() == wanted.tobytes()
    assert inputs.take(picked).tobytes() == wanted[picked].tobytes()
    trainers = [Trainer([3, 4, 1], seed=0, batch_size=4, dtype=dtype, backend="numpy") for _ in range(2)]
    for trainer, rows in zip(trainers, (inputs, wanted), strict=True):
        trainer.fit(rows, y[ROWS], epochs=3)
    assert trainers[0].parameters.tobytes() == trainers[1].parameters.tobytes()


def test_preparation_learns_the_same_as_of_a_table(mapped):
    table = {f"X[{j}]": FLAT[:, j] for j in COLUMNS}
    y = FLAT[:, 1]
    ours, theirs = (
        Preparation.fit_mapped(mapped(X), COLUMNS, "y", y, ROWS),
        Preparation.fit({**table, "y": y}, "y", ROWS),
    )
    assert [feature.name for feature in ours.features] == ["X[4]", "X[0]", "X[5]"]
    assert ours.target == theirs.target
    for name in ("mean", "scale"):
        np.testing.assert_allclose(
            [getattr(f, name) for f in ours.features], [getattr(f, name) for f in theirs.features], rtol=1e-13
        )


@pytest.mark.usefixtures("_held", "_chunks")
@pytest.mark.parametrize(("cuts", "row", "place"), [
    ([], 0, "X0.npy, row 0"), ([], 20, "X0.npy, row 20"), ([], 39, "X0.npy, row 39"),
    ([13, 14], 0, "X0.npy, row 0"), ([13, 14], 12, "X0.npy, row 12"), ([13, 14], 13, "X1.npy, row 0"),
])  # fmt: skip
def test_bad_values_say_where(mapped, cuts, row, place):
    preparation = Preparation.fit({"X[5]": FLAT[:, 5], "X[2]": FLAT[:, 2]}, "X[2]", ROWS)
    for bad in (np.nan, np.inf, -np.inf):
        damaged = FLAT.copy()
        damaged[row, 5] = bad
        data = mapped(*np.split(damaged, cuts))
        assert data.place(row).endswith(f"{place} (from 0)")
        message = rf"{place} \(from 0\), column 'X\[5\]': {bad:g} is not finite"
        with pytest.raises(ValueError, match=message):
            data.moments(EVERY[::-1], COLUMNS)
        with pytest.raises(ValueError, match=message):
            preparation.mapped_inputs(data, EVERY, "float32").take(EVERY)
        with pytest.raises(ValueError, match=rf"{place[:6]}: array 'X\[5\]' has {bad:g} at {place[8:]};"):
            data.column(5)


def test_values_far_from_the_mean(mapped):
    preparation = Preparation.fit({"X[0]": FLAT[:, 0], "y": FLAT[:, 1]}, "y", ROWS)
    with pytest.raises(ValueError, match=r"row 1 \(from 0\), column 'X\[0\]': 1e\+300 is too far from the training"):
        preparation.mapped_inputs(mapped(np.array([1.0, 1e300])), np.arange(2), "float32")


def test_numbers_too_large_to_standardise(mapped):
    data = mapped(np.array([1e300, -1e300, 0.0]))
    with pytest.raises(ValueError, match=r"column 'X\[0\]' has numbers up to 1e\+300, too large to standardise"):
        Preparation.fit_mapped(data, np.array([0]), "y", np.arange(3.0), np.arange(3))


def test_constant_columns_have_scale_1(mapped):
    data = mapped(np.full((50, 1), 0.1))
    (feature,) = Preparation.fit_mapped(data, np.array([0]), "y", np.arange(50.0), np.arange(50)).features
    assert (feature.mean, feature.scale) == (0.1, 1.0)


def test_trainers_refuse_inputs_of_another_width_or_dtype(mapped):
    preparation = Preparation.fit({"X[0]": FLAT[:, 0], "y": FLAT[:, 1]}, "y", ROWS)
    inputs = preparation.mapped_inputs(mapped(X), ROWS, "float32")
    for trainer in (Trainer([2, 1], backend="numpy"), Trainer([1, 1], dtype="float64", backend="numpy")):
        with pytest.raises(ValueError, match=r"X is float32 \(n, 1\), but the network reads"):
            trainer.predict(inputs)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["a", "b"]]), "has dtype <U1; accepted: bool, integers or floats"),
        (np.ones(3) * 1j, "has dtype complex128"),
        (np.zeros(3, dtype="datetime64[s]"), r"has dtype datetime64\[s\]"),
        (np.zeros(3, dtype=[("a", float)]), r"has dtype \[\('a', '<f8'\)\]"),
        (np.array([1, None]), "cannot be mapped as an NPY file: .*Python objects"),
        (np.zeros((0, 3)), r"has shape \(0, 3\); accepted: one array as numpy.save writes it, not empty"),
        (np.zeros((3, 0)), r"has shape \(3, 0\)"),
        (np.float64(1), r"has shape \(\)"),
    ],
)
def test_what_is_refused(mapped, array, message):
    with pytest.raises(ValueError, match=rf"X0\.npy {message}"):
        mapped(array)


def test_damaged_files_are_one_error(mapped, tmp_path):
    (path,) = mapped(X).paths
    whole = path.read_bytes()
    for end in (*range(0, 128, 9), len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"X0\.npy cannot be mapped as an NPY file"):
            open_array(path)
    for position in range(128):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        try:
            Mapped(path)
        except ValueError as error:
            assert "X0.npy" in str(error)  # noqa: PT017 - a shape may change and still fit
    with pytest.raises(IsADirectoryError):
        open_array(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_array(tmp_path / "no.npy")


def test_a_size_that_overflows_is_one_error(tmp_path):
    """Warnings are errors here."""
    with (tmp_path / "X.npy").open("wb") as file:
        described = {"descr": "<f8", "fortran_order": False, "shape": (2**63 - 1, 4)}
        np.lib.format.write_array_header_1_0(file, described)
    with pytest.raises(ValueError, match=r"X\.npy cannot be mapped as an NPY file: array is too big"):
        open_array(tmp_path / "X.npy")


def test_a_file_that_is_cut_while_it_is_in_use(mapped):
    data = mapped(X)
    (path,) = data.paths
    os.truncate(path, 1000)
    for read in (lambda: data.take(EVERY, COLUMNS), lambda: data.column(0), lambda: data.moments(EVERY, COLUMNS)):
        with pytest.raises(ValueError, match=r"X0\.npy had 2048 bytes and now has 1000: it was cut while in use"):
            read()


@pytest.mark.skipif(sys.platform == "win32", reason="files in use cannot be removed there")
def test_a_file_that_is_removed_or_replaced_while_it_is_in_use(mapped):
    data = mapped(X)
    (path,) = data.paths
    path.with_name("new.npy").write_bytes(b"new")
    path.with_name("new.npy").replace(path)
    np.testing.assert_array_equal(data.take(EVERY, COLUMNS), FLAT[:, COLUMNS])
    path.unlink()
    np.testing.assert_array_equal(data.take(EVERY, COLUMNS), FLAT[:, COLUMNS])


# Several files


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("columns", [COLUMNS, np.arange(6)], ids=["some columns", "all columns"])
@pytest.mark.parametrize("cuts", [[], [1], [13, 14, 39]])
@pytest.mark.parametrize("lay_out", [np.ascontiguousarray, np.asfortranarray])
def test_several_files_are_as_one(mapped, cuts, columns, lay_out):
    """Of any rows, in any order and also twice: the same bits."""
    one, several = mapped(X), mapped(*map(lay_out, np.split(X, cuts)))
    assert (several.n, several.width, several.names) == (one.n, one.width, one.names)
    shuffled = np.random.RandomState(1).permutation(40)
    for rows in (EVERY, shuffled, ROWS, np.array([39, 0, 39]), np.array([13]), EVERY[:0]):
        np.testing.assert_array_equal(several.take(rows, columns), FLAT[rows][:, columns])
    assert several.column(4).tobytes() == one.column(4).tobytes()
    for rows in (EVERY, ROWS):
        for ours, theirs in zip(several.moments(rows, columns), one.moments(rows, columns), strict=True):
            assert ours.tobytes() == theirs.tobytes()


def test_files_of_other_types_shapes_and_byte_orders(mapped):
    parts = [np.array([[1, 2], [3, 4]], dtype=">i2"), np.array([[[0.5], [0.25]]]), np.array([[True, False]])]
    data = mapped(*parts)
    wanted = [[1.0, 2.0], [3.0, 4.0], [0.5, 0.25], [1.0, 0.0]]
    assert data.take(np.arange(4), np.arange(2)).tolist() == wanted
    assert data.column(1).dtype == np.dtype(float)
    assert data.column(1).tolist() == [2.0, 4.0, 0.25, 0.0]


def test_what_is_refused_of_several_files(mapped):
    with pytest.raises(ValueError, match=r"X1\.npy has shape \(40,\), but .*X0\.npy has \(40, 2, 3\); .* same number"):
        mapped(X, X[:, 0, 0])
    with pytest.raises(ValueError, match=r"X1\.npy has dtype <U1; accepted: bool"):
        mapped(X, np.array(["a"]))
    with pytest.raises(ValueError, match=r"X1\.npy has shape \(0, 2, 3\); accepted: .* not empty"):
        mapped(X, X[:0])


def test_files_that_cannot_all_be_open_are_named(mapped, monkeypatch):
    data = mapped(X, X)

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    with pytest.raises(OSError, match=r"Too many open files: .*X0\.npy"):
        Mapped(*data.paths)


LIMITED = """
import resource, sys
import numpy as np
from briskmlp import cli, session
from briskmlp.tabular.reading import npy
npy.HELD_BYTES, session.STAGE_BYTES = 0, 16 * 2**20
limit = 200 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.load(sys.argv[1])
except MemoryError:
    sys.exit(cli.main(sys.argv[2:]))
sys.exit("the limit does not hold")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA holds anonymous memory on Linux only")
def test_a_file_larger_than_the_memory_allowed(tmp_path):
    """220 MB of zeros that the disk does not hold, with 200 MB of memory, of which two stages of 16 MB are in use.

    They are read together with a second, small file.
    """
    path, model, out = tmp_path / "X.npy", tmp_path / "model", tmp_path / "out.csv"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(55_000, 1000))
    array[-1, -1] = 1.0  # nothing else is written
    del array
    small = tmp_path / "small.npy"
    np.save(small, np.ones((10, 1000), dtype=np.float32))
    for command in (
        ["train", path, small, "--epochs", 1, "--hidden", "none", "--batch-size", 1000, "--out", model],
        ["predict", model, path, small, "--out", out],
    ):
        run_script(LIMITED, path, *command, BRISKMLP_BACKEND="numpy", OPENBLAS_NUM_THREADS="1")
    assert len(out.read_text().splitlines()) == 55_011
