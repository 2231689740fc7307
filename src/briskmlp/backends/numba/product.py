"""The matrix product of small layers: register tiles, no packing.

C[i, j] = init[i, j] + Σ_p A[i, p] B[p, j]        i < m, j < n, p < k

All operands lie in flat arrays and are addressed as offset + index * stride. A's strides are free, so that one kernel
serves A and its transpose; B, init and C have unit stride along j. Loops: tiles of ROWS × one or two Vecs of C in
registers, then p. m is a multiple of ROWS and n of a Vec: the workspace pads its rows and columns, see layout.py.
"""

from __future__ import annotations

from typing import Any

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.vector import WIDE, broadcast, fma, load, splat, store, width

ROWS = 8


@jit
def product(
    A: Any, a: int, a_i: int, a_p: int, B: Any, b: int, b_p: int,
    init: Any, z: int, z_i: int, C: Any, c: int, c_i: int, m: int, n: int, k: int,
) -> None:  # fmt: skip
    """Write C = init + A @ B; strides are ``x_i`` along i and ``x_p`` along p."""
    lanes = width(A)
    for _ in range(0, m, ROWS):
        j = 0
        if WIDE:  # 16 accumulators need the 32 registers of AVX-512
            while j + 2 * lanes <= n:
                tile_double(A, a, a_i, a_p, B, b + j, b_p, init, z + j, z_i, C, c + j, c_i, k)
                j += 2 * lanes
        while j < n:
            tile_single(A, a, a_i, a_p, B, b + j, b_p, init, z + j, z_i, C, c + j, c_i, k)
            j += lanes
        a, z, c = a + ROWS * a_i, z + ROWS * z_i, c + ROWS * c_i


@jit
def tile_single(
    A: Any, a: int, a_i: int, a_p: int, B: Any, b: int, b_p: int,
    init: Any, z: int, z_i: int, C: Any, c: int, c_i: int, k: int,
) -> None:  # fmt: skip
    """Write ROWS × one Vec of C."""
    x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = splat(A, 0.0)
    for _ in range(k):
        w = load(B, b)
        x0 = fma(broadcast(A, a), w, x0)
        x1 = fma(broadcast(A, a + a_i), w, x1)
        x2 = fma(broadcast(A, a + 2 * a_i), w, x2)
        x3 = fma(broadcast(A, a + 3 * a_i), w, x3)
        x4 = fma(broadcast(A, a + 4 * a_i), w, x4)
        x5 = fma(broadcast(A, a + 5 * a_i), w, x5)
        x6 = fma(broadcast(A, a + 6 * a_i), w, x6)
        x7 = fma(broadcast(A, a + 7 * a_i), w, x7)
        a += a_p
        b += b_p
    store(C, c, load(init, z) + x0)
    store(C, c + c_i, load(init, z + z_i) + x1)
    store(C, c + 2 * c_i, load(init, z + 2 * z_i) + x2)
    store(C, c + 3 * c_i, load(init, z + 3 * z_i) + x3)
    store(C, c + 4 * c_i, load(init, z + 4 * z_i) + x4)
    store(C, c + 5 * c_i, load(init, z + 5 * z_i) + x5)
    store(C, c + 6 * c_i, load(init, z + 6 * z_i) + x6)
    store(C, c + 7 * c_i, load(init, z + 7 * z_i) + x7)


@jit
def tile_double(
    A: Any, a: int, a_i: int, a_p: int, B: Any, b: int, b_p: int,
    init: Any, z: int, z_i: int, C: Any, c: int, c_i: int, k: int,
) -> None:  # fmt: skip
    """Write ROWS × two Vecs of C: each broadcast feeds two products."""
    lanes = width(A)
    x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = splat(A, 0.0)
    y0 = y1 = y2 = y3 = y4 = y5 = y6 = y7 = splat(A, 0.0)
    for _ in range(k):
        w, v = load(B, b), load(B, b + lanes)
        s = broadcast(A, a)
        x0, y0 = fma(s, w, x0), fma(s, v, y0)
        s = broadcast(A, a + a_i)
        x1, y1 = fma(s, w, x1), fma(s, v, y1)
        s = broadcast(A, a + 2 * a_i)
        x2, y2 = fma(s, w, x2), fma(s, v, y2)
        s = broadcast(A, a + 3 * a_i)
        x3, y3 = fma(s, w, x3), fma(s, v, y3)
        s = broadcast(A, a + 4 * a_i)
        x4, y4 = fma(s, w, x4), fma(s, v, y4)
        s = broadcast(A, a + 5 * a_i)
        x5, y5 = fma(s, w, x5), fma(s, v, y5)
        s = broadcast(A, a + 6 * a_i)
        x6, y6 = fma(s, w, x6), fma(s, v, y6)
        s = broadcast(A, a + 7 * a_i)
        x7, y7 = fma(s, w, x7), fma(s, v, y7)
        a += a_p
        b += b_p
    store_double(C, c, init, z, x0, y0)
    store_double(C, c + c_i, init, z + z_i, x1, y1)
    store_double(C, c + 2 * c_i, init, z + 2 * z_i, x2, y2)
    store_double(C, c + 3 * c_i, init, z + 3 * z_i, x3, y3)
    store_double(C, c + 4 * c_i, init, z + 4 * z_i, x4, y4)
    store_double(C, c + 5 * c_i, init, z + 5 * z_i, x5, y5)
    store_double(C, c + 6 * c_i, init, z + 6 * z_i, x6, y6)
    store_double(C, c + 7 * c_i, init, z + 7 * z_i, x7, y7)


@jit
def store_double(C: Any, c: int, init: Any, z: int, x: Any, y: Any) -> None:
    """Write two Vecs of one row."""
    lanes = width(C)
    store(C, c, load(init, z) + x)
    store(C, c + lanes, load(init, z + lanes) + y)
