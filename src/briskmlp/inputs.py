"""Any user's array → what the kernels accept, or one clear error.

A kernel reads aligned rows of native float32 or float64 whose columns lie side by side; the distance
between rows is free. What already lies so, in memory or in a memory map, is used in place. Other
arrays in memory are converted once. Other memory maps and sparse matrices may be larger than memory,
so they are staged: only the rows of a batch are converted, each time they are needed.
Values must be finite after the conversion, which is checked here once, in bounded chunks.
"""

import math
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 16 * 2**20  # what one step of a conversion or scan may hold in memory
NUMBERS = "bool, integer or floating-point numbers"

# What reading may raise when the data is at fault; MemoryError and the like pass through.
_UNREADABLE = (AttributeError, BufferError, OverflowError, RuntimeError, TypeError, ValueError)


class Inputs:
    """The rows of X as the kernels read them; made by `check_inputs`.

    Attributes
    ----------
    n : int
        Number of rows (examples).
    array : ndarray (n, n_in) or None
        Of the dtype asked for, native, aligned, unit stride along columns, any stride along rows;
        maybe read-only, maybe the user's own memory. None when rows must be staged with `take`.
    """

    __slots__ = ("_dtype", "_n_in", "_source", "array", "n")

    def __init__(self, source: Any, n_in: int, dtype: np.dtype[Any], array: NDArray[Any] | None) -> None:
        self.n: int = source.shape[0]
        self.array = array
        self._source: Any = source if array is None else None  # ndarray (n, ...) or scipy CSR (n, n_in)
        self._n_in = n_in
        self._dtype = dtype

    def take(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return the rows asked for, shape (len(rows), n_in), finite and C-contiguous.

        `rows` is an int64 index vector or a slice. The result may be a view of `array`.
        """
        if self.array is not None:
            return np.ascontiguousarray(self.array[rows])
        source = self._source[rows]
        if not isinstance(source, np.ndarray):
            return np.asarray(source.toarray())
        batch = np.empty((len(source), self._n_in), self._dtype)
        _cast(source, batch)
        return batch


def check_inputs(X: object, n_in: int, dtype: np.dtype[Any], name: str = "X") -> Inputs:
    """Check X and lay out its rows for the kernels, without a copy where possible.

    Parameters
    ----------
    X : array_like, data frame, DLPack tensor or scipy.sparse matrix
        Shape (n, n_in); or (n,) when n_in is 1; or (n, ...), which is flattened to (n, n_in).
        Any real dtype, byte order and layout. It is never written to.
    n_in : int
        Neurons of the network's first layer.
    dtype : dtype
        float32 or float64, what the kernels compute in.
    name : str
        What errors call X.

    Raises
    ------
    TypeError
        X does not hold real numbers: None, text, dates, objects, complex, ragged, masked values.
    ValueError
        X is empty or has another width, or a value is NaN or infinite, or overflows `dtype`.

    Examples
    --------
    >>> inputs = check_inputs([[1, 2], [3, 4], [5, 6]], 2, np.dtype("float32"))
    >>> inputs.n
    3
    >>> inputs.take(np.array([2, 0]))
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """
    dtype = np.dtype(dtype)
    if _is_sparse(X):
        return _check_sparse(X, n_in, dtype, name)
    source = _read(X, name)
    _check_shape(source.shape, n_in, name, "first")
    array = _in_place(source, n_in, dtype)
    if array is None and not _is_mapped(source):
        return Inputs(source, n_in, dtype, _convert(source, n_in, dtype, name))
    inputs = Inputs(source, n_in, dtype, array)
    if source.dtype.kind == "f":  # integers are finite in either dtype: no need to read the file
        for rows in _chunks(source, n_in, dtype):
            _check_finite(inputs.take(rows), source, rows, name)
    return inputs


def check_targets(
    Y: object,
    n: int,
    n_out: int,
    n_labels: int | None,
    dtype: np.dtype[Any],
    *,
    name: str = "Y",
    probabilities: str | None = None,
) -> NDArray[Any]:
    """Check Y and return dense targets (n, n_out) of `dtype`, or labels (n,) of int64; C-contiguous.

    Parameters
    ----------
    Y : array_like
        Dense targets, (n, n_out) or (n, ...) of as many values; or labels, see `n_labels`.
    n : int
        Rows of X.
    n_out : int
        Neurons of the network's last layer.
    n_labels : int or None
        When given and n_out > 1, a Y of integer or bool dtype and shape (n,) or (n, 1) is labels
        0 … n_labels-1. When 2 and n_out = 1, targets must lie in [0, 1]. None: no labels.
    dtype : dtype
        float32 or float64, of dense targets.
    name : str
        What errors call Y.
    probabilities : {None, "each", "rows"}
        Dense targets may be any finite values; or each must lie in [0, 1]; or also each row must sum
        to 1 within 1e-3 (float16 keeps 2**-11).

    Raises
    ------
    TypeError
        Y does not hold real numbers.
    ValueError
        Y has other rows or columns than it must, or a label or value is out of range.

    Examples
    --------
    >>> check_targets([2, 0], 2, 3, 3, np.dtype("float32"))
    array([2, 0])
    >>> check_targets([True, False], 2, 1, 2, np.dtype("float32"))
    array([[1.],
           [0.]], dtype=float32)
    """
    dtype = np.dtype(dtype)
    source = _read(Y, name)
    _check_rows(source, n, name)
    if n_out > 1 and source.shape[1:] in ((), (1,)):
        if source.dtype.kind not in "bui" or n_labels is None:
            raise _not_labels(source, n_out, n_labels, name)
        return _check_labels(source.reshape(n), n_labels, name)
    _check_shape(source.shape, n_out, name, "last")
    targets = _dense(source, n_out, dtype, name)
    if n_out == 1 and n_labels == 2:
        probabilities = probabilities or "each"
    if probabilities is not None:
        _check_probabilities(targets, probabilities, name)
    return targets


def check_weight(weight: object, n: int, dtype: np.dtype[Any], name: str = "sample_weight") -> NDArray[Any] | None:
    """Check the weights of the examples and return them as (n,) of `dtype`; None stays None.

    Raises
    ------
    TypeError
        They are not real numbers.
    ValueError
        Their shape is not (n,), or one is negative or not finite, or their sum is not positive.

    Examples
    --------
    >>> check_weight([1, 2], 2, np.dtype("float64"))
    array([1., 2.])
    """
    if weight is None:
        return None
    source = _read(weight, name)
    _check_rows(source, n, name)
    if source.ndim != 1:
        raise ValueError(f"{name} has shape {source.shape}; accepted: ({n},), one weight per row")
    weights = _dense(source, 1, np.dtype(dtype), name)[:, 0]
    if (negative := weights < 0).any():
        row = int(negative.argmax())
        raise ValueError(f"{name} has {weights[row]} at row {row}; weights must be 0 or more")
    total = float(weights.sum(dtype=np.longdouble))
    if not 0 < total < math.inf:
        raise ValueError(f"{name} sums to {total:g}; accepted: a positive, finite sum")
    return weights


# Reading: from whatever the user has to an ndarray of real numbers, copying nothing that is one.


def _read(X: Any, name: str) -> NDArray[Any]:
    if X is None:
        raise TypeError(f"{name} is None; accepted: an array of {NUMBERS}")
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise TypeError(f"{name} has masked values; accepted: {NUMBERS}, such as {name}.filled(0)")
    try:
        only_dlpack = hasattr(X, "__dlpack__") and not hasattr(X, "__array__")
        array: NDArray[Any] = np.from_dlpack(X) if only_dlpack else np.asarray(X)
    except _UNREADABLE as error:
        reason = "its rows differ in length" if "inhomogeneous" in str(error) else error
        raise TypeError(
            f"{name} is a {type(X).__name__} that NumPy cannot read: {reason}; accepted: an array of {NUMBERS}"
        ) from error
    if array.dtype.kind == "O" and hasattr(X, "iloc"):
        array = _read_pandas(X, name)
    if array.dtype.kind not in "buif":
        came = f"has dtype {array.dtype}" if array.ndim else f"is a {type(X).__name__}"
        raise TypeError(f"{name} {came}; accepted: a dense array of {NUMBERS}")
    if array.ndim == 0:
        raise ValueError(f"{name} is a single number; accepted: an array with one row per example")
    return array


def _read_pandas(X: Any, name: str) -> NDArray[Any]:
    # pandas joins bool with float columns, and integers with missing values, to objects.
    columns = [X.iloc[:, j] for j in range(X.shape[1])] if X.ndim == 2 else [X]
    for column in columns:
        if getattr(column.dtype, "kind", "O") not in "buif":
            where = f"column {column.name!r} of {name}" if X.ndim == 2 else name
            raise TypeError(f"{where} has dtype {column.dtype}; accepted: {NUMBERS}")
    values = [column.to_numpy(dtype="float64", na_value=np.nan) for column in columns]
    return np.stack(values, axis=1) if X.ndim == 2 else np.asarray(values[0])


def _is_mapped(array: Any) -> bool:
    while array is not None:
        if isinstance(array, (np.memmap, mmap.mmap)):
            return True
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return False


def _is_sparse(X: object) -> bool:
    sparse = sys.modules.get("scipy.sparse")  # without it loaded, X cannot be one of its matrices
    return sparse is not None and bool(sparse.issparse(X))


def _check_sparse(X: Any, n_in: int, dtype: np.dtype[Any], name: str) -> Inputs:
    if X.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {X.dtype}; accepted: {NUMBERS}")
    if X.ndim != 2:
        raise ValueError(f"{name} is sparse and has {_count(X.ndim, 'dimension')}; accepted: sparse with 2 dimensions")
    _check_shape(X.shape, n_in, name, "first")
    # SciPy computes in native order and not in float16.
    floating = X.dtype.kind == "f"
    native = np.promote_types(X.dtype, np.float32) if floating else X.dtype.newbyteorder("=")
    csr = X.astype(native, copy=False).tocsr()
    if not csr.has_canonical_format:  # unsorted or repeated entries; X itself must not change
        csr = csr.copy()
        csr.sum_duplicates()
    with np.errstate(all="ignore"):
        data = csr.data.astype(dtype, copy=False)
    if not (finite := np.isfinite(data)).all():
        k = int(finite.argmin())
        row = int(np.searchsorted(csr.indptr, k, side="right")) - 1
        raise _not_finite(csr.data[k], f"row {row}, column {csr.indices[k]}", dtype, name)
    csr = type(csr)((data, csr.indices, csr.indptr), shape=(X.shape[0], n_in))
    return Inputs(csr, n_in, dtype, None)


# Layout: source (n, ...) → rows (n, width) of dtype. The values of a row are those of its C order.


def _in_place(source: NDArray[Any], width: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return a view of the source as the kernels read it, or None where that takes a copy."""
    n = len(source)
    if source.dtype != dtype or not source.flags.aligned or not source[:1].flags.c_contiguous:
        return None
    # Strides of axes of length 1 are arbitrary in NumPy; here they are what C order makes them.
    row_stride = source.strides[0] if n > 1 else width * dtype.itemsize
    strides = (row_stride, dtype.itemsize)
    return np.lib.stride_tricks.as_strided(source, (n, width), strides)


def _dense(source: NDArray[Any], width: int, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return finite rows (n, width), C-contiguous, in place where possible."""
    array = _in_place(source, width, dtype)
    if array is None or not array.flags.c_contiguous:
        return _convert(source, width, dtype, name)
    for rows in _chunks(source, width, dtype):
        _check_finite(array[rows], source, rows, name)
    return array


def _convert(source: NDArray[Any], width: int, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    array = np.empty((len(source), width), dtype)
    for rows in _chunks(source, width, dtype):
        _cast(source[rows], array[rows])
        _check_finite(array[rows], source, rows, name)
    return array


def _cast(source: NDArray[Any], out: NDArray[Any]) -> None:
    with np.errstate(all="ignore"):  # what overflows is reported by _check_finite
        np.copyto(out.reshape(source.shape), source, casting="unsafe")


def _chunks(source: NDArray[Any], width: int, dtype: np.dtype[Any]) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // (width * max(source.itemsize, dtype.itemsize)))
    return (slice(start, start + step) for start in range(0, len(source), step))


# Checks, each with its error.


def _check_finite(chunk: NDArray[Any], source: NDArray[Any], rows: slice, name: str) -> None:
    if source.dtype.kind != "f" or (finite := np.isfinite(chunk)).all():
        return
    row, column = divmod(int(finite.argmin()), chunk.shape[1])
    value = source[rows.start + row].reshape(-1)[column]
    where = f"row {rows.start + row}" + (f", column {column}" if source.ndim > 1 else "")
    raise _not_finite(value, where, chunk.dtype, name)


def _not_finite(value: Any, where: str, dtype: np.dtype[Any], name: str) -> ValueError:
    # !s, because format() of a longdouble goes through float64.
    if np.isfinite(value):
        limit = f"values must be within ±{np.finfo(dtype).max:.3g}"
        return ValueError(f"{name} has {value!s} at {where}, which overflows {dtype}; {limit}")
    return ValueError(f"{name} has {value!s} at {where}; values must be finite")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _check_rows(source: NDArray[Any], n: int, name: str) -> None:
    if len(source) != n:
        raise ValueError(f"{name} has {_count(len(source), 'row')}, but X has {n}")


def _check_shape(shape: tuple[int, ...], width: int, name: str, layer: str) -> None:
    if 0 in shape:
        raise ValueError(f"{name} is empty, of shape {shape}; accepted: (n, {width}) with n >= 1")
    columns = math.prod(shape[1:])
    if columns == width:
        return
    came = _count(columns, "column") + (f" (shape {shape})" if len(shape) != 2 else "")
    single_row = layer == "first" and shape == (width,)
    raise ValueError(
        f"{name} has {came}, but the network's {layer} layer has {_count(width, 'neuron')}"
        + (f"; a single row is {name}.reshape(1, -1)" if single_row else "")
    )


def _not_labels(source: NDArray[Any], n_out: int, n_labels: int | None, name: str) -> ValueError:
    """Return the error for one value per row where the last layer has several neurons."""
    advice = ['loss="cross_entropy"'] if n_labels is None else []
    if source.dtype.kind == "f":
        advice.append("an integer dtype")
    with np.errstate(all="ignore"):
        like_labels = bool((source == np.floor(source)).all())
    return ValueError(
        f"{name} has 1 column (shape {source.shape}), but the network's last layer has {n_out} neurons"
        + (f"; class labels need {' and '.join(advice)}" if like_labels else "")
    )


def _check_labels(labels: NDArray[Any], n_labels: int, name: str) -> NDArray[np.int64]:
    # Before the cast: a large uint64 would wrap.
    if (bad := (labels < 0) | (labels >= n_labels)).any():
        row = int(bad.argmax())
        raise ValueError(f"{name} has label {labels[row]} at row {row}; labels must be 0 to {n_labels - 1}")
    return np.require(labels, np.int64, ["C", "A"])


def _check_probabilities(targets: NDArray[Any], probabilities: str, name: str) -> None:
    for rows in _chunks(targets, targets.shape[1], targets.dtype):
        chunk = targets[rows]
        if (bad := (chunk < 0) | (chunk > 1)).any():
            row, column = divmod(int(bad.argmax()), chunk.shape[1])
            raise ValueError(
                f"{name} has {chunk[row, column]} at row {rows.start + row}, column {column}; "
                f"targets of this loss must be from 0 to 1"
            )
        sums = chunk.sum(axis=1, dtype=np.float64)
        if probabilities == "rows" and (bad := abs(sums - 1) > 1e-3).any():
            row = int(bad.argmax())
            raise ValueError(f"{name} sums to {sums[row]:.6g} at row {rows.start + row}; each row must sum to 1")
