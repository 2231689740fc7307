"""The activations of one Vec, in a table: f, and g f' from A where f' follows from A, or f and f' from Z.

All follow PyTorch's definitions; f of NaN is NaN. The C kernels' ``special_template.h`` derives how far a result may be
from the exact one, in ulp: 2 for expm1, log1p_exp, elu, celu, softplus, softsign and log_sigmoid; 3.5 for selu and
hardswish; 9 for gelu; 5 for silu; 7.5 for mish; 5 + 5 |v| for gelu_tanh, where v is its sigmoid's argument. The last
three are a product of z and a number that may have become 0 where |f| is below 750 times the smallest normal number. f'
is at most 8 halves of an ulp of 1 off, of mish and gelu_tanh 16.
"""

from __future__ import annotations

import math
from typing import Any

from numba import types

from briskmlp.backends.numba._options import choose, jit, operation
from briskmlp.backends.numba.vector import absolute, first, fma, load, power_of_two, splat, store, where_less, width
from briskmlp.backends.numba.vector_math import (
    between,
    constants,
    exp,
    exp_any,
    expm1,
    log1p_exp,
    normal_constants,
    normal_tail,
    sigmoid,
    split,
    tanh,
)

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # the normal distribution's at 0
GELU_LINEAR, GELU_CUBIC = 2.0 * math.sqrt(2.0 / math.pi), 2.0 * math.sqrt(2.0 / math.pi) * 0.044715


# --- f' follows from A: f, and g f' where it is no single expression -------------------------------------------------


@jit
def elu(z: Any, alpha: float, _: float) -> Any:
    """Return alpha (e^z - 1) for z < 0, else z."""
    return where_less(z, splat(z, 0.0), splat(z, alpha) * expm1(z), z)


@jit
def selu(z: Any, _: float, __: float) -> Any:
    """Return elu with PyTorch's alpha, times its scale."""
    below = splat(z, SELU_SCALE * SELU_ALPHA) * expm1(z)
    return where_less(z, splat(z, 0.0), below, splat(z, SELU_SCALE) * z)


@jit
def celu(z: Any, alpha: float, _: float) -> Any:
    """Return alpha (e^(z / alpha) - 1) for z < 0, else z."""
    return where_less(z, splat(z, 0.0), splat(z, alpha) * expm1(z / splat(z, alpha)), z)


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
def softsign_backward(g: Any, A: Any, _: float, __: float) -> Any:
    """Return g (1 - |A|)²."""
    root = splat(A, 1.0) - absolute(A)
    return g * (root * root)


@jit
def hardtanh_backward(g: Any, A: Any, low: float, high: float) -> Any:
    """Return g between the bounds, 0 on them."""
    zero = splat(A, 0.0)
    return where_less(splat(A, low), A, where_less(A, splat(A, high), g, zero), zero)


# --- f' does not follow from A: f and f' ------------------------------------------------------------------------------


@jit
def gelu(z: Any, _: float, __: float) -> Any:
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
def gelu_tanh(z: Any, _: float, __: float) -> Any:
    """Return z (1 + tanh u) / 2 = z sigmoid(2u) with 2u = 2 sqrt(2 / pi) (z + 0.044715 z³), and f'."""
    x = between(z, -22.0, 22.0)  # beyond, the sigmoid is 0 or 1
    linear, cubic = splat(z, GELU_LINEAR), splat(z, GELU_CUBIC) * (x * x)
    s, rest = logistic(x * (linear + cubic))
    return z * s, fma(x * fma(splat(z, 3.0), cubic, linear), s * rest, s)


@jit
def silu(z: Any, _: float, __: float) -> Any:
    """Return z sigmoid(z), and f'."""
    s, rest = logistic(z)
    limit = constants(z)[3]
    return z * s, fma(between(z, limit, -limit) * s, rest, s)


@jit
def mish(z: Any, _: float, __: float) -> Any:
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
def hardswish(z: Any, _: float, __: float) -> Any:
    """Return z min(max(z + 3, 0), 6) / 6, and f'."""
    zero, one, three = splat(z, 0.0), splat(z, 1.0), splat(z, 3.0)
    x = where_less(z, zero - three, zero - three, z)
    t = where_less(three, x, splat(z, 6.0), x + three)
    inner = fma(z, splat(z, 1.0 / 3.0), splat(z, 0.5))
    return x * (t * splat(z, 1.0 / 6.0)), where_less(z, three, where_less(zero - three, z, inner, zero), one)


# --- the table: by their codes, as in operations.activations ---------------------------------------------------------

