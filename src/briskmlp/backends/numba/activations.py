"""The activations of one Vec: f, and g f' from A where f' follows from A, or f and f' from Z; and their table.

All follow PyTorch's definitions; f of NaN is NaN. The polynomials are those of the C kernels' ``special_template.h``,
which derives how far a result may be from the exact one, in ulp: 2 for expm1, log1p_exp, elu, celu, softplus, softsign
and log_sigmoid; 3.5 for selu and hardswish; 9 for gelu; 5 for silu; 7.5 for mish; 5 + 5 |v| for gelu_tanh, where v is
its sigmoid's argument. The last three are a product of z and a number that may have become 0 where |f| is below 750
times the smallest normal number. f' is at most 8 halves of an ulp of 1 off, of mish and gelu_tanh 16.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import overload

from briskmlp.backends.numba._options import jit, switch
from briskmlp.backends.numba.vector import absolute, fma, power_of_two, splat, where_less
from briskmlp.backends.numba.vector_math import constants, exp, exp_any, sigmoid, split, tanh
from briskmlp.operations.activations import BY_CODE

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # the normal distribution's at 0
GELU_LINEAR, GELU_CUBIC = 2.0 * math.sqrt(2.0 / math.pi), 2.0 * math.sqrt(2.0 / math.pi) * 0.044715

# (log(1 + t) - t) / t² for 0 <= t <= 0.422: degree 6 (of log(1 + t) the relative error is 2^-27) and 14 (2^-56.9)
LOG1P_32 = (-0.5, 0.333331043, -0.249910756, 0.198672963, -0.156996969, 0.104624264, -0.0396775241)
LOG1P_64 = (
    -0.5,
    0.33333333333331351594,
    -0.24999999999645794954,
    0.19999999974942187506,
    -0.16666665735239737119,
    0.14285693350354387627,
    -0.12499691259855725614,
    0.11107967113296239692,
    -0.099771554003523970115,
    0.089700118026348730373,
    -0.078618296390402676837,
    0.063296676915838898145,
    -0.042173863270800389481,
    0.019709336124397271068,
    -0.0046505392469424282099,
)
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
NORMAL_32, NORMAL_64 = (13.2664, 3.5), (37.658, 4.5)  # that x, and the offset


def log1p_term(t: Any) -> Any:
    """Return (log(1 + t) - t) / t² for 0 <= t <= 0.422."""


def normal_tail(s: Any) -> Any:
    """Return (x + offset) R(x) for s = x / (x + offset) - 1/2."""


def normal_constants(x: Any) -> Any:
    """Return the x from which the tail is 0, and the offset."""


def _polynomial(coefficients: tuple[float, ...]) -> Any:
    """Return the polynomial, in groups of four terms: a long one takes a third of the time of Horner's rule."""
    padded = coefficients + (0.0,) * (-len(coefficients) % 4)
    groups = [padded[k : k + 4] for k in range(0, len(padded), 4)]
    last, others = groups[-1], tuple(groups[-2::-1])

    def polynomial(x: Any) -> Any:
        square = x * x
        fourth = square * square
        p = group(x, square, last)
        for c in others:
            p = fma(p, fourth, group(x, square, c))
        return p

    return polynomial


@jit
def group(x: Any, square: Any, c: Any) -> Any:
    """Return c[0] + c[1] x + c[2] x² + c[3] x³."""
    return fma(fma(splat(x, c[3]), x, splat(x, c[2])), square, fma(splat(x, c[1]), x, splat(x, c[0])))


@overload(log1p_term, strict=False)
def _log1p_term(t: Any) -> Any:
    return _polynomial(LOG1P_32 if t.dtype == types.float32 else LOG1P_64)


@overload(normal_tail, strict=False)
def _normal_tail(s: Any) -> Any:
    return _polynomial(NORMAL_TAIL_32 if s.dtype == types.float32 else NORMAL_TAIL_64)


@overload(normal_constants, strict=False)
def _normal_constants(x: Any) -> Any:
    values = NORMAL_32 if x.dtype == types.float32 else NORMAL_64
    return lambda x: values


