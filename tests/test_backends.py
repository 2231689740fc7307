"""Every backend against the oracle: forward, loss, gradient, update, train; nothing outside the arrays is touched."""

import itertools
import threading
from dataclasses import replace

import numpy as np
import oracle
import pytest
from build import (
    COVERING,
    OPTIMIZERS,
    Guards,
    assert_trains_as_oracle,
    build,
    guarded,
    oracle_optimizer,
    runnable,
    sklearn_form,
)
from rounding import bounds

from briskmlp.backends.contract import LOSS_NOT_FINITE, Position
from briskmlp.optimizers import SGD, Adam, AdamW
from briskmlp.schedules import Constant, Cosine, InverseScaling, StepDecay

BIASES = ("neuron", "layer", "none")
WIDTHS = (1, 7, 8, 9, 15, 16, 17, 31, 33)  # around a Vec of 8 and 16 numbers, two of them, and a tile of 8 rows
BATCHES = (1, 7, 8, 9, 127, 128, 129, 257, 300)  # around a tile of 8 rows and a chunk of 128; several chunks

covering = pytest.mark.parametrize(("loss", "output", "hidden", "bias"), COVERING, ids=str)


def assert_matches_oracle(case, backend, rows=None, work=None):
    """Compare forward, loss and gradient with the oracle, each within twice its rounding errors."""
    allowed_out, allowed_loss, allowed_grad = (2 * bound for bound in bounds(case, rows))
    X = case.X if rows is None else case.X[rows]
    A = oracle.forward(*case.tensors(case.params), case.network.activations, X)[-1]
    assert (np.abs(case.forward(backend, rows) - A) <= allowed_out).all()
    expected_loss, expected_grad = case.oracle_gradient(rows)
    loss, grad = case.gradient(backend, rows, work=work)
    assert abs(loss - expected_loss) <= allowed_loss
    assert (np.abs(grad - expected_grad) <= allowed_grad).all()


# --- forward, loss, gradient -----------------------------------------------------------------------------------------


@covering
def test_every_activation_loss_and_bias(backend, dtype, hidden, loss, output, bias):
    for weighted, l2 in ((False, 0.0), (True, 0.3)):
        case = build(
            [5, 4, 3], hidden=hidden, output=output, loss=loss, bias=bias, dtype=dtype, weighted=weighted, l2=l2
        )
        assert_matches_oracle(case.needs(backend), backend)


def test_the_bounds_are_worth_something(dtype):
    """Bounds that allowed anything would prove nothing: here they are a few hundred roundings."""
    case = build([33, 16, 9, 3], hidden="sigmoid", output="softmax", loss="cross_entropy", dtype=dtype, n=100)
    expected_loss, expected_grad = case.oracle_gradient()
    allowed_out, allowed_loss, allowed_grad = bounds(case)
    eps = np.finfo(dtype).eps
    assert np.linalg.norm(allowed_grad) < 1000 * eps * np.linalg.norm(expected_grad)
    assert allowed_loss < 1000 * eps * expected_loss
    assert allowed_out.max() < 1000 * eps


