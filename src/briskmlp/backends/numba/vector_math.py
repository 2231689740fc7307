"""exp, log1p, sigmoid, tanh and the normal distribution's tail of one Vec: Numba has no vector math library.

exp follows the classical reduction (Cody & Waite 1980): x = n ln2 + r with |r| <= ln2/2, and e^x = 2^n e^r; ln2 is
split in two so that n ln2 is exact, and e^r - 1 is its Taylor polynomial, whose first left-out term is below 1/20 ulp.
The other polynomials are those of the C kernels' ``special_template.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import overload

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.vector import absolute, copysign, fma, power_of_two, splat, where_less

LOG2_E = 1.0 / math.log(2.0)
# shift, whose addition rounds to an integer, held in the lowest bits; ln2 = high + low, where high has so few bits that
# n * high is exact; and the lowest x: below, e^x is less than half the smallest normal number and becomes 0
EXP_32 = (1.5 * 2.0**23, 0.693145751953125, 1.428606765330187e-06, -88.0)
EXP_64 = (1.5 * 2.0**52, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -709.1)
# (log(1 + t) - t) / t² for 0 <= t <= 0.422: degree 6 (of log(1 + t) the relative error is 2^-27) and 14 (2^-56.9)
LOG1P_32 = (-0.5, 0.333331043, -0.249910756, 0.198672963, -0.156996969, 0.104624264, -0.0396775241)
LOG1P_64 = (
    -0.5, 0.33333333333331351594, -0.24999999999645794954, 0.19999999974942187506, -0.16666665735239737119,
    0.14285693350354387627, -0.12499691259855725614, 0.11107967113296239692, -0.099771554003523970115,
    0.089700118026348730373, -0.078618296390402676837, 0.063296676915838898145, -0.042173863270800389481,
    0.019709336124397271068, -0.0046505392469424282099,
)  # fmt: skip
LOG1P_C = 91.0 / 128.0
# (x + offset) R(x) at x / (x + offset) - 1/2, where e^(-x²/2) R(x) is the normal distribution's upper tail:
# degrees 9 and 22; the relative errors are 2^-27.5 and 2^-56.7
NORMAL_TAIL_32 = (
    0.744416075, -1.13112352, 1.26169984, -0.928421286, 0.278522066, 0.207718152, -0.203610524, -0.0632098516,
    0.110471944, 0.0593039498,
)  # fmt: skip
NORMAL_TAIL_64 = (
    0.7632305289702032, -1.2805155205052343, 1.7858100682227116, -2.0251343996076665, 1.782121545123608,
    -1.0838824376794083, 0.2703112563387662, 0.22385031328258342, -0.23494310566292148, 0.0032671313356293996,
    0.11473176566728964, -0.032630632572466935, -0.0583108186119711, 0.02613063817476316, 0.035111133956686344,
    -0.01636963631345694, -0.024837733483507915, 0.008033249905612848, 0.01820981352305115, -0.001620525314040839,
    -0.010555415710431707, -0.0012554511861598155, 0.002540339043839744,
)  # fmt: skip
NORMAL_32, NORMAL_64 = (13.2664, 3.5), (37.658, 4.5)  # the x from which the tail is 0, and the offset


def by_dtype(single: Callable[..., Any], double: Callable[..., Any]) -> Any:
    """Return a kernel of one Vec that is one function for float32 and another for float64."""

    def kernel(x: Any) -> Any: ...

    overload(kernel, strict=False)(lambda x: single if x.dtype == types.float32 else double)
    return kernel


def polynomial(coefficients: tuple[float, ...]) -> Callable[..., Any]:
    """Return the polynomial, in groups of four terms: a long one takes a third of the time of Horner's rule."""
    padded = coefficients + (0.0,) * (-len(coefficients) % 4)
    groups = [padded[k : k + 4] for k in range(0, len(padded), 4)]
    last, others = groups[-1], tuple(groups[-2::-1])

    def evaluate(x: Any) -> Any:
        square = x * x
        fourth = square * square
        p = group(x, square, last)
        for c in others:
            p = fma(p, fourth, group(x, square, c))
        return p

    return evaluate


@jit
def group(x: Any, square: Any, c: Any) -> Any:
    """Return c[0] + c[1] x + c[2] x² + c[3] x³."""
    return fma(fma(splat(x, c[3]), x, splat(x, c[2])), square, fma(splat(x, c[1]), x, splat(x, c[0])))


def exp_tail(degree: int) -> Callable[..., Any]:
    """Return (e^r - 1 - r) / r for |r| <= ln2/2, by Horner's rule."""
    last, *others = (1.0 / math.factorial(k) for k in range(degree, 1, -1))
    rest = tuple(others)

    def evaluate(r: Any) -> Any:
        p = splat(r, last)
        for c in rest:
            p = fma(p, r, splat(r, c))
        return p * r

    return evaluate


tail = by_dtype(exp_tail(7), exp_tail(13))
log1p_term = by_dtype(polynomial(LOG1P_32), polynomial(LOG1P_64))
normal_tail = by_dtype(polynomial(NORMAL_TAIL_32), polynomial(NORMAL_TAIL_64))
constants = by_dtype(lambda x: EXP_32, lambda x: EXP_64)
normal_constants = by_dtype(lambda x: NORMAL_32, lambda x: NORMAL_64)


@jit
def between(x: Any, low: float, high: float) -> Any:
    """Return x, or the nearer of the bounds; NaN stays."""
    x = where_less(x, splat(x, low), splat(x, low), x)
    return where_less(splat(x, high), x, splat(x, high), x)


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
def expm1(x: Any) -> Any:
    """Return e^x - 1 for x <= 0."""
    shifted, p = split(between(x, constants(x)[3], 0.0))
    scale = power_of_two(shifted)
    return fma(scale, p, scale - splat(x, 1.0))


@jit
def exp_any(x: Any) -> Any:
    """Return e^x for any x: where x > 0 as 2 (2^(n-1) e^r), since 2^n may be too large where e^x is not."""
    zero, one, two, lowest = splat(x, 0.0), splat(x, 1.0), splat(x, 2.0), constants(x)[3]
    x = between(x, lowest, 1.0 - lowest)  # beyond the last number whose e^x is finite
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
def log1p_exp(z: Any) -> Any:
    """Return log(1 + e^z) = max(z, 0) + log(1 + e) with e = e^-|z|.

    Where e is small, log(1 + e) is t + t² K(t) with t = e. Where it is large, log(1 / C) is added and t is
    C (1 + e) - 1, for which K has a third fewer terms; C has so few bits that C 2^n + C - 1 is exact.
    """
    zero, near = splat(z, 0.0), splat(z, -0.8675)  # e = 0.42
    x = between(zero - absolute(z), constants(z)[3], 0.0)
    shifted, p = split(x)
    scale = power_of_two(shifted)
    C = splat(z, LOG1P_C) * scale
    t = where_less(near, x, fma(C, p, C + splat(z, LOG1P_C - 1.0)), fma(scale, p, scale))
    above = where_less(z, zero, zero, z) + where_less(near, x, splat(z, -math.log(LOG1P_C)), zero)
    return fma(log1p_term(t), t * t, t) + above


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
