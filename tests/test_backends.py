"""Every backend against the oracle: forward, loss, gradient, update, train; nothing outside the arrays is touched."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import oracle
import pytest
from build import (
    BRIEF,
    COVERING,
    OPTIMIZERS,
    Guards,
    assert_bits_wherever_calls_are_cut,
    assert_trains_as_oracle,
    build,
    guarded,
    oracle_optimizer,
    remembered,
    runnable,
    sklearn_form,
)
from rounding import bounds

from briskmlp.backends import numpy as reference
from briskmlp.backends.contract import LOSS_NOT_FINITE, Examples, Steps
from briskmlp.optimizers import SGD, Adam, AdamW
from briskmlp.plan import DIVISOR_NOTHING, DIVISOR_ROWS, DIVISOR_WEIGHT

BIASES = ("neuron", "layer", "none")
WIDTHS = (1, 7, 8, 9, 15, 16, 17, 31, 33)  # around a Vec of 8 and 16 numbers, two of them, and a tile of 8 rows
BATCHES = (1, 7, 8, 9, 127, 128, 129, 257, 300)  # around a tile of 8 rows and a chunk of 128; several chunks

covering = pytest.mark.parametrize(("loss", "output"), COVERING)


@remembered
def by_the_oracle(case, rows):
    """Return A[L], the loss and the gradient of the oracle, and twice the rounding errors of each."""
    rows = case.rows if rows is None else rows
    A = oracle.forward(*case.tensors(case.params), case.network.activations, case.X[rows])[-1]
    return (A, *case.oracle_gradient(rows)), [2 * bound for bound in bounds(case, rows)]


def assert_matches_oracle(case, backend, rows=None, work=None):
    """Hold forward, the loss, alone and with its gradient, and that to the oracle, within twice the rounding errors."""
    (A, loss, grad), (allowed_out, allowed_loss, allowed_grad) = by_the_oracle(case, rows)
    assert (np.abs(case.forward(backend, rows) - A) <= allowed_out).all(), case
    found_loss, found_grad = case.gradient(backend, rows, work=work)
    assert abs(found_loss - loss) <= allowed_loss, case
    assert (np.abs(found_grad - grad) <= allowed_grad).all(), case
    rows = case.rows if rows is None else rows
    work = backend.workspace(case.plan, case.dtype, len(rows), training=False)
    alone = backend.gradient(work, case.start(case.params), case.examples, rows, 1.0)
    assert abs(alone - loss) <= allowed_loss, case


# --- forward, loss, gradient -----------------------------------------------------------------------------------------


@covering
def test_every_activation_loss_and_bias(backend, dtype, loss, output):
    form = {"output": output, "loss": loss, "dtype": dtype}
    for (hidden, bias), weighted, l2 in zip(COVERING[loss, output], (False, True, True), (0.0, 0.3, 0.0), strict=True):
        case = build([5, 4, 3], hidden=hidden, bias=bias, weighted=weighted, l2=l2, **form)
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
def test_gradient_is_the_slope_of_the_loss(loss, output):
    """Of the reference; the others have its loss and gradient, to rounding, by the test above."""
    for hidden, bias in COVERING[loss, output]:
        case = build([3, 4, 2], hidden=hidden, output=output, loss=loss, bias=bias, n=6, weighted=True, l2=0.3)
        work = reference.workspace(case.plan, case.dtype, case.n, training=False)
        call = work, case.start(case.params), case.examples, case.rows, 1.0
        (slope,) = oracle.central_difference(lambda call=call: reference.gradient(*call), [case.params])
        # a loss of order 10 is rounded at 1e-15, divided by 2e-6; the third derivative adds 1e-12 of itself
        np.testing.assert_allclose(case.gradient(reference)[1], slope, rtol=1e-7, atol=1e-7, err_msg=f"{hidden} {bias}")


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


def test_rows_may_repeat_and_come_in_any_order(backend, dtype):
    case = build([3, 9, 2], dtype=dtype, n=4100, weighted=True, l2=0.2)  # more than a chunk of any backend
    orders = None, np.arange(5000) * 7 % 4100, [49, 0, 0, 3, 49, 12], [7], np.arange(50)[::-1], np.full(200, 11)
    for rows in orders:
        assert_matches_oracle(case, backend, rows=rows if rows is None else np.array(rows, dtype=np.int64))


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
    call = work, case.start(), case.examples, case.rows
    for scale in (0.5, 0.25):
        assert backend.gradient(*call, scale, total) == loss  # the loss is not scaled
    np.testing.assert_array_less(np.abs(total - 100 - 0.75 * grad), allowed + 200 * np.finfo(dtype).eps)


def test_l2_is_there_once_and_without_penalty_not_at_all(backend, dtype):
    case = build([5, 9, 3], dtype=dtype, n=300, batch_size=300, l2=0.3)  # several chunks
    plain = build([5, 9, 3], dtype=dtype, n=300, batch_size=300)
    work = backend.workspace(case.plan, dtype, case.n)
    state = case.start()
    call = state, case.examples, case.rows, 1.0
    with_l2, without = (backend.gradient(work, *call, with_penalty=penalty) for penalty in (True, False))
    penalty = 0.15 * sum(np.square(W, dtype=float).sum() for W in case.network.weights(case.params))
    # each square, and each sum of them, rounds; then the difference of two losses of about 2000
    assert with_l2 - without == pytest.approx(penalty, rel=case.params.size * float(np.finfo(dtype).eps), abs=1e-9)
    assert without == backend.gradient(backend.workspace(plain.plan, dtype, case.n), *call)
    assert backend.gradient(work, *call) == with_l2  # the workspace does not remember
    backend.gradient(work, *call, np.zeros_like(case.params), with_penalty=False)
    backend.train(work, state, case.examples, Steps(np.array([0.1]), np.empty(1), 10**6))
    np.testing.assert_array_equal(state.parameters, case.train(backend, [0.1])[0])


def test_scratch_may_hold_anything(backend, dtype):
    """A workspace used over and over gives the bits of a fresh one: pads that a loss leaves unwritten would show."""
    for (loss, output), bias in zip(runnable(backend), itertools.cycle(BIASES)):
        case = build([5, 16, 16, 3], loss=loss, output=output, bias=bias, dtype=dtype, l2=0.3)
        work = backend.workspace(case.plan, dtype, case.n)
        loss_sum, grad = case.gradient(backend, work=work)
        assert_matches_oracle(case, backend, work=work)
        for _ in range(2):
            again = case.gradient(backend, work=work)
            assert again[0] == loss_sum, (loss, output, bias)
            np.testing.assert_array_equal(again[1], grad, str((loss, output, bias)))


def test_report_scale_multiplies_the_loss_of_the_data_alone(backend, dtype):
    """Neither the gradient nor the l2 term, in gradient and in train; it comes on top of loss_scale."""
    of_each_loss = {**dict(runnable(backend)[::-1]), "mse": "softmax"}  # the first output; softmax has its own sum
    for loss, output in [*of_each_loss.items(), ("cross_entropy", "softmax")]:
        case = build([5, 9, 3], loss=loss, output=output, dtype=dtype, l2=0.3, weighted=True, loss_scale=0.5)
        told = replace(case, plan=case.plan._replace(report_scale=0.25))
        assert_matches_oracle(case, backend)
        (E, grad), (reported, same) = case.gradient(backend), told.gradient(backend)
        np.testing.assert_array_equal(same, grad)
        penalty = 0.15 * sum(np.square(W, dtype=float).sum() for W in case.network.weights(case.params))
        tolerance = case.params.size * float(np.finfo(dtype).eps) * (E + penalty)  # of each sum, in any order
        assert abs(reported - (0.25 * (E - penalty) + penalty)) <= tolerance, (loss, output)
        work = backend.workspace(told.plan, dtype, told.n, training=False)
        alone = backend.gradient(work, told.start(), told.examples, told.rows, 1.0)
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
    state, work = case.start(), backend.workspace(case.plan, dtype, case.n)
    assert backend.train(work, state, case.examples, Steps(np.array([0.1]), np.empty(1), 3)) is None
    assert state.position.sums[1] == 8


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_what_a_batch_is_divided_by(backend, dtype, name):
    """Its weight, its rows or nothing, the last batch being short: as steps of one gradient each."""
    case = build([4, 9, 3], n=13, batch_size=5, optimizer=OPTIMIZERS[name], weighted=True, l2=0.1, report_rows=1,
                 shuffle=False, dtype=dtype)  # fmt: skip
    batches = [case.rows[start : start + 5] for start in (0, 5, 10)]
    divisors = {DIVISOR_WEIGHT: lambda rows: float(case.weight[rows].sum(dtype=float)), DIVISOR_ROWS: len}
    divisors[DIVISOR_NOTHING] = lambda rows: 1.0
    for divisor, of in divisors.items():
        each = replace(case, plan=case.plan._replace(divisor=divisor))
        state, work, losses = each.start(), backend.workspace(each.plan, dtype, each.n), []
        for rows in batches:
            grad = np.zeros_like(each.params)
            losses.append(backend.gradient(work, state, each.examples, rows, 1 / of(rows), grad) / of(rows))
            backend.update(each.plan, state, grad, 0.01)
        params, slots, told = each.train(backend, [0.01])
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(params, state.parameters, rtol=0, atol=100 * eps)
        np.testing.assert_allclose(slots, state.slots, rtol=0, atol=100 * eps * max(1, np.abs(slots).max(initial=0)))
        assert told[0] == pytest.approx(np.average(losses, weights=[5, 5, 3]), rel=100 * eps)


def test_without_weights_rows_are_the_weight(backend, dtype):
    case = build([4, 9, 3], n=13, batch_size=5, dtype=dtype, optimizer=Adam(0.01))
    rows = replace(case, plan=case.plan._replace(divisor=DIVISOR_ROWS))
    for got, wanted in zip(rows.train(backend, [0.01] * 2), case.train(backend, [0.01] * 2), strict=True):
        assert got.tobytes() == wanted.tobytes()


def test_what_no_kernel_fills_yet_is_refused_by_name(backend):
    case = build([4, 9, 3], n=13)
    state, work, X, Y = case.start(), backend.workspace(case.plan, case.dtype, case.n), case.X, case.Y
    steps = Steps(np.array([0.1]), np.empty(1), 3)
    for name, examples, asked in [
        ("weight of", Examples(X, Y, np.ones_like(Y)), steps),
        ("divisor", Examples(X, Y, None, np.ones(13)), steps),
    ]:
        with pytest.raises(NotImplementedError, match=f"^{name} .*no kernel"):
            backend.train(work, state, examples, asked)
    with pytest.raises(NotImplementedError, match=r"^dX is given"):
        backend.gradient(work, state, case.examples, case.rows, 1.0, None, np.empty_like(X))
    with pytest.raises(NotImplementedError, match=r"^weight of"):
        backend.gradient(work, state, Examples(X, Y, np.ones_like(Y)), case.rows, 1.0)


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
    state = case.start()
    expected = [part for pair in zip(*case.tensors(case.params), strict=True) for part in pair]
    oracles = [oracle_optimizer(OPTIMIZERS[name], plan) for _ in expected]
    for each, weight_decay in zip(oracles, decay, strict=True):
        each.weight_decay = weight_decay
    rng = np.random.default_rng(0)
    for rate in [0.1, 0.1, 0.05, 0.0, 0.2, 0.01]:
        grad = rng.normal(size=case.params.size).astype(dtype)
        kept = grad.copy()
        backend.update(plan, state, grad, rate)
        np.testing.assert_array_equal(grad, kept)
        ends = np.cumsum([part.size for part in expected])[:-1]
        for each, part, g, scale in zip(oracles, expected, np.split(kept.astype(float), ends), rate_scale, strict=True):
            each.update([part], [g.reshape(part.shape)], rate * scale)
    # Six steps of about ten roundings each, of numbers (weights, moments, moves) below 8.
    np.testing.assert_allclose(
        state.parameters, np.concatenate([part.ravel() for part in expected]),
        rtol=0, atol=6 * 10 * 8 * np.finfo(dtype).eps,
    )  # fmt: skip
    assert state.position.counts.tolist() == [0, 0, 6]


# --- train -----------------------------------------------------------------------------------------------------------


def problem(i, optimizer, dtype="float64"):
    """Return one of many problems: 23 rows in batches of 5, the last of 3; one batch weighs nothing."""
    loss, output, hidden, bias = BRIEF[i % len(BRIEF)]
    case = build(
        [4, 9, 3], hidden=hidden, output=output, loss=loss, bias=bias, dtype=dtype, n=23, weighted=i % 2 == 0, seed=i,
        l2=0.05 * (i % 3), shuffle=i % 5 > 0, optimizer=optimizer,
        labels=(loss, output) == ("cross_entropy", "softmax"),
    )  # fmt: skip
    if case.weight is not None:
        order = oracle.sample_order(i, 4, 23) if case.plan.shuffle else np.arange(23)
        case.weight[order[10:15]] = 0
    return case


@pytest.mark.parametrize(
    "i", range(len(BRIEF)), ids=lambda i: "-".join([*BRIEF[i], [*OPTIMIZERS][i % len(OPTIMIZERS)]])
)
def test_training_follows_the_oracle(backend, dtype, i):
    """50 steps, in float64 to 1e-10: each optimizer, loss and activation; updates may be fused with the gradient."""
    optimizer = [*OPTIMIZERS.values()][i % len(OPTIMIZERS)]
    rates = optimizer.learning_rate * np.array([1, 0.5, 2, 0.3, 1, 0, 0.1, 1, 0.7, 1])
    assert_trains_as_oracle(problem(i, optimizer, dtype), backend, rates)


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


SHAPES = {
    "several chunks": {"layers": [5, 9, 3], "n": 700, "batch_size": 300, "weighted": True, "l2": 0.1},
    "one batch": {"layers": [5, 9, 3], "n": 64, "batch_size": 64},
    "no padding": {"layers": [16, 32, 16], "n": 24, "batch_size": 8},
    "two layers": {"layers": [8, 8], "n": 24, "batch_size": 8},
    "all padding": {"layers": [1, 1, 1], "n": 24, "batch_size": 8},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_training_of_other_shapes(backend, dtype, shape):
    for name in ("sgd-decay", "adam", "momentum"):
        case = build(**SHAPES[shape], dtype=dtype, optimizer=OPTIMIZERS[name])
        assert_trains_as_oracle(case, backend, [case.optimizer.learning_rate / 2] * 10)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "nadam", "rmsprop-momentum"])
def test_rates_and_hyperparameters_of_each_step(backend, dtype, name):
    """The same bits as calls of one step each, with plans of their own; afterwards the plan's are back."""
    case = build([4, 9, 3], n=23, batch_size=5, dtype=dtype, optimizer=OPTIMIZERS[name])
    rng, place = np.random.default_rng(1), 2 if name == "rmsprop-momentum" else 0
    per_step = np.hstack([rng.uniform(0.01, 0.1, (5, 1)), np.tile(case.plan.hyper, (5, 1))])
    per_step[:, 1 + place] = rng.uniform(0.5, 0.9, 5)
    wanted, got, unused = case.start(), case.start(), np.array([np.nan])
    for own in per_step:
        plan = case.plan._replace(hyper=own[1:].copy())
        work, steps = backend.workspace(plan, case.dtype, case.n), Steps(own[:1], np.empty(1), 1)
        assert backend.train(work, wanted, case.examples, steps) is None
    work = backend.workspace(case.plan, case.dtype, case.n)
    for first, count in ((0, 2), (2, 3)):
        steps = Steps(unused, np.empty(1), count, per_step=per_step[first:])
        assert backend.train(work, got, case.examples, steps) is None
    for _ in range(2):
        assert got.parameters.tobytes() == wanted.parameters.tobytes()
        assert got.slots.tobytes() == wanted.slots.tobytes()
        for state, again in ((got, work), (wanted, backend.workspace(case.plan, case.dtype, case.n))):
            assert backend.train(again, state, case.examples, Steps(np.array([0.1]), np.empty(1), 5)) is None


