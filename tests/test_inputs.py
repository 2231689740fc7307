"""Arrays of every kind become the same bits, memory is used in place where it can be, bad data gets one error."""

import array
import itertools
import mmap
import re
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from briskmlp.data import arrays
from briskmlp.data.inputs import check_inputs, check_targets, check_weight

F32, F64 = np.dtype("float32"), np.dtype("float64")
FLOATS = ["float16", "float32", "float64", "longdouble"]
INTEGERS = ["bool", "int8", "uint8", "int32", "uint64", "int64"]
both_dtypes = pytest.mark.parametrize("dtype", [F32, F64], ids=str)


# Layouts: each lays the values of a contiguous 2-D array out differently, in memory of its own.


def strided(X):
    out = np.zeros((len(X) * 2, X.shape[1] * 3), X.dtype)[::2, 1::3]
    out[...] = X
    return out


def row_strided(X):
    out = np.zeros((len(X) * 2, X.shape[1] + 3), X.dtype)[1::2, 1:-2]
    out[...] = X
    return out


def unaligned(X):
    out = np.zeros(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
    out[...] = X
    return out


def packed_field(X):
    """A column of records whose other field breaks the alignment of every second row."""
    out = np.zeros(len(X), [("flag", np.uint8), ("x", X.dtype, X.shape[1:])])["x"]
    out[...] = X
    return out


def read_only(X):
    out = X.copy()
    out.flags.writeable = False
    return out


LAYOUTS = {
    "C": np.copy,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "row_strided": row_strided,
    "negative_rows": lambda X: X[::-1].copy()[::-1],
    "negative_columns": lambda X: X[:, ::-1].copy()[:, ::-1],
    "unaligned": unaligned,
    "packed_field": packed_field,
    "byte_swapped": lambda X: X.astype(X.dtype.newbyteorder()),
    "read_only": read_only,
    "matrix": lambda X: X.copy().view(np.matrix),
    "masked_array": lambda X: X.copy().view(np.ma.MaskedArray),
}
IN_PLACE = {"C", "row_strided", "negative_rows", "read_only", "matrix", "masked_array"}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def sample(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    return rng.integers(0, np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def assert_kernel_ready(X, n, n_in, dtype):
    assert type(X) is np.ndarray
    assert X.shape == (n, n_in)
    assert X.dtype == dtype
    assert X.dtype.isnative
    assert X.flags.aligned
    assert X.strides[1] == dtype.itemsize


def save_map(tmp_path, X, order="C"):
    """Return X as a read-only memory map."""
    path = tmp_path / "X.bin"
    mapped = np.memmap(path, X.dtype, "w+", shape=X.shape, order=order)
    mapped[...] = X
    mapped.flush()
    return np.memmap(path, X.dtype, "r", shape=X.shape, order=order)


def peak(run):
    """Return what a function gives, and the most bytes that were taken meanwhile."""
    tracemalloc.start()
    try:
        return run(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Layouts and dtypes of X


@every_layout
def test_every_layout_and_dtype_gives_the_bits_of_the_contiguous_copy(layout):
    for came, dtype in itertools.product(FLOATS + INTEGERS, (F32, F64)):
        contiguous = sample((7, 5), came)
        X = LAYOUTS[layout](contiguous)
        before = bits(X)
        result = check_inputs(X, 5, dtype)
        assert result.n == 7
        assert_kernel_ready(result.array, 7, 5, dtype)
        assert bits(result.array) == bits(contiguous.astype(dtype)), (came, dtype)
        assert bits(X) == before
        assert np.shares_memory(result.array, X) == (layout in IN_PLACE and np.dtype(came) == dtype)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    came=st.sampled_from(FLOATS + INTEGERS),
    dtype=st.sampled_from([F32, F64]),
    axes=st.permutations([0, 1, 2]),
    steps=st.tuples(*[st.sampled_from([-2, -1, 1, 2])] * 3),
    swap=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=150)
def test_images_of_any_strides_are_flattened_in_c_order(shape, came, dtype, axes, steps, swap, seed):
    contiguous = sample(shape, came, seed)
    memory = np.zeros([2 * shape[axis] for axis in axes], came)
    inverse = np.argsort(axes)
    X = memory.transpose(inverse)[tuple(slice(None, None, step) for step in steps)]
    X = X[: shape[0], : shape[1], : shape[2]]
    X[...] = contiguous
    if swap:
        X = X.byteswap().view(X.dtype.newbyteorder())
    n, n_in = shape[0], shape[1] * shape[2]
    result = check_inputs(X, n_in, dtype)
    expected = contiguous.reshape(n, n_in).astype(dtype)
    assert_kernel_ready(result.array, n, n_in, dtype)
    assert bits(result.array) == bits(expected)
    rows = np.random.default_rng(seed).integers(0, n, size=2 * n)
    taken = result.take(rows)
    assert taken.flags.c_contiguous
    assert bits(taken) == bits(expected[rows])


@both_dtypes
def test_scalars_are_one_column(dtype):
    for X in (np.arange(6, dtype=dtype), np.arange(12, dtype=dtype)[::2] / 2, np.arange(6), list(range(6))):
        result = check_inputs(X, 1, dtype)
        assert_kernel_ready(result.array, 6, 1, dtype)
        assert result.array[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    X = np.arange(12, dtype=dtype)[::-2]
    assert np.shares_memory(check_inputs(X, 1, dtype).array, X)


def test_images_and_repeated_rows_are_used_in_place():
    images = sample((9, 4, 5), F32)[::2]
    assert np.shares_memory(check_inputs(images, 20, F32).array, images)
    one_row = np.broadcast_to(sample((1, 3), F64), (1000, 3))
    result = check_inputs(one_row, 3, F64)
    assert np.shares_memory(result.array, one_row)
    assert result.array.strides == (0, 8)


def test_what_was_converted_is_let_go():
    X = sample((4, 3), F64)
    alive = weakref.ref(X)
    result = check_inputs(X, 3, F32)
    del X
    assert alive() is None
    assert result.array is not None


def test_a_single_row_has_ordinary_strides():
    X = sample((2, 3), F32).T[:, :1].reshape(1, 3)
    assert check_inputs(X, 3, F32).array.strides == (12, 4)
    assert check_inputs(sample((5, 3), F32)[::5], 3, F32).array.strides == (12, 4)


def test_take_accepts_slices_and_repeated_rows():
    X = row_strided(sample((8, 3), F32))
    result = check_inputs(X, 3, F32)
    for rows in (slice(2, 7), slice(0, 0), np.array([3, 3, 0]), np.array([], np.int64)):
        taken = result.take(rows)
        assert taken.flags.c_contiguous
        assert bits(taken) == bits(X[rows])


# Other containers


class ArrayOnly:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class DLPackOnly:
    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_other_containers_are_read_and_shared():
    X = sample((4, 3), F32)
    assert bits(check_inputs(X.tolist(), 3, F32).array) == bits(X)
    assert bits(check_inputs(list(X), 3, F32).array) == bits(X)
    for wrapped in (ArrayOnly(X), DLPackOnly(X), memoryview(X), np.ma.MaskedArray(X, mask=False)):
        assert np.shares_memory(check_inputs(wrapped, 3, F32).array, X)
    scalars = array.array("f", [1, 2, 3])
    assert check_inputs(scalars, 1, F32).array.tolist() == [[1], [2], [3]]


def test_pandas():
    pd = pytest.importorskip("pandas")
    X = sample((5, 3), F32)
    assert bits(check_inputs(pd.DataFrame(X), 3, F32).array) == bits(X)
    assert bits(check_inputs(pd.Series(X[:, 0]), 1, F32).array) == bits(X[:, 0])
    count, small = pd.array([3, 4], dtype="Int64"), np.array([1, 2], np.int8)
    mixed = pd.DataFrame({"flag": [True, False], "size": [0.5, 2.0], "count": count, "small": small})
    assert check_inputs(mixed, 4, F32).array.tolist() == [[1, 0.5, 3, 1], [0, 2, 4, 2]]
    assert check_targets(pd.Series([2, 0]), 2, 3, 3, F32).tolist() == [2, 0]
    assert check_targets(pd.Series([2, 0], dtype="Int64"), 2, 3, 3, F32).tolist() == [2, 0]
    assert check_targets(pd.DataFrame({"label": [2, 0]}), 2, 3, 3, F32).tolist() == [2, 0]
    assert check_weight(pd.Series([1, 2]), 2, F32).tolist() == [1, 2]


def test_pandas_errors_name_the_column():
    pd = pytest.importorskip("pandas")
    towns = pd.DataFrame({"size": [1.0, 2.0], "town": ["Bonn", "Ulm"]})
    with pytest.raises(TypeError, match=r"column 'town' of X has dtype .*; accepted: "):
        check_inputs(towns, 2, F32)
    missing = pd.DataFrame({"flag": [True, False], "count": pd.array([1, None], dtype="Int64")})
    with pytest.raises(ValueError, match="X has nan at row 1, column 1"):
        check_inputs(missing, 2, F32)
    with pytest.raises(ValueError, match=r"X is empty, of shape \(2, 0\)"):
        check_inputs(pd.DataFrame(index=[0, 1]), 1, F32)
    with pytest.raises(TypeError, match="X has dtype "):
        check_inputs(pd.Series(["a", "b"]), 1, F32)
    with pytest.raises(TypeError, match="X has dtype datetime64"):
        check_inputs(pd.DataFrame({"day": pd.to_datetime(["2024-01-01"])}), 1, F32)


@pytest.mark.torch
def test_torch():
    torch = pytest.importorskip("torch")
    X = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    assert np.shares_memory(check_inputs(X, 3, F32).array, X.numpy())
    assert bits(check_inputs(X.T, 4, F32).array) == bits(X.numpy().T)
    assert check_targets(torch.tensor([2, 0]), 2, 3, 3, F32).tolist() == [2, 0]
    for unreadable in (X.requires_grad_(), X.detach().to(torch.bfloat16), X.detach().to("meta")):
        with pytest.raises(TypeError, match=r"X is a Tensor that NumPy cannot read: .*; accepted: "):
            check_inputs(unreadable, 3, F32)


# What is staged: memory maps and sparse matrices

staged_layouts = pytest.mark.parametrize("order", ["C", "F"])


@both_dtypes
@staged_layouts
@pytest.mark.parametrize("came", [*FLOATS, "uint8", "bool", ">f4", ">f8"])
def test_memory_maps_of_another_dtype_or_layout_are_staged(tmp_path, came, order, dtype):
    X = sample((11, 6), np.dtype(came).newbyteorder("=")).astype(came)
    expected = X.astype(dtype)
    mapped = save_map(tmp_path, X, order)
    result = check_inputs(mapped, 6, dtype)
    if order == "C" and mapped.dtype == dtype:
        assert np.shares_memory(result.array, mapped)
    else:
        assert result.array is None
    assert result.n == 11
    for rows in (np.array([10, 0, 3, 3]), slice(4, 9), np.array([], np.int64), np.arange(11)):
        taken = result.take(rows)
        assert taken.dtype == dtype
        assert taken.flags.c_contiguous
        assert taken.flags.aligned
        assert bits(taken) == bits(expected[rows])


def test_memory_maps_are_recognised_through_views(tmp_path):
    X = sample((6, 2, 3), F64)
    mapped = save_map(tmp_path, X)
    view = np.asarray(mapped)[1:].transpose(0, 2, 1)
    result = check_inputs(view, 6, F64)
    assert result.array is None
    assert bits(result.take(np.array([4, 0]))) == bits(X[[5, 1]].transpose(0, 2, 1))
    assert check_inputs(check_inputs(mapped, 6, F64).array, 6, F32).array is None
    with (tmp_path / "X.bin").open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert check_inputs(np.frombuffer(memory, F64).reshape(6, 6), 6, F32).array is None


def test_integers_in_a_memory_map_are_not_read_to_look_for_nan(monkeypatch, tmp_path):
    mapped = save_map(tmp_path, sample((6, 3), "uint8"))
    monkeypatch.setattr(arrays, "check_finite", None)
    assert check_inputs(mapped, 3, F32).n == 6


@pytest.mark.parametrize("came", ["float32", "float64"])
def test_a_map_larger_than_a_chunk_is_never_copied(monkeypatch, tmp_path, came):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 2**20)
    n, n_in = 20_000, 256  # 20 MB or 40 MB of holes, no blocks on disk
    path = tmp_path / "X.bin"
    with path.open("wb") as file:
        file.truncate(n * n_in * np.dtype(came).itemsize)
    mapped = np.memmap(path, came, "r", shape=(n, n_in))

    def read():
        result = check_inputs(mapped, n_in, F32)
        return result, result.take(np.array([n - 1, 0]))

    (result, taken), most = peak(read)
    assert most < 2 * arrays.CHUNK_BYTES
    assert not taken.any()
    assert (result.array is None) == (came == "float64")
    if result.array is not None:
        assert np.shares_memory(result.array, mapped)


def test_converting_in_memory_needs_little_more_than_its_result():
    X = np.zeros((40_000, 256), F64, order="F")
    result, most = peak(lambda: check_inputs(X, 256, F32))
    assert most < result.array.nbytes + arrays.CHUNK_BYTES


def test_sparse_matrices_are_staged():
    sparse = pytest.importorskip("scipy.sparse")
    X = sample((9, 5), F64)
    X[np.abs(X) < 0.7] = 0
    rows = np.array([8, 0, 0, 4])
    for layout in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok"):
        for kind in (sparse.csr_array, sparse.csr_matrix):
            for came in ("float64", "float32", "int16", "bool"):
                matrix = kind(X.astype(came)).asformat(layout)
                before = matrix.toarray().tobytes()
                for dtype in (F32, F64):
                    result = check_inputs(matrix, 5, dtype)
                    assert result.array is None
                    assert result.n == 9
                    expected = X.astype(came).astype(dtype)
                    assert bits(result.take(rows)) == bits(expected[rows])
                    assert bits(result.take(slice(2, 6))) == bits(expected[2:6])
                    assert result.take(rows).flags.c_contiguous
                assert matrix.toarray().tobytes() == before


def test_sparse_hostile_values():
    sparse = pytest.importorskip("scipy.sparse")
    entries = (np.array([1.0, 2.0, 3.0, 4.0]), (np.array([2, 0, 2, 0]), np.array([1, 2, 1, 0])))
    repeated = sparse.coo_array(entries, shape=(3, 3))
    assert check_inputs(repeated, 3, F32).take(slice(None)).tolist() == [[4, 0, 2], [0, 0, 0], [0, 4, 0]]
    assert repeated.nnz == 4
    unsorted = sparse.csr_array((np.array([1.0, np.nan, np.inf]), np.array([2, 1, 0]), np.array([0, 1, 1, 3])))
    with pytest.raises(ValueError, match="X has inf at row 2, column 0; values must be finite"):
        check_inputs(unsorted, 3, F32)
    assert unsorted.indices.tolist() == [2, 1, 0]
    huge = sparse.csr_array(np.diag([0.0, 1e300, 0.0]))
    with pytest.raises(ValueError, match=r"X has 1e\+300 at row 1, column 1, which overflows float32"):
        check_inputs(huge, 3, F32)
    assert check_inputs(huge, 3, F64).take(np.array([1])).tolist() == [[0, 1e300, 0]]
    swapped = sparse.csr_array((np.array([7.0], ">f4"), np.array([1]), np.array([0, 1])), shape=(1, 2))
    assert check_inputs(swapped, 2, F32).take(slice(None)).tolist() == [[0, 7]]
    half = sparse.csr_array((np.float16([3, 4]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    assert check_inputs(half, 2, F32).take(slice(None)).tolist() == [[0, 7]]
    with pytest.raises(ValueError, match=r"X is sparse, of shape \(3,\); accepted: sparse with 2 dimensions"):
        check_inputs(sparse.coo_array(np.ones(3)), 1, F32)
    with pytest.raises(ValueError, match="X has 3 columns, but the network's first layer has 4 neurons"):
        check_inputs(huge, 4, F32)
    with pytest.raises(ValueError, match="X is empty"):
        check_inputs(sparse.csr_array((0, 3)), 3, F32)
    with pytest.raises(TypeError, match="X has dtype complex128"):
        check_inputs(sparse.csr_array(np.eye(2) * 1j), 2, F32)
    with pytest.raises(TypeError, match="Y is a csr_array; accepted: a dense array"):
        check_targets(huge, 3, 3, None, F32)


def test_sparse_is_never_densified_whole():
    sparse = pytest.importorskip("scipy.sparse")
    entries = (np.ones(10_000, F32), (np.arange(10_000) * 2, np.arange(10_000) % 5_000))
    X = sparse.coo_array(entries, shape=(20_000, 5_000))
    _, most = peak(lambda: check_inputs(X, 5_000, F32).take(np.arange(32)))
    assert most < 4 * 2**20  # dense, X is 400 MB


# What is refused


@pytest.mark.parametrize("came", FLOATS)
@every_layout
def test_the_first_value_that_is_not_finite_is_named(monkeypatch, layout, came):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 200)  # so that rows fall into several chunks
    rng = np.random.default_rng(1)
    cells = [(0, 0), (22, 6), *zip(rng.integers(0, 23, 3).tolist(), rng.integers(0, 7, 3).tolist(), strict=True)]
    for bad, (row, column) in zip(itertools.cycle([np.nan, np.inf, -np.inf]), cells, strict=False):
        X = sample((23, 7), came)
        X[row, column] = bad
        X[row, column + 1 :] = np.nan
        X[row + 1 :, :] = np.nan
        for dtype in (F32, F64):
            message = rf"^X has {bad} at row {row}, column {column}; values must be finite$"
            with pytest.raises(ValueError, match=message):
                check_inputs(LAYOUTS[layout](X), 7, dtype)


@staged_layouts
@pytest.mark.parametrize("came", FLOATS)
def test_bad_values_are_found_in_memory_maps(monkeypatch, tmp_path, came, order):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 200)
    for row, column in ((0, 0), (22, 6), (13, 2)):
        X = sample((23, 7), came)
        X[row, column] = np.inf
        with pytest.raises(ValueError, match=f"images has inf at row {row}, column {column}; "):
            check_inputs(save_map(tmp_path, X, order), 7, F32, "images")


def test_overflow_is_told_from_infinity(tmp_path):
    X = np.ones((3, 4))
    X[2, 1] = -1e300
    for source in (X, np.asfortranarray(X), X.tolist(), save_map(tmp_path, X)):
        with pytest.raises(ValueError, match=r"^X has -1e\+300 at row 2, column 1, which overflows float32; values m"):
            check_inputs(source, 4, F32)
    check_inputs(X, 4, F64)
    if np.finfo(np.longdouble).max > np.finfo(F64).max:
        with pytest.raises(ValueError, match=r"X has 1e\+4000 at row 1, which overflows float64"):
            check_inputs(np.array([1, np.longdouble("1e4000")]), 1, F64)


def test_extreme_finite_values_pass():
    for dtype in (F32, F64):
        info = np.finfo(dtype)
        X = np.array([[info.max, info.min, info.tiny, info.smallest_subnormal, -0.0]], dtype)
        assert bits(check_inputs(np.asfortranarray(np.vstack([X, X])), 5, dtype).array) == bits(np.vstack([X, X]))
    assert check_inputs(np.array([2**64 - 1], np.uint64), 1, F32).array.tolist() == [[2.0**64]]


def test_flattened_columns_are_counted_in_c_order():
    X = np.zeros((4, 3, 5), F32)
    X[2, 1, 3] = np.nan
    for source in (X, np.asfortranarray(X)):
        with pytest.raises(ValueError, match="X has nan at row 2, column 8;"):
            check_inputs(source, 15, F32)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (None, "X is None"),
        (np.ones((2, 3)) * 1j, "X has dtype complex128"),
        (np.array([[1, None, 2]]), "X has dtype object"),
        ([[1, None, 2]], "X has dtype object"),
        ([[1, 2, 10**30]], "X has dtype object"),
        ([["1", "2", "3"]], "X has dtype <U1"),
        ([[b"1", b"2", b"3"]], "X has dtype |S1"),
        ("text", "X is a str"),
        ({"a": 1}, "X is a dict"),
        (iter([[1, 2, 3]]), "X is a list_iterator"),
        (np.zeros((2, 3), "datetime64[s]"), "X has dtype datetime64[s]"),
        (np.zeros((2, 3), "timedelta64[s]"), "X has dtype timedelta64[s]"),
        (np.zeros(2, [("a", "f4"), ("b", "f4")]), "X has dtype [('a', '<f4'), ('b', '<f4')]"),
        (np.ma.masked_equal([[1.0, 2.0, 3.0]], 2), "X has masked values"),
        ([[1, 2, 3], [4, 5]], "X is a list that NumPy cannot read: its rows differ in length"),
        (ArrayOnly("text"), "X is a ArrayOnly that NumPy cannot read"),
    ],
)
def test_what_is_no_array_of_numbers_is_a_type_error(X, message):
    with pytest.raises(TypeError) as caught:
        check_inputs(X, 3, F32)
    assert str(caught.value).startswith(message)
    assert "; accepted: " in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "n_in", "message"),
    [
        ((2, 9), 10, "X has 9 columns, but the network's first layer has 10 neurons"),
        ((2, 1), 10, "X has 1 column, but the network's first layer has 10 neurons"),
        ((2, 9), 1, "X has 9 columns, but the network's first layer has 1 neuron"),
        ((2, 3, 4), 10, "X has 12 columns (shape (2, 3, 4)), but the network's first layer has 10 neurons"),
        ((9,), 10, "X has 1 column (shape (9,)), but the network's first layer has 10 neurons"),
        ((), 1, "X is a single number; accepted: an array with one row per example"),
        ((0, 10), 10, "X is empty, of shape (0, 10); accepted: (n, 10) with n >= 1"),
        ((5, 0), 10, "X is empty, of shape (5, 0); accepted: (n, 10) with n >= 1"),
        ((0,), 1, "X is empty, of shape (0,); accepted: (n, 1) with n >= 1"),
    ],
)
def test_shapes_that_do_not_fit(shape, n_in, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_inputs(np.zeros(shape), n_in, F32)


def test_a_single_row_must_be_two_dimensional():
    with pytest.raises(ValueError, match=r"first layer has 10 neurons; a single row is X\.reshape\(1, -1\)$"):
        check_inputs(np.zeros(10), 10, F32)


def refusal(check, *arguments, **options):
    """Return the message of the error, None where the data was accepted."""
    try:
        check(*arguments, **options)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.binary(), st.integers()), st.lists))
