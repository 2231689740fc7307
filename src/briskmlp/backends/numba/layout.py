"""Where everything lies in the workspace of a plan: padded parameters, activations and deltas in one flat buffer.

Every width is padded to a multiple of a Vec (and of the product's ROWS), so that no kernel has a ragged edge. Pads
hold zeros, and stay zero: activations and deltas are masked, so that no gradient reaches a padded weight. Rows are
taken in chunks of a fixed size, whose activations stay in cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.product import ROWS
from briskmlp.backends.numba.vector import lanes
from briskmlp.network import FloatArray
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, BIAS_NONE, Ints, Plan

# Products of this many multiply-adds and more go to BLAS, which blocks for the caches and has threads. Below, the
# register tiles of product.py are faster: on one core of a Zen 5 they run at 210-235 GFLOP/s up to 128 × 784 × 256,
# where OpenBLAS runs at 115 on one and 217 on two (bench/bench_product.py).
BLAS_FROM = 2**26
SMALL_CHUNK, LARGE_CHUNK = 128, 4096  # rows; small networks keep a chunk in L2, large ones feed BLAS
_LINE = 64  # bytes: every part starts on a cache line


class Work(NamedTuple):
    """A workspace: one flat buffer and where the parts start in it, in numbers of its dtype."""

    buffer: FloatArray
    order: Ints  # (n,) the order of the epoch in progress
    order_epoch: Ints  # (1,) the epoch it belongs to; -1 for none
    chunk: int  # rows at once
    widths: Ints  # (L+1,) padded
    weights: Ints  # (L,) padded parameters: where W[l] starts from their beginning
    biases: Ints  # (L,)
    n_padded: int  # numbers in the padded parameters
    blas: Ints  # (L,) 1 if the layer's products go to BLAS
    dense: int  # 1 if nothing is padded: parameters and state are then used in place
    params: int
    grad: int
    state: int  # (n_slots, n_padded)
    activations: Ints  # (L+1,) A[l], (chunk, widths[l])
    delta: Ints  # (2,) delta[l] and delta[l+1] in turn, (chunk, widest)
    transposed: Ints  # (L,) W[l].T, (widths[l+1], widths[l]), where the product does not go to BLAS
    row: int  # (widest,) a row of biases
    zeros: int  # (widest,) zeros
    product: int  # BLAS's result before it is added


def make_work(plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool) -> Work:
    """Lay out and allocate a workspace for calls over ``n`` rows."""
    n_layers = len(plan.activations)
    multiple = max(lanes(dtype), ROWS)
    widths = [_up(int(width), multiple) for width in plan.layers]
    widest = max(widths)
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    rows = min(n, plan.batch_size) if training and plan.batch_size else n
    blas = [min(rows, LARGE_CHUNK) * n_in * n_out >= BLAS_FROM for n_in, n_out in pairs]
    chunk = _up(min(rows, LARGE_CHUNK if any(blas) else SMALL_CHUNK), ROWS)

    weights, biases, end = [], [], 0
    for n_in, n_out in pairs:
        weights.append(end)
        biases.append(end + n_in * n_out)
        one = 1 if widths == plan.layers.tolist() else multiple
        end += n_in * n_out + {BIAS_LAYER: one, BIAS_NONE: 0}.get(plan.bias, n_out)
    n_padded = end

    cursor = _Cursor(_LINE // dtype.itemsize)
    slots = plan.n_slots if training else 0
    part = {
        "params": cursor.take(n_padded),
        "grad": cursor.take(n_padded if training else 0),
        "state": cursor.take(slots * n_padded),
        "row": cursor.take(widest),
        "zeros": cursor.take(widest),
    }
    activations = [cursor.take(chunk * width) for width in widths]
    delta = [cursor.take(chunk * widest) for _ in range(2)]
    turned = [training and l > 0 and not blas[l] for l in range(n_layers)]
    transposed = [cursor.take(n_in * n_out if turn else 0) for turn, (n_in, n_out) in zip(turned, pairs, strict=True)]
    largest = max(n_in * n_out for n_in, n_out in pairs)
    product = cursor.take(max(largest, chunk * widest) if any(blas) else 0)
    return Work(
        buffer=_zeros(cursor.end, dtype),
        order=np.empty(n if training else 0, dtype=np.int64),
        order_epoch=np.array([-1]),
        chunk=chunk,
        widths=np.array(widths),
        weights=np.array(weights),
        biases=np.array(biases),
        n_padded=n_padded,
        blas=np.array(blas, dtype=np.int64),
        dense=int(n_padded == plan.n_parameters),
        activations=np.array(activations),
        delta=np.array(delta),
        transposed=np.array(transposed),
        product=product,
        **part,
    )


@jit
def bias_size(bias: int, n_out: int) -> int:
    """Return how many biases a layer has."""
    if bias == BIAS_NEURON:
        return n_out
    return 1 if bias == BIAS_LAYER else 0


class _Cursor:
    """Hands out parts of a buffer, each on a cache line."""

    def __init__(self, line: int) -> None:
        self.end, self._line = 0, line

    def take(self, size: int) -> int:
        start = self.end
        self.end = _up(start + size, self._line)
        return start


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _zeros(n: int, dtype: np.dtype[Any]) -> FloatArray:
    """Return ``n`` zeros that start on a cache line."""
    line = _LINE // dtype.itemsize
    buffer = np.zeros(n + line, dtype=dtype)
    start = (-buffer.ctypes.data // dtype.itemsize) % line
    aligned: FloatArray = buffer[start : start + n]
    return aligned
