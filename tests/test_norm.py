"""Normalisation over a batch and over a layer: every backend against the oracle, alone, in training, and in chunks."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
from build import OPTIMIZERS, PAIRS, TEXTS, build, remembered

from briskmlp.backends import numpy as reference
from briskmlp.backends.contract import Examples, Steps
from briskmlp.network import Network
from briskmlp.operations.layers import NORMS, POSITIONS
from briskmlp.optimizers import SGD
from briskmlp.plan import make_plan

EACH = [{"norm": norm, "norm_position": position} for norm in NORMS for position in POSITIONS]
MIXED = [
    {"norm": ["batch(0.3, 0.001)", None, "layer"], "norm_position": ["after", "before", "before"]},
    {"norm": ["layer(0.1)", "batch", "batch"], "norm_position": ["after", "before", "after"], "input_norm": "batch"},
    {"input_norm": "layer", "output_norm": "batch(0.5)"},
    {"norm": "layer", "input_norm": "batch", "output_norm": "layer"},
]
RATES = [0.05, 0.02, 0.05]


def label(norms):
    return " ".join(f"{name}={value}" for name, value in norms.items())


each = pytest.mark.parametrize("norms", EACH, ids=label)
all_of_them = pytest.mark.parametrize("norms", EACH + MIXED, ids=label)


def tolerance(dtype):
    """Of the norm of what is compared: sums of some hundred numbers of order 1, through a division by a deviation."""
    return 1e-10 if dtype == "float64" else 2e-4


def assert_close(found, expected, allowed):
    assert np.linalg.norm(found - expected) <= allowed * max(np.linalg.norm(expected), 1.0)


@remembered
def by_the_oracle(case):
    """Return what predictions, their loss, and the loss and gradient of a batch are."""
    arguments = *case.tensors(case.params), case.network.activations
    A = oracle.forward(*arguments, case.X, case.norms())[-1]
    alone = oracle.loss_sum(*arguments, case.loss, case.X, case.Y, case.weight, norms=case.norms())
    penalty = case.l2 / 2 * sum((W**2).sum() for W in arguments[0])
    return A, alone + penalty, *case.oracle_gradient()


def assert_matches_oracle(case, backend):
    A, alone, loss, grad = by_the_oracle(case)
    allowed = tolerance(case.dtype)
    assert_close(case.forward(backend), A, allowed)
    work = backend.workspace(case.plan, case.dtype, case.n, training=False)
    state = case.start(case.params)
    before = state.statistics.copy()
    found = backend.gradient(work, state, case.examples, case.rows, 1.0)
    assert found == pytest.approx(alone, rel=allowed)
    found, found_grad = np.zeros(1), np.zeros_like(case.params)
    work = backend.workspace(case.plan, case.dtype, case.n)
    found = backend.gradient(work, state, case.examples, case.rows, 1.0, found_grad)
    assert found == pytest.approx(loss, rel=allowed)
    assert_close(found_grad, grad, allowed)
    assert state.statistics.tobytes() == before.tobytes()  # of training alone


def trained(case, backend, rates, *, steps=10**6):
    """Return parameters, slots, losses and running statistics of training in calls of so many steps."""
    state, losses = case.start(), np.full(len(rates), np.nan)
    work = backend.workspace(case.plan, case.dtype, case.n)
    while (done := state.position.epoch) < len(rates):
        call = Steps(np.array(rates[done:]), losses[done:], steps)
        assert backend.train(work, state, case.examples, call) is None
    return state.parameters, state.slots, losses, state.statistics


def assert_trains_as_oracle(case, backend, rates=RATES):
    params, _, losses, statistics = trained(case.needs(backend), backend, rates)
    expected = case.oracle_train(rates)
    for found, wanted in zip((params, losses, statistics), expected, strict=False):
        assert_close(found, wanted, tolerance(case.dtype))


# --- forward, loss, gradient -----------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("hidden", TEXTS)
def test_every_activation_and_position(backend, dtype, norms, hidden):
    form = {"n": 12, "batch_size": 12, "bias": "none" if norms["norm"] == "batch" else "neuron"}
    case = build([5, 4, 3, 2], hidden=hidden, norms=norms, dtype=dtype, weighted=True, l2=0.3, **form)
    assert_matches_oracle(case.needs(backend), backend)


@pytest.mark.parametrize("norms", MIXED, ids=label)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(backend, dtype, norms, loss, output):
    case = build([5, 4, 3, 4, 3], norms=norms, loss=loss, output=output, dtype=dtype, n=12, batch_size=12)
    assert_matches_oracle(case.needs(backend), backend)


@all_of_them
@pytest.mark.parametrize("hidden", ["tanh", "gelu", "leaky_relu"])
def test_gradient_is_the_slope_of_the_loss(norms, hidden):
    """Of the reference, by a batch's own mean and variance."""
    case = build([3, 4, 3, 4, 2], hidden=hidden, norms=norms, n=7, batch_size=7, weighted=True, l2=0.3)
    work, unused = reference.workspace(case.plan, case.dtype, case.n), np.zeros_like(case.params)
    call = work, case.start(case.params), case.examples, case.rows, 1.0, unused
    (slope,) = oracle.central_difference(lambda: reference.gradient(*call), [case.params])
    # as in test_backends.py; third derivatives are larger where a deviation divides
    np.testing.assert_allclose(case.gradient(reference)[1], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 7, 8, 9, 127, 128, 129, 257, 300])