@settings(deadline=None, max_examples=50)
def test_any_nested_list_is_read_or_refused_by_name(X):
    for check, arguments in ((check_inputs, (2, F32)), (check_targets, (2, 2, 2, F32)), (check_weight, (2, F32))):
        message = refusal(check, X, *arguments, name="values")
        assert message is None or message.startswith("values ")


# Y


@every_layout
def test_dense_targets(layout):
    for came, dtype in itertools.product([*FLOATS, "bool", "int32"], (F32, F64)):
        contiguous = sample((6, 4), came)
        Y = LAYOUTS[layout](contiguous)
        before = bits(Y)
        targets = check_targets(Y, 6, 4, 4, dtype)
        assert_kernel_ready(targets, 6, 4, dtype)
        assert targets.flags.c_contiguous
        assert bits(targets) == bits(contiguous.astype(dtype)), (came, dtype)
        assert bits(Y) == before


def test_targets_are_used_in_place(tmp_path):
    Y = sample((6, 4), F32)
    assert np.shares_memory(check_targets(Y, 6, 4, None, F32), Y)
    assert np.shares_memory(check_targets(Y.reshape(6, 2, 2), 6, 4, None, F32), Y)
    mapped = save_map(tmp_path, Y)
    assert np.shares_memory(check_targets(mapped, 6, 4, None, F32), mapped)
    assert bits(check_targets(save_map(tmp_path, Y, "F"), 6, 4, None, F32)) == bits(Y)
    labels = np.array([1, 0, 2])
    assert np.shares_memory(check_targets(labels, 3, 3, 3, F32), labels)


