"""The vector functions of Numba: f to its bound, f' from A or Z, and the edges."""

import sys

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from numba import njit

from briskmlp.backends.numba import activations, vector_math
from briskmlp.backends.numba.vector import lanes, load, pointer, splat, store, width
from briskmlp.operations.activations import CODES


def over_arrays(function):
    """Return a function of a Vec and perhaps numbers, with a tuple of results, as one of an array."""

    @njit(error_model="numpy")
    def loop(x, out, arguments):
        p, q = pointer(x), pointer(out)
        for i in range(0, x.size, width(p)):
            at = i
            for result in function(load(p, i), *arguments):
                store(q, at, result)
                at += x.size

    def apply(x, *arguments):
        x = np.asarray(x)
        padded = np.zeros(-(-x.size // 16) * 16, x.dtype)
        padded[: x.size] = x
        out = np.empty((2, padded.size), x.dtype)
        loop(padded, out.ravel(), arguments)
        return out[:, : x.size]

    return apply


# --- exp, log1p, sigmoid and tanh ------------------------------------------------------------------------------------


def sigmoid(z):
    return 1 / (1 + mpmath.exp(-z))


def alone(name):
    """Return a function of ``vector_math`` as one of an array."""
    function = getattr(vector_math, name)
    apply = over_arrays(njit(error_model="numpy")(lambda z: (function(z),)))
    return lambda x: apply(x)[0]


# of each in NumPy and mpmath, the bound in ulp, and the domain
BASIC = {
    "sigmoid": (lambda x: np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x))), sigmoid, 2.0),
    "tanh": (np.tanh, mpmath.tanh, 2.0),
    "exp": (np.exp, mpmath.exp, 1.0, (-np.inf, 0.0)),
    "exp_any": (np.exp, mpmath.exp, 1.0),
    "log1p": (np.log1p, mpmath.log1p, 3.0, (0.0, 1.0)),
}
APPLY = {name: alone(name) for name in BASIC}


def domain(name, dtype):
    """Return the smallest and largest number that a function is for; exp_any is infinite beyond."""
    last = np.nextafter(np.log(np.finfo(dtype).max), 0, dtype=dtype)
    return (-np.inf, float(last)) if name == "exp_any" else (*BASIC[name], (-np.inf, np.inf))[3]


