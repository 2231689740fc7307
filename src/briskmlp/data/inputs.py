"""X, Y and the weights of examples: any user's array → what the kernels accept, or one clear error.

A kernel reads aligned rows of native float32 or float64 whose columns lie side by side; the distance between rows
is free. What already lies so, in memory or in a memory map, is used in place. Other arrays in memory are converted
once. Other memory maps and sparse matrices may be larger than memory, so they are staged: only the rows of a batch
are converted, each time they are needed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._messages import count
from briskmlp.data import arrays
from briskmlp.data.arrays import Dtype


class Inputs:
    """The n rows (examples) of X as the kernels read them; made by `check_inputs`.

    ``array`` is (n, n_in) of the dtype asked for, native, aligned, unit stride along columns, any stride along rows;
    maybe read-only, maybe the user's own memory. It is None when rows must be staged with `take`.
    """

    __slots__ = ("_dtype", "_n_in", "_source", "array", "n")

    def __init__(self, source: Any, n_in: int, dtype: Dtype, array: NDArray[Any] | None) -> None:
        self.n: int = source.shape[0]
        self.array, self._n_in, self._dtype = array, n_in, dtype
        self._source: Any = source if array is None else None  # ndarray (n, …) or SciPy's CSR (n, n_in)

    def take(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return the rows of an index vector or a slice, (len(rows), n_in), C-contiguous; maybe a view of `array`."""
        if self.array is not None:
            return np.ascontiguousarray(self.array[rows])
        source = self._source[rows]
        if not isinstance(source, np.ndarray):
            return np.asarray(source.toarray())
        batch = np.empty((len(source), self._n_in), self._dtype)
        arrays.cast(source, batch)
        return batch


def check_inputs(X: object, n_in: int, dtype: Dtype, name: str = "X") -> Inputs:
    """Check X and lay out its rows for the kernels, without a copy where possible; errors call it ``name``.

    X is an array_like, data frame, DLPack tensor or scipy.sparse matrix of shape (n, n_in), (n,) when n_in is 1, or
    (n, …), which is flattened; of any real dtype, byte order and layout; it is never written to. Or it is `Inputs` of
    this width and ``dtype``, float32 or float64, what the kernels compute in. A TypeError says that it does not hold
    real numbers: None, text, dates, objects, complex, ragged, masked values; a ValueError that it is empty or has
    another width, or that a value is NaN or infinite, or overflows ``dtype``.

    Examples
    --------
    >>> inputs = check_inputs([[1, 2], [3, 4], [5, 6]], 2, np.dtype("float32"))
    >>> inputs.n
    3
    >>> inputs.take(np.array([2, 0]))
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """
    if isinstance(X, Inputs):
        if (X._n_in, X._dtype) != (n_in, dtype):
            raise ValueError(f"X is {X._dtype} (n, {X._n_in}), but the network reads {dtype} (n, {n_in})")
        return X
    sparse = arrays.is_sparse(X)
    source: Any = X if sparse else arrays.read(X, name)
    _check_shape(source.shape, n_in, name, "first")
    if sparse:
        return Inputs(arrays.read_sparse(X, dtype, name), n_in, dtype, None)
    array = arrays.in_place(source, n_in, dtype)
    if array is None and not arrays.is_mapped(source):
        return Inputs(source, n_in, dtype, arrays.convert(source, n_in, dtype, name))
    inputs = Inputs(source, n_in, dtype, array)
    if source.dtype.kind == "f":  # integers are finite in either dtype: no need to read the file
        for rows in arrays.chunks(len(source), n_in):
            arrays.check_finite(inputs.take(rows), source, rows, name)
    return inputs


