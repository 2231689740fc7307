"""The Trainer's members: what it predicts and computes, what it shows, how it is kept."""

import copy
import os
import pickle

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks import BACKENDS, TASKS, assert_fits_as_oracle, data, described, make

from briskmlp import SGD, Adam, AdamW, CheckpointError, Cosine, RMSprop, StepDecay, Trainer, session
from briskmlp.backends import dispatch, native
from briskmlp.storage import checkpoint

RTOL = {"float32": 2e-5, "float64": 1e-12}


# --- predict, evaluate, loss_and_gradient ----------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("chunk_rows", [None, 1, 7])  # 7 leaves a short chunk
def test_predict_evaluate_and_gradient_are_the_oracles(backend_name, dtype, task, chunk_rows, monkeypatch):
    X, Y, weight = data(task, 23)
    trainer = make(task, backend=backend_name, dtype=dtype, l2=0.3)
    if chunk_rows:
        monkeypatch.setattr(session, "STAGE_BYTES", chunk_rows * 5 * dtype.itemsize)
    X = X.astype(dtype)
    weights, biases, activations, loss = described(trainer)
    rtol = RTOL[dtype.name]
    A = trainer.predict(X)
    assert A.dtype == dtype
    np.testing.assert_allclose(A, oracle.forward(weights, biases, activations, X)[-1], rtol=rtol, atol=rtol)
    gradients = []
    for w in (None, weight):
        plain, _, _ = oracle.gradient(weights, biases, activations, loss, X, Y, w)
        assert trainer.evaluate(X, Y, w) == pytest.approx(plain, rel=rtol)
        expected, dW, db = oracle.gradient(weights, biases, activations, loss, X, Y, w, l2=0.3)
        E, gradient = trainer.loss_and_gradient(X, Y, w)
        assert isinstance(E, float)
        assert pytest.approx(expected, rel=rtol) == E
        assert gradient.flat.dtype == dtype
        flat = np.concatenate([part.ravel() for pair in zip(dW, db, strict=True) for part in pair])
        np.testing.assert_allclose(gradient.flat, flat, rtol=rtol, atol=rtol)
        for found, W in zip(gradient.weights, trainer.weights, strict=True):
            assert found.shape == W.shape
            assert np.shares_memory(found, gradient.flat)
        assert [b.shape for b in gradient.biases] == [b.shape for b in trainer.biases]
        gradients.append(gradient.flat)
    assert not np.shares_memory(*gradients)


def test_predict_writes_where_it_is_told(backend_name, dtype):
    X, _, _ = data("mse", 9)
    trainer = make("mse", backend=backend_name, dtype=dtype)
    guarded = np.full((11, 2), 7.0, dtype=dtype)
    assert trainer.predict(X, out=guarded[1:-1]).base is guarded
    np.testing.assert_array_equal(guarded[1:-1], trainer.predict(X))
    assert (guarded[[0, -1]] == 7).all()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((9, 2), "f8"), r"out is float64 \(9, 2\), but must be an ndarray of float32 \(9, 2\)"),
        (np.empty((2, 9), "f4"), r"out is float32 \(2, 9\)"),
        (np.empty((9, 1), "f4"), r"out is float32 \(9, 1\)"),
        (np.empty(9, "f4"), r"out is float32 \(9,\)"),
        (np.empty((9, 2), ">f4"), r"out is >f4 \(9, 2\)"),
        (np.empty((9, 2), "f4", order="F"), "out must be C-contiguous and writable"),
        (np.empty((9, 4), "f4")[:, ::2], "out must be C-contiguous and writable"),
        (np.broadcast_to(np.float32(0), (9, 2)), "out must be C-contiguous and writable"),
        ([[0.0] * 2] * 9, "out is 'list', but must be an ndarray of float32"),
    ],
)
def test_predict_refuses_an_out_that_does_not_fit(out, message):
    with pytest.raises(ValueError, match=message):
        make("mse", backend="numpy").predict(np.zeros((9, 3)), out=out)