@pytest.mark.parametrize("clip_norm", [np.inf, 0.3])
def test_rates_and_decay_per_tensor_while_training(backend, clip_norm):
    """Plain gradient descent may be fused with the backward pass: it moves what gradient and update would."""
    for optimizer in (SGD(0.1, weight_decay=0.1), SGD(0.1, momentum=0.5, weight_decay=0.1), AdamW(0.1)):
        case = build([4, 9, 3], n=20, batch_size=20, l2=0.3, optimizer=optimizer, shuffle=False, weighted=True)
        rate_scale, decay = np.array([1, 0.5, 0, 2.0]), np.array([0.1, 0.2, 0.3, 0.0])
        case = replace(case, plan=case.plan._replace(rate_scale=rate_scale, decay=decay, clip_norm=clip_norm))
        state = case.start()
        for _ in range(5):
            moved = replace(case, params=state.parameters)
            grad = moved.gradient(backend, scale=1 / float(case.weight.sum()))[1]
            norm = np.linalg.norm(grad)
            assert norm > 0.3
            backend.update(case.plan, state, grad * min(1.0, clip_norm / norm), 0.1)
        np.testing.assert_allclose(case.train(backend, [0.1] * 5)[0], state.parameters, rtol=1e-12, atol=1e-13)


def test_a_rate_of_zero_moves_nothing_but_counts(backend, dtype):
    for optimizer in (SGD(0.1, weight_decay=0.1), AdamW(0.1)):
        case = build([4, 9, 3], dtype=dtype, optimizer=optimizer, l2=0.1)
        params, _, losses = case.train(backend, [0.0, 0.0])
        np.testing.assert_array_equal(params, case.params)
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_batch_without_weight_is_no_step(backend, dtype):
    case = build([4, 9, 3], dtype=dtype, optimizer=Adam(0.1), weighted=True, shuffle=False, n=20)
    case.weight[5:15] = 0
    state, work = case.start(), backend.workspace(case.plan, dtype, case.n)
    position, steps = state.position, Steps(np.array([0.1]), np.empty(1), 3)
    assert backend.train(work, state, case.examples, steps) is None
    assert (position.epoch, position.batch, position.step) == (0, 3, 1)
    assert backend.train(work, state, case.examples, steps._replace(max_steps=100)) is None
    assert (position.epoch, position.batch, position.step) == (1, 0, 2)
    kept = np.r_[0:5, 15:20]
    alone = replace(case, X=case.X[kept], Y=case.Y[kept], weight=case.weight[kept])
    np.testing.assert_array_equal(state.parameters, alone.train(backend, [0.1])[0])


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "rmsprop", "nadam", "adagrad-decay"])
def test_identical_bits_wherever_calls_are_cut(backend, dtype, name):
    case = problem(list(OPTIMIZERS).index(name), OPTIMIZERS[name], dtype)
    assert_bits_wherever_calls_are_cut(case, backend, [0.05, 0.04, 0.03, 0.02])


