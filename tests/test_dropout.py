"""Dropout on every backend: which units are dropped, trajectories against the oracle, and what it must not touch."""

import itertools
from dataclasses import replace

import numpy as np
import oracle
import pytest
import scipy.sparse
from build import OPTIMIZERS, TEXTS, assert_bits_wherever_calls_are_cut, assert_trains_as_oracle, build
from rounding import bounds
from tasks import data, described, everything, make

from briskmlp import Adam, Trainer
from briskmlp.backends.contract import Steps
from briskmlp.optimizers import SGD

WIDTHS = (1, 15, 16, 17, 33, 130)  # around a block of 16 units, and a cache line of the narrowest numbers


# --- which units are dropped -----------------------------------------------------------------------------------------


def masks(backend, dtype, layer, width, *, rate, seed, epoch, n, batch_size):
    """Read M of a hidden layer off what a step does to weights that are 0: lr · 2/n · M summed over its rows.

    All of X and A is 1; W[L] is 0, so that nothing below it moves. A batch's rows weigh 1, 2, 4, …: a sum of them tells
    which they are.
    """
    layers = [1, *[width] * (layer + 1), 1]
    dropout = [0.0] * layer + [rate]
    case = build(layers, hidden="identity", bias="none", dtype=dtype, n=n, batch_size=batch_size, shuffle=False,
                 seed=seed, dropout=dropout)  # fmt: skip
    case.X[:] = case.Y[:] = 1
    for l, W in enumerate(case.network.weights(case.params)):
        W[:] = 1 if l == 0 else np.eye(len(W)) if l <= layer else 0
    work, start = backend.workspace(case.plan, dtype, n), case.params.copy()
    weight = 2.0 ** (np.arange(n) % batch_size)
    rows = []
    for batch in range(-(-n // batch_size)):
        params = start.copy()
        state, examples = case.start(params, (epoch, batch, 0)), case.examples._replace(weight=weight.astype(dtype))
        assert backend.train(work, state, examples, Steps(np.array([0.5]), np.empty(1), 1)) is None
        moved = case.network.weights(params)[-1][:, 0].astype(float)
        in_batch = weight[batch * batch_size :][:batch_size]
        scale = 65536 / (65536 - round(rate * 65536))
        np.testing.assert_array_equal(params[: -len(moved)], start[: -len(moved)])
        summed = moved * in_batch.sum() / scale
        np.testing.assert_allclose(summed, summed.round(), atol=0.01)
        rows += [(summed.round().astype(int) // int(w)) % 2 * scale for w in in_batch]
    return np.array(rows)


def test_units_are_dropped_by_their_philox_numbers(backend, dtype):
    # (seed, epoch), (rows, batch size), layer, rate
    draws = [((0, 0), (5, 1), 0, 0.5), ((7, 3), (5, 2), 1, 0.2), ((2**63 - 1, 2**40), (7, 4), 0, 0.75)]
    draws += [((2**64 - 1, 1), (9, 9), 2, 1 / 3)]
    for width, ((seed, epoch), (n, batch_size), layer, rate) in itertools.product(WIDTHS, draws):
        got = masks(backend, dtype, layer, width, rate=rate, seed=seed, epoch=epoch, n=n, batch_size=batch_size)
        expected = oracle.dropout_mask(seed, epoch, range(n), layer, width, rate)
        np.testing.assert_allclose(got, expected, rtol=1e-15, err_msg=str((width, seed, epoch, layer)))


# --- trajectories ----------------------------------------------------------------------------------------------------

CASES = {
    "one-layer": {"layers": [4, 9, 3], "dropout": (0.5,)},
    "relu-labels": {
        "layers": [4, 17, 16, 3], "dropout": (0.2, 0.5), "hidden": "relu", "output": "softmax",
        "loss": "cross_entropy", "labels": True, "l2": 0.1,
    },
    "some-layers": {"layers": [4, 9, 33, 8, 2], "dropout": (0.3, 0.0, 0.1), "hidden": "sigmoid", "bias": "layer"},
    "weighted": {"layers": [4, 9, 5, 3], "dropout": (0.25, 0.25), "hidden": "leaky_relu", "weighted": True, "l2": 0.05},
    "in-order": {
        "layers": [4, 40, 3], "dropout": (0.5,), "hidden": "identity", "output": "tanh", "bias": "none",
        "shuffle": False,
    },
    "poisson": {"layers": [4, 9, 3], "dropout": (0.1,), "output": "exp", "loss": "poisson", "l2": 0.1},
    "huber": {"layers": [4, 16, 3], "dropout": (0.5,), "hidden": "relu", "output": "leaky_relu", "loss": "huber"},
}  # fmt: skip


def dropped_case(name, **arguments):
    """23 rows in batches of 5, the last of 3."""
    return build(**{"n": 23, "seed": list(CASES).index(name), **CASES[name], **arguments})


@pytest.mark.parametrize("name", CASES)
def test_training_follows_the_oracle(backend, dtype, name):
    i, optimizers = list(CASES).index(name), ["sgd", "sgd-decay", "nesterov-decay", "adam", "adamw", "rmsprop-decay"]
    for optimizer in (SGD(0.05), OPTIMIZERS[optimizers[i % 6]], OPTIMIZERS[optimizers[(i + 3) % 6]]):
        case = dropped_case(name, optimizer=optimizer, dtype=dtype)
        assert_trains_as_oracle(case, backend, optimizer.learning_rate * np.array([0.3, 0.2, 0.3, 0.1, 0.2]))


@pytest.mark.parametrize("text", TEXTS)
def test_every_activation_knows_what_is_dropped_by_its_mask(backend, dtype, text):
    """Of Z = 0 and -200 some activations are 0, or -0, themselves: these units still move, and dropped ones do not."""
    case = build([3, 6, 33, 2], hidden=["tanh", text], dtype=dtype, n=16, batch_size=16, dropout=(0.0, 0.5))
    case.needs(backend)
    case.network.weights(case.params)[1][:] = [[-0.0], [0.0]] * 3
    case.network.biases(case.params)[1][:] = np.resize([0.0, -0.0, -200.0, 0.5], 33)
    expected, found = case.oracle_train([1.0])[0] - case.params, case.train(backend, [1.0])[0] - case.params
    # sums of 16 products; a bias of -200 keeps eps · 200 of what it moves by, and makes A and its errors as large
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=100 * np.finfo(dtype).eps * max(200, np.abs(expected).max())
    )


def test_batches_of_several_chunks_and_rates_near_1(backend, dtype):
    """A rate that rounds to 1 keeps one number of 65536, so that the factor stays finite."""
    chunks = {"layers": [5, 20, 3], "n": 700, "batch_size": 300, "weighted": True, "l2": 0.1, "dropout": (0.4,)}
    one_batch = {"layers": [3, 9, 2], "n": 4100, "batch_size": 4100, "dropout": (0.5,)}
    few = {"layers": [3, 20, 2], "l2": 0.1, "dropout": (np.nextafter(1.0, 0.0),)}
    for arguments in (chunks, {**chunks, "clip_norm": 0.5}, one_batch, few):
        assert_trains_as_oracle(build(**arguments, dtype=dtype), backend, [0.05] * 3)


# --- what it must not touch ------------------------------------------------------------------------------------------


def test_a_rate_of_0_is_no_dropout(backend, dtype):
    case = dropped_case("weighted", dtype=dtype)
    plain = replace(case, plan=case.plan._replace(dropout=np.zeros(3)))
    tiny = replace(case, plan=case.plan._replace(dropout=np.array([2.0**-18, 0.0, 0.0])))  # rounds to none of 65536
    expected = plain.train(backend, [0.1] * 3)[0].tobytes()
    assert tiny.train(backend, [0.1] * 3)[0].tobytes() == expected
    assert case.train(backend, [0.1] * 3)[0].tobytes() != expected


def test_only_train_drops_and_clips(backend, dtype):
    """Forward, gradient and update of such a plan are those of another, before and after the workspace has trained."""
    case = dropped_case("weighted", dtype=dtype, clip_norm=1e-6)
    plain = replace(case, plan=case.plan._replace(dropout=np.zeros(3), clip_norm=np.inf))
    allowed_out, allowed_loss, allowed_grad = (2 * bound for bound in bounds(case))
    (loss, grad), out = plain.gradient(backend), plain.forward(backend)
    work = backend.workspace(case.plan, dtype, case.n)
    for _ in range(2):
        assert (np.abs(case.forward(backend, work=work) - out) <= allowed_out).all()
        dropped_loss, dropped_grad = case.gradient(backend, work=work)
        assert abs(dropped_loss - loss) <= allowed_loss
        assert (np.abs(dropped_grad - grad) <= allowed_grad).all()
        backend.train(work, case.start(), case.examples, Steps(np.array([0.1]), np.empty(1), 3))
    states = case.start(), plain.start()
    for each, state in zip((case, plain), states, strict=True):
        backend.update(each.plan, state, grad, 0.1)
    np.testing.assert_array_equal(*(state.parameters for state in states))


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu-labels", "some-layers", "in-order"])
def test_identical_bits_wherever_calls_are_cut(backend, dtype, name):
    case = dropped_case(name, dtype=dtype, optimizer=Adam(0.01))
    assert_bits_wherever_calls_are_cut(case, backend, [0.01, 0.02, 0.03])


def test_a_skipped_batch_leaves_the_others_their_places(backend):
    case = dropped_case("in-order", weighted=True)
    case.weight[5:10] = 0
    assert_trains_as_oracle(case, backend, [0.1] * 3)


@pytest.mark.parametrize("stage_rows", [1, 8, 10**6])
def test_staged_data_drop_as_data_in_memory(backend_name, tmp_path, monkeypatch, stage_rows):
    _, Y, weight = data("mse", 21)
    source = np.random.default_rng(0).integers(0, 2, size=(21, 3)).astype("u1")
    np.save(tmp_path / "X.npy", source)
    staged = np.load(tmp_path / "X.npy", mmap_mode="r"), scipy.sparse.csr_matrix(source)
    monkeypatch.setattr("briskmlp.session.STAGE_BYTES", stage_rows * 5 * 4)

    def run(X):
        trainer = make("mse", backend=backend_name, batch_size=4, dropout=0.5, optimizer=Adam())
        losses = trainer.fit(X, Y, epochs=3, sample_weight=weight).loss
        return everything(trainer), losses

    assert run(staged[0]) == run(staged[1]) == run(source)


@pytest.mark.parametrize("form", [{"dropout": (0.2, 0.5)}, {"clip_norm": 0.5}], ids=str)
def test_threads_do_not_change_the_bits(backend_name, form):
    """Large enough for more than one thread, where a backend has threads of its own; the others' are BLAS's."""
    if backend_name != "native":
        return
    rng = np.random.default_rng(0)
    X, Y, bits = rng.normal(size=(600, 100)), rng.normal(size=(600, 10)), set()
    form = {"hidden": "relu", "output": "identity", "optimizer": SGD(0.05), "batch_size": 256, "seed": 0, **form}
    for threads in (1, 2, 3):
        trainer = Trainer([100, 300, 200, 10], backend="native", threads=threads, **form)
        trainer.fit(X, Y, epochs=1)
        bits.add(trainer.parameters.tobytes())
    assert len(bits) == 1


# --- the Trainer -----------------------------------------------------------------------------------------------------


def test_one_rate_is_for_all_hidden_layers():
    def dropout(rates, layers=(3, 5, 4, 2)):
        trainer = Trainer(layers, dropout=rates, backend="numpy")
        assert trainer._session.plan.dropout.tolist() == [*trainer.dropout, 0]
        return trainer.dropout

    assert dropout(0.25) == (0.25, 0.25)
    assert dropout([0, 0.5]) == (0, 0.5)
    assert dropout(np.array([0.5, 0.25])) == (0.5, 0.25)
    assert dropout(0.25, layers=(3, 2)) == dropout((), layers=(3, 2)) == ()


def test_fit_follows_the_oracle(backend_name):
    X, Y, weight = data("softmax", 23)
    kwargs = {"dtype": "float64", "dropout": 0.4, "clip_norm": 0.5, "l2": 0.1, "batch_size": 5}
    trainer = make("softmax", backend=backend_name, optimizer=SGD(0.1), **kwargs)
    start = described(trainer)
    losses = trainer.fit(X, Y, epochs=4, sample_weight=weight).loss
    weights, biases, expected = oracle.train(
        *start, oracle.SGD(learning_rate=0.1), X, Y, epochs=4, batch_size=5, seed=3, weight=weight, l2=0.1,
        dropout=(0.4,), clip_norm=0.5,
    )  # fmt: skip
    np.testing.assert_allclose(losses, expected, rtol=1e-11)
    for ours, theirs in zip(trainer.weights + trainer.biases, weights + biases, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