# In each row f and its backward pass, or None where the loss has it; or f and f' in one, where backward reads the saved
# slope. Softmax, which works on whole rows, passes Z on.
PASSES = lambda z, p, q: z, lambda g, A, p, q: g
ROWS: tuple[tuple[Any, ...], ...] = (
    (lambda z, p, q: sigmoid(z), lambda g, A, p, q: g * (A * (splat(A, 1.0) - A))),
    (lambda z, p, q: tanh(z), lambda g, A, p, q: g * (splat(A, 1.0) - A * A)),
    (  # relu
        lambda z, p, q: where_less(z, splat(z, 0.0), splat(z, 0.0), z),
        lambda g, A, p, q: where_less(splat(A, 0.0), A, g, splat(A, 0.0)),
    ),
    PASSES,  # identity
    PASSES,  # softmax
    (  # leaky_relu
        lambda z, p, q: where_less(splat(z, 0.0), z, z, z * splat(z, p)),
        lambda g, A, p, q: where_less(splat(A, 0.0), A, g, g * splat(A, p)),
    ),
    (lambda z, p, q: exp_any(z), None),
    (elu, lambda g, A, p, q: where_less(splat(A, 0.0), A, g, g * (A + splat(A, p)))),
    (
        selu,
        lambda g, A, p, q: (
            g * where_less(splat(A, 0.0), A, splat(A, SELU_SCALE), A + splat(A, SELU_SCALE * SELU_ALPHA))
        ),
    ),
    (celu, lambda g, A, p, q: where_less(splat(A, 0.0), A, g, g * (A / splat(A, p) + splat(A, 1.0)))),
    (softplus, softplus_backward),
    (lambda z, p, q: z / (absolute(z) + splat(z, 1.0)), softsign_backward),
    (between, hardtanh_backward),
    (lambda z, p, q: between(z, 0.0, 6.0), lambda g, A, p, q: hardtanh_backward(g, A, 0.0, 6.0)),  # relu6
    (  # log_sigmoid
        lambda z, p, q: splat(z, 0.0) - log1p_exp(splat(z, 0.0) - z),
        lambda g, A, p, q: (splat(A, 0.0) - g) * expm1(A),
    ),
    (gelu,),
    (gelu_tanh,),
    (silu,),
    (mish,),
    (hardswish,),
)
SLOPE = -1  # the code of backward where f' was saved


def _f(code: int) -> Any:
    function = jit(ROWS[code][0])
    return function if len(ROWS[code]) == 2 else lambda z, p, q: function(z, p, q)[0]


def _with_slope(code: int) -> Any:
    f, *others = map(jit, ROWS[code])
    if not others:
        return f
    through = others[0]

    def both(z: Any, p: float, q: float) -> Any:
        A = f(z, p, q)
        return A, through(splat(z, 1.0), A, p, q)

    return both


f = choose(_f)
with_slope = choose(_with_slope)  # also of those whose f' follows from A, for an A that will not stay as it is
backward = choose(lambda code: (lambda g, slope, p, q: g * slope) if code == SLOPE else ROWS[code][1])


def ACTIVATE(number: Any) -> tuple[Any, ...]:  # noqa: N802
    """Return the types of what follows A in the kernels that write f(Z): a, s, m, n, n_padded, p, q."""
    return (types.int64,) * 5 + (types.float64,) * 2


@operation(types.void, ACTIVATE)
def activate(code: int, A: Any, a: int, s: int, m: int, n: int, n_padded: int, p: float, q: float) -> None:
    """Write f(Z) in place of Z, m rows; zeros where a row is padded."""
    for _ in range(m):
        for j in range(0, n_padded, width(A)):
            store(A, a + j, first(f(code, load(A, a + j), p, q), n - j, 0.0))
        a += n_padded


@operation(types.void, ACTIVATE)
def activate_with_slope(code: int, A: Any, a: int, s: int, m: int, n: int, n_padded: int, p: float, q: float) -> None:
    """Write f(Z) in place of Z, and f'(Z) to the saved slope at ``s``."""
    for _ in range(m):
        for j in range(0, n_padded, width(A)):
            x, slope = with_slope(code, load(A, a + j), p, q)
            store(A, a + j, first(x, n - j, 0.0))
            store(A, s + j, first(slope, n - j, 0.0))
        a, s = a + n_padded, s + n_padded


@operation(types.void, lambda number: (types.int64,) * 3 + (types.float64,) * 3)
def pull_back(code: int, B: Any, d: int, a: int, size: int, kept: float, p: float, q: float) -> None:
    """Write dA / kept · f'(Z) in place of dA, where A, or the slope f'(Z) itself, is at ``a``.

    ``kept`` is the share of units that dropout left, and A is f(Z) / kept; 1 without.
    """
    scale, share = splat(B, 1.0 / kept), splat(B, kept)  # kept has 16 bits: no digit of A is lost
    for i in range(0, size, width(B)):
        store(B, d + i, backward(code, load(B, d + i) * scale, load(B, a + i) * share, p, q))
