"""exp, log1p, sigmoid and tanh of one Vec, by polynomials: Numba has no vector math library.

exp follows the classical reduction (Cody & Waite 1980): x = n ln2 + r with |r| <= ln2/2, and e^x = 2^n e^r; ln2 is
split in two so that n ln2 is exact, and e^r - 1 is its Taylor polynomial, whose first left-out term is below 1/20 ulp.
"""

from __future__ import annotations

import math
from typing import Any

from numba import types
from numba.extending import overload

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.vector import absolute, copysign, fma, power_of_two, splat, where_less

LOG2_E = 1.0 / math.log(2.0)
# ln2 = high + low, where high has so few bits that n * high is exact
LN2_32 = (0.693145751953125, 1.428606765330187e-06)
LN2_64 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
SHIFT_32, SHIFT_64 = 1.5 * 2.0**23, 1.5 * 2.0**52  # adding it rounds to an integer, held in the lowest bits
LOWEST_32, LOWEST_64 = -88.0, -709.1  # below, e^x is less than half the smallest normal number and becomes 0
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13 = (1.0 / math.factorial(k) for k in range(2, 14))


def tail(r: Any) -> Any:
    """Return (e^r - 1 - r) / r for |r| <= ln2/2."""


@overload(tail, strict=False)
def _tail(r: Any) -> Any:
    if r.dtype == types.float32:

        def degree7(r: Any) -> Any:
            p = fma(splat(r, C7), r, splat(r, C6))
            p = fma(p, r, splat(r, C5))
            p = fma(p, r, splat(r, C4))
            p = fma(p, r, splat(r, C3))
            p = fma(p, r, splat(r, C2))
            return p * r

        return degree7

    def degree13(r: Any) -> Any:
        p = fma(splat(r, C13), r, splat(r, C12))
        p = fma(p, r, splat(r, C11))
        p = fma(p, r, splat(r, C10))
        p = fma(p, r, splat(r, C9))
        p = fma(p, r, splat(r, C8))
        p = fma(p, r, splat(r, C7))
        p = fma(p, r, splat(r, C6))
        p = fma(p, r, splat(r, C5))
        p = fma(p, r, splat(r, C4))
        p = fma(p, r, splat(r, C3))
        p = fma(p, r, splat(r, C2))
        return p * r

    return degree13


def constants(x: Any) -> Any:
    """Return (shift, ln2 high, ln2 low, lowest) of x's dtype."""


@overload(constants, strict=False)
def _constants(x: Any) -> Any:
    single = x.dtype == types.float32
    values = (SHIFT_32, *LN2_32, LOWEST_32) if single else (SHIFT_64, *LN2_64, LOWEST_64)
    return lambda x: values


@jit
def split(x: Any) -> Any:
    """Return n, as ``power_of_two`` takes it, and e^r - 1, where x = n ln2 + r."""
    shift, ln2_high, ln2_low, _ = constants(x)
    shifted = fma(x, splat(x, LOG2_E), splat(x, shift))
    n = shifted - splat(x, shift)
    exact = fma(n, splat(x, -ln2_high), x)
    r = fma(n, splat(x, -ln2_low), exact)
    rest = fma(n, splat(x, -ln2_low), exact - r)  # what rounding r lost
    return shifted, r + fma(tail(r), r, rest)


@jit
def exp(x: Any) -> Any:
    """Return e^x for x <= 0."""
    lowest = splat(x, constants(x)[3])
    shifted, p = split(where_less(x, lowest, lowest, x))
    scale = power_of_two(shifted)
    return fma(scale, p, scale)


@jit
def exp_any(x: Any) -> Any:
    """Return e^x for any x: where x > 0 as 2 (2^(n-1) e^r), since 2^n may be too large where e^x is not."""
    zero, one, two, lowest = splat(x, 0.0), splat(x, 1.0), splat(x, 2.0), splat(x, constants(x)[3])
    highest = one - lowest  # beyond the last number whose e^x is finite
    x = where_less(x, lowest, lowest, where_less(highest, x, highest, x))
    shifted, p = split(x)
    scale = power_of_two(shifted - where_less(zero, x, one, zero))
    return fma(scale, p, scale) * where_less(zero, x, two, one)


@jit
def quotient(x: Any, y: Any, y_low: Any) -> Any:
    """Return x / (y + y_low) by one division and one correction, which costs a fifth and saves an ulp."""
    inverse = splat(x, 1.0) / y
    q = x * inverse
    minus_q = splat(x, 0.0) - q
    return fma(fma(minus_q, y_low, fma(minus_q, y, x)), inverse, q)


@jit
def log1p(x: Any) -> Any:
    """Return log(1 + x) for 0 <= x <= 1, as 2 artanh(s) = 2 (s + s³/3 + s⁵/5 …) with s = x / (2 + x) <= 1/3."""
    s = x / (x + splat(x, 2.0))
    square = s * s
    p = splat(x, 1.0 / 35.0)
    for k in range(33, 0, -2):
        p = fma(p, square, splat(x, 1.0 / k))
    return (s + s) * p


@jit
def sigmoid(z: Any) -> Any:
    """Return 1 / (1 + e^-z), as e / (1 + e) or 1 / (1 + e) with e = e^-|z|: never an overflow or a difference."""
    zero, one = splat(z, 0.0), splat(z, 1.0)
    e = exp(zero - absolute(z))
    d = one + e
    return quotient(where_less(z, zero, e, one), d, e - (d - one))


@jit
def tanh(z: Any) -> Any:
    """Return tanh z = t / (t + 2) with t = e^(2|z|) - 1, which keeps all digits near 0."""
    limit, one, two = splat(z, 20.0), splat(z, 1.0), splat(z, 2.0)  # tanh rounds to 1 from 9 (float32), 19.1 (float64)
    x = absolute(z)
    x = where_less(limit, x, limit, x)
    shifted, p = split(x + x)
    scale = power_of_two(shifted)
    t = fma(scale, p, scale - one)
    d = t + two
    return copysign(quotient(t, d, t - (d - two)), z)
