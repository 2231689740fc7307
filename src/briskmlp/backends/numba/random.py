"""Random numbers, as in ``briskmlp.random``: Philox4x64-10, the sample order of an epoch, and dropout.

The order is a Fisher-Yates shuffle. Dropout is which units of a hidden layer a training step leaves out: the unit u of
the example at ``place`` in its epoch has a 16-bit number, and is dropped if that is below a threshold: number u of the
words of Philox with key (seed, epoch) and counter (block + 1, place, layer, 2), 16 to a block, lowest bits first. What
is kept is multiplied by 65536 / (65536 - threshold).

A dropped unit's A is -0, and no other's is: so the backward pass tells them apart, and draws nothing again. Where the
slope f'(Z) is saved, it is multiplied by the scale, or by 0, and says it instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.vector import load, offset, splat, spread, store, width

M0, M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)  # multipliers and Weyl steps of the key:
W0, W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)  # Salmon et al. 2011, table 2 and section 3
STREAM = 2  # of Philox; see briskmlp.random
UNITS = 16  # numbers to a block
NUMBERS = 2.0**16  # so many different ones there are


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


@jit
def drop(job: Any, layer: Any, l: int, buffer: Any, m: int, epoch: int, place: int) -> None:
    """Drop units of A, (m, columns), the output of layer l; the first row is the example at ``place``."""
    lanes, n, a, s = width(buffer), layer.columns, layer.at_Z, layer.at_dropped
    words = as_words(offset(buffer, job.at_row))
    zero, minus_zero = splat(buffer, 0.0), splat(buffer, -0.0)
    scale = splat(buffer, NUMBERS / (NUMBERS - layer.dropped))
    for i in range(m):
        draw(job.seed, epoch, place + i, l, words, (n + UNITS - 1) // UNITS)
        for j in range(0, n, lanes):
            kept = load(buffer, a + j) * scale + zero  # + 0 makes a -0 that is kept +0
            store(buffer, a + j, where_below(words, j, layer.dropped, minus_zero, kept))
        if s >= 0:
            for j in range(0, n, lanes):
                store(buffer, s + j, where_below(words, j, layer.dropped, zero, load(buffer, s + j) * scale))
            s += n
        a += n


@jit
def draw(seed: int, epoch: int, place: int, l: int, words: Any, n_blocks: int) -> None:
    """Write the numbers of one example."""
    for block in range(n_blocks):
        w0, w1, w2, w3 = philox(
            np.uint64(block + 1), np.uint64(place), np.uint64(l), np.uint64(STREAM), np.uint64(seed), np.uint64(epoch)
        )
        words[4 * block], words[4 * block + 1], words[4 * block + 2], words[4 * block + 3] = w0, w1, w2, w3


@intrinsic
def as_words(typing: Any, p: Any) -> Any:
    """Return an address as that of 64-bit words."""
    result = types.CPointer(types.uint64)
    return result(p), lambda context, builder, _, xs: builder.bitcast(xs[0], context.get_value_type(result))


@intrinsic
def where_below(typing: Any, words: Any, index: Any, threshold: Any, yes: Any, no: Any) -> Any:
    """Return, lane by lane, ``yes`` where the 16-bit number at ``index`` of the words < ``threshold``, else ``no``."""
    short = ir.IntType(16)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        halves = builder.bitcast(arguments[0], short.as_pointer())
        address = builder.bitcast(builder.gep(halves, [arguments[1]]), ir.VectorType(short, yes.lanes).as_pointer())
        limits = spread(builder, builder.trunc(arguments[2], short), yes.lanes)
        below = builder.icmp_unsigned("<", builder.load(address, align=2), limits)
        return builder.select(below, *arguments[3:])

    return yes(words, types.int64, types.int64, yes, no), generate


@intrinsic
def where_kept(typing: Any, x: Any, yes: Any, no: Any) -> Any:
    """Return, lane by lane, ``no`` where x is -0, else ``yes``."""
    bits = x.dtype.bitwidth
    integers = ir.VectorType(ir.IntType(bits), x.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        minus_zero = integers([1 << (bits - 1)] * x.lanes)
        kept = builder.icmp_signed("!=", builder.bitcast(arguments[0], integers), minus_zero)
        return builder.select(kept, *arguments[1:])

    return x(x, yes, no), generate
