"""Clipping of a step's gradient on every backend: its norm, trajectories against the oracle, what it leaves alone."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
from build import OPTIMIZERS, assert_bits_wherever_calls_are_cut, assert_trains_as_oracle, build

from briskmlp import Trainer
from briskmlp.backends.contract import Steps

RATES = [0.05, 0.04, 0.05, 0.03, 0.05]


def clipped_case(**arguments):
    """23 rows in batches of 5, the last of 3; at the start every batch has a larger norm, later fewer have."""
    case = build(**{"layers": [4, 9, 3], "n": 23, "l2": 0.1, **arguments})
    norms = []
    for start in range(0, case.n, 5):
        rows = oracle.sample_order(case.plan.seed, 0, case.n)[start : start + 5]
        weight = 5 if case.weight is None else case.weight[rows].sum()
        norms.append(np.linalg.norm(case.oracle_gradient(rows)[1]) / weight)
    return replace(case, plan=case.plan._replace(clip_norm=0.8 * float(min(norms))))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_the_oracle(backend, dtype, name):
    i = list(OPTIMIZERS).index(name)
    case = clipped_case(optimizer=OPTIMIZERS[name], seed=i, dtype=dtype, weighted=i % 2 == 0).needs(backend)
    assert_trains_as_oracle(case, backend, RATES)
    without = replace(case, plan=case.plan._replace(clip_norm=np.inf))
    assert np.abs(case.oracle_train(RATES)[0] - without.oracle_train(RATES)[0]).max() > 1e-5  # some were clipped


@pytest.mark.parametrize("layers", [[1, 1], [16, 32, 16], [5, 17, 1, 8, 2], [33, 7]], ids=str)
def test_depths_and_widths(backend, dtype, layers):
    for bias in ("neuron", "layer", "none"):
        assert_trains_as_oracle(clipped_case(layers=layers, dtype=dtype, bias=bias), backend, RATES)


def test_what_is_added_to_the_norm(backend, dtype):
    """PyTorch multiplies by limit / (norm + 1e-6) if that is below 1; here 1/4 is added to a norm of 3."""
    for limit, moved in ((3.25, 3.0), (3.0, 9 / 3.25), (1.0, 3 / 3.25), (3.2, 3 * 3.2 / 3.25)):
        found = step_of_one_weight(backend, dtype, 3.0, limit, clip_epsilon=0.25)
        assert found == pytest.approx(moved, rel=2 * float(np.finfo(dtype).eps))
    assert step_of_one_weight(backend, dtype, 3.0, 3.25, clip_epsilon=0.25) == 3.0


# --- the norm --------------------------------------------------------------------------------------------------------


def step_of_one_weight(backend, dtype, x, clip_norm, **plan):
    """Return how far a step at rate 1 moves w = 0 on the loss |w x - 1|, whose gradient is -x."""
    case = build([1, 1], loss="absolute_error", bias="none", dtype=dtype, n=1, batch_size=1, clip_norm=clip_norm)
    case = replace(case, params=np.zeros(1, dtype), X=np.array([[x]], dtype), Y=np.ones((1, 1), dtype))
    case = replace(case, plan=case.plan._replace(**plan))
    return float(case.train(backend, [1.0])[0][0])


def test_a_gradient_of_the_largest_norm_is_left_alone(backend, dtype):
    eps = float(np.finfo(dtype).eps)
    for clip_norm, moved in ((3.0, 3.0), (4.0, 3.0), (1e300, 3.0), (1.5, 1.5), (2.0**-100, 2.0**-100)):
        assert step_of_one_weight(backend, dtype, 3.0, clip_norm) == pytest.approx(moved, rel=2 * eps)
    assert step_of_one_weight(backend, dtype, 3.0, 3.0) == 3.0
    # squares that float32 cannot hold are summed in float64; and products that lie in its range are not lost on the way
    for x in (1e25, 1e-25, 1e-30):
        assert step_of_one_weight(backend, dtype, x, x / 4) == pytest.approx(x / 4, rel=4 * eps)


def test_zero_gradients_stay_zero(backend, dtype):
    case = build([3, 4, 2], dtype=dtype, bias="none", clip_norm=1e-3)
    case.X[:] = 0
    case.Y[:] = 0
    np.testing.assert_array_equal(case.train(backend, [0.1])[0], case.params)


# --- what it leaves alone --------------------------------------------------------------------------------------------


def test_losses_are_those_of_the_weights(backend, dtype):
    """Clipped to nearly nothing, every batch's loss is that of the weights at the start."""
    case = build([4, 9, 3], dtype=dtype, n=23, clip_norm=1e-30, weighted=True)
    losses = case.train(backend, [0.1] * 3)[2]
    E = case.oracle_gradient()[0] / case.weight.sum(dtype=float)
    np.testing.assert_allclose(losses, E, rtol=200 * np.finfo(dtype).eps)


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
def test_identical_bits_wherever_calls_are_cut(backend, dtype, name):
    assert_bits_wherever_calls_are_cut(clipped_case(dtype=dtype, optimizer=OPTIMIZERS[name]), backend, RATES)


def test_a_workspace_that_has_clipped_goes_on_unclipped(backend, dtype):
    """The gradient of a batch far away is clipped, those of the others are not."""
    case = build([4, 9, 3], dtype=dtype, n=20, shuffle=False, clip_norm=20.0)
    case.X[:5] *= 100
    assert_trains_as_oracle(case, backend, [0.01])


def test_a_position_within_an_epoch(backend, dtype):
    """A call that begins in the middle clips by its own batch alone."""
    case = clipped_case(dtype=dtype, shuffle=False)
    params, work = case.params.copy(), backend.workspace(case.plan, dtype, case.n)
    steps = Steps(np.array([0.1]), np.empty(1), 1)
    assert backend.train(work, case.start(params, (3, 2, 7)), case.examples, steps) is None
    _, grad = case.oracle_gradient(np.arange(10, 15))
    grad = oracle.clip([grad / 5], case.plan.clip_norm)[0]
    np.testing.assert_allclose(params, case.params - 0.1 * grad, rtol=0, atol=200 * np.finfo(dtype).eps)


def test_a_norm_that_overflows_is_divergence_and_no_step_of_0(backend_name):
    """Of gradients of 1e160 no float64 holds the squares."""
    trainer = Trainer(
        [1, 1], hidden="identity", loss="huber", dtype="float64", clip_norm=1.0, backend=backend_name, batch_size=1
    )
    before = trainer.parameters.copy()
    with pytest.raises(FloatingPointError, match="diverged"):
        trainer.fit([1e160], [0.0], epochs=1)
    np.testing.assert_array_equal(trainer.parameters, before)
