"""The losses and activations by hand on every backend: constants of the plan, kinks, and numbers that are hard."""

import math
from dataclasses import replace

import numpy as np
import pytest
from build import build
from scipy.special import xlogy


def single(output, loss, dtype, Z, Y, weight=None, **form):
    """Return a Case of one layer without biases whose Z is the given column: n examples, one output."""
    case = build([1, 1], output=output, loss=loss, bias="none", dtype=dtype, n=len(Z), batch_size=len(Z), **form)
    case.params[:] = 1
    X, Y = (np.array(column, dtype)[:, None] for column in (Z, Y))
    return replace(case, X=X, Y=Y, weight=weight)


def each(case, backend):
    """Return E and ∂E/∂Z of each example by itself."""
    found = [case.gradient(backend, rows=np.array([i])) for i in range(case.n)]
    # X is Z, so that dW = Z · delta
    return np.array([E for E, _ in found]), np.array([g[0] for _, g in found]) / case.X[:, 0]


Z = np.array([-3.0, -1.5, -1.0, -0.5, 0.25, 1.0, 1.25, 2.0, 8.0])  # exact in both dtypes


def test_leaky_relu_keeps_what_is_special(backend, dtype):
    """NaN passes, infinities keep their signs, and 0 is 0."""
    case = single("leaky_relu", "mse", dtype, [np.nan, np.inf, -np.inf, 0.0, -1e-30], [0.0] * 5)
    out = case.forward(backend)[:, 0]
    np.testing.assert_array_equal(out[:4], [np.nan, np.inf, -np.inf, 0])
    assert out[4] == pytest.approx(-1e-32, rel=1e-5)


@pytest.mark.parametrize("d", [1.0, 0.5, 2.0])
def test_huber_has_the_plans_threshold(backend, dtype, d):
    """Y = 0, so that the error is Z: a parabola up to d, there included, and a line beyond."""
    case = single("identity", "huber", dtype, Z, np.zeros(len(Z)), huber=d)
    losses, delta = each(case, backend)
    expected = [z * z / 2 if abs(z) <= d else d * (abs(z) - d / 2) for z in Z.tolist()]
    assert losses.tolist() == expected  # all exact
    assert delta.tolist() == np.clip(Z, -d, d).tolist()


@pytest.mark.parametrize(
    ("loss", "E", "slopes"), [("mse", [0, 0.25, 1], [0, 1, -2]), ("absolute_error", [0, 0.5, 1], [0, 1, -1])]
)
def test_losses_of_small_errors_and_of_none(backend, dtype, loss, E, slopes):
    losses, delta = each(single("identity", loss, dtype, [2.0, 2.0, 2.0], [2.0, 1.5, 3.0]), backend)
    assert losses.tolist() == E
    assert delta.tolist() == slopes


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("labelled", [False, True])
def test_cross_entropy_told_as_scikit_learn_does(backend, dtype, output, labelled):
    """With ``clip_probability`` the loss comes from A, clipped; delta is A - Y as ever."""
    least, z = 0.01, np.array([-40.0, -5.0, -1.0, 0.5, 3.0, 40.0, np.nan])
    Y = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0]) if labelled else np.array([1.0, 0.25, 0.5, 0.0, 0.9, 0.0, 1.0])
    A = 1 / (1 + np.exp(-z))
    clipped = np.clip(A, least, 1 - least)
    expected = -Y * np.log(clipped) - (1 - Y) * np.log(1 - clipped)
    if output == "sigmoid":
        case = single("sigmoid", "cross_entropy", dtype, z, Y, clip_probability=least)
        W = [1.0]
    else:  # Z = (0, z): the second of two outputs has the sigmoid of z
        case = build(
            [1, 2], output="softmax", loss="cross_entropy", bias="none", dtype=dtype, n=len(z), clip_probability=least
        )
        W = [0.0, 1.0]
        targets = Y.astype(np.int64) if labelled else np.stack([1 - Y, Y], axis=1).astype(dtype)
        case = replace(case, X=z.astype(dtype)[:, None], Y=targets)
    case.params[:] = W
    found = [case.gradient(backend, rows=np.array([i])) for i in range(len(z))]
    losses, slopes = np.array([E for E, _ in found]), np.array([g[-1] for _, g in found])
    eps = np.finfo(dtype).eps
    # 1 - A, of which the logarithm is taken, is off by 2 eps of at least ``least``
    np.testing.assert_allclose(losses, expected, rtol=0, atol=2 * eps / least + 4 * eps * 5)
    np.testing.assert_allclose(slopes, z * (A - Y), rtol=4 * eps, atol=40 * 4 * eps)


def test_poisson_keeps_what_large_counts_leave(backend, dtype):
    """A near Y: of sums of 10^7 some hundredths remain, which float32 would not see."""
    z = np.log([1e6, 1e7, 3e7]).astype(dtype).astype(np.float64)
    y = (np.exp(z) * [1, 1.0003, 0.9999]).astype(dtype).astype(np.float64)
    losses, _ = each(single("exp", "poisson", dtype, z, y), backend)
    expected = np.exp(z) - y - y * z + xlogy(y, y)
    assert (np.abs(losses - expected) <= 10 * np.finfo(np.float64).eps * (y * z)).all()


def test_poisson_is_infinite_where_its_prediction_is(backend, dtype):
    losses, _ = each(single("exp", "poisson", dtype, [88.0, 89.0, 1000.0], [1.0] * 3), backend)
    assert np.isfinite(losses).tolist() == [True, dtype == "float64", False]


def test_poisson_of_a_count_of_0_and_of_a_rate_near_0(backend, dtype):
    """0 log 0 is 0, whatever A; at z = -80 A is 1.8e-35, and E = A - Y + Y log(Y / A) = 80 - 1 for Y = 1."""
    case = single("exp", "poisson", dtype, [-80.0, -80.0, -500.0], [0.0, 1.0, 0.0])
    losses, delta = each(case, backend)
    assert losses[0] == pytest.approx(math.exp(-80), abs=1e-30)
    assert losses[1] == pytest.approx(79, rel=4 * float(np.finfo(dtype).eps))
    assert losses[2] == pytest.approx(0, abs=1e-30)
    np.testing.assert_allclose(delta, [0, -1, 0], rtol=float(np.finfo(dtype).eps), atol=1e-30)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_poisson_of_softplus_near_0(backend, dtype, beta):
    """log A is βz - log β, and f'/A is β, also where A is subnormal or 0; E = A - Y + Y log(Y / A)."""
    z, Y = np.array([-30.0, -95.0, -500.0, -500.0, -1e4]), np.array([2.0, 1.0, 3.0, 0.0, 1.0])
    case = single(f"softplus({beta}, 20.0)", "poisson", dtype, z, Y).needs(backend)
    losses, delta = each(case, backend)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(losses, -Y + xlogy(Y, Y) - Y * (beta * z - math.log(beta)), rtol=4 * eps, atol=1e-12)
    np.testing.assert_allclose(delta, -beta * Y, rtol=64 * eps, atol=1e-12)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "poisson"])
def test_nan_comes_through(backend, dtype, loss):
    output = "exp" if loss == "poisson" else "identity"
    case = build([3, 9, 2], output=output, loss=loss, dtype=dtype, n=10)
    case.X[4, 1] = np.nan
    out = case.forward(backend)
    assert np.isnan(out[4]).all()
    assert np.isfinite(np.delete(out, 4, axis=0)).all()
    assert np.isnan(case.gradient(backend)[0])
