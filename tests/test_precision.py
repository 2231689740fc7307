"""Precisions: what products read is rounded where it should be, by as much as it should be, and nothing else is.

The reference rounds with `frexp` and `rint` in float64, and multiplies there. Where numbers are chosen so that every
sum is exact, backends must agree with it in every bit; elsewhere within what rounding allows.
"""

import functools
import itertools
import math
import pickle
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import oracle
import pytest
from build import BRIEF, OPTIMIZERS, Guards, build, guarded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rounding import bounds
from sklearn.datasets import load_digits
from test_mnist import accuracy, mnist  # noqa: F401 - a fixture

from briskmlp import SGD, Adam, Trainer
from briskmlp.backends import dispatch, native
from briskmlp.backends import numpy as numpy_backend
from briskmlp.plan import BFLOAT16, HIGH, HIGHEST, PRECISIONS

F32 = np.dtype("float32")
TINY, U = 2.0**-126, 2.0**-24
BOUND = {HIGHEST: 2.0**-23, HIGH: 2.0**-15, BFLOAT16: 2.0**-7}  # of |A| @ |B|
PARTS = {HIGHEST: 3, HIGH: 2, BFLOAT16: 1}
PRODUCTS_OF_PARTS = {HIGHEST: 6, HIGH: 3, BFLOAT16: 1}

# Numba has no other precision than the highest, which is not that of parts but on amx: the other tests have it.
CHOSEN = [("numpy", None, precision) for precision in (HIGH, BFLOAT16)]
for isa in native.isas() if native.reason() is None else ():
    CHOSEN += [("native", isa, precision) for precision in (HIGHEST, HIGH, BFLOAT16)[isa != "amx" :]]


def described(chosen):
    name, isa, precision = chosen
    return "-".join(filter(None, (name, isa, PRECISIONS[precision])))


@pytest.fixture(params=CHOSEN, ids=described)
def chosen(request, monkeypatch):
    """Return each backend, instruction set and precision in turn, and ask for the instruction set."""
    if request.param[1] is not None:
        monkeypatch.setenv("BRISKMLP_ISA", request.param[1])
    return request.param


@pytest.fixture
def backend_name(chosen):
    return chosen[0]


@pytest.fixture
def precision(chosen):
    return chosen[2]


def at(case, precision):
    return replace(case, plan=case.plan._replace(precision=precision))


# --- the reference ---------------------------------------------------------------------------------------------------


def bfloat16(x):
    """x in float64, as bfloat16 has it: 8 significant bits, nearest, ties to even; subnormals are 0."""
    x = np.asarray(x, dtype=float)
    mantissa, exponent = np.frexp(x)
    rounded = np.ldexp(np.rint(mantissa * 2**8), exponent - 8)
    rounded = np.where(np.abs(rounded) > 3.4e38, np.copysign(np.inf, x), rounded)
    return np.where(np.isfinite(x), np.where(np.abs(x) < TINY, 0, rounded), x)


def parts(x, precision):
    result = []
    with np.errstate(invalid="ignore"):
        for _ in range(PARTS[precision]):
            result.append(bfloat16(x - sum(result)))
    return result


def terms(A, B, precision):
    """Return the products of parts that make up A @ B."""
    pairs = itertools.product(enumerate(parts(A, precision)), enumerate(parts(B, precision)))
    return [(a, b) for (i, a), (j, b) in pairs if i + j < PARTS[precision]]


def product(A, B, precision):
    """Return A @ B, and Σ of the absolute values of what is added up."""
    products = [(a @ b, np.abs(a) @ np.abs(b)) for a, b in terms(A, B, precision)]
    return sum(p for p, _ in products), sum(size for _, size in products)


def added(K, precision):
    """Bound what float32 loses in a sum of all products of parts of K numbers, each exact, relative to Σ |…|."""
    n = K * PRODUCTS_OF_PARTS[precision]
    return (n + 3) * U / (1 - (n + 3) * U)


# --- bfloat16 --------------------------------------------------------------------------------------------------------


def interesting():
    """Return float32 numbers around everything that rounding could get wrong."""
    bits = [
        *(sign | exponent << 23 | mantissa for sign in (0, 1 << 31) for exponent in (0, 1, 100, 127, 128, 253, 254, 255)
          for mantissa in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x17FFF, 0x18000, 0x18001, 0x7F7FFF, 0x7F8000,
                           0x7FFFFF)),
        *np.random.default_rng(0).integers(2**32, size=4000).tolist(),
    ]  # fmt: skip
    return np.array(bits, dtype=np.uint32).view(np.float32)