def check_targets(
    Y: object, n: int, n_out: int, n_labels: int | None, dtype: Dtype, *, name: str = "Y", domain: str | None = None
) -> NDArray[Any]:
    """Check Y and return dense targets (n, n_out) of `dtype`, or labels (n,) of int64; C-contiguous.

    Dense targets are (n, n_out), or (n, …) of as many values, and their ``domain`` is any finite values (None), each 0
    or more ("counts"), each in [0, 1] ("each"), or also each row with the sum 1 ("rows"), within 1e-3, as float16 keeps
    2**-11. Where ``n_labels`` is given and n_out > 1, a Y of integer or bool dtype and shape (n,) or (n, 1) is labels
    0 … n_labels-1. A TypeError says that Y does not hold real numbers; a ValueError that it has other rows or columns
    than it must, or that a label or value is out of range.

    Examples
    --------
    >>> check_targets([2, 0], 2, 3, 3, np.dtype("float32"))
    array([2, 0])
    >>> check_targets([True, False], 2, 1, 2, np.dtype("float32"))
    array([[1.],
           [0.]], dtype=float32)
    """
    source = arrays.read(Y, name)
    _check_rows(source, n, name)
    if n_out > 1 and source.shape[1:] in ((), (1,)):
        if source.dtype.kind not in "bui" or n_labels is None:
            needed = [] if n_labels else ['output="softmax"' if domain == "each" else 'loss="cross_entropy"']
            raise _not_labels(source, n_out, needed, name)
        labels, rule = source.reshape(n), f"labels must be 0 to {n_labels - 1}"
        # Before the cast: a large uint64 would wrap.
        arrays.refuse((labels < 0) | (labels >= n_labels), labels, f"{name} has label", rule)
        return np.require(labels, np.int64, ["C", "A"])
    _check_shape(source.shape, n_out, name, "last")
    targets = arrays.dense(source, n_out, dtype, name)
    if domain is None:
        return targets
    high, accepted = (math.inf, "0 or more") if domain == "counts" else (1, "from 0 to 1")
    for rows in arrays.chunks(*targets.shape):
        chunk, rule = targets[rows], f"targets of this loss must be {accepted}"
        arrays.refuse((chunk < 0) | (chunk > high), chunk, f"{name} has", rule, rows.start)
        sums = chunk.sum(axis=1, dtype=np.float64)
        if domain == "rows" and (bad := abs(sums - 1) > 1e-3).any():
            row = int(bad.argmax())
            raise ValueError(f"{name} sums to {sums[row]:.6g} at row {rows.start + row}; each row must sum to 1")
    return targets


def check_weight(weight: object, n: int, dtype: Dtype, name: str = "sample_weight") -> NDArray[Any] | None:
    """Check the weights of the examples and return them as (n,) of `dtype`; None stays None.

    A TypeError says that they are not real numbers; a ValueError that their shape is not (n,), that one is negative or
    not finite, or that their sum is not positive.

    Examples
    --------
    >>> check_weight([1, 2], 2, np.dtype("float64"))
    array([1., 2.])
    """
    if weight is None:
        return None
    source = arrays.read(weight, name)
    _check_rows(source, n, name)
    if source.ndim != 1:
        raise ValueError(f"{name} has shape {source.shape}; accepted: ({n},), one weight per row")
    weights = arrays.dense(source, 1, dtype, name)[:, 0]
    arrays.refuse(weights < 0, weights, f"{name} has", "weights must be 0 or more")
    total = float(weights.sum(dtype=np.longdouble))
    if not 0 < total < math.inf:
        raise ValueError(f"{name} sums to {total:g}; accepted: a positive, finite sum")
    return weights


def _check_rows(source: NDArray[Any], n: int, name: str) -> None:
    if len(source) != n:
        of = " ".join((*name.split()[:-1], "X"))  # "validation Y" belongs to "validation X"
        raise ValueError(f"{name} has {count(len(source), 'row')}, but {of} has {n}")


def _check_shape(shape: tuple[int, ...], width: int, name: str, layer: str) -> None:
    if 0 in shape:
        raise ValueError(f"{name} is empty, of shape {shape}; accepted: (n, {width}) with n >= 1")
    columns = math.prod(shape[1:])
    if columns != width:
        came = count(columns, "column") + (f" (shape {shape})" if len(shape) != 2 else "")
        hint = f"; a single row is {name}.reshape(1, -1)" if layer == "first" and shape == (width,) else ""
        raise ValueError(f"{name} has {came}, but the network's {layer} layer has {count(width, 'neuron')}{hint}")


def _not_labels(source: NDArray[Any], n_out: int, needed: list[str], name: str) -> ValueError:
    """Return the error for one value per row where the last layer has several neurons; labels need what is given."""
    needed += ["an integer dtype"] * (source.dtype.kind == "f")
    with np.errstate(all="ignore"):
        like_labels = bool((source == np.floor(source)).all())
    hint = f"; class labels need {' and '.join(needed)}" if like_labels else ""
    came = f"{name} has 1 column (shape {source.shape})"
    return ValueError(f"{came}, but the network's last layer has {n_out} neurons{hint}")