def test_counts(monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 64)
    Y = np.random.default_rng(0).poisson(2, size=(40, 5)).astype(float)
    assert bits(check_targets(Y, 40, 5, None, F64, domain="counts")) == bits(Y)
    Y[33, 2] = -0.5
    check_targets(Y, 40, 5, None, F64)
    with pytest.raises(ValueError, match=r"Y has -0\.5 at row 33, column 2; targets of this loss must be 0 or more"):
        check_targets(Y, 40, 5, None, F64, domain="counts")


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("came", ["int8", "uint8", "int32", "int64", "uint64", ">i2"])
def test_labels(came, shape):
    labels = check_targets(np.array([3, 0, 1, 9], came).reshape(shape), 4, 10, 10, F32, domain="rows")
    assert labels.dtype == np.int64
    assert labels.shape == (4,)
    assert labels.flags.c_contiguous
    assert labels.tolist() == [3, 0, 1, 9]
    for layout in (strided, unaligned, packed_field):
        labels = check_targets(layout(labels.astype(came).reshape(4, 1)), 4, 10, 10, F32)
        assert labels.flags.c_contiguous
        assert labels.flags.aligned
        assert labels.tolist() == [3, 0, 1, 9]


def test_bool_labels_and_wide_ranges():
    assert check_targets([True, False], 2, 2, 2, F32).tolist() == [1, 0]
    assert check_targets(np.array([127, 0], np.int8), 2, 1000, 1000, F32).tolist() == [127, 0]