def test_rounding_to_bfloat16(backend, precision):
    """Seen through x · 1: what a product reads of X. A second part ends where it would be subnormal, or x overflows."""
    X = interesting()[:, None]
    case = at(build([1, 1], bias="none", dtype="float32", n=len(X)), precision)
    case.params[:] = 1.0
    out = replace(case, X=X).forward(backend).astype(float)
    with np.errstate(invalid="ignore"):
        expected = sum(parts(X, precision))
    np.testing.assert_array_equal(out, expected)
    for rows in (1, 3, 4, 5):  # a few rows are predicted in another way
        np.testing.assert_array_equal(replace(case, X=X).forward(backend, np.arange(rows)), expected[:rows])


@pytest.mark.torch
def test_rounding_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    x = interesting()
    normal = x[~(np.abs(x) < TINY)]
    expected = torch.from_numpy(normal).to(torch.bfloat16).double().numpy()
    with np.errstate(invalid="ignore"):  # some NaN are signalling ones
        np.testing.assert_array_equal(bfloat16(normal), expected)


# --- products: the error bounds --------------------------------------------------------------------------------------


def forward_product(backend, A, B, precision):
    """A @ B by a layer's forward pass."""
    case = at(build([len(B), B.shape[1]], bias="none", dtype="float32", n=len(A)), precision)
    return replace(case, X=A, params=B.ravel().copy()).forward(backend)


def weights_product(backend, A, B, precision):
    """A.T @ B by dW: from weights of 0, delta = 2 (0 - Y)."""
    case = at(build([A.shape[1], B.shape[1]], bias="none", dtype="float32", n=len(A)), precision)
    case = replace(case, X=A, Y=-B / 2, params=np.zeros_like(case.params))
    return case.gradient(backend)[1].reshape(A.shape[1], B.shape[1])


def delta_product(backend, A, B, precision):
    """A @ B.T by the delta of a layer below, which db adds up of its single row."""
    case = at(build([1, *B.shape], hidden="identity", dtype="float32", n=1), precision)
    params = np.zeros_like(case.params)
    case.network.weights(params)[1][:] = B
    rows = [replace(case, X=np.ones((1, 1), F32), Y=-a[None] / 2, params=params).gradient(backend)[1] for a in A]
    return np.array([case.network.biases(row)[0] for row in rows])