@covering
def test_gradient_is_the_slope_of_the_loss(backend, hidden, loss, output, bias):
    case = build([3, 4, 2], hidden=hidden, output=output, loss=loss, bias=bias, n=6, weighted=True, l2=0.3)
    case.needs(backend)
    work = backend.workspace(case.plan, case.dtype, case.n, training=False)

    def f():
        return backend.gradient(
            case.plan, case.params, case.X, case.Y, case.weight, case.rows, 1.0, None, work
        )  # fmt: skip

    (slope,) = oracle.central_difference(f, [case.params])
    # a loss of order 10 is rounded at 1e-15, divided by 2e-6; the third derivative adds 1e-12 of itself
    np.testing.assert_allclose(case.gradient(backend)[1], slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("n_in", WIDTHS)
def test_widths_and_batches_around_the_tile(backend, dtype, n_in):
    """An orthogonal array: every pair of (n_in, hidden), (hidden, n_out) and (n_in, n_out) occurs."""
    i, pairs = WIDTHS.index(n_in), runnable(backend)
    for j in range(9):
        n_hidden, n_out, n = WIDTHS[(i + j) % 9], WIDTHS[(i + 2 * j) % 9], BATCHES[(i + 4 * j) % 9]
        loss, output = pairs[(i + j) % len(pairs)]
        case = build(
            [n_in, n_hidden, n_out], output=output, loss=loss, dtype=dtype, n=n, batch_size=n, bias=BIASES[j % 3],
            labels=output == "softmax" and loss == "cross_entropy",
        )  # fmt: skip
        assert_matches_oracle(case, backend)


@pytest.mark.parametrize("layers", [[1, 1], [9, 3], [5, 17, 1, 8, 2], [6] * 8], ids=str)
def test_depths(backend, dtype, layers):
    assert_matches_oracle(build(layers, dtype=dtype, n=30), backend)


def test_more_rows_than_a_chunk_of_any_backend(backend, dtype):
    case = build([3, 9, 2], dtype=dtype, n=4100, weighted=True, l2=0.2)
    assert_matches_oracle(case, backend)
    assert_matches_oracle(case, backend, rows=np.arange(5000) * 7 % 4100)


def test_rows_may_repeat_and_come_in_any_order(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, n=50, weighted=True)
    for rows in ([49, 0, 0, 3, 49, 12], [7], np.arange(50)[::-1], np.full(200, 11)):
        assert_matches_oracle(case, backend, rows=np.array(rows, dtype=np.int64))


def test_no_rows(backend, dtype):
    case = build([3, 4, 2], dtype=dtype, n=5)
    none = np.empty(0, dtype=np.int64)
    work = backend.workspace(case.plan, dtype, case.n)
    assert case.forward(backend, none, work).shape == (0, 2)
    loss, grad = case.gradient(backend, none, work=work)
    assert loss == 0
    assert not grad.any()


def test_labels_are_one_hot_rows(backend, dtype):
    case = build([5, 9, 3], output="softmax", loss="cross_entropy", dtype=dtype, labels=True, n=40, weighted=True)
    assert_matches_oracle(case, backend)
    dense = replace(case, Y=np.eye(3, dtype=dtype)[case.Y])
    (loss, grad), (dense_loss, dense_grad) = case.gradient(backend), dense.gradient(backend)
    assert loss == pytest.approx(dense_loss, rel=float(8 * np.finfo(dtype).eps))
    np.testing.assert_allclose(grad, dense_grad, rtol=0, atol=16 * np.finfo(dtype).eps * np.abs(grad).max())


def test_gradient_adds_and_scales(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, weighted=True, l2=0.3)
    work = backend.workspace(case.plan, dtype, case.n)
    loss, grad = case.gradient(backend)
    allowed = 4 * bounds(case)[2]
    total = np.full_like(case.params, 100.0)
    call = case.plan, case.params, case.X, case.Y, case.weight, case.rows
    for scale in (0.5, 0.25):
        assert backend.gradient(*call, scale, total, work) == loss  # the loss is not scaled
    np.testing.assert_array_less(np.abs(total - 100 - 0.75 * grad), allowed + 200 * np.finfo(dtype).eps)


def test_l2_is_there_once_and_without_l2_not_at_all(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, n=300, batch_size=300, l2=0.3)  # several chunks
    plain = build([5, 9, 3], dtype=dtype, n=300, batch_size=300)
    work = backend.workspace(case.plan, dtype, case.n)
    call = case.params, case.X, case.Y, None, case.rows, 1.0, None, work
    with_l2, without = backend.gradient(case.plan, *call), backend.gradient(case.plan.without_l2(), *call)
    penalty = 0.15 * sum(np.square(W, dtype=float).sum() for W in case.network.weights(case.params))
    # each square, and each sum of them, rounds; then the difference of two losses of about 2000
    assert with_l2 - without == pytest.approx(penalty, rel=case.params.size * float(np.finfo(dtype).eps), abs=1e-9)
    assert without == backend.gradient(plain.plan, *call)
    assert backend.gradient(case.plan, *call) == with_l2  # the workspace does not remember


def test_training_after_a_call_without_l2_has_it_again(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, l2=0.3)
    work = backend.workspace(case.plan, dtype, case.n)
    replace(case, plan=case.plan.without_l2()).gradient(backend, work=work)
    params, args = case.params.copy(), (Position(), np.array([0.1]), 10**6, np.empty(1), work)
    backend.train(case.plan, params, case.state(), case.X, case.Y, None, None, *args)
    np.testing.assert_array_equal(params, case.train(backend, [0.1])[0])


def test_scratch_may_hold_anything(backend, dtype):
    """A workspace used over and over gives the bits of a fresh one: pads that a loss leaves unwritten would show."""
    for (loss, output), bias in itertools.product(runnable(backend), BIASES):
        case = build([5, 16, 16, 3], loss=loss, output=output, bias=bias, dtype=dtype, l2=0.3)
        work = backend.workspace(case.plan, dtype, case.n)
        loss_sum, grad = case.gradient(backend, work=work)
        assert_matches_oracle(case, backend, work=work)
        for _ in range(2):
            again = case.gradient(backend, work=work)
            assert again[0] == loss_sum, (loss, output, bias)
            np.testing.assert_array_equal(again[1], grad, str((loss, output, bias)))


def test_loss_alone_is_the_same(backend, dtype):
    for loss, output in runnable(backend):
        case = build([5, 9, 3], output=output, loss=loss, dtype=dtype, n=300, weighted=True, l2=0.3)
        work = backend.workspace(case.plan, dtype, case.n, training=False)
        call = case.plan, case.params, case.X, case.Y, case.weight, case.rows, 1.0, None, work
        assert backend.gradient(*call) == pytest.approx(case.gradient(backend)[0], rel=float(4 * np.finfo(dtype).eps))


def test_loss_scale_multiplies_loss_and_gradient(backend, dtype):
    case = build([5, 9, 3], dtype=dtype)
    half = replace(case, plan=case.plan._replace(loss_scale=0.5))
    (loss, grad), (half_loss, half_grad) = case.gradient(backend), half.gradient(backend)
    assert half_loss == loss / 2  # a power of two: exact
    np.testing.assert_array_equal(half_grad, grad / 2)


def test_report_scale_multiplies_the_loss_of_the_data_alone(backend, dtype):
    """Neither the gradient nor the l2 term, in gradient and in train; it comes on top of loss_scale."""
    for loss, output in runnable(backend):
        case = build([5, 9, 3], loss=loss, output=output, dtype=dtype, l2=0.3, weighted=True, loss_scale=0.5)
        told = replace(case, plan=case.plan._replace(report_scale=0.25))
        (E, grad), (reported, same) = case.gradient(backend), told.gradient(backend)
        np.testing.assert_array_equal(same, grad)
        penalty = 0.15 * sum(np.square(W, dtype=float).sum() for W in case.network.weights(case.params))
        tolerance = case.params.size * float(np.finfo(dtype).eps) * (E + penalty)  # of each sum, in any order
        assert abs(reported - (0.25 * (E - penalty) + penalty)) <= tolerance, (loss, output)
        work = backend.workspace(told.plan, dtype, told.n, training=False)
        alone = backend.gradient(told.plan, told.params, told.X, told.Y, told.weight, told.rows, 1.0, None, work)
        assert abs(alone - reported) <= tolerance
        np.testing.assert_array_equal(told.train(backend, [0.01])[0], case.train(backend, [0.01])[0])
        assert_trains_as_oracle(told, backend, [0.01])


def test_an_epochs_loss_by_rows(backend, dtype):
    """The mean of the batches' losses by their numbers of rows; a batch of no weight is no batch."""
    case = build([5, 9, 3], dtype=dtype, n=13, batch_size=4, weighted=True, l2=0.3, report_rows=1, shuffle=False)
    case.weight[4:8] = 0
    by_weight = replace(case, plan=case.plan._replace(report_rows=0))
    (params, _, losses), (other_params, _, other_losses) = (c.train(backend, [0.0, 0.1]) for c in (case, by_weight))
    np.testing.assert_array_equal(params, other_params)
    batches = [np.arange(0, 4), np.arange(8, 12), np.array([12])]
    means = [float(case.oracle_gradient(rows)[0]) / case.weight[rows].sum() for rows in batches]
    assert losses[0] == pytest.approx(np.average(means, weights=[4, 4, 1]), rel=1000 * float(np.finfo(dtype).eps))
    assert abs(losses[0] - other_losses[0]) > 1e-3
    position, work = Position(), backend.workspace(case.plan, dtype, case.n)
    call = case.params.copy(), case.state(), case.X, case.Y, case.weight, None, position, np.array([0.1]), 3
    assert backend.train(case.plan, *call, np.empty(1), work) is None
    assert position.sums[1] == 8


def test_layouts_of_the_data(backend, dtype):
    """Row-strided, reversed and read-only X, read-only targets and weights: the same bits as from dense arrays."""
    case = build([5, 9, 3], dtype=dtype, n=40, weighted=True)
    expected, out = case.gradient(backend), case.forward(backend)
    wide, reversed_rows = np.zeros((80, 9), dtype), np.zeros((40, 5), dtype)
    wide[::2, 2:7] = case.X
    reversed_rows[:] = case.X[::-1]
    frozen = [case.X.copy(), case.Y.copy(), case.weight.copy()]
    for array in frozen:
        array.flags.writeable = False
    layouts = [
        replace(case, X=wide[::2, 2:7]),
        replace(case, X=reversed_rows[::-1]),
        replace(case, X=frozen[0], Y=frozen[1], weight=frozen[2]),
        replace(case, X=np.broadcast_to(case.X[:1], case.X.shape), Y=case.Y),
    ]
    for other in layouts[:3]:
        loss, grad = other.gradient(backend)
        assert loss == expected[0]
        np.testing.assert_array_equal(grad, expected[1])
        np.testing.assert_array_equal(other.forward(backend), out)
        np.testing.assert_array_equal(other.train(backend, [0.1] * 2)[0], case.train(backend, [0.1] * 2)[0])
    assert_matches_oracle(layouts[3], backend)  # a row stride of 0


def test_nan_comes_through(backend, dtype):
    """NaN in, NaN out, relu included, in the rows that have it and in no other."""
    for output in (output for loss, output in runnable(backend) if loss == "mse"):
        hidden = "tanh" if output == "softmax" else output
        case = build([3, 9, 2], hidden=hidden, output=output, dtype=dtype, n=10)
        case.X[4, 1] = np.nan
        out = case.forward(backend)
        assert np.isnan(out[4]).all(), (hidden, output)
        assert np.isfinite(np.delete(out, 4, axis=0)).all(), (hidden, output)
        assert np.isnan(case.gradient(backend)[0])


def test_saturated_units_keep_finite_losses(backend, dtype):
    """Cross-entropy comes from Z: at Z = ±1000 it is about 1000, not infinite."""
    for output in ("sigmoid", "softmax"):
        case = build([1, 2], output=output, loss="cross_entropy", bias="none", dtype=dtype, n=2, batch_size=2)
        case.params[:] = [1000.0, -1000.0]
        case.X[:] = [[1.0], [-1.0]]
        case.Y[:] = [[0.0, 1.0], [1.0, 0.0]]
        loss, grad = case.gradient(backend)
        assert loss == 4000.0
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("n_out", [2, 8, 17])
def test_softmax_far_below_zero(backend, dtype, n_out):
    """Every Z is -1000, pads are 0: the row's maximum is taken without them."""
    for loss, labels in (("mse", False), ("cross_entropy", False), ("cross_entropy", True)):
        case = build([1, n_out], output="softmax", loss=loss, bias="none", dtype=dtype, n=3, labels=labels)
        case.params[:], case.X[:] = -1000.0, 1.0
        np.testing.assert_allclose(case.forward(backend), 1 / n_out, rtol=8 * np.finfo(dtype).eps)
        assert_matches_oracle(case, backend)


# --- BLAS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large_chunk", [4096, 64], ids=["one-chunk", "chunks"])
@pytest.mark.parametrize("smallest", [1, 800], ids=["all-layers", "some-layers"])
def test_layers_whose_products_go_to_blas(monkeypatch, dtype, smallest, large_chunk):
    from briskmlp.backends import numba as backend
    from briskmlp.backends.numba import layout

    monkeypatch.setattr(layout, "BLAS_FROM", min(150, large_chunk) * smallest)  # 800 is between 48 · 16 and 24 · 40
    monkeypatch.setattr(layout, "LARGEST_CHUNK", large_chunk)
    for bias in BIASES:
        case = build(
            [9, 17, 33, 2], hidden="sigmoid", dtype=dtype, n=300, batch_size=150, bias=bias, weighted=True, l2=0.2
        )
        chosen = backend.workspace(case.plan, dtype, case.n).layers["blas"]
        assert any(chosen)
        assert all(chosen) == (smallest == 1)
        assert_matches_oracle(case, backend)
        assert_trains_as_oracle(case, backend, [0.1] * 5)


# --- update ----------------------------------------------------------------------------------------------------------


FORMS = {  # scikit-learn's, of momentum and Adam
    name: sklearn_form(OPTIMIZERS[name])
    for name in ("momentum", "momentum-decay", "nesterov", "nesterov-decay", "adam", "adam-decay")
}


@pytest.mark.parametrize(("name", "form"), [*((name, {}) for name in OPTIMIZERS), *FORMS.items()])
def test_update_moves_as_the_oracle(backend, dtype, name, form):
    """Each tensor has its own rate and decay: one oracle for each."""
    case = build([5, 9, 3], dtype=dtype, optimizer=OPTIMIZERS[name], **form).needs(backend)
    rate_scale, share = np.array([1.0, 0.5, 2.0, 0.0]), np.array([1.0, 0.0, 3.0, 1.0])
    decay = case.plan.decay * share
    plan = case.plan._replace(rate_scale=rate_scale, decay=decay)
    params, state = case.params.copy(), case.state()
    expected = [part for pair in zip(*case.tensors(params), strict=True) for part in pair]
    oracles = [oracle_optimizer(OPTIMIZERS[name], plan) for _ in expected]
    for each, weight_decay in zip(oracles, decay, strict=True):
        each.weight_decay = weight_decay
    rng = np.random.default_rng(0)
    for step, rate in enumerate([0.1, 0.1, 0.05, 0.0, 0.2, 0.01], start=1):
        grad = rng.normal(size=params.size).astype(dtype)
        kept = grad.copy()
        backend.update(plan, params, grad, state, step, rate)
        np.testing.assert_array_equal(grad, kept)
        ends = np.cumsum([part.size for part in expected])[:-1]
        for each, part, g, scale in zip(oracles, expected, np.split(kept.astype(float), ends), rate_scale, strict=True):
            each.update([part], [g.reshape(part.shape)], rate * scale)
    # Six steps of about ten roundings each, of numbers (weights, moments, moves) below 8.
    np.testing.assert_allclose(
        params, np.concatenate([part.ravel() for part in expected]), rtol=0, atol=6 * 10 * 8 * np.finfo(dtype).eps
    )


def test_decoupled_decay_shrinks_the_weights_of_any_rule(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, optimizer=AdamW(0.1, weight_decay=0.5))
    params = case.params.copy()
    backend.update(case.plan, params, np.zeros_like(params), case.state(), 1, 0.1)
    np.testing.assert_allclose(params, case.params * 0.95, rtol=4 * np.finfo(dtype).eps)


# --- train -----------------------------------------------------------------------------------------------------------


SCHEDULES = [Constant(1.0), StepDecay(1.0, every=3, factor=0.5), Cosine(1.0, epochs=8), InverseScaling(1.0)]
PROBLEMS = [
    {"hidden": "sigmoid", "output": "sigmoid", "loss": "mse", "l2": 0.1, "bias": "layer"},
    {"hidden": "tanh", "output": "softmax", "loss": "cross_entropy", "labels": True},
    {"hidden": "relu", "output": "identity", "loss": "mse", "bias": "none", "l2": 0.05},
    {"hidden": "sigmoid", "output": "sigmoid", "loss": "cross_entropy", "bias": "neuron"},
    {"hidden": "identity", "output": "softmax", "loss": "mse", "l2": 0.02},
    {"hidden": "tanh", "output": "tanh", "loss": "mse", "shuffle": False},
    {"hidden": "relu", "output": "softmax", "loss": "cross_entropy", "l2": 0.1},
    {"hidden": "leaky_relu", "output": "exp", "loss": "poisson", "l2": 0.1},
    {"hidden": "tanh", "output": "leaky_relu", "loss": "huber", "bias": "layer"},
    {"hidden": "leaky_relu", "output": "identity", "loss": "absolute_error", "l2": 0.05},
    {"hidden": "relu", "output": "tanh", "loss": "huber", "bias": "none"},
]


def problem(i, optimizer, dtype="float64", **changes):
    """Return one of the problems: 23 rows in batches of 5, the last of 3; one batch weighs nothing."""
    case = build([4, 9, 3], optimizer=optimizer, dtype=dtype, n=23, weighted=i % 2 == 0, seed=i,
                 **PROBLEMS[i % len(PROBLEMS)])  # fmt: skip
    case = replace(case, **changes)
    if case.weight is not None:
        order = oracle.sample_order(i, 4, 23) if case.plan.shuffle else np.arange(23)
        case.weight[order[10:15]] = 0
    return case


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_the_oracle(backend, name, schedule):
    """50 steps in float64, to 1e-10; each pair of optimizer and schedule on one of the problems."""
    optimizer = OPTIMIZERS[name]
    i = list(OPTIMIZERS).index(name) + 2 * SCHEDULES.index(schedule)
    rates = [optimizer.learning_rate * schedule(epoch) for epoch in range(10)]
    assert_trains_as_oracle(problem(i, optimizer), backend, rates)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_in_float32_follows_to_rounding(backend, name):
    i = list(OPTIMIZERS).index(name)
    assert_trains_as_oracle(problem(i, OPTIMIZERS[name], "float32"), backend, [OPTIMIZERS[name].learning_rate] * 10)


@pytest.mark.parametrize("name", FORMS)
def test_training_in_scikit_learns_forms_follows_the_oracle(backend, name):
    """A large epsilon tells the two forms of Adam apart; the rates change, which tells those of momentum apart."""
    i, optimizer = list(FORMS).index(name), OPTIMIZERS[name]
    if "adam" in name:
        optimizer = replace(optimizer, epsilon=0.1)
    form = sklearn_form(optimizer) | {"loss_scale": 0.5, "report_rows": 1}
    case = problem(i, optimizer)
    case = replace(case, plan=case.plan._replace(**form))
    rates = optimizer.learning_rate * np.array([1, 0.5, 2, 0.3, 1, 1, 0.1, 1, 1, 1])
    assert_trains_as_oracle(case, backend, rates)
    other = replace(case, plan=case.plan._replace(**optimizer.lowered().plan_fields()))
    assert np.abs(case.train(backend, rates)[0] - other.train(backend, rates)[0]).max() > 1e-6


@pytest.mark.parametrize("name", ["sgd-decay", "adam"])
def test_training_on_batches_of_several_chunks(backend, dtype, name):
    case = build([5, 9, 3], dtype=dtype, optimizer=OPTIMIZERS[name], n=700, batch_size=300, weighted=True, l2=0.1)
    assert_trains_as_oracle(case, backend, [0.05] * 3)


def test_one_batch_of_all_rows(backend, dtype):
    assert_trains_as_oracle(build([5, 9, 3], dtype=dtype, n=64, batch_size=64), backend, [0.1] * 10)


@pytest.mark.parametrize("layers", [[16, 32, 16], [8, 8], [1, 1, 1]], ids=str)
def test_training_where_nothing_or_all_is_padded(backend, dtype, layers):
    for optimizer in (SGD(0.05), Adam(0.01), SGD(0.05, momentum=0.9)):
        case = build(layers, dtype=dtype, optimizer=optimizer, n=24, batch_size=8)
        assert_trains_as_oracle(case, backend, [optimizer.learning_rate] * 10)


def test_rates_and_decay_per_tensor_while_training(backend):
    """Plain gradient descent may be fused with the backward pass: it moves what gradient and update would."""
    for optimizer in (SGD(0.1, weight_decay=0.1), SGD(0.1, momentum=0.5, weight_decay=0.1), AdamW(0.1)):
        case = build([4, 9, 3], n=20, batch_size=20, l2=0.3, optimizer=optimizer, shuffle=False, weighted=True)
        plan = case.plan._replace(rate_scale=np.array([1, 0.5, 0, 2.0]), decay=np.array([0.1, 0.2, 0.3, 0.0]))
        case = replace(case, plan=plan)
        params, state = case.params.copy(), case.state()
        for step in range(1, 6):
            moved = replace(case, params=params)
            grad = moved.gradient(backend, scale=1 / float(case.weight.sum()))[1]
            backend.update(plan, params, grad, state, step, 0.1)
        np.testing.assert_allclose(case.train(backend, [0.1] * 5)[0], params, rtol=1e-12, atol=1e-13)


def test_a_rate_of_zero_moves_nothing_but_counts(backend, dtype):
    for optimizer in (SGD(0.1, weight_decay=0.1), AdamW(0.1)):
        case = build([4, 9, 3], dtype=dtype, optimizer=optimizer, l2=0.1)
        params, _, losses = case.train(backend, [0.0, 0.0])
        np.testing.assert_array_equal(params, case.params)
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_batch_without_weight_is_no_step(backend, dtype):
    case = build([4, 9, 3], dtype=dtype, optimizer=Adam(0.1), weighted=True, shuffle=False, n=20)
    case.weight[5:15] = 0
    position, params, state = Position(), case.params.copy(), case.state()
    work = backend.workspace(case.plan, dtype, case.n)
    call = case.plan, params, state, case.X, case.Y, case.weight, None, position, np.array([0.1])
    losses = np.empty(1)
    assert backend.train(*call, 3, losses, work) is None
    assert (position.epoch, position.batch, position.step) == (0, 3, 1)
    assert backend.train(*call, 100, losses, work) is None
    assert (position.epoch, position.batch, position.step) == (1, 0, 2)
    kept = np.r_[0:5, 15:20]
    alone = replace(case, X=case.X[kept], Y=case.Y[kept], weight=case.weight[kept])
    np.testing.assert_array_equal(params, alone.train(backend, [0.1])[0])


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "rmsprop", "nadam", "adagrad-decay"])
def test_identical_bits_wherever_calls_are_cut(backend, dtype, name):
    case = problem(list(OPTIMIZERS).index(name), OPTIMIZERS[name], dtype).needs(backend)
    rates = [0.05, 0.04, 0.03, 0.02]
    expected = case.train(backend, rates)
    shuffled_orders = ("given",) if case.plan.shuffle else ()
    for steps, order in itertools.product((1, 2, 3, 7, 10**6), (None, "fresh", *shuffled_orders)):
        for got, wanted in zip(case.train(backend, rates, steps=steps, order=order), expected, strict=True):
            assert got.tobytes() == wanted.tobytes(), (steps, order)