@pytest.mark.parametrize(
    ("bad", "came"), [(10, "int64"), (-1, "int8"), (2**64 - 1, "uint64"), (2**63, "uint64"), (-(2**63), "int64")]
)
def test_labels_out_of_range(bad, came):
    Y = np.array([0, 9, 3, bad, bad], came)
    with pytest.raises(ValueError, match=f"^Y has label {bad} at row 3; labels must be 0 to 9$"):
        check_targets(Y, 5, 10, 10, F32)


@pytest.mark.parametrize("n_labels", [None, 2])
@pytest.mark.parametrize("came", ["bool", "uint8", "int64", "float32", "float64"])
def test_one_output_is_dense_whatever_came(came, n_labels):
    for shape in ((3,), (3, 1)):
        targets = check_targets(np.array([1, 0, 1], came).reshape(shape), 3, 1, n_labels, F32)
        assert_kernel_ready(targets, 3, 1, F32)
        assert targets.tolist() == [[1], [0], [1]]


def test_one_output_of_a_binary_loss_lies_between_0_and_1():
    message = "Y has 2.0 at row 1, column 0; targets of this loss must be from 0 to 1"
    for Y in ([0, 2, 1], [[0.0], [2.0], [1.0]]):
        with pytest.raises(ValueError, match=message):
            check_targets(Y, 3, 1, 2, F32, domain="each")
        assert check_targets(Y, 3, 1, None, F32).tolist() == [[0], [2], [1]]
    assert check_targets([0.25, 1.0], 2, 1, 2, F32, domain="each").tolist() == [[0.25], [1]]


