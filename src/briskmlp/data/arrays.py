"""Whatever holds a user's numbers, read as rows of one float dtype.

Reading copies nothing that is an array already: pandas, DLPack, buffers and memory maps are used where they lie.
Conversions and scans take bounded chunks of rows. Values must be finite once they are converted.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dtype = np.dtype[Any]

CHUNK_BYTES = 16 * 2**20  # what one step of a conversion or scan may hold in memory
NUMBERS = "bool, integer or floating-point numbers"


def read(X: Any, name: str) -> NDArray[Any]:
    """Return an ndarray of real numbers of any dtype, with at least one dimension; not a copy, where possible.

    Anything else is a TypeError: None, text, dates, objects, complex, ragged, masked values; a number, a ValueError.
    """
    if X is None:
        raise TypeError(f"{name} is None; accepted: an array of {NUMBERS}")
    # Only a process that loaded numpy.ma has masked arrays; loading it for this question takes 10 ms.
    if "numpy.ma" in sys.modules and isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise TypeError(f"{name} has masked values; accepted: {NUMBERS}, such as {name}.filled(0)")
    try:
        only_dlpack = hasattr(X, "__dlpack__") and not hasattr(X, "__array__")
        array: NDArray[Any] = np.from_dlpack(X) if only_dlpack else np.asarray(X)
    except (AttributeError, BufferError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        # The data is at fault; MemoryError and the like pass through.
        reason = "its rows differ in length" if "inhomogeneous" in str(error) else error
        came = f"{name} is a {type(X).__name__} that NumPy cannot read: {reason}"
        raise TypeError(f"{came}; accepted: an array of {NUMBERS}") from error
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
    return np.array(values).T.reshape(X.shape)


def is_sparse(X: object) -> bool:
    """Return whether X is one of SciPy's sparse matrices or arrays."""
    sparse = sys.modules.get("scipy.sparse")  # without it loaded, X cannot be one of them
    return sparse is not None and bool(sparse.issparse(X))


def read_sparse(X: Any, dtype: Dtype, name: str) -> Any:
    """Return a sparse X as SciPy's CSR of ``dtype``, its values finite and each entry stored once.

    X must hold real numbers (TypeError) and be two-dimensional, finite and within ``dtype`` (ValueError).
    """
    if X.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {X.dtype}; accepted: {NUMBERS}")
    if X.ndim != 2:
        raise ValueError(f"{name} is sparse, of shape {X.shape}; accepted: sparse with 2 dimensions")
    # SciPy computes in native order and not in float16.
    native = np.promote_types(X.dtype, np.float32) if X.dtype.kind == "f" else X.dtype.newbyteorder("=")
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
    return type(csr)((data, csr.indices, csr.indptr), shape=csr.shape)


def is_mapped(array: Any) -> bool:
    """Return whether an array's memory is a file."""
    while array is not None:
        if isinstance(array, (np.memmap, mmap.mmap)):
            return True
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return False


# source (n, ...) → rows (n, width) of dtype; the values of a row are those of its C order.


def in_place(source: NDArray[Any], width: int, dtype: Dtype) -> NDArray[Any] | None:
    """Return a view of the source whose columns lie side by side, or None where that takes a copy."""
    if source.dtype != dtype or not source.flags.aligned or not source[:1].flags.c_contiguous:
        return None
    # Strides of axes of length 1 are arbitrary in NumPy; here they are what C order makes them.
    row_stride = source.strides[0] if len(source) > 1 else width * dtype.itemsize
    return np.lib.stride_tricks.as_strided(source, (len(source), width), (row_stride, dtype.itemsize))


def dense(source: NDArray[Any], width: int, dtype: Dtype, name: str) -> NDArray[Any]:
    """Return finite rows (n, width), C-contiguous, in place where possible."""
    array = in_place(source, width, dtype)
    if array is None or not array.flags.c_contiguous:
        return convert(source, width, dtype, name)
    for rows in chunks(len(source), width):
        check_finite(array[rows], source, rows, name)
    return array


def convert(source: NDArray[Any], width: int, dtype: Dtype, name: str) -> NDArray[Any]:
    """Return a copy, finite rows (n, width)."""
    array = np.empty((len(source), width), dtype)
    for rows in chunks(len(source), width):
        cast(source[rows], array[rows])
        check_finite(array[rows], source, rows, name)
    return array


def cast(source: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the values of ``source`` to ``out``, contiguous and of as many values."""
    with np.errstate(all="ignore"):  # what overflows is reported by check_finite
        np.copyto(out.reshape(source.shape), source, casting="unsafe")


def chunks(n: int, width: int) -> Iterator[slice]:
    """Cut n rows into slices that may be held in memory as float64."""
    step = max(1, CHUNK_BYTES // (8 * width))
    return (slice(start, start + step) for start in range(0, n, step))


def check_finite(chunk: NDArray[Any], source: NDArray[Any], rows: slice, name: str) -> None:
    """Raise a ValueError if ``chunk``, which is ``source[rows]`` after its conversion, has NaN or infinity."""
    if source.dtype.kind != "f" or (finite := np.isfinite(chunk)).all():
        return
    row, column = divmod(int(finite.argmin()), chunk.shape[1])
    value = source[rows.start + row].reshape(-1)[column]
    where = f"row {rows.start + row}" + (f", column {column}" if source.ndim > 1 else "")
    raise _not_finite(value, where, chunk.dtype, name)


def refuse(bad: NDArray[np.bool_], values: NDArray[Any], what: str, rule: str, start: int = 0) -> None:
    """Raise a ValueError for the first of some values (n,) or (n, width) that is bad; they begin at row ``start``."""
    if bad.any():
        place = np.unravel_index(int(bad.argmax()), bad.shape)
        where = f"row {start + place[0]}" + "".join(f", column {column}" for column in place[1:])
        raise ValueError(f"{what} {values[place]} at {where}; {rule}")


def _not_finite(value: Any, where: str, dtype: Dtype, name: str) -> ValueError:
    # !s, because format() of a longdouble goes through float64.
    if np.isfinite(value):
        limit = f"values must be within ±{np.finfo(dtype).max:.3g}"
        return ValueError(f"{name} has {value!s} at {where}, which overflows {dtype}; {limit}")
    return ValueError(f"{name} has {value!s} at {where}; values must be finite")