@jit
def between(x: Any, low: float, high: float) -> Any:
    """Return x, or the nearer of the bounds; NaN stays."""
    x = where_less(x, splat(x, low), splat(x, low), x)
    return where_less(splat(x, high), x, splat(x, high), x)


@jit
def expm1(x: Any) -> Any:
    """Return e^x - 1 for x <= 0."""
    shifted, p = split(between(x, constants(x)[3], 0.0))
    scale = power_of_two(shifted)
    return fma(scale, p, scale - splat(x, 1.0))


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


# --- f' follows from A: f, and g f' -----------------------------------------------------------------------------------


@jit
def sigmoid_backward(g: Any, A: Any) -> Any:
    """Return g f'."""
    return g * (A * (splat(A, 1.0) - A))


@jit
def tanh_backward(g: Any, A: Any) -> Any:
    """Return g f'."""
    return g * (splat(A, 1.0) - A * A)


@jit
def relu(z: Any) -> Any:
    """Return max(z, 0)."""
    return where_less(z, splat(z, 0.0), splat(z, 0.0), z)


@jit
def relu_backward(g: Any, A: Any) -> Any:
    """Return g f'."""
    return where_less(splat(A, 0.0), A, g, splat(A, 0.0))


@jit
def identity(z: Any) -> Any:
    """Return z."""
    return z


@jit
def identity_backward(g: Any, A: Any) -> Any:
    """Return g."""
    return g


@jit
def leaky_relu(z: Any, slope: float) -> Any:
    """Return z above 0, slope z below."""
    return where_less(splat(z, 0.0), z, z, z * splat(z, slope))


@jit
def leaky_relu_backward(g: Any, A: Any, slope: float) -> Any:
    """Return g f'."""
    return where_less(splat(A, 0.0), A, g, g * splat(A, slope))


@jit
def elu(z: Any, alpha: float) -> Any:
    """Return alpha (e^z - 1) for z < 0, else z."""
    return where_less(z, splat(z, 0.0), splat(z, alpha) * expm1(z), z)


@jit
def elu_backward(g: Any, A: Any, alpha: float) -> Any:
    """Return g f'."""
    return where_less(splat(A, 0.0), A, g, g * (A + splat(A, alpha)))


@jit
def selu(z: Any) -> Any:
    """Return elu with PyTorch's alpha, times its scale."""
    below = splat(z, SELU_SCALE * SELU_ALPHA) * expm1(z)
    return where_less(z, splat(z, 0.0), below, splat(z, SELU_SCALE) * z)


@jit
def selu_backward(g: Any, A: Any) -> Any:
    """Return g f'."""
    return g * where_less(splat(A, 0.0), A, splat(A, SELU_SCALE), A + splat(A, SELU_SCALE * SELU_ALPHA))


@jit
def celu(z: Any, alpha: float) -> Any:
    """Return alpha (e^(z / alpha) - 1) for z < 0, else z."""
    return where_less(z, splat(z, 0.0), splat(z, alpha) * expm1(z / splat(z, alpha)), z)


@jit
def celu_backward(g: Any, A: Any, alpha: float) -> Any:
    """Return g f'."""
    return where_less(splat(A, 0.0), A, g, g * (A / splat(A, alpha) + splat(A, 1.0)))


@jit
def softplus(z: Any, beta: float, threshold: float) -> Any:
    """Return log(1 + e^(beta z)) / beta, and z where beta z is above the threshold."""
    x = splat(z, beta) * z
    return where_less(splat(z, threshold), x, z, log1p_exp(x) * (splat(z, 1.0) / splat(z, beta)))


@jit
def softplus_backward(g: Any, A: Any, beta: float, threshold: float) -> Any:
    """Return g (1 - e^(-beta A)), and g above the largest A below the threshold."""
    x = splat(A, beta) * A
    return where_less(log1p_exp(splat(A, threshold)), x, g, (splat(A, 0.0) - g) * expm1(splat(A, 0.0) - x))


@jit
def softsign(z: Any) -> Any:
    """Return z / (1 + |z|)."""
    return z / (absolute(z) + splat(z, 1.0))