def test_one_row_is_predicted_as_among_others(backend_name):
    X, _, _ = data("softmax", 200)
    trainer = make("softmax", backend=backend_name, dtype="float64")
    np.testing.assert_allclose(trainer.predict(X)[57:58], trainer.predict(X[57:58]), rtol=1e-14)


# --- weights, biases, parameters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "shapes"), [("neuron", [(5,), (2,)]), ("layer", [(1,), (1,)]), ("none", [(0,)] * 2)])
def test_weights_and_biases_are_views_of_parameters(backend_name, dtype, bias, shapes):
    trainer = make("mse", backend=backend_name, dtype=dtype, bias=bias)
    assert [W.shape for W in trainer.weights] == [(3, 5), (5, 2)]
    assert [b.shape for b in trainer.biases] == shapes
    assert trainer.parameters.shape == (trainer.network.n_parameters,)
    assert trainer.parameters.dtype == dtype
    expected = [part.ravel() for pair in zip(trainer.weights, trainer.biases, strict=True) for part in pair]
    np.testing.assert_array_equal(trainer.parameters, np.concatenate(expected))
    assert all(W.base is not None and np.shares_memory(W, trainer.parameters) for W in trainer.weights)


def test_what_is_written_into_the_views_is_seen(backend_name):
    X, Y, _ = data("mse", 6)
    trainer = make("mse", backend=backend_name, batch_size=2, optimizer=SGD(0.0))
    parameters, weights = trainer.parameters, trainer.weights
    trainer.fit(X, Y, epochs=1)  # workspaces have been built
    weights[1][...], trainer.biases[1][...] = 0.0, [0.5, -0.5]
    assert trainer.parameters is parameters
    np.testing.assert_allclose(trainer.predict(X), np.tanh([[0.5, -0.5]] * 6), rtol=1e-6)
    expected = ((np.tanh([0.5, -0.5]) - Y) ** 2).sum() / 6
    assert trainer.fit(X, Y, epochs=1).loss == pytest.approx([expected], rel=1e-6)
    before = parameters.copy()
    trainer.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(parameters, before)
    trainer = make("mse", backend=backend_name)
    W, before = trainer.weights[0], trainer.weights[0].copy()
    trainer.fit(X, Y, epochs=1)  # writes into them
    assert (before != W).any()
    np.testing.assert_array_equal(trainer.weights[0], W)


# --- what was chosen, and what it says -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_forced_backend_is_taken(name, monkeypatch):
    other = "numba" if name == "numpy" else "numpy"
    monkeypatch.setenv("BRISKMLP_BACKEND", other)
    assert make("mse").backend == other
    trainer = make("mse", backend=name)  # an argument beats the environment
    calls, module = [], trainer._session.backend
    monkeypatch.setattr(module, "train", lambda *args, train=module.train: calls.append(1) or train(*args))
    monkeypatch.setattr(module, "forward", lambda *args, run=module.forward: calls.append(2) or run(*args))
    X, Y, _ = data("mse", 6)
    trainer.fit(X, Y, epochs=1)
    trainer.predict(X)
    assert set(calls) == {1, 2}
    assert (trainer.backend, trainer.isa) == (name, None)
    lines = trainer.explain().splitlines()
    assert lines[0] == f"backend: {name}"
    assert f"  {name}: asked for by backend={name!r}" in lines


def test_auto_takes_the_first_that_can_run_and_says_why_not_the_others(monkeypatch):
    for name in ("BRISKMLP_BACKEND", "BRISKMLP_ISA"):
        monkeypatch.delenv(name, raising=False)
    trainer = make("mse", optimizer=Adam(), threads=1)
    text = trainer.explain()
    assert trainer.backend == next(name for name, reason in dispatch.backends().items() if reason is None)
    parts = (
        f"{trainer.backend}: the fastest that can run this plan",
        f"numpy: not needed: {trainer.backend} was chosen",
        "threads: at most 1\n",
        "32 parameters",
        "memory: ",
    )
    for part in parts:
        assert part in text


