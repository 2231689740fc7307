"""The sample order of an epoch: Philox4x64-10 and a Fisher-Yates shuffle, as in ``briskmlp.random``."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from briskmlp.backends.numba._options import jit

M0, M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)  # multipliers and Weyl steps of the key:
W0, W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)  # Salmon et al. 2011, table 2 and section 3


@intrinsic
def high_product(typing: Any, a: Any, b: Any) -> Any:
    """Return the high 64 bits of a · b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, double) for argument in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(double, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@jit
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of counter (c0, c1, c2, c3) and key (k0, k1)."""
    for _ in range(10):
        high0, low0, high1, low1 = high_product(M0, c0), M0 * c0, high_product(M1, c2), M1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + W0, k1 + W1
    return c0, c1, c2, c3


@jit
def draw_order(seed: int, epoch: int, shuffle: int, order: Any, n: int) -> None:
    """Write the order of an epoch over n examples; 0…n-1 without shuffle."""
    for i in range(n):
        order[i] = i
    if not shuffle:
        return
    i = n - 1
    block, zero = np.uint64(0), np.uint64(0)
    while i > 0:
        block += np.uint64(1)  # NumPy counts before each block
        for word in philox(block, zero, zero, zero, np.uint64(seed), np.uint64(epoch)):
            if i > 0:
                j = np.int64(high_product(word, np.uint64(i + 1)))
                order[i], order[j] = order[j], order[i]
                i -= 1