@jit
def softsign_backward(g: Any, A: Any) -> Any:
    """Return g f'."""
    root = splat(A, 1.0) - absolute(A)
    return g * (root * root)


@jit
def hardtanh(z: Any, low: float, high: float) -> Any:
    """Return z between low and high, and the nearer of these elsewhere."""
    return between(z, low, high)


@jit
def hardtanh_backward(g: Any, A: Any, low: float, high: float) -> Any:
    """Return g f'."""
    zero = splat(A, 0.0)
    return where_less(splat(A, low), A, where_less(A, splat(A, high), g, zero), zero)


@jit
def relu6(z: Any) -> Any:
    """Return z between 0 and 6, and the nearer of these elsewhere."""
    return between(z, 0.0, 6.0)


@jit
def relu6_backward(g: Any, A: Any) -> Any:
    """Return g f'."""
    return hardtanh_backward(g, A, 0.0, 6.0)


@jit
def log_sigmoid(z: Any) -> Any:
    """Return -log(1 + e^-z)."""
    return splat(z, 0.0) - log1p_exp(splat(z, 0.0) - z)


@jit
def log_sigmoid_backward(g: Any, A: Any) -> Any:
    """Return g (1 - e^A)."""
    return (splat(A, 0.0) - g) * expm1(A)


# --- f' does not follow from A: f and f' ------------------------------------------------------------------------------


@jit
def gelu(z: Any) -> Any:
    """Return z Phi(z) and Phi(z) + z phi(z), with the normal distribution and its density.

    Both come from the upper tail e^(-x²/2) R(x) at x = |z|. What rounding x²/2 lost is made good to first order.
    """
    zero, half, one = splat(z, 0.0), splat(z, 0.5), splat(z, 1.0)
    highest, offset = normal_constants(z)
    x = between(absolute(z), 0.0, highest)
    minus_square = (zero - half * x) * x
    lost = fma(zero - half * x, x, zero - minus_square)
    shifted, p = split(minus_square)
    p = fma(lost, one + p, p)
    scale = power_of_two(shifted)

    inverse = one / (x + splat(z, offset))
    R = normal_tail(fma(x, inverse, zero - half)) * inverse
    Q = fma(R, p, R)
    difference = fma(zero - x, splat(z, DENSITY), R)
    G = scale * fma(difference, p, difference)
    slope = where_less(z, zero, G, one - G)
    return z * where_less(z, zero, Q, one - Q * scale) * where_less(z, zero, scale, one), slope


@jit
def logistic(z: Any) -> Any:
    """Return sigmoid z, and 1 minus it, neither by a difference."""
    zero, one = splat(z, 0.0), splat(z, 1.0)
    e = exp(zero - absolute(z))
    inverse = one / (one + e)
    return where_less(z, zero, e, one) * inverse, where_less(z, zero, one, e) * inverse


@jit
def silu(z: Any) -> Any:
    """Return z sigmoid(z), and f'."""
    s, rest = logistic(z)
    limit = constants(z)[3]
    return z * s, fma(between(z, limit, -limit) * s, rest, s)


@jit
def gelu_tanh(z: Any) -> Any:
    """Return z (1 + tanh u) / 2 = z sigmoid(2u) with 2u = 2 sqrt(2 / pi) (z + 0.044715 z³), and f'."""
    x = between(z, -22.0, 22.0)  # beyond, the sigmoid is 0 or 1
    linear, cubic = splat(z, GELU_LINEAR), splat(z, GELU_CUBIC) * (x * x)
    s, rest = logistic(x * (linear + cubic))
    return z * s, fma(x * fma(splat(z, 3.0), cubic, linear), s * rest, s)