def test_batches_around_the_chunk(backend, dtype, n):
    for norms in MIXED[:2]:
        case = build([17, 9, 8, 33, 3], norms=norms, dtype=dtype, n=n, batch_size=n, hidden="softsign")
        assert_matches_oracle(case.needs(backend), backend)


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33])
def test_widths_around_the_tile(backend, dtype, width):
    for norms in (EACH[0], EACH[3], {**MIXED[3], "norm": ["layer", "batch"]}):
        case = build([width, 5, width, width], norms=norms, dtype=dtype, n=20, batch_size=20, optimizer=SGD(1e-3))
        assert_matches_oracle(case.needs(backend), backend)
        assert_trains_as_oracle(case, backend, [1e-3])


def test_a_column_that_is_constant(backend, dtype):
    """Its variance is 0, and its N̂, so nothing is divided by 0."""
    case = build([4, 3, 2], norms={"norm": "batch", "input_norm": "batch"}, dtype=dtype, n=10, batch_size=10)
    case = replace(case, X=np.where([False, True, False, False], 1.0, case.X).astype(dtype))
    assert_matches_oracle(case.needs(backend), backend)


def test_large_means_leave_the_digits_of_the_variance(backend, dtype):
    """Means are subtracted before squares are taken: mean(N²) - mean(N)² would keep none of them."""
    case = build([3, 2], norms={"input_norm": "batch"}, dtype=dtype, n=64, batch_size=64)
    X = (case.X.astype(np.float64) + 1000).astype(dtype)
    assert_matches_oracle(replace(case, X=X).needs(backend), backend)


# --- training --------------------------------------------------------------------------------------------------------


@all_of_them
def test_training(backend, dtype, norms):
    """Statistics move with each batch, the last of which is short."""
    case = build([4, 6, 5, 6, 3], norms=norms, dtype=dtype, n=23, batch_size=5, weighted=True, l2=0.1)
    assert_trains_as_oracle(case, backend)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_gamma_and_beta(backend, name):
    """Weight decay is of them, too, as in PyTorch; l2 of weights alone.

    A bias directly before a normalisation over a batch has a gradient of round-off, from which Adam makes a step.
    """
    norms = {"norm": ["batch", "layer"], "norm_position": ["after", "before"]}
    case = build([4, 6, 5, 3], norms=norms, n=23, optimizer=OPTIMIZERS[name], l2=0.2)
    assert_trains_as_oracle(case, backend, [OPTIMIZERS[name].learning_rate] * 3)


@all_of_them
@pytest.mark.parametrize("hidden", ["tanh", "gelu", "hardtanh", "relu"])
def test_dropout_comes_after_both(backend, norms, hidden):
    case = build(
        [4, 16, 17, 6, 3], hidden=hidden, norms=norms, n=23, dropout=(0.25, 0.5, 0.1) if "norm" in norms else (0.2,) * 3
    )
    assert_trains_as_oracle(case, backend, [0.01] * 2)