def test_max_steps_and_the_end_of_rates_are_kept(backend, dtype):
    case = build([3, 4, 2], dtype=dtype, n=10, batch_size=4)  # 3 batches
    state, rates, losses = case.start(), np.array([0.1, 0.1]), np.full(2, -1.0)
    position, call = state.position, (backend.workspace(case.plan, dtype, case.n), state, case.examples)
    backend.train(*call, Steps(rates, losses, 0))
    assert position.counts.tolist() == [0, 0, 0]
    backend.train(*call, Steps(rates, losses, 4))
    assert position.counts.tolist() == [1, 1, 4]
    assert losses[1] == -1.0
    backend.train(*call, Steps(rates[1:], losses[1:], 100))
    assert position.counts.tolist() == [2, 0, 6]
    order = np.arange(9, -1, -1)  # a given order is one epoch's
    backend.train(*call, Steps(rates, losses, 100, order))
    assert position.counts.tolist() == [3, 0, 9]


def test_a_workspace_forgets_a_divergence(backend, dtype):
    """The caller restores weights, state and position, also from before the epoch whose order was drawn last."""
    for optimizer, bias in itertools.product((SGD(0.1), Adam(0.1), SGD(0.1, momentum=0.9)), BIASES):
        case = build([3, 9, 5, 2], hidden="sigmoid", bias=bias, dtype=dtype, optimizer=optimizer, n=20)
        poisoned = replace(case, X=case.X.copy(), Y=case.Y.copy())
        poisoned.X[3] = np.inf
        poisoned.Y[3] = np.nan
        work = backend.workspace(case.plan, dtype, case.n)
        steps, sick = Steps(np.array([0.1] * 3), np.empty(3), 10**6), case.start()
        for _ in range(2):
            sick.position.counts[:] = 0
            sick.position.sums[:] = 0
            assert backend.train(work, sick, poisoned.examples, steps) is not None
        poisoned.gradient(backend, work=work)
        clean = backend.workspace(case.plan, dtype, case.n)
        for chosen in (work, work, clean):
            state = case.start()
            assert backend.train(chosen, state, case.examples, steps) is None
            assert state.parameters.tobytes() == case.train(backend, [0.1] * 3)[0].tobytes(), (optimizer, bias)