@jit
def mish(z: Any) -> Any:
    """Return z T, and f', where T = tanh(log(1 + e^z)) = ((1 + e^z)² - 1) / ((1 + e^z)² + 1).

    In terms of e = e^-|z|, T is t / d with t = 2e + e² and d = t + 2 for z < 0, t = 2e + 1 and d = t + 2 e² else; T' is
    4 h (1 + e) / d², where h is e for z < 0, else e².
    """
    zero, one, two = splat(z, 0.0), splat(z, 1.0), splat(z, 2.0)
    e = exp(zero - absolute(z))
    square = e * e
    t = fma(two, e, where_less(z, zero, square, one))
    inverse = one / fma(two, where_less(z, zero, one, square), t)
    T = t * inverse
    h = where_less(z, zero, e, square) * splat(z, 4.0)
    return z * T, fma(z, h * (one + e) * (inverse * inverse), T)


@jit
def hardswish(z: Any) -> Any:
    """Return z min(max(z + 3, 0), 6) / 6, and f'."""
    zero, one, three = splat(z, 0.0), splat(z, 1.0), splat(z, 3.0)
    x = where_less(z, zero - three, zero - three, z)
    t = where_less(three, x, splat(z, 6.0), x + three)
    inner = fma(z, splat(z, 1.0 / 3.0), splat(z, 0.5))
    return x * (t * splat(z, 1.0 / 6.0)), where_less(z, three, where_less(zero - three, z, inner, zero), one)


# --- the table: by their codes, as in operations.activations ---------------------------------------------------------


def _f(function: Any) -> Any:
    """Return f(z, p, q) of a function of z and the parameters that it has."""
    count = len(inspect.signature(function.py_func).parameters)
    fewer: dict[int, Callable[..., Any]] = {1: lambda z, p, q: function(z), 2: lambda z, p, q: function(z, p)}
    return jit(fewer[count]) if count in fewer else function


def _backward(function: Any) -> Any:
    """Return g f' as a function of (g, A, p, q)."""
    count = len(inspect.signature(function.py_func).parameters)
    fewer: dict[int, Callable[..., Any]] = {
        2: lambda g, A, p, q: function(g, A),
        3: lambda g, A, p, q: function(g, A, p),
    }
    return jit(fewer[count]) if count in fewer else function


def _only_f(function: Any) -> Any:
    return jit(lambda z, p, q: function(z)[0])


def _with_slope(function: Any) -> Any:
    return jit(lambda z, p, q: function(z))


@jit
def _nothing(z: Any, p: float, q: float) -> Any:
    return z, z


# In each row f and its backward pass; or f and f' in one, where backward reads the saved slope. Softmax works on whole
# rows, and exp is an output whose delta needs no f': the losses have both.
ROWS: tuple[tuple[Any, ...], ...] = (
    (sigmoid, sigmoid_backward), (tanh, tanh_backward), (relu, relu_backward), (identity, identity_backward),
    (identity, identity_backward), (leaky_relu, leaky_relu_backward), (exp_any, identity_backward),
    (elu, elu_backward), (selu, selu_backward), (celu, celu_backward), (softplus, softplus_backward),
    (softsign, softsign_backward), (hardtanh, hardtanh_backward), (relu6, relu6_backward),
    (log_sigmoid, log_sigmoid_backward), (gelu,), (gelu_tanh,), (silu,), (mish,), (hardswish,),
)  # fmt: skip
SLOPED = sum(1 << code for code, row in enumerate(ROWS) if len(row) == 1)  # bits


def saves_slope(code: int, dropped: int) -> bool:
    """Return whether training saves f'(Z): where it does not follow from A, or from what dropout leaves of A."""
    saves = BY_CODE[code].saves
    return saves == "slope" or (saves == "exact_A" and dropped > 0)


f = switch([_f(row[0]) if len(row) == 2 else _only_f(row[0]) for row in ROWS])
backward = switch([_backward(row[1] if len(row) == 2 else identity_backward) for row in ROWS])
_sloped = switch([_nothing if len(row) == 2 else _with_slope(row[0]) for row in ROWS])


@jit
def with_slope(code: int, z: Any, p: float, q: float) -> Any:
    """Return f(z) and f'(z): also of those whose f' follows from A, for an A that will not stay as it is."""
    if SLOPED >> code & 1:
        return _sloped(code, z, p, q)
    A = f(code, z, p, q)
    return A, backward(code, splat(z, 1.0), A, p, q)