PRODUCTS = {
    "forward": (forward_product, lambda B: B),
    "weights": (weights_product, lambda B: B),
    "delta": (delta_product, lambda B: B.T),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_are_those_of_parts(backend, kind, precision):
    """To float32's own rounding: operands are rounded as they should be, sums are not."""
    rng = np.random.default_rng(0)
    multiply, right = PRODUCTS[kind]
    for m, K, n in ((1, 1, 1), (3, 17, 5), (9, 40, 33), (40, 1000, 3)):
        A, B = rng.normal(size=(m, K)).astype(F32), rng.normal(size=(K, n)).astype(F32)
        left = A.T.copy() if kind == "weights" else A
        C = multiply(backend, left, np.ascontiguousarray(right(B)), precision)
        expected, size = product(A, B, precision)
        allowed = added(K, precision) * size
        if kind == "delta" and precision == BFLOAT16:  # which is rounded itself; a sum near a tie, to either side
            allowed += 2.0**-8 * (np.abs(expected) + allowed)
            assert (bfloat16(C) == C).all()
        assert (np.abs(C - expected) <= allowed).all()


@st.composite
def operands(draw):
    """Draw A and B of any shape and scale, of which B's second half may cancel what the first adds up."""
    m, K, n = (draw(st.integers(1, high)) for high in (9, 70, 40))
    scales = draw(st.integers(-30, 30)), draw(st.integers(-30, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    A, B = rng.normal(size=(m, K)), rng.normal(size=(K, n))
    if draw(st.booleans()):
        spread = draw(st.sampled_from([1, 6]))
        A, B = A * 10.0 ** rng.uniform(-spread, 0, A.shape), B * 10.0 ** rng.uniform(-spread, 0, B.shape)
    if draw(st.booleans()):
        half = K // 2
        A[:, half : 2 * half], B[half : 2 * half] = A[:, :half], -B[:half] * (1 + 1e-5 * rng.normal(size=(half, n)))
    if abs(sum(scales)) > 30:
        scales = scales[0], -scales[0]
    return (A * 10.0 ** scales[0]).astype(F32), (B * 10.0 ** scales[1]).astype(F32)


@given(pair=operands())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # which all examples may share
def test_the_entrywise_bound(backend, precision, pair):
    """|C - A @ B| <= c |A| @ |B| + what float32 loses in sums + what is lost below the smallest normal number.

    u = 2**-8 is bfloat16's unit roundoff: |x - x1| <= u / (1 + u) |x|. One part each: x w - x1 w1 is at most
    (2u / (1 + u) + u² / (1 + u)²) |x w| < 2**-7 |x w|. Two parts: x - x1 is below u |x| and a multiple of float32's
    last place, so that what x2 leaves of it is at most 2**-17 |x|; and x2 w2, which is not computed, at most
    u² / (1 + u)² |x w|: in all 2**-16 (1 + 1 / (1 + u)²) |x w| + 2**-34 |x w| < 2**-15 |x w|. Three parts are x, as
    x - x1 - x2 has at most 7 bits left; x2 w3 and x3 w2 are at most 2**-8 2**-17 |x w| each, and x3 w3 2**-34 |x w|:
    in all below 2**-23 |x w|. A part below 2**-126 is lost, which costs 2**-126 of what it would be multiplied with,
    and so is each product of parts, and each sum, below it.
    """
    A, B = pair
    exact, size = A.astype(float) @ B.astype(float), np.abs(A).astype(float) @ np.abs(B).astype(float)
    flushed = 2 * PRODUCTS_OF_PARTS[precision] * len(B)
    lost = TINY * (np.abs(A).sum(axis=1, dtype=float)[:, None] + np.abs(B).sum(axis=0, dtype=float) + flushed)
    C = forward_product(backend, A, B, precision)
    allowed = BOUND[precision] * size + added(len(B), precision) * (1 + BOUND[BFLOAT16]) ** 2 * size + lost
    assert (np.abs(C - exact) <= allowed).all()


def test_the_error_on_normal_data(backend, precision, monkeypatch):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(64, 1024)).astype(F32), rng.normal(size=(1024, 64)).astype(F32)
    exact = A.astype(float) @ B.astype(float)
    error = np.linalg.norm(forward_product(backend, A, B, precision) - exact) / np.linalg.norm(exact)
    # each part's error is uniform: 2**-9 / √3 and so on; a bound from below tells that the precision was taken at all
    low, high = {HIGHEST: (0, 1e-6), HIGH: (1e-6, 1e-5), BFLOAT16: (1e-3, 5e-3)}[precision]
    assert low < error <= high
    if precision == HIGHEST:
        monkeypatch.setenv("BRISKMLP_ISA", "avx512")
        whole = forward_product(native, A, B, precision)
        assert error <= np.linalg.norm(whole - exact) / np.linalg.norm(exact)


# --- networks: every bit where sums are exact ------------------------------------------------------------------------


def integers(layers, hidden, n, precision, mask=None):
    """Return a Case of integers whose sums are all below 2**24, so that float32 rounds none, and which precisions tell.

    It is searched for: sparse data and weights, some of them of more than 8 bits.
    """
    case = at(build(layers, hidden=hidden, dtype="float32", n=n, batch_size=n, shuffle=False), precision)
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        for W, b in zip(case.network.weights(case.params), case.network.biases(case.params), strict=True):
            W[:] = rng.integers(-1, 2, W.shape) * (rng.random(W.shape) < 4 / len(W))
            b[:] = rng.integers(-3, 4, b.shape)
        W = case.network.weights(case.params)[0]
        W *= rng.choice([1, 1, 259], W.shape)
        case.X[:] = rng.integers(-300, 301, case.X.shape) * (rng.random(case.X.shape) < rng.choice([0.01, 0.05, 0.2]))
        error = rng.integers(-280, 281, case.Y.shape) // rng.choice([1, 50])
        case.Y[:] = stepped(case, 0.0, mask).A - error * (rng.random(case.Y.shape) < 4 / case.Y.size)
        step, whole = stepped(case, 0.0, mask), stepped(at(case, HIGHEST), 0.0, mask)
        told = (step.A != whole.A).any() and (step.gradient != whole.gradient).any()
        if step.largest < 2**24 and (told or precision == HIGHEST):
            return case
    raise AssertionError


class Step(NamedTuple):
    """A step of gradient descent, in float64 but for what is rounded to bfloat16."""

    A: np.ndarray  # the last
    gradient: np.ndarray
    params: np.ndarray  # after it
    largest: float  # Σ of absolute values in a product
    from_tie: float  # least distance from one of what is kept, in bfloat16's last places


def stepped(case, rate, mask=None, change=None):
    """Return a Step. ``mask`` is a dropout's, of 0 and 2; ``change`` names what is, wrongly, not of what is kept."""
    precision, largest, ties = case.plan.precision, [], []

    def multiply(A, B):
        result, size = product(A, B, precision)
        largest.append(size.max())
        return result

    def kept(x):
        ties.append(np.abs(np.abs(np.frexp(x)[0]) * 2**8 % 1 - 0.5).min())
        return bfloat16(x) if precision == BFLOAT16 else x

    def other(x, whole):
        return whole if precision == BFLOAT16 else bfloat16(x)

    weights, biases = case.tensors(case.params)
    names = case.network.activations
    whole, A = [case.X.astype(float)], [kept(case.X.astype(float))]
    for l, (W, b) in enumerate(zip(weights, biases, strict=True)):
        whole.append(oracle.activate(names[l], multiply(A[l], W) + b))
        if l + 1 < len(weights) and mask is not None:
            whole[-1] = whole[-1] * mask
        A.append(kept(whole[-1]) if l + 1 < len(weights) else whole[-1])
    error, dW, db = 2 * (A[-1] - case.Y), [], []
    for l in reversed(range(len(weights))):
        delta = kept(error)
        dW.insert(0, multiply(A[l].T, delta))
        db.insert(0, (other(delta, error) if change == "bias" else delta).sum(axis=0))
        if l > 0:
            below = other(A[l], whole[l]) if change == "slope" else A[l]
            slope = oracle.slope(names[l - 1], None, below if mask is None else below / 2)
            error = multiply(delta, weights[l].T) * (1 if mask is None else mask) * slope
    moved = [[p - rate * g for p, g in zip(*pair, strict=True)] for pair in ((weights, dW), (biases, db))]
    return Step(A[-1], case.flat(dW, db), case.flat(*moved), max(largest), min(ties))


SHAPES = [((5, 6, 3), 8), ((40, 70, 35, 3), 16), ((20, 33, 2), 300), ((1100, 40, 9), 12)]
TASKS = [*itertools.product(SHAPES, ["relu", "identity"]), (((40, 300, 300, 3), 8), "relu")]


@functools.cache  # the largest takes seconds
def integers_and_step(layers, hidden, n, precision, rate):
    case = integers(layers, hidden, n, precision)
    return case, stepped(case, rate)


@pytest.mark.parametrize(("shape", "hidden"), TASKS, ids=str)
def test_networks_of_integers(backend, precision, shape, hidden):
    """Forward, gradient and a step, through tiles, panels, shards and blocks of K: the reference's bits."""
    layers, n = shape
    rate = 2.0**-12  # times n, which divides: W - rate · dW has no more than 24 bits
    case, (A, gradient, expected, *_) = integers_and_step(layers, hidden, n, precision, rate)
    np.testing.assert_array_equal(case.forward(backend), A)
    np.testing.assert_array_equal(case.gradient(backend)[1], gradient)
    assert (expected == expected.astype(F32)).all()
    if n & (n - 1) == 0:  # else 1/n rounds
        np.testing.assert_array_equal(case.train(backend, [rate * n])[0], expected)


rounded = [each for each in CHOSEN if each[2] == BFLOAT16]


@pytest.mark.parametrize("chosen", rounded, ids=described, indirect=True)
def test_dropout_comes_before_rounding(backend):
    """At a rate of 1/2, where what is kept is doubled exactly."""
    mask = oracle.dropout_mask(0, 0, range(16), 0, 70, 0.5)
    case = integers([40, 70, 3], "relu", 16, BFLOAT16, mask)
    case = replace(case, plan=case.plan._replace(dropout=np.array([0.5, 0.0])))
    expected = stepped(case, 2.0**-12, mask).params
    assert (expected == expected.astype(F32)).all()
    np.testing.assert_array_equal(case.train(backend, [2.0**-8])[0], expected)


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh"])
@pytest.mark.parametrize("dropped", [False, True], ids=["whole", "dropout"])
def test_slopes_and_biases_are_of_what_is_kept(backend, precision, hidden, dropped):
    """f' and db of rounded numbers in bfloat16, of whole ones in high."""
    mask = oracle.dropout_mask(1, 0, range(4), 0, 5, 0.5) if dropped else None
    case = build([3, 5, 2], hidden=hidden, dtype="float32", n=4, batch_size=4, shuffle=False, seed=1)
    case = at(replace(case, plan=case.plan._replace(dropout=np.array([0.5 * dropped, 0.0]))), precision)
    step = stepped(case, 0.125, mask)
    assert step.from_tie > 1e-3  # float32's errors, of 2**-16 of a place, round no number to the other side
    # A step moves weights by some 2**-2 times numbers of order 1: by 10 u of that, or by what second parts leave of x;
    # the sums of three parts are of six times as many products
    allowed = {HIGHEST: 6 * 2.0**-22, HIGH: 2.0**-17, BFLOAT16: 2.0**-22}[precision]
    assert np.abs(case.train(backend, [0.5])[0] - step.params).max() < allowed
    for change in ("slope", "bias"):  # as if these were of the other, they are off by far more
        assert np.abs(stepped(case, 0.125, mask, change).params - step.params).max() > 16 * allowed


# --- networks: within what rounding allows ---------------------------------------------------------------------------


def assert_within_bounds(case, backend):
    allowed_out, allowed_loss, allowed_grad = (2 * bound for bound in bounds(case))
    A = oracle.forward(*case.tensors(case.params), case.network.activations, case.X)[-1]
    assert (np.abs(case.forward(backend) - A) <= allowed_out).all(), case.plan
    expected_loss, expected_grad = case.oracle_gradient()
    total, grad = case.gradient(backend)
    assert abs(total - expected_loss) <= allowed_loss, case.plan
    assert (np.abs(grad - expected_grad) <= allowed_grad).all(), case.plan


@pytest.mark.parametrize("weighted", [False, True])
def test_every_activation_and_loss(backend, precision, weighted):
    for i, (loss, output, hidden, bias) in list(enumerate(BRIEF))[weighted::2]:
        case = build([9, 17, 7, 3], hidden=hidden, output=output, loss=loss, dtype="float32", n=40, bias=bias,
                     weighted=weighted, l2=0.1 * (i % 5))  # fmt: skip
        assert_within_bounds(at(case, precision), backend)


def test_widths_and_batches_around_panels(backend, precision):
    """Odd widths, and odd batches, leave half of a word of two numbers without one."""
    widths, batches = (1, 2, 3, 4, 5, 31, 32, 33, 36, 63, 65), (1, 2, 3, 4, 5, 15, 17, 33, 64, 129, 131)
    for i, j in itertools.product(range(11), range(0, 11, 2)):
        layers = [widths[i], widths[(i + j) % 11], widths[(i + 2 * j) % 11]]
        case = build(layers, dtype="float32", n=batches[(i + 3 * j) % 11], l2=0.1)
        assert_within_bounds(at(case, precision), backend)


@pytest.mark.parametrize("layers", [[5, 9, 3], [33, 70, 3], [1, 1]], ids=str)
def test_what_one_row_holds_reaches_no_other(backend, precision, layers):
    """Not its neighbour in a word, nor a later batch in the same workspace, of which an odd one leaves a row over."""
    case = at(build(layers, dtype="float32", n=34), precision)
    whole, poisoned = case.forward(backend), replace(case, X=case.X.copy())
    poisoned.X[20] = np.resize([np.nan, np.inf, -3.4e38], layers[0])
    with np.errstate(invalid="ignore", over="ignore"):
        out = poisoned.forward(backend)
        work = backend.workspace(case.plan, F32, case.n)
        poisoned.gradient(backend, work=work)
    assert np.isnan(out[20]).all()
    np.testing.assert_array_equal(np.delete(out, 20, axis=0), np.delete(whole, 20, axis=0))
    for rows in (np.arange(19), np.arange(20), np.array([33])):
        loss, gradient = case.gradient(backend, rows, work=work)
        expected = case.gradient(backend, rows)
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])