def test_threads_that_train_two_plans_disturb_nothing(backend, dtype):
    cases = [
        build([9, 17, 5], dtype=dtype, optimizer=Adam(0.01), n=300, batch_size=10, seed=1),
        build([16, 33, 5], hidden="sigmoid", dtype=dtype, n=300, batch_size=7, seed=2, l2=0.1),
    ]

    def bits(case, begin=None):
        if begin is not None:
            begin.wait(60)
        return [array.tobytes() for array in case.train(backend, [0.01] * 20, steps=50)]

    alone = [bits(case) for case in cases]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(bits, cases, [threading.Barrier(2)] * 2)) == alone


# --- the order of the examples ---------------------------------------------------------------------------------------


def test_sample_order_is_philox(backend, dtype):
    """Row i is 1 in column i alone, so that its step moves weight i and no other."""
    for seed, n in ((0, 1), (1, 2), (7, 3), (2**63 - 1, 5), (2**63, 6), (2**64 - 1, 37)):
        case = build([n, 1], bias="none", dtype=dtype, n=n, batch_size=1, seed=seed)
        state, work = case.start(np.zeros(n, dtype)), backend.workspace(case.plan, dtype, n)
        examples = Examples(np.eye(n, dtype=dtype), np.ones((n, 1), dtype))
        for epoch in range(3):
            seen = []
            for _ in range(n):
                before = state.parameters.copy()
                backend.train(work, state, examples, Steps(np.array([0.01]), np.empty(1), 1))
                seen += np.flatnonzero(state.parameters != before).tolist()
            assert seen == oracle.sample_order(seed, epoch, n).tolist()