def test_labels_for_a_loss_without_labels_suggest_cross_entropy():
    for Y in (np.array([0, 2, 1]), np.array([[0], [2], [1]]), np.array([True, False, True])):
        with pytest.raises(ValueError, match=r'10 neurons; class labels need loss="cross_entropy"$'):
            check_targets(Y, 3, 10, None, F32)
    with pytest.raises(ValueError, match=r'class labels need loss="cross_entropy" and an integer dtype$'):
        check_targets([0.0, 2.0, 1.0], 3, 10, None, F32)


def test_float_labels_are_refused():
    message = r"^Y has 1 column \(shape .*\), but .* 10 neurons; class labels need an integer dtype$"
    for Y in (np.array([0.0, 2.0, 1.0]), np.array([[0], [2], [1]], np.float16)):
        with pytest.raises(ValueError, match=message):
            check_targets(Y, 3, 10, 10, F32)
    for Y in ([0.5, 2.0, 1.0], [np.nan, 1.0, 2.0]):
        with pytest.raises(ValueError, match=r"last layer has 10 neurons$"):
            check_targets(Y, 3, 10, 10, F32)
    with pytest.raises(ValueError, match=r"last layer has 3 neurons$"):
        check_targets([0.5, 2.0, 1.0], 3, 3, 3, F32)