@each
def test_clipping_and_bias_modes(backend, norms):
    for bias in ("neuron", "layer", "none"):
        case = build([4, 6, 5, 3], norms=norms, n=23, bias=bias, clip_norm=0.5)
        assert_trains_as_oracle(case, backend)


@all_of_them
def test_fixed_normalisations_take_running_statistics_and_move_none(backend, norms):
    case = build([4, 6, 5, 6, 3], norms=norms, n=23, norm_fixed=np.ones(5, dtype=np.int64))
    assert_trains_as_oracle(case, backend)
    if case.statistics is not None:
        assert trained(case, backend, [0.1])[3].tobytes() == case.statistics.tobytes()


def test_a_large_batch_is_one_batch(backend, dtype):
    """Of several chunks of any backend."""
    case = build([3, 4, 2], norms={"norm": "batch"}, dtype=dtype, n=4500, batch_size=4500, optimizer=SGD(0.01))
    assert_matches_oracle(case.needs(backend), backend)
    assert_trains_as_oracle(case, backend, [0.01, 0.01])


@all_of_them
def test_bits_wherever_calls_are_cut(backend, dtype, norms):
    case = build([4, 9, 5, 6, 3], norms=norms, dtype=dtype, n=23, batch_size=5, optimizer=OPTIMIZERS["adam"])
    expected = trained(case.needs(backend), backend, RATES)
    for steps in (1, 2, 7):
        for found, wanted in zip(trained(case, backend, RATES, steps=steps), expected, strict=True):
            assert found.tobytes() == wanted.tobytes()


def test_a_batch_without_weight_moves_nothing_and_weights_do_not_count_in_statistics(backend):
    case = build([3, 4, 2], norms={"norm": "batch"}, n=10, shuffle=False, batch_size=5)
    plain = trained(case.needs(backend), backend, [0.0])
    weighted = trained(replace(case, weight=np.linspace(0, 2, 10)), backend, [0.0])
    assert weighted[3].tobytes() == plain[3].tobytes()
    half = trained(replace(case, weight=np.repeat([1.0, 0.0], 5)), backend, [0.0])
    first = trained(replace(case, X=case.X[:5], Y=case.Y[:5]), backend, [0.0])
    assert half[3].tobytes() == first[3].tobytes()


# --- the plan --------------------------------------------------------------------------------------------------------


def test_plans_say_where_normalisations_are():
    network = Network(
        [3, 4, 5, 2], norm=["batch(0.2, 0.01)", "layer"], norm_position=["after", "before"], input_norm="batch"
    )
    plan = make_plan(network, loss="mse", optimizer=SGD(0.1, weight_decay=0.3), batch_size=4, l2=0.5, seed=0)
    assert plan.norms.tolist() == [1, 1, 2, 0]
    assert plan.norm_after.tolist() == [0, 1, 0, 0]
    assert plan.norm_momentum.tolist() == [0.1, 0.2, 0, 0]
    assert plan.norm_eps.tolist() == [1e-5, 0.01, 1e-5, 0]
    assert plan.norm_tensors.tolist() == [6, 8, 10, -1]
    assert plan.norm_statistics.tolist() == [0, 6, -1, -1]
    assert plan.norm_fixed.tolist() == [0] * 4
    assert (plan.n_parameters, plan.n_statistics) == (53 + 2 * (3 + 4 + 5), 2 * (3 + 4))
    assert plan.sizes.tolist() == [12, 4, 20, 5, 10, 2, 3, 3, 4, 4, 5, 5]
    assert plan.l2.tolist() == [0.5, 0, 0.5, 0, 0.5, 0] + [0] * 6
    assert plan.decay.tolist() == [0.3] * 12
    dense = make_plan(Network([3, 4, 5, 2]), loss="mse", optimizer=SGD(0.1), batch_size=4, seed=0)
    assert plan.offsets[:6].tolist() == dense.offsets.tolist()


def test_gradient_takes_rows_in_any_order(backend):
    case = build([3, 4, 2], norms={"norm": "batch"}, n=30, batch_size=0).needs(backend)
    rows = np.array([29, 3, 3, 17, 0], dtype=np.int64)
    picked = replace(case, X=case.X[rows], Y=case.Y[rows])
    found, expected = case.gradient(backend, rows), picked.gradient(backend)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-12)
    assert isinstance(picked.examples, Examples)
