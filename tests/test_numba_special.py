"""The vector functions of the activations from elu on, in Numba: f to its bound, f' from A or Z, and the edges."""

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from numba import njit

from briskmlp.backends.numba import activations
from briskmlp.backends.numba.vector import lanes, load, pointer, splat, store, width


def over_arrays(function):
    """Return ``function``, of a Vec and perhaps numbers, as one of an array; always with two results."""

    @njit(error_model="numpy")
    def loop(x, first, second, arguments):
        p, q, r = pointer(x), pointer(first), pointer(second)
        for i in range(0, x.size, width(p)):
            a, b = pair(load(p, i), arguments)
            store(q, i, a)
            store(r, i, b)

    has_slope = function.__name__ in SLOPED

    @njit(error_model="numpy")
    def pair(z, arguments):
        if has_slope:
            return function(z, *arguments)
        return function(z, *arguments), z

    def apply(x, *arguments):
        padded = np.zeros(-(-x.size // 16) * 16, x.dtype)
        padded[: x.size] = x
        first, second = np.empty_like(padded), np.empty_like(padded)
        loop(padded, first, second, arguments)
        return first[: x.size], second[: x.size]

    return apply


def sigmoid(z):
    return 1 / (1 + mpmath.exp(-z))


def softplus(z):
    return mpmath.log1p(mpmath.exp(z))


def gelu_tanh_argument(z):
    return mpmath.sqrt(2 / mpmath.pi) * 2 * (z + mpf("0.044715") * z**3)


SLOPED = ("gelu", "gelu_tanh", "silu", "mish", "hardswish")
ALPHA, SCALE = mpf("1.6732632423543772848170429916717"), mpf("1.0507009873554804934193349852946")
# of each the parameters, f, and the bound in ulp
FUNCTIONS = {
    "elu": ((1.0,), lambda z: mpmath.expm1(z) if z < 0 else z, 2),
    "selu": ((), lambda z: SCALE * (ALPHA * mpmath.expm1(z) if z < 0 else z), 3.5),
    "celu": ((2.0,), lambda z: 2 * mpmath.expm1(z / 2) if z < 0 else z, 2),
    "softplus": ((2.0, 20.0), lambda z: z if z > 10 else softplus(2 * z) / 2, 2),
    "softsign": ((), lambda z: z / (1 + abs(z)), 2),
    "hardtanh": ((-1.0, 2.0), lambda z: min(max(z, -1), 2), 0),
    "relu6": ((), lambda z: min(max(z, 0), 6), 0),
    "log_sigmoid": ((), lambda z: -softplus(-z), 2),
    "gelu": ((), lambda z: z * mpmath.ncdf(z), 9),
    "gelu_tanh": ((), lambda z: z * sigmoid(gelu_tanh_argument(z)), 5),
    "silu": ((), lambda z: z * sigmoid(z), 5),
    "mish": ((), lambda z: z * mpmath.tanh(softplus(z)), 7.5),
    "hardswish": ((), lambda z: z * min(max(z + 3, 0), 6) / 6, 3.5),
}
KINKS = {"celu": (0,), "softplus": (10,), "hardtanh": (-1, 2), "relu6": (0, 6), "selu": (0,), "hardswish": (-3, 3)}
APPLY = {name: over_arrays(getattr(activations, name)) for name in FUNCTIONS}


def sample(dtype):
    rng = np.random.default_rng(0)
    end = 100 if dtype == np.float32 else 760
    tiny = np.ldexp(rng.uniform(-1, 1, 100), -rng.integers(0, 60, 100))
    return np.concatenate(
        [rng.uniform(-end, end, 150), rng.uniform(-40, 12, 200), rng.uniform(-4, 4, 200), tiny]
    ).astype(dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f_is_within_its_bound(dtype, name):
    arguments, f, bound = FUNCTIONS[name]
    info, x = np.finfo(dtype), sample(dtype)
    smallest = mpf(float(info.smallest_normal))
    # a product of z and what may be 0
    accepted = 750 * smallest if name in {"silu", "mish", "gelu_tanh"} else smallest
    with mpmath.workprec(400):
        for z, A in zip(x.tolist(), APPLY[name](x, *arguments)[0].tolist(), strict=True):
            exact = f(mpf(z))
            if abs(exact) < accepted and (A == 0 or abs(A - exact) < 4 * smallest):
                continue
            unit = mpf(2) ** (mpmath.frexp(exact)[1] - info.nmant - 1)
            allowed = bound * (1 + abs(gelu_tanh_argument(z))) if name == "gelu_tanh" and z < 0 else bound
            assert abs(A - exact) <= allowed * unit, (z, A, exact, float(abs(A - exact) / unit))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_are_those_of_the_definition(dtype, name):
    """From A within what A's own rounding does to f', at most 1 of it; from Z within the bounds of the module."""
    arguments, f, _ = FUNCTIONS[name]
    x = sample(dtype)
    x = x[[all(abs(z - kink) > 1e-3 for kink in KINKS.get(name, (0,))) for z in x.tolist()]]
    A, slope = APPLY[name](x, *arguments)
    if name not in SLOPED:
        slope = backward(name)(A, *arguments)[0]
    u = float(np.finfo(dtype).eps) / 2
    with mpmath.workprec(300):
        for z, got in zip(x.tolist(), slope.tolist(), strict=True):
            exact = mpmath.diff(f, mpf(z), h=mpf(2) ** -80)
            assert abs(got - exact) <= 16 * u, (z, got, exact)


def backward(name):
    function = getattr(activations, f"{name}_backward")

    @njit(error_model="numpy")
    def from_one(A, *arguments):
        return function(splat(A, 1.0), A, *arguments)

    return over_arrays(from_one)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_edges_are_pytorch_s(dtype, name):
    arguments, _, _ = FUNCTIONS[name]
    huge = float(np.finfo(dtype).max) / 2
    selu = float(ALPHA * SCALE), huge * float(SCALE)
    limits = {"elu": (-1, huge), "celu": (-2, huge), "selu": (-selu[0], selu[1]), "softsign": (-1, 1),
              "hardtanh": (-1, 2), "relu6": (0, 6), "log_sigmoid": (-huge, 0)}  # fmt: skip
    low, high = limits.get(name, (0, huge))
    zero = {"softplus": np.log(2) / 2, "log_sigmoid": -np.log(2)}.get(name, 0.0)
    x = np.array([0.0, -0.0, huge, -huge, np.nan] * lanes(np.dtype(dtype)), dtype)
    got, slope = APPLY[name](x, *arguments)
    np.testing.assert_allclose(got[:4], np.array([zero, zero, high, low]), rtol=4 * np.finfo(dtype).eps)
    assert np.isnan(got[4])
    if name in SLOPED:
        np.testing.assert_allclose(slope[:4], np.array([0.6 if name == "mish" else 0.5] * 2 + [1.0, 0.0]), rtol=1e-6)


def test_at_the_kinks_slopes_are_pytorch_s(dtype):
    z = {"elu": ([0.0], [0.5], (0.5,)), "celu": ([0.0], [1.0], (2.0,)), "selu": ([0.0], [float(ALPHA * SCALE)], ()),
         "relu6": ([0.0, 6.0], [0.0, 0.0], ()), "hardtanh": ([-1.0, 2.0], [0.0, 0.0], (-1.0, 2.0))}  # fmt: skip
    for name, (A, expected, arguments) in z.items():
        got = backward(name)(np.array(A, dtype), *arguments)[0]
        np.testing.assert_allclose(got, np.array(expected, dtype), rtol=2 * np.finfo(dtype).eps)
    assert APPLY["hardswish"](np.array([-3.0, 3.0], dtype))[1].tolist() == [0.0, 1.0]
    above = float(20 + np.log1p(np.exp(-20.0))) / 2
    slopes = backward("softplus")(np.array([above * 0.99, above * 1.01], dtype), 2.0, 20.0)[0]
    assert slopes[1] == 1.0
    assert slopes[0] == pytest.approx(-np.expm1(-2 * above * 0.99))