def test_probabilities(monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 64)
    Y = np.random.default_rng(0).dirichlet(np.ones(5), size=40)
    for came in ("float16", "float32", "float64"):
        check_targets(Y.astype(came), 40, 5, 5, F32, domain="rows")
    check_targets(np.eye(5, dtype=int), 5, 5, 5, F32, domain="rows")
    for off in (-9e-4, 9e-4):
        check_targets([[0.5, 0.5 + off]], 1, 2, 2, F64, domain="rows")
        with pytest.raises(ValueError, match=r"Y sums to \S+ at row 0; each row must sum to 1"):
            check_targets([[0.5, 0.5 + 1.2 * off]], 1, 2, 2, F64, domain="rows")
    low = Y.copy()
    low[33, 2] *= 0.5
    check_targets(low, 40, 5, 5, F32, domain="each")
    with pytest.raises(ValueError, match=r"Y sums to 0\.\d+ at row 33; each row must sum to 1"):
        check_targets(low, 40, 5, 5, F64, domain="rows")
    low[38, 4] = -0.25
    for domain in ("each", "rows"):
        check_targets(low, 40, 5, 5, F64)
        low[33] = Y[33]
        with pytest.raises(ValueError, match=r"Y has -0\.25 at row 38, column 4; targets of this loss"):
            check_targets(low, 40, 5, 5, F64, domain=domain)