def test_max_steps_and_the_end_of_rates_are_kept(backend, dtype):
    case = build([3, 4, 2], dtype=dtype, n=10, batch_size=4)  # 3 batches
    position, params, losses = Position(), case.params.copy(), np.full(2, -1.0)
    work = backend.workspace(case.plan, dtype, case.n)
    call = case.plan, params, case.state(), case.X, case.Y, None
    rates = np.array([0.1, 0.1])
    backend.train(*call, None, position, rates, 0, losses, work)
    assert position.counts.tolist() == [0, 0, 0]
    backend.train(*call, None, position, rates, 4, losses, work)
    assert position.counts.tolist() == [1, 1, 4]
    assert losses[1] == -1.0
    backend.train(*call, None, position, rates[1:], 100, losses[1:], work)
    assert position.counts.tolist() == [2, 0, 6]
    order = np.arange(9, -1, -1)  # a given order is one epoch's
    backend.train(*call, order, position, rates, 100, losses, work)
    assert position.counts.tolist() == [3, 0, 9]


def test_a_workspace_forgets_a_divergence(backend, dtype):
    """The caller restores weights, state and position; the workspace is used again."""
    for optimizer, bias in itertools.product((SGD(0.1), Adam(0.1), SGD(0.1, momentum=0.9)), BIASES):
        case = build([3, 9, 5, 2], hidden="sigmoid", bias=bias, dtype=dtype, optimizer=optimizer, n=20)
        poisoned = replace(case, X=case.X.copy(), Y=case.Y.copy())
        poisoned.X[3] = np.inf
        poisoned.Y[3] = np.nan
        work = backend.workspace(case.plan, dtype, case.n)
        call = case.plan, case.params.copy(), case.state()
        for _ in range(2):
            args = poisoned.X, poisoned.Y, None, None, Position(), np.array([0.1] * 3), 10**6, np.empty(3), work
            assert backend.train(*call, *args) is not None
        poisoned.gradient(backend, work=work)
        clean = backend.workspace(case.plan, dtype, case.n)
        for chosen in (work, clean):
            params, state = case.params.copy(), case.state()
            args = case.X, case.Y, None, None, Position(), np.array([0.1] * 3), 10**6, np.empty(3), chosen
            assert backend.train(case.plan, params, state, *args) is None
            assert params.tobytes() == case.train(backend, [0.1] * 3)[0].tobytes(), (optimizer, bias)