def test_an_instruction_set_is_named(backend_name):
    trainer = make("mse", backend=backend_name)
    isa = os.environ["BRISKMLP_ISA"] if backend_name == "native" else None
    assert trainer.isa == isa
    assert trainer.explain().splitlines()[0] == f"backend: {backend_name}" + (f" with {isa}" if isa else "")


def test_a_backend_that_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setattr(native, "reason", lambda: "no compiler there")
    with pytest.raises(ValueError, match=r"backend='native' cannot be honoured: no compiler there"):
        make("mse", backend="native")
    monkeypatch.setenv("BRISKMLP_BACKEND", "native")
    with pytest.raises(ValueError, match="BRISKMLP_BACKEND=native cannot be honoured"):
        make("mse")
    monkeypatch.setenv("BRISKMLP_BACKEND", "nmpy")
    with pytest.raises(ValueError, match=r"BRISKMLP_BACKEND is 'nmpy', .* did you mean 'numpy'"):
        make("mse")
    monkeypatch.delenv("BRISKMLP_BACKEND")
    monkeypatch.setenv("BRISKMLP_ISA", "avx2")
    with pytest.raises(ValueError, match="BRISKMLP_ISA=avx2 cannot be honoured"):
        make("mse")


def test_repr_says_what_it_is():
    trainer = Trainer([2, 3, 1], hidden="relu", loss="cross_entropy", optimizer=Adam(0.5), backend="numpy")
    text = repr(trainer)
    for part in ("Trainer([2, 3, 1], hidden=('relu',), output='sigmoid', loss='cross_entropy'", "backend='numpy'"):
        assert part in text
    assert "optimizer=Adam(learning_rate=0.5" in text
    assert text.endswith("epoch=0)")


@pytest.mark.parametrize(
    ("layers", "arguments", "output"),
    [
        ([2, 3, 1], {}, "sigmoid"),
        ([2, 3, 1], {"hidden": "tanh"}, "tanh"),
        ([2, 3, 3, 1], {"hidden": ["tanh", "relu"]}, "relu"),
        ([2, 1], {"hidden": []}, "sigmoid"),
        ([2, 2], {"loss": "cross_entropy"}, "softmax"),
        ([2, 1], {"loss": "cross_entropy"}, "sigmoid"),
        ([2, 2], {"loss": "cross_entropy", "output": "sigmoid"}, "sigmoid"),
    ],
)
def test_the_output_follows_the_loss(layers, arguments, output):
    assert Trainer(layers, backend="numpy", **arguments).network.output == output


def test_a_seed_is_drawn_once_and_stored(backend_name):
    X, Y, _ = data("mse", 6)
    first, other = (make("mse", seed=None, backend=backend_name, batch_size=2) for _ in range(2))
    assert first.seed != other.seed
    again = make("mse", seed=first.seed, backend=backend_name, batch_size=2)
    first.fit(X, Y, epochs=3)
    again.fit(X, Y, epochs=3)
    np.testing.assert_array_equal(first.parameters, again.parameters)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1)])
def test_every_seed_trains_in_the_philox_order(backend_name, seed):
    trainer = make("mse", seed=seed, backend=backend_name, batch_size=2, dtype="float64")
    assert_fits_as_oracle(trainer, *data("mse", 7)[:2], oracle.SGD(learning_rate=0.1))


# --- keeping it ------------------------------------------------------------------------------------------------------


def through_pickle(trainer):
    return pickle.loads(pickle.dumps(trainer))


OPTIMIZERS = (SGD(0.1), SGD(0.1, momentum=0.9, nesterov=True), Adam(0.01), AdamW(Cosine(0.1, epochs=9)), RMSprop(0.01))