def ulps(got, exact, dtype):
    """Return the error in units of the last place of the exact result; ``exact`` is longdouble or better."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(np.abs(exact).astype(np.longdouble))
    unit = np.ldexp(np.longdouble(1), np.maximum(exponent - info.nmant - 1, info.minexp - info.nmant))
    return np.abs(got.astype(np.longdouble) - exact) / unit


def assert_accurate(name, x, got, exact):
    """Assert the error wherever the exact result is normal; below, it is 0 or correct."""
    normal = np.abs(exact) >= np.finfo(x.dtype).smallest_normal
    error = ulps(got, exact, x.dtype)
    worst = np.argmax(np.where(normal, error, 0))
    assert error[worst] <= BASIC[name][2], (name, x[worst], got[worst], exact[worst], error[worst])
    assert ((got == 0) | (error <= 2))[~normal].all()


def stratified(dtype, count, seed=0):
    """Return ``count`` finite bit patterns, as many from each of equal intervals of the patterns."""
    integer = np.uint32 if dtype == np.float32 else np.uint64
    bits = np.dtype(integer).itemsize * 8 - count.bit_length() + 1
    patterns = np.arange(count, dtype=integer) << integer(bits)
    patterns |= np.random.default_rng(seed).integers(0, 2**bits, size=count, dtype=integer)
    x = patterns.view(dtype)
    return x[np.isfinite(x)]


@pytest.mark.parametrize("name", APPLY)
def test_activations_over_all_of_float32(name):
    """2**20 bit patterns, one from each interval of 4096, and as many where the function is not flat."""
    low, high = domain(name, np.float32)
    x = np.concatenate([
        stratified(np.float32, 2**20),
        np.linspace(-110, 110, 2**19).astype(np.float32),
        np.linspace(-1, 1, 2**18).astype(np.float32),
    ])  # fmt: skip
    x = x[(low <= x) & (x <= high)]
    x = x[(np.abs(x) >= np.finfo(np.float32).smallest_normal) | (x == 0)]  # subnormal inputs count as 0
    with np.errstate(over="ignore", under="ignore"):  # float64 is exact enough: 2**-29 ulp
        exact = BASIC[name][0](np.clip(x.astype(np.float64), -700, 700)).astype(np.longdouble)
    assert_accurate(name, x, APPLY[name](x), exact)


@pytest.mark.parametrize("name", APPLY)
def test_activations_over_float64(name):
    """Longdouble has 11 bits more where it is Intel's; its own functions err by about one of the last."""
    low, high = domain(name, np.float64)
    x = np.concatenate([stratified(np.float64, 2**16), np.linspace(-760, 760, 2**15), np.linspace(-3, 3, 2**15)])
    x = x[(low <= x) & (x <= high) & ((np.abs(x) >= np.finfo(np.float64).smallest_normal) | (x == 0))]
    if np.finfo(np.longdouble).nmant > 60:
        with np.errstate(over="ignore", under="ignore"):
            exact = BASIC[name][0](np.clip(x.astype(np.longdouble), -11000, 11000))
        assert_accurate(name, x, APPLY[name](x), exact)
    x = x[:: len(x) // 1500]  # and a few with 50 digits
    with mpmath.workprec(170):
        exact = [BASIC[name][1](mpf(float(value))) for value in x]
        got = APPLY[name](x)
        for value, a, b in zip(x, got.tolist(), exact, strict=True):
            unit = mpf(2) ** max(mpmath.frexp(b)[1] - 53, -1074) if b else mpf(2) ** -1074
            error = abs(mpf(a) - b) / unit
            assert error <= BASIC[name][2] or (abs(b) < sys.float_info.min and (a == 0 or error <= 2)), value


@pytest.mark.parametrize("name", APPLY)
def test_special_values(dtype, name):
    huge, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    expected = {
        "sigmoid": {0.0: 0.5, np.inf: 1.0, -np.inf: 0.0, huge: 1.0, -huge: 0.0, tiny: 0.5, -1000.0: 0.0},
        "tanh": {0.0: 0.0, np.inf: 1.0, -np.inf: -1.0, huge: 1.0, -huge: -1.0, 20.0: 1.0, -20.0: -1.0},
        "exp": {0.0: 1.0, -np.inf: 0.0, -huge: 0.0, -tiny: 1.0, -1000.0: 0.0},
        "exp_any": {0.0: 1.0, np.inf: np.inf, -np.inf: 0.0, huge: np.inf, -huge: 0.0, tiny: 1.0, -tiny: 1.0},
        "log1p": {0.0: 0.0},
    }[name]
    if name == "exp_any":
        beyond = np.nextafter(np.log(huge), np.inf, dtype=dtype)  # log(huge), rounded, may lie on either side
        expected[beyond] = np.inf
    x = np.array([0.0, -0.0, *expected], dtype)
    got = APPLY[name](x)
    assert (got[:2] == expected.pop(0.0)).all()
    assert name != "tanh" or np.signbit(got[:2]).tolist() == [False, True]
    by_value = dict(zip(x.tolist(), got.tolist(), strict=True))
    for value, wanted in expected.items():
        assert by_value[float(dtype.type(value))] == wanted, value
    assert np.isnan(APPLY[name](np.array([np.nan], dtype))).all()


def test_sigmoid_and_tanh_have_their_symmetries(dtype):
    x = stratified(dtype, 2**12)
    np.testing.assert_array_equal(APPLY["tanh"](-x), -APPLY["tanh"](x))
    z = np.linspace(-30, 30, 4001).astype(dtype)
    s = APPLY["sigmoid"](z)
    assert (np.diff(s) >= 0).all()
    assert ((s >= 0) & (s <= 1)).all()


# --- the activations from elu on -------------------------------------------------------------------------------------


def softplus(z):
    return mpmath.log1p(mpmath.exp(z))


def gelu_tanh_argument(z):
    return mpmath.sqrt(2 / mpmath.pi) * 2 * (z + mpf("0.044715") * z**3)


SLOPED = ("gelu", "gelu_tanh", "silu", "mish", "hardswish")
ALPHA, SCALE = mpf("1.6732632423543772848170429916717"), mpf("1.0507009873554804934193349852946")
# of each the parameters, f, and the bound in ulp
FUNCTIONS = {
    "elu": ((1.0, 0.0), lambda z: mpmath.expm1(z) if z < 0 else z, 2),
    "selu": ((0.0, 0.0), lambda z: SCALE * (ALPHA * mpmath.expm1(z) if z < 0 else z), 3.5),
    "celu": ((2.0, 0.0), lambda z: 2 * mpmath.expm1(z / 2) if z < 0 else z, 2),
    "softplus": ((2.0, 20.0), lambda z: z if z > 10 else softplus(2 * z) / 2, 2),
    "softsign": ((0.0, 0.0), lambda z: z / (1 + abs(z)), 2),
    "hardtanh": ((-1.0, 2.0), lambda z: min(max(z, -1), 2), 0),
    "relu6": ((0.0, 0.0), lambda z: min(max(z, 0), 6), 0),
    "log_sigmoid": ((0.0, 0.0), lambda z: -softplus(-z), 2),
    "gelu": ((0.0, 0.0), lambda z: z * mpmath.ncdf(z), 9),
    "gelu_tanh": ((0.0, 0.0), lambda z: z * sigmoid(gelu_tanh_argument(z)), 5),
    "silu": ((0.0, 0.0), lambda z: z * sigmoid(z), 5),
    "mish": ((0.0, 0.0), lambda z: z * mpmath.tanh(softplus(z)), 7.5),
    "hardswish": ((0.0, 0.0), lambda z: z * min(max(z + 3, 0), 6) / 6, 3.5),
}
KINKS = {"celu": (0,), "softplus": (10,), "hardtanh": (-1, 2), "relu6": (0, 6), "selu": (0,), "hardswish": (-3, 3)}


def with_slope(name):
    """Return f and f' of an activation as a function of an array: of one whose f' follows from A, the f' of A."""
    code = CODES[name]
    return over_arrays(njit(error_model="numpy")(lambda z, p, q: activations.with_slope(code, z, p, q)))


def backward(name):
    """Return f' as a function of an array of A."""
    code = CODES[name]
    apply = over_arrays(
        njit(error_model="numpy")(lambda A, p, q: (activations.backward(code, splat(A, 1.0), A, p, q),))
    )
    return lambda A, *parameters: apply(A, *parameters)[0]


F = {name: with_slope(name) for name in FUNCTIONS}


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
        for z, A in zip(x.tolist(), F[name](x, *arguments)[0].tolist(), strict=True):
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
    slope = F[name](x, *arguments)[1]
    u = float(np.finfo(dtype).eps) / 2
    with mpmath.workprec(300):
        for z, got in zip(x.tolist(), slope.tolist(), strict=True):
            exact = mpmath.diff(f, mpf(z), h=mpf(2) ** -80)
            assert abs(got - exact) <= 16 * u, (z, got, exact)


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
    got, slope = F[name](x, *arguments)
    np.testing.assert_allclose(got[:4], np.array([zero, zero, high, low]), rtol=4 * np.finfo(dtype).eps)
    assert np.isnan(got[4])
    if name in SLOPED:
        np.testing.assert_allclose(slope[:4], np.array([0.6 if name == "mish" else 0.5] * 2 + [1.0, 0.0]), rtol=1e-6)


def test_at_the_kinks_slopes_are_pytorch_s(dtype):
    z = {
        "elu": ([0.0], [0.5], (0.5, 0.0)),
        "celu": ([0.0], [1.0], (2.0, 0.0)),
        "selu": ([0.0], [float(ALPHA * SCALE)], (0.0, 0.0)),
        "relu6": ([0.0, 6.0], [0.0, 0.0], (0.0, 0.0)),
        "hardtanh": ([-1.0, 2.0], [0.0, 0.0], (-1.0, 2.0)),
    }
    for name, (A, expected, arguments) in z.items():
        got = backward(name)(np.array(A, dtype), *arguments)
        np.testing.assert_allclose(got, np.array(expected, dtype), rtol=2 * np.finfo(dtype).eps)
    assert F["hardswish"](np.array([-3.0, 3.0], dtype), 0.0, 0.0)[1].tolist() == [0.0, 1.0]
    above = float(20 + np.log1p(np.exp(-20.0))) / 2
    slopes = backward("softplus")(np.array([above * 0.99, above * 1.01], dtype), 2.0, 20.0)
    assert slopes[1] == 1.0
    assert slopes[0] == pytest.approx(-np.expm1(-2 * above * 0.99))