# --- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_divergence_is_told_with_epoch_and_batch(backend, dtype, name, value):
    case = problem(5, OPTIMIZERS[name], dtype)
    for seed in range(3):
        plan = case.plan._replace(shuffle=1, seed=seed)
        sick = replace(case, plan=plan, Y=case.Y.copy())
        state, rates, losses = sick.start(), np.full(4, 0.01), np.empty(4)
        call = backend.workspace(plan, dtype, case.n), state, sick.examples
        assert backend.train(*call, Steps(rates, losses, 12)) is None  # two epochs and two batches
        sick.Y[17, 1] = value
        batches = [(epoch, oracle.sample_order(seed, epoch, 23).tolist().index(17) // 5) for epoch in (2, 3)]
        wanted = next(place for place in batches if place >= (2, 2))
        assert backend.train(*call, Steps(rates[2:], losses[2:], 100)) == (*wanted, LOSS_NOT_FINITE)


# --- guard zones -----------------------------------------------------------------------------------------------------


LAYERS = [[5, 9, 3], [8, 16, 8], [1, 1], [17, 7, 33]]


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_nothing_outside_the_arrays_is_read_or_written(backend, dtype, layers, name):
    pairs, first = runnable(backend), LAYERS.index(layers)
    pairs = [pair for i, pair in enumerate(pairs) if i % len(LAYERS) == first or "softmax" in pair]
    for (loss, output), weighted in zip(pairs, itertools.cycle([True, False])):
        labels = output == "softmax" and loss == "cross_entropy" and weighted
        case = build(
            layers, output=output, loss=loss, dtype=dtype, optimizer=OPTIMIZERS[name], n=23, weighted=weighted,
            labels=labels,
        )  # fmt: skip
        guards = Guards()
        safe = guarded(case, guards)
        given = safe.X, safe.Y, safe.params, *[safe.weight] * weighted
        before = [array.tobytes() for array in given]
        work = backend.workspace(case.plan, dtype, case.n)

        out, rows = guards(np.zeros((case.n, case.network.n_out), dtype)), guards(case.rows)
        backend.forward(work, safe.start(safe.params), safe.X, rows, out)
        np.testing.assert_array_equal(out, case.forward(backend))

        grad = guards(np.zeros_like(case.params))
        loss_sum = backend.gradient(work, safe.start(safe.params), safe.examples, rows, 1.0, grad)
        expected = case.gradient(backend)
        assert loss_sum == expected[0]
        np.testing.assert_array_equal(grad, expected[1])

        state = replace(case.start(guards(case.params)), slots=guards(case.slots()))
        backend.update(case.plan, state, grad, 0.1)
        assert np.isfinite(state.parameters).all()

        state = replace(case.start(guards(case.params)), slots=guards(case.slots()))
        rates, losses = guards([0.05] * 2), guards(np.zeros(2))
        assert backend.train(work, state, safe.examples, Steps(rates, losses, 10**6)) is None
        expected = case.train(backend, [0.05] * 2)
        for got, wanted in zip((state.parameters, state.slots, losses), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert guards.intact(), (loss, output)
        assert before == [array.tobytes() for array in given], (loss, output)
