"""The matrix product of small layers: register tiles, no packing.

C[i, j] = init[i, j] + Σ_p A[i, p] B[p, j]        i < m, j < n, p < k

All operands lie in flat arrays and are addressed as offset + index * stride. A's strides are free, so that one kernel
serves A and its transpose; B, init and C have unit stride along j. Loops: tiles of ROWS × one or two Vecs of C in
registers, then p. m is a multiple of ROWS and n of a Vec: the workspace pads its rows and columns, see layout.py.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.vector import WIDE, VecType, address, call, offset, spread, width

ROWS = 8


@jit
def product(
    A: Any, a: int, a_i: int, a_p: int, B: Any, b: int, b_p: int,
    init: Any, z: int, z_i: int, C: Any, c: int, c_i: int, m: int, n: int, k: int,
) -> None:  # fmt: skip
    """Write C = init + A @ B; strides are ``x_i`` along i and ``x_p`` along p."""
    lanes = width(A)
    for _ in range(0, m, ROWS):
        j, left = 0, offset(A, a)
        if WIDE:  # 16 accumulators need the 32 registers of AVX-512
            while j + 2 * lanes <= n:
                tile(2, left, a_i, a_p, offset(B, b + j), b_p, offset(init, z + j), z_i, offset(C, c + j), c_i, k)
                j += 2 * lanes
        while j < n:
            tile(1, left, a_i, a_p, offset(B, b + j), b_p, offset(init, z + j), z_i, offset(C, c + j), c_i, k)
            j += lanes
        a, z, c = a + ROWS * a_i, z + ROWS * z_i, c + ROWS * c_i


@intrinsic(prefer_literal=True)
def tile(
    typing: Any, vecs: Any, A: Any, a_i: Any, a_p: Any, B: Any, b_p: Any,
    init: Any, z_i: Any, C: Any, c_i: Any, k: Any,
) -> Any:  # fmt: skip
    """Write ROWS × so many Vecs of C, whose sums stay in registers: each broadcast feeds as many products."""
    vec, n_bytes = VecType(A.dtype), A.dtype.bitwidth // 8
    columns, places = vecs.literal_value, [(i, j) for i in range(ROWS) for j in range(vecs.literal_value)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        _, A, a_i, a_p, B, b_p, init, z_i, C, c_i, k = arguments

        def at(p: Any, step: Any, i: int, j: int) -> Any:
            place = builder.add(builder.mul(step, step.type(i)), step.type(j * vec.lanes))
            return address(builder, vec, p, place)

        zero = ir.Constant(vec.llvm, [0.0] * vec.lanes)
        sums = {place: cgutils.alloca_once_value(builder, zero) for place in places}
        left, right = cgutils.alloca_once_value(builder, A), cgutils.alloca_once_value(builder, B)
        with cgutils.for_range(builder, k):
            a, b = builder.load(left), builder.load(right)
            row = [builder.load(at(b, b_p, 0, j), align=n_bytes) for j in range(columns)]
            for i in range(ROWS):
                one = builder.load(builder.gep(a, [builder.mul(a_i, a_i.type(i))]))
                broadcast = spread(builder, one, vec.lanes)
                for j in range(columns):
                    terms = broadcast, row[j], builder.load(sums[i, j])
                    builder.store(call("fma", vec)(context, builder, signature, terms), sums[i, j])
            builder.store(builder.gep(a, [a_p]), left)
            builder.store(builder.gep(b, [b_p]), right)
        for i, j in places:
            begin = builder.load(at(init, z_i, i, j), align=n_bytes)
            builder.store(builder.fadd(begin, builder.load(sums[i, j])), at(C, c_i, i, j), align=n_bytes)

    return types.void(vecs, A, a_i, a_p, B, b_p, init, z_i, C, c_i, k), generate