@pytest.mark.parametrize(
    ("shape", "n_out", "message"),
    [
        ((6, 9), 10, "Y has 9 columns, but the network's last layer has 10 neurons"),
        ((6, 2), 1, "Y has 2 columns, but the network's last layer has 1 neuron"),
        ((5, 10), 10, "Y has 5 rows, but X has 6"),
        ((1, 10), 10, "Y has 1 row, but X has 6"),
        ((0, 10), 10, "Y has 0 rows, but X has 6"),
        ((6, 0), 10, "Y is empty, of shape (6, 0); accepted: (n, 10) with n >= 1"),
        ((), 1, "Y is a single number; accepted: an array with one row per example"),
    ],
)
def test_targets_that_do_not_fit(shape, n_out, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_targets(np.full(shape, 0.5), 6, n_out, None, F32)


def test_targets_have_the_errors_of_inputs_under_their_own_name():
    with pytest.raises(TypeError, match=r"^Y is None; accepted: "):
        check_targets(None, 2, 1, None, F32)
    with pytest.raises(TypeError, match=r"^Y has dtype <U3; accepted: "):
        check_targets(["cat", "dog"], 2, 2, 2, F32)
    with pytest.raises(ValueError, match=r"^Y_val has nan at row 1; values must be finite"):
        check_targets([0.5, np.nan], 2, 1, None, F32, name="Y_val")
    with pytest.raises(ValueError, match=r"^Y has 1e\+300 at row 1, column 0, which overflows float32"):
        check_targets([[0.5], [1e300]], 2, 1, None, F32)


# Weights


@both_dtypes
@pytest.mark.parametrize("came", [*FLOATS, "bool", "int32", ">f4"])
def test_weights(came, dtype):
    weight = np.array([1, 9, 0, 9, 1, 9], came)[::2]
    result = check_weight(weight, 3, dtype)
    assert result.dtype == dtype
    assert result.shape == (3,)
    assert result.flags.c_contiguous
    assert result.tolist() == [1, 0, 1]


def test_weights_may_be_absent_or_used_in_place():
    assert check_weight(None, 3, F32) is None
    weight = np.ones(3, F32)
    assert np.shares_memory(check_weight(weight, 3, F32), weight)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, -0.5, -1.0], "sample_weight has -0.5 at row 1; weights must be 0 or more"),
        ([1.0, np.nan, 1.0], "sample_weight has nan at row 1; values must be finite"),
        ([1.0, 1.0, np.inf], "sample_weight has inf at row 2; values must be finite"),
        ([0.0, 0.0, 0.0], "sample_weight sums to 0; accepted: a positive, finite sum"),
        ([1e-60, 0.0, 0.0], "sample_weight sums to 0; accepted: a positive, finite sum"),
        ([1.0, 2.0], "sample_weight has 2 rows, but X has 3"),
        ([[1.0], [2.0], [3.0]], "sample_weight has shape (3, 1); accepted: (3,), one weight per row"),
        (1.0, "sample_weight is a single number; accepted: an array with one row per example"),
    ],
)
def test_weights_that_do_not_fit(weight, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_weight(weight, 3, F32)


def test_weights_whose_sum_is_infinite():
    with pytest.raises(ValueError, match="sample_weight sums to inf; accepted: a positive, finite sum"):
        check_weight([1.7e308, 1.7e308], 2, F64)