def test_a_workspace_goes_back_to_an_earlier_epoch(backend, dtype):
    """As after a divergence, when the caller restores a position from before the epoch whose order was drawn last."""
    case, params = build([3, 4, 2], dtype=dtype), []
    work = backend.workspace(case.plan, dtype, case.n)
    for _ in range(2):
        params.append(case.params.copy())
        args = case.X, case.Y, None, None, Position(), np.array([0.1] * 3), 10**6, np.empty(3), work
        backend.train(case.plan, params[-1], case.state(), *args)
    np.testing.assert_array_equal(*params)


def test_threads_that_train_two_plans_disturb_nothing(backend, dtype):
    cases = [
        build([9, 17, 5], dtype=dtype, optimizer=Adam(0.01), n=300, batch_size=10, seed=1),
        build([16, 33, 5], hidden="sigmoid", dtype=dtype, n=300, batch_size=7, seed=2, l2=0.1),
    ]
    rates = [0.01] * 20
    alone = [case.train(backend, rates, steps=50) for case in cases]
    together, barrier = [None, None], threading.Barrier(2)

    def run(i):
        barrier.wait()
        together[i] = cases[i].train(backend, rates, steps=50)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, expected in zip(together, alone, strict=True):
        assert [array.tobytes() for array in got] == [array.tobytes() for array in expected]