@pytest.mark.parametrize("layers", [[5, 9, 3], [32, 64, 32], [1, 1], [17, 7, 33]], ids=str)
def test_nothing_outside_the_arrays_is_read_or_written(backend, precision, layers):
    for n in (23, 24):
        case, guards = at(build(layers, dtype="float32", n=n, weighted=True), precision), Guards()
        safe = guarded(case, guards)
        expected = case.gradient(backend), case.train(backend, [0.05] * 2)
        for rows in (case.rows[:2], case.rows[:3], case.rows):
            np.testing.assert_array_equal(safe.forward(backend, rows), case.forward(backend, rows))
        loss, gradient = safe.gradient(backend)
        assert loss == expected[0][0]
        np.testing.assert_array_equal(gradient, expected[0][1])
        for got, wanted in zip(safe.train(backend, [0.05] * 2), expected[1], strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert guards.intact()


def test_the_bounds_are_worth_something():
    case = build([33, 16, 9, 3], hidden="sigmoid", output="softmax", loss="cross_entropy", dtype="float32", n=100)
    sizes = [np.linalg.norm(bounds(at(case, precision))[2]) for precision in (HIGHEST, HIGH, BFLOAT16)]
    gradient = np.linalg.norm(case.oracle_gradient()[1])
    assert sizes[0] < sizes[1] < 2e-3 * gradient
    assert sizes[1] < sizes[2] < 0.3 * gradient


FORMS = {
    "plain": {},
    "dropout": {"dropout": [0.5, 0.25]},
    "clipped": {"clip_norm": 0.01},
    "chunks": {"n": 700, "batch_size": 300},
    "one batch": {"n": 64, "batch_size": 64},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_identical_bits_wherever_calls_are_cut(backend, precision, form, name):
    """A call rounds all weights when it begins: within one, each update must leave what that would."""
    case = build([9, 40, 33, 3], dtype="float32", optimizer=OPTIMIZERS[name], l2=0.1, weighted=True, **FORMS[form])
    case = at(case, precision)
    expected = case.train(backend, [0.01] * 2)
    for steps in (1, 3):
        for got, wanted in zip(case.train(backend, [0.01] * 2, steps=steps, order="fresh"), expected, strict=True):
            assert got.tobytes() == wanted.tobytes()
    whole = at(case, HIGHEST).train(numpy_backend, [0.01] * 2)[0]
    assert np.linalg.norm(whole - expected[0]) < 0.2 * np.linalg.norm(whole - case.params)
    assert (whole != expected[0]).any() or precision == HIGHEST


def test_loss_alone_is_that_of_the_gradient(backend, precision):
    case = at(build([9, 40, 3], dtype="float32", n=300, weighted=True, l2=0.3), precision)
    work = backend.workspace(case.plan, F32, case.n, training=False)
    alone = backend.gradient(work, case.start(), case.examples, case.rows, 1.0)
    assert alone == pytest.approx(case.gradient(backend)[0], rel=8 * U)


# --- the Trainer -----------------------------------------------------------------------------------------------------


@pytest.fixture
def digits():
    """Return scikit-learn's digits, 1,500 to train on and the rest to test."""
    X, labels = load_digits(return_X_y=True)
    X = (X / 16).astype(F32)
    return X[:1500], labels[:1500], X[1500:], labels[1500:]


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 7)).astype(F32)
    return X, X[:, :2] * 2


