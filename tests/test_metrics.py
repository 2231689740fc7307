"""The metrics, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error

from briskmlp.metrics import METRICS, accuracy, check_metrics, mae


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, n_out = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    A, Y = rng.random((n, n_out)).astype(dtype), rng.random((n, n_out)).astype(dtype)
    weight = rng.random(n).astype(dtype) + dtype(0.01) if draw(st.booleans()) else None
    return A, Y, weight


def classes(outputs):
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] >= 0.5).astype(np.int64)


@given(problems())
def test_like_scikit_learn(problem):
    A, Y, weight = problem
    expected = accuracy_score(classes(Y), classes(A), sample_weight=weight)
    assert accuracy(A, Y, weight) == pytest.approx(expected, rel=1e-6)
    assert accuracy(A, classes(Y), weight) == accuracy(A, Y, weight)
    assert mae(A, Y, weight) == pytest.approx(mean_absolute_error(Y, A, sample_weight=weight), rel=1e-6)


def test_are_python_floats():
    A = np.zeros((2, 1), dtype=np.float32)
    assert {type(metric(A, A, None)) for metric in METRICS.values()} == {float}


def test_mae_of_float32_is_summed_in_float64():
    A = np.full((1_000_000, 1), 0.1, dtype=np.float32)
    assert mae(A, np.zeros_like(A)) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_a_single_output_of_exactly_one_half_is_class_1():
    assert accuracy(np.array([[0.5]]), np.array([1])) == 1.0


def test_check_metrics():
    assert check_metrics(["mae", "accuracy", "mae"]) == ("mae", "accuracy")
    assert check_metrics(()) == ()
    assert check_metrics("accuracy", labels=True) == ("accuracy",)
    with pytest.raises(ValueError, match=r"metrics is 'acuracy'.*did you mean 'accuracy'"):
        check_metrics(["acuracy"])
    with pytest.raises(TypeError, match="metrics is 3"):
        check_metrics([3])
    with pytest.raises(TypeError, match="metrics must be a name or a sequence of names"):
        check_metrics(3)


def test_mae_refuses_labels():
    with pytest.raises(ValueError, match="'mae' needs dense targets"):
        check_metrics(["accuracy", "mae"], labels=True)
    with pytest.raises(ValueError, match="'mae' needs dense targets"):
        mae(np.zeros((2, 3)), np.array([0, 1]))