@pytest.mark.parametrize("keep", [through_pickle, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_copies_go_on_with_the_same_bits(backend_name, keep, optimizer):
    X, Y, weight = data("softmax", 23)
    trainer = make("softmax", backend=backend_name, optimizer=optimizer, batch_size=4, l2=0.1)
    trainer.fit(X, Y, epochs=2, sample_weight=weight)
    kept = keep(trainer)
    assert not np.shares_memory(kept.parameters, trainer.parameters)
    assert (kept.epoch, kept.seed, kept.backend, repr(kept)) == (2, 3, backend_name, repr(trainer))
    before = kept.parameters.copy()
    ours = trainer.fit(X, Y, epochs=3, sample_weight=weight)
    np.testing.assert_array_equal(kept.parameters, before)
    theirs = kept.fit(X, Y, epochs=3, sample_weight=weight)
    assert ours.loss == theirs.loss
    assert kept.parameters.tobytes() == trainer.parameters.tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
@pytest.mark.parametrize("task", TASKS)
def test_save_and_load(tmp_path, dtype, task, optimizer):
    arguments = {"optimizer": optimizer, "batch_size": None, "l2": 0.25, "shuffle": False, "seed": 2**64 - 1}
    trainer = make(task, backend="numpy", dtype=dtype, **arguments)
    X, Y, _ = data(task, 8)
    trainer.fit(X, Y, epochs=2)
    trainer.save(tmp_path / "model.safetensors")
    loaded = Trainer.load(str(tmp_path / "model.safetensors"), backend="numpy", threads=1)
    np.testing.assert_array_equal(loaded.parameters, trainer.parameters)
    assert (loaded.dtype, loaded.network, loaded.loss) == (dtype, trainer.network, trainer.loss)
    assert {name: getattr(loaded, name) for name in arguments} == arguments
    assert (loaded.epoch, loaded.backend, loaded.threads) == (2, "numpy", 1)
    np.testing.assert_array_equal(loaded.predict(X), trainer.predict(X))


def test_a_schedule_of_the_users_own_cannot_be_saved(tmp_path):
    trainer = make("mse", optimizer=SGD(lambda epoch: 0.1), backend="numpy")
    with pytest.raises(TypeError, match=r"learning_rate .* cannot be saved; it must be a number or one of"):
        trainer.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# --- shapes ----------------------------------------------------------------------------------------------------------


@given(
    layers=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    n=st.integers(1, 9),
    batch_size=st.none() | st.integers(1, 12),
    bias=st.sampled_from(["neuron", "layer", "none"]),
    hidden=st.sampled_from(["sigmoid", "tanh", "relu", "identity"]),
    name=st.sampled_from(BACKENDS),
)
def test_every_shape_trains_as_the_oracle(layers, n, batch_size, bias, hidden, name):
    rng = np.random.default_rng(n)
    X, Y = rng.normal(size=(n, layers[0])), rng.normal(size=(n, layers[-1]))
    arguments = {"bias": bias, "hidden": hidden, "batch_size": batch_size, "dtype": "float64", "seed": 1}
    trainer = Trainer(layers, backend=name, optimizer=SGD(0.01), **arguments)
    assert_fits_as_oracle(trainer, X, Y, oracle.SGD(learning_rate=0.01), rtol=1e-7)


def test_numpys_numbers_are_saved_and_loaded(tmp_path):
    path, rate = tmp_path / "model.safetensors", np.float32(0.25)
    for optimizer in (SGD(rate), SGD(StepDecay(rate, every=np.int64(3)))):
        Trainer([2, 1], optimizer=optimizer, backend="numpy").save(path)
        assert Trainer.load(path, backend="numpy").optimizer == optimizer


def test_an_optimizer_that_could_not_be_loaded_is_not_saved(tmp_path):
    class Mine(SGD):
        pass

    with pytest.raises(TypeError, match=r"optimizer .*Mine.* cannot be saved; it must be one of"):
        Trainer([2, 1], optimizer=Mine(0.1), backend="numpy").save(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "value"), [("seed", "x"), ("seed", True), ("loss", 5), ("batch_size", 2.5), ("l2", None), ("shuffle", 1)]
)
def test_a_file_with_a_configuration_of_other_types_is_refused(tmp_path, name, value):
    path, trainer = tmp_path / "model.safetensors", Trainer([2, 1], backend="numpy")
    checkpoint.write(path, trainer.network, trainer.parameters, trainer.configuration | {name: value})
    with pytest.raises(CheckpointError, match=f"configuration is not usable: .*{name} is {value!r}"):
        Trainer.load(path)