def test_a_trainer_trains_keeps_and_loads_its_precision(backend_name, precision, task, tmp_path):
    name = PRECISIONS[precision]
    arguments = {"hidden": "tanh", "output": "identity", "seed": 0, "backend": backend_name, "batch_size": 8}
    trainer = Trainer([7, 20, 2], precision=name, **arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BRISKMLP_ISA", raising=False)  # which may have no other precision
        whole = Trainer([7, 20, 2], **arguments)
    trainer.fit(*task, epochs=2)
    whole.fit(*task, epochs=2)
    difference = np.abs(trainer.parameters - whole.parameters).max()
    assert 0 < difference < {HIGHEST: 1e-5, HIGH: 1e-3, BFLOAT16: 0.1}[precision]
    trainer.save(tmp_path / "model")
    loaded = Trainer.load(tmp_path / "model", backend=backend_name)
    copy = pickle.loads(pickle.dumps(trainer))
    for each in (trainer, loaded, copy):
        assert each.precision == name
        each.fit(*task, epochs=1)
        assert each.parameters.tobytes() == trainer.parameters.tobytes()
    assert loaded.predict(task[0]).tobytes() == trainer.predict(task[0]).tobytes()
    assert loaded.predict(task[0])[:3].tobytes() == trainer.predict(task[0][:3]).tobytes() or backend_name == "numpy"
    with pytest.raises(AttributeError, match="precision cannot be changed"):
        trainer.precision = "highest"


def test_explain_says_how_it_is_computed(monkeypatch):
    assert "precision" not in Trainer([3, 2]).explain()
    line = "precision: {}, emulated in float32 and no faster than highest: {}"
    text = Trainer([3, 2], precision="high", backend="numpy").explain()
    assert line.format("high", "numpy computes in float32") in text
    if "avx512_bf16" in native.isas():
        for name, speed in (("bfloat16", "up to twice as fast as"), ("high", "slower than")):
            text = Trainer([3, 2], precision=name, backend="native").explain()
            assert f"precision: {name}, by avx512_bf16's products of bfloat16 numbers: {speed} highest" in text
    if "amx" in native.isas():
        monkeypatch.setenv("BRISKMLP_ISA", "amx")
        for name, parts in zip(PRECISIONS, ("three bfloat16 parts", "two bfloat16 parts", "one bfloat16"), strict=True):
            text = Trainer([3, 2], precision=name).explain()
            assert f"precision: {name}, by amx's products of tiles: {parts} of each number" in text
    if native.reason() is None:
        monkeypatch.setenv("BRISKMLP_ISA", "portable")
        with_unit = ("portable was asked for, avx512_bf16 can run here", ("portable", "avx512_bf16"))
        for why, isas in (("this machine has no AVX-512 BF16", ("portable",)), with_unit):
            monkeypatch.setattr(native, "isas", lambda isas=isas: isas)
            text = Trainer([3, 2], precision="bfloat16", backend="native").explain()
            assert line.format("bfloat16", why) in text


@pytest.mark.parametrize("precision", [HIGH, BFLOAT16], ids=PRECISIONS[1:])
def test_what_has_no_other_precision_refuses_it_by_name(precision):
    name = PRECISIONS[precision]
    with pytest.raises(ValueError, match=f"precision='{name}' needs dtype='float32', but dtype is 'float64'"):
        Trainer([3, 2], precision=name, dtype="float64")
    if dispatch.backends()["numba"] is None:
        message = f"backend='numba' cannot be honoured: it has no precision '{name}', which native and numpy have"
        with pytest.raises(ValueError, match=message):
            Trainer([3, 2], precision=name, backend="numba")


@pytest.mark.skipif("avx512_bf16" not in native.isas(), reason="this processor has no AVX512_BF16")
def test_copies_of_weights_take_two_bytes_a_number():
    """Beside the weights and their gradient, in float32: of all a copy, and of those above the first layer another."""
    case = build([1024] * 3, dtype="float32", n=32, batch_size=32)
    copies = {  # bytes for each of 1024², of which the upper ones alone have another copy; of activations and deltas
        (HIGHEST, "avx512"): (4, 4),
        (BFLOAT16, "avx512_bf16"): (2 * 3, 4),
        (HIGH, "avx512_bf16"): (4 * 3, 12),
        (BFLOAT16, "amx"): (2 * 3, 4),
        (HIGHEST, "amx"): (6 * 3, 16),
    }
    for (precision, isa), (size, kept) in copies.items():
        if isa not in native.isas():
            continue
        taken = native.memory(at(case, precision).plan, F32, case.n, isa=isa)
        rest = taken - (4 * 4 + size) * 2**20 - 6 * 1024 * 32 * kept
        assert 0 < rest < 2**20  # biases, and a block of a product


@pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
def test_the_kernels_refuse_what_they_cannot_compute():
    plan = build([3, 2]).plan
    with pytest.raises(ValueError, match="only float32 has a precision other than the highest"):
        native.workspace(plan._replace(precision=BFLOAT16), np.dtype("float64"), 5, isa="portable")
    for precision in (-1, 3):
        with pytest.raises(ValueError, match=f"plan.precision is {precision}, which is not in 0 to 2"):
            native.workspace(plan._replace(precision=precision), F32, 5, isa="portable")


@pytest.mark.parametrize("isa", native.isas())
def test_memory_of_activations(isa):
    """bfloat16 has float32's; high three times as much; highest, where it is computed from parts, four times."""
    plan, sizes = build([256, 512, 64]).plan, []
    for precision in (HIGHEST, HIGH, BFLOAT16):
        plans = [plan._replace(precision=precision, batch_size=batch) for batch in (512, 1024)]
        of = "avx512" if precision == HIGHEST and isa == "avx512_bf16" else isa
        few, many = (native.memory(each, F32, 1024, isa=of) for each in plans)
        sizes.append((many - few) / 512 / 4)
    A, delta = 256 + 512 + 64, 3 * 512
    for size, times in zip(sizes, (4 if isa == "amx" else 1, 3, 1), strict=True):
        assert times * (A + delta) <= size < 1.02 * times * (A + delta)


def test_what_overflows_is_an_error_and_moves_nothing(backend_name, precision, task):
    """Weights that float32 holds and bfloat16 does not: the loss is not finite, and says so."""
    initializer = [(np.full((7, 2), 3.395e38, F32), np.zeros(2, F32))]
    trainer = Trainer(
        [7, 2], output="identity", precision=PRECISIONS[precision], initializer=initializer, backend=backend_name
    )
    before = trainer.parameters.copy()
    with pytest.raises(FloatingPointError, match="the loss is not finite in epoch 0, batch 0"):
        trainer.fit(*task, epochs=1)
    np.testing.assert_array_equal(trainer.parameters, before)


@pytest.mark.slow  # ten seconds, and some minutes where tiles are emulated
@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(1e-3)], ids=["sgd", "adam"])
@pytest.mark.parametrize("isa", [None, *native.isas()[4:]])
@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_accuracy_on_digits(name, isa, optimizer, request, monkeypatch):
    """5 seeds of a network on real digits: bfloat16 ends within half a point of the highest precision of float32."""
    X, labels, X_test, labels_test = request.getfixturevalue(name)
    means = {}
    for precision, chosen in (("float32", None), *((precision, isa) for precision in PRECISIONS)):
        if chosen is None:
            monkeypatch.delenv("BRISKMLP_ISA", raising=False)
        else:
            monkeypatch.setenv("BRISKMLP_ISA", chosen)
        reached = []
        for seed in range(5):
            trainer = Trainer([X.shape[1], 100, 10], hidden="relu", loss="cross_entropy", optimizer=optimizer,
                              batch_size=32, precision=precision.replace("float32", "highest"), seed=seed)  # fmt: skip
            trainer.fit(X, labels, epochs=15)
            reached.append(accuracy(trainer.predict(X_test), labels_test))
        means[precision] = math.fsum(reached) / 5
    assert means["float32"] > {"mnist": 0.92, "digits": 0.88}[name]
    assert abs(means["bfloat16"] - means["float32"]) <= 0.005, means
    for precision in ("high", "highest"):
        assert abs(means[precision] - means["float32"]) <= 0.002, means


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("hidden", ["hardtanh", "hardtanh(-0.3, 0.7)", "relu6"])
def test_saturated_units_pass_no_gradient_though_they_are_rounded(hidden, dropout):
    """0.7 is rounded to less, and 6 / 0.7 · 0.7 need not be 6: f' is that of A before."""
    rng, moved = np.random.default_rng(0), []
    X, Y = 3 * rng.normal(size=(100, 40)), rng.normal(size=(100, 3))
    for backend in ["numpy"] + ["native"] * (native.reason() is None):
        trainer = Trainer(
            [40, 64, 30, 3], hidden=hidden, output="identity", seed=3, backend=backend, precision="bfloat16",
            dropout=dropout, batch_size=100,
        )  # fmt: skip
        before = trainer.parameters.copy()
        trainer.fit(X, Y, epochs=1)
        moved.append(trainer.parameters - before)
    # sums in float32 in another order; a saturated unit's gradient would be a few per cent of it all
    assert np.linalg.norm(moved[0] - moved[-1]) <= 1e-4 * np.linalg.norm(moved[0])