# --- the order of the examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 2), (7, 3), (2**63 - 1, 5), (2**63, 6), (2**64 - 1, 37)])
def test_sample_order_is_philox(backend, dtype, seed, n):
    """Row i is 1 in column i alone, so that its step moves weight i and no other."""
    case = build([n, 1], bias="none", dtype=dtype, n=n, batch_size=1, seed=seed)
    params, position = np.zeros(n, dtype), Position()
    X, Y, work = np.eye(n, dtype=dtype), np.ones((n, 1), dtype), backend.workspace(case.plan, dtype, n)
    for epoch in range(3):
        seen = []
        for _ in range(n):
            before = params.copy()
            backend.train(
                case.plan, params, case.state(), X, Y, None, None, position, np.array([0.01]), 1, np.empty(1), work
            )
            seen += np.flatnonzero(params != before).tolist()
        assert seen == oracle.sample_order(seed, epoch, n).tolist()


# --- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_divergence_is_told_with_epoch_and_batch(backend, dtype, name, value):
    case = problem(5, OPTIMIZERS[name], dtype)
    for seed in range(3):
        plan = case.plan._replace(shuffle=1, seed=seed)
        sick = replace(case, plan=plan, Y=case.Y.copy())
        position, work = Position(), backend.workspace(plan, dtype, case.n)
        params, state, rates = case.params.copy(), case.state(), np.full(4, 0.01)
        call = plan, params, state, case.X, sick.Y, None, None, position
        assert backend.train(*call, rates, 12, np.empty(4), work) is None  # two epochs and two batches
        sick.Y[17, 1] = value
        place = oracle.sample_order(seed, 2, 23).tolist().index(17) // 5
        expected = (2, place) if place >= 2 else (3, oracle.sample_order(seed, 3, 23).tolist().index(17) // 5)
        assert backend.train(*call, rates[2:], 100, np.empty(2), work) == (*expected, LOSS_NOT_FINITE)


def test_divergence_of_its_own(backend, dtype):
    """A rate far too large overflows in the same batch for every backend as for the oracle."""
    case = build([4, 3], dtype=dtype, n=20, batch_size=5, optimizer=SGD(1e3), shuffle=False)
    position, work = Position(), backend.workspace(case.plan, dtype, case.n)
    rates, losses = np.full(100, 1e3), np.empty(100)
    where = backend.train(
        case.plan, case.params.copy(), case.state(), case.X, case.Y, None, None, position, rates, 400, losses, work
    )
    weights, biases = case.tensors(case.params)
    limit = float(np.sqrt(np.finfo(dtype).max))
    for step in range(400):
        rows = np.arange(20)[step % 4 * 5 :][:5]
        with np.errstate(all="ignore"):
            A = oracle.forward(weights, biases, case.network.activations, case.X[rows])[-1]
            _, dW, db = oracle.gradient(weights, biases, case.network.activations, "mse", case.X[rows], case.Y[rows])
        if not np.abs(A - case.Y[rows]).max() < limit:
            break
        weights, biases = [weights[0] - 1e3 * dW[0]], [biases[0] - 1e3 * db[0]]
    # One step multiplies by 1e3 and more, so the squares may overflow one step sooner than the numbers.
    assert where is not None
    assert abs(4 * where[0] + where[1] - step) <= 1 or dtype == "float32"


# --- guard zones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[5, 9, 3], [8, 16, 8], [1, 1], [17, 7, 33]], ids=str)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_nothing_outside_the_arrays_is_read_or_written(backend, dtype, layers, name):
    for (loss, output), weighted in zip(runnable(backend), itertools.cycle([True, False])):
        labels = output == "softmax" and weighted
        labels = labels and loss == "cross_entropy"
        case = build(
            layers, output=output, loss=loss, dtype=dtype, optimizer=OPTIMIZERS[name], n=23, weighted=weighted,
            labels=labels,
        )  # fmt: skip
        guards = Guards()
        safe = guarded(case, guards)
        work = backend.workspace(case.plan, dtype, case.n)

        out, rows = guards(np.zeros((case.n, case.network.n_out), dtype)), guards(case.rows)
        backend.forward(case.plan, safe.params, safe.X, rows, out, work)
        np.testing.assert_array_equal(out, case.forward(backend))

        grad = guards(np.zeros_like(case.params))
        loss_sum = backend.gradient(case.plan, safe.params, safe.X, safe.Y, safe.weight, rows, 1.0, grad, work)
        expected = case.gradient(backend)
        assert loss_sum == expected[0]
        np.testing.assert_array_equal(grad, expected[1])

        params, state = guards(case.params), guards(case.state())
        backend.update(case.plan, params, grad, state, 1, 0.1)
        assert np.isfinite(params).all()

        params, state, rates, losses = (guards(a) for a in (case.params, case.state(), [0.05] * 2, np.zeros(2)))
        position = Position()
        args = safe.X, safe.Y, safe.weight, None, position, rates, 10**6, losses, work
        assert backend.train(case.plan, params, state, *args) is None
        expected = case.train(backend, [0.05] * 2)
        for got, wanted in zip((params, state, losses), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert guards.intact(), (loss, output)


def test_data_is_only_read(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, weighted=True, optimizer=Adam(0.1))
    before = [array.tobytes() for array in (case.X, case.Y, case.weight, case.params)]
    case.forward(backend)
    case.gradient(backend)
    case.train(backend, [0.1])
    assert [array.tobytes() for array in (case.X, case.Y, case.weight, case.params)] == before


# --- the textbook ----------------------------------------------------------------------------------------------------


def test_textbook_example(backend):
    """Matt Mazur's 2-2-2 network, with one bias shared by each layer: its published digits."""
    case = build([2, 2, 2], hidden="sigmoid", output="sigmoid", bias="layer", n=1, batch_size=1)
    case = replace(case, optimizer=SGD(0.25), X=np.array([[0.05, 0.10]]), Y=np.array([[0.01, 0.99]]))
    W1, W2 = case.network.weights(case.params)
    b1, b2 = case.network.biases(case.params)
    W1[:], b1[:] = [[0.15, 0.25], [0.20, 0.30]], 0.35
    W2[:], b2[:] = [[0.40, 0.50], [0.45, 0.55]], 0.60
    np.testing.assert_allclose(case.forward(backend), [[0.75136507, 0.772928465]], atol=5e-10, rtol=0)
    assert case.gradient(backend)[0] == pytest.approx(0.596742218, abs=5e-10)
    # Halving the error and doubling the rate, as the book does, is the same step.
    for loss_scale, rate in ((1.0, 0.25), (0.5, 0.5)):
        params = replace(case, plan=case.plan._replace(loss_scale=loss_scale)).train(backend, [rate])[0]
        W1, W2 = case.network.weights(params)
        digits = [[0.35891648, 0.511301270], [0.408666186, 0.561370121]]
        np.testing.assert_allclose(W2, digits, atol=5e-9, rtol=0)
        digits = [[0.149780716, 0.24975114], [0.19956143, 0.29950229]]
        np.testing.assert_allclose(W1, digits, atol=5e-9, rtol=0)
        biases = np.concatenate(case.network.biases(params))
        np.testing.assert_allclose(biases, [0.340637195, 0.549799837], atol=5e-10, rtol=0)
