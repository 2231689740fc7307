"""Trainers with normalisation: what they take and keep, running statistics, and files."""

import copy
import pickle
import re

import numpy as np
import pytest
from tasks import everything, interrupt_in_call

from briskmlp import SGD, Adam, BatchNorm, EarlyStopping, LayerNorm, Network, Trainer
from briskmlp.backends import numpy as reference
from briskmlp.backends.recording import DX, FORWARD, GATHER, LOSS
from briskmlp.plan import make_plan
from briskmlp.plotting import NetworkDisplay
from briskmlp.profiling.rows import model
from briskmlp.storage import checkpoint
from briskmlp.storage.checkpoint import CheckpointError

rng = np.random.default_rng(0)
X, Y = rng.normal(2, 3, size=(40, 3)), rng.normal(size=(40, 2))


def small(**arguments):
    options = {"output": "identity", "seed": 1, "backend": "numpy", "batch_size": 8, "norm": "batch"}
    return Trainer([3, 4, 5, 2], **{"hidden": "tanh", "optimizer": Adam(0.01), **options, **arguments})


def statistics(trainer):
    return np.concatenate([part for pair in trainer.statistics for part in pair])


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "position", "expected"), [
    ("batch", "before", [(1, "batch", "before"), (2, "batch", "before")]),
    (LayerNorm(), "after", [(1, "layer", "after"), (2, "layer", "after")]),
    ([None, BatchNorm(momentum=0.01, eps=1e-3)], "after", [(2, "batch(0.01, 0.001)", "after")]),
    (["layer(eps=0.1)", "batch(eps=1)"], ["after", "before"],
     [(1, "layer(0.1)", "after"), (2, "batch(0.1, 1.0)", "before")]),
    ("batch(0.1, 1e-5)", "before", [(1, "batch", "before"), (2, "batch", "before")]),
    (None, "after", []),
])  # fmt: skip
def test_which_norms_there_are(norm, position, expected):
    trainer = small(norm=norm, norm_position=position)
    assert list(trainer.network.norms) == expected
    assert [gamma.tolist() for gamma in trainer.gammas] == [
        [1.0] * trainer.network.layers[place] for place, *_ in expected
    ]
    assert not any(beta.any() for beta in trainer.betas)
    assert all((pair.mean == 0).all() and (pair.variance == 1).all() for pair in trainer.statistics)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"norm": "bach"}, "norm is 'bach', but must be one of 'batch', 'layer'; did you mean 'batch'?"),
    ({"norm": ["batch"]}, "norm has 1 value, but the network has 2 hidden layers"),
    ({"norm": ["batch", 3]}, "norm[1] is 3, but must be one of 'batch', 'layer'"),
    ({"norm": "batch(1.5)"}, "norm is 'batch(1.5)': momentum is 1.5, but must be >= 0 and <= 1"),
    ({"norm": "layer(momentum=1)"}, "norm is 'layer(momentum=1)', but layer takes eps=1e-05"),
    ({"norm_position": "behind"}, "norm_position is 'behind', but must be one of 'before', 'after'"),
    ({"input_norm": "relu"}, "input_norm is 'relu', but must be one of 'batch', 'layer'"),
    ({"output_norm": "layer(0)"}, "output_norm is 'layer(0)': eps is 0.0, but must be > 0"),
])  # fmt: skip
def test_refusals(arguments, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        small(**arguments)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: BatchNorm(momentum=None), "momentum must be a number, got None"),
    (lambda: BatchNorm(momentum=-0.1), "momentum is -0.1, but must be >= 0 and <= 1"),
    (lambda: BatchNorm(eps=0), "eps is 0, but must be > 0"),
    (lambda: LayerNorm(eps=-1), "eps is -1, but must be > 0"),
])  # fmt: skip
def test_refused_parameters(make, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


def test_networks_say_what_they_are():
    network = small(norm=["batch", None], input_norm="layer").network
    assert repr(network).endswith("norm=('batch', None), norm_position=('before', 'before'), input_norm='layer')")
    assert eval(repr(network), {"Network": Network}) == network
    assert "norm" not in repr(Network([3, 4, 5, 2]))
    assert Network([3, 4, 5, 2], norm=[None, None], norm_position="after") == Network([3, 4, 5, 2])
    assert network != Network([3, 4, 5, 2]) != Network([3, 4, 5, 2], norm="layer")
    lines = network.summary().splitlines()
    assert lines[1].split() == ["3", "layer", "norm", "6"]
    assert lines[2].split() == ["1", "3", "->", "4", "batch", "norm,", "tanh", "24"]
    assert "hidden layer 1: 4 neurons, batch norm, tanh" in network.to_mermaid()
    assert 'f["batch norm(z)"]' in network.to_mermaid("neuron")
    assert 'g["tanh(batch norm(z))"]' in network.to_mermaid("neuron")


def test_diagrams_are_drawn():
    trainer = small()
    figure = NetworkDisplay.from_trainer(trainer).figure_
    assert any("batch norm" in text.get_text() for text in figure.findobj(match=lambda a: hasattr(a, "get_text")))


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch_size", "works"), [(33, 32, 31), (9, 4, 3), (5, 1, 3), (3, 2, 3), (3, 1, 3), (101, 50, 49)]
)
def test_a_batch_of_one_row_is_refused_before_anything_moves(n, batch_size, works):
    trainer, before = small(batch_size=batch_size), small(batch_size=batch_size).parameters.tobytes()
    rows = np.resize(X, (n, 3)), np.resize(Y, (n, 2))
    message = f"X has {n} rows and batch_size is {batch_size}, which leaves a batch of one row, .* batch_size={works}$"
    with pytest.raises(ValueError, match=message):
        trainer.fit(*rows, epochs=1)
    assert (trainer.parameters.tobytes(), trainer.epoch) == (before, 0)
    assert n % works != 1
    small(batch_size=works).fit(*rows, epochs=1)
    small(batch_size=batch_size, norm="layer").fit(*rows, epochs=1)


def test_one_row_is_refused():
    for call in (lambda: small().fit(X[:1], Y[:1], epochs=1), lambda: small(batch_size=None).partial_fit(X[:1], Y[:1])):
        with pytest.raises(ValueError, match=r"X has 1 row, but batch normalisation needs batches of two or more"):
            call()
    with pytest.raises(ValueError, match="X has 1 row"):
        small().loss_and_gradient(X[:1], Y[:1])
    assert small().predict(X[:1]).shape == (1, 2)
    assert np.isfinite(small().evaluate(X[:1], Y[:1]))


def test_one_batch_of_all_rows_normalises_by_their_mean_and_variance():
    trainer = small(input_norm=BatchNorm(momentum=1.0), norm=None, batch_size=None, dtype="float64")
    trainer.fit(X, Y, epochs=1)
    ((mean, variance),) = trainer.statistics
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, X.var(axis=0, ddof=1), rtol=1e-12)
    plain = Trainer([3, 4, 5, 2], hidden="tanh", output="identity", dtype="float64", seed=1, backend="numpy")
    plain.parameters[:] = trainer.parameters[: plain.parameters.size]
    standardised = (X - mean) / np.sqrt(variance + 1e-5) * trainer.gammas[0] + trainer.betas[0]
    np.testing.assert_allclose(trainer.predict(X), plain.predict(standardised), rtol=1e-12)


def test_predictions_depend_on_running_statistics_and_no_other_row():
    trainer = small(dtype="float64")
    trainer.fit(X, Y, epochs=3)
    np.testing.assert_allclose(trainer.predict(X)[:1], trainer.predict(X[:1]), rtol=1e-13)
    before = trainer.predict(X)
    trainer.statistics[1].mean[:] += 0.5
    trainer.statistics[1].variance[:] *= 2
    assert np.abs(trainer.predict(X) - before).max() > 0.01
    assert trainer.evaluate(X, Y) == pytest.approx(np.square(trainer.predict(X) - Y).sum(axis=1).mean(), rel=1e-12)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_loss_and_gradient_is_of_one_batch_and_moves_nothing(monkeypatch, backend):
    """Of all rows, whatever the batch size of training, and however many are converted at once."""
    trainer = small(dtype="float64", backend=backend)
    trainer.fit(X, Y, epochs=1)
    before = everything(trainer), statistics(trainer)
    E, gradient = trainer.loss_and_gradient(X, Y)
    monkeypatch.setattr("briskmlp.session.STAGE_BYTES", 64)
    again, same = trainer.loss_and_gradient(X, Y)
    assert (again, same.flat.tobytes()) == (E, gradient.flat.tobytes())
    assert everything(trainer) == before[0]
    assert statistics(trainer).tobytes() == before[1].tobytes()
    assert [g.shape for g in gradient.gammas] == [b.shape for b in gradient.betas] == [(4,), (5,)]
    assert gradient.gammas[0].any()
    assert trainer.evaluate(X, Y) != E  # which is by running statistics


def test_ctrl_c_and_divergence_restore_statistics(monkeypatch):
    trainer = small(dtype="float64", optimizer=SGD(0.1))
    trainer.fit(X, Y, epochs=1)
    with monkeypatch.context() as patch:
        interrupt_in_call(patch, reference, 3)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=4)
    whole = small(dtype="float64", optimizer=SGD(0.1))
    whole.fit(X, Y, epochs=5)
    trainer.fit(X, Y, epochs=5 - trainer.epoch)
    assert trainer.parameters.tobytes() == whole.parameters.tobytes()
    assert statistics(trainer).tobytes() == statistics(whole).tobytes()

    diverging = small(optimizer=SGD(0.1), hidden="relu")
    diverging.fit(X, Y, epochs=1)
    before = statistics(diverging)
    large = np.where(np.arange(40)[:, None] < 20, Y, 1e30)
    with pytest.raises(FloatingPointError):
        diverging.fit(X, large, epochs=5)
    assert np.isfinite(statistics(diverging)).all()
    assert before.shape == statistics(diverging).shape


def test_early_stopping_restores_statistics_with_the_parameters():
    trainer = small(optimizer=SGD(0.5))
    stopping = EarlyStopping(patience=3)
    seen = {}

    class Watch:
        def on_epoch_end(self, trainer, record):
            seen[record["epoch"]] = trainer.parameters.copy(), statistics(trainer)

    trainer.fit(X, Y, epochs=30, validation_data=(X[::-1] + 1, Y), callbacks=[stopping, Watch()])
    parameters, best = seen[stopping.best_epoch]
    np.testing.assert_array_equal(trainer.parameters, parameters)
    np.testing.assert_array_equal(statistics(trainer), best)
    assert not np.array_equal(best, seen[max(seen)][1])
    state = stopping.state_dict()
    other = EarlyStopping(patience=3)
    other.load_state_dict(state)
    assert other.state_dict()["best_statistics"].tobytes() == best.tobytes()
    with pytest.raises(ValueError, match="best_statistics with NaN"):
        other.load_state_dict({**state, "best_statistics": best * np.nan})
    other.load_state_dict({name: value for name, value in state.items() if name != "best_statistics"})
    with pytest.raises(ValueError, match="EarlyStopping's state has no best_statistics of 18 numbers"):
        other.check_state(trainer)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{}, {"input_norm": "batch(0.3)", "norm": [None, "layer"], "norm_position": "after"}]
)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_pickles_copies_and_files_go_on_with_the_same_bits(tmp_path, arguments, backend):
    arguments = {**arguments, "backend": backend}
    whole, cut = small(**arguments), small(**arguments)
    whole.fit(X, Y, epochs=4)
    cut.fit(X, Y, epochs=2)
    cut.save(tmp_path / "model")
    others = [pickle.loads(pickle.dumps(cut)), copy.deepcopy(cut), Trainer.load(tmp_path / "model", backend=backend)]
    for other in others:
        assert other.network == cut.network
        assert statistics(other).tobytes() == statistics(cut).tobytes()
        other.fit(X, Y, epochs=2)
        assert everything(other) == everything(whole)
        assert statistics(other).tobytes() == statistics(whole).tobytes()


def test_files_with_normalisations_have_a_version_of_their_own(tmp_path):
    small().save(tmp_path / "with")
    small(norm=None).save(tmp_path / "without")
    versions = [(tmp_path / name).read_bytes() for name in ("with", "without")]
    assert b'"format_version": "3"' in versions[0]
    assert b'"format_version": "2"' in versions[1]
    assert b"norm_position" in versions[0]
    assert b"norm_position" not in versions[1]
    (tmp_path / "as 2").write_bytes(versions[0].replace(b'"format_version": "3"', b'"format_version": "2"'))
    with pytest.raises(CheckpointError, match="does not belong to the network"):
        checkpoint.read(tmp_path / "as 2")


def test_files_hold_pytorchs_names(tmp_path):
    trainer = small(input_norm="layer", norm_position=["before", "after"])
    trainer.fit(X, Y, epochs=2)
    trainer.save(tmp_path / "model")
    stored = pytest.importorskip("safetensors.numpy").load_file(tmp_path / "model")
    shapes = {name: array.shape for name, array in stored.items() if name[0].isdigit()}
    assert shapes == {
        "0.weight": (3,), "0.bias": (3,), "1.weight": (4, 3), "1.bias": (4,), "2.weight": (4,), "2.bias": (4,),
        "2.running_mean": (4,), "2.running_var": (4,), "2.num_batches_tracked": (), "4.weight": (5, 4), "4.bias": (5,),
        "6.weight": (5,), "6.bias": (5,), "6.running_mean": (5,), "6.running_var": (5,), "6.num_batches_tracked": (),
        "7.weight": (2, 5), "7.bias": (2,),
    }  # fmt: skip
    assert stored["2.num_batches_tracked"] == 10
    np.testing.assert_array_equal(stored["2.running_var"], trainer.statistics[0].variance)
    np.testing.assert_array_equal(stored["6.weight"], trainer.gammas[2])


@pytest.mark.parametrize(("before", "damaged", "message"), [
    ('["batch", "batch"]', '["batch", "bitch"]', r"norm\[1\] is 'bitch'"),
    ('["batch", "batch"]', '["batch", 123456789]', r"norm\[1\] is 123456789"),
    ('["batch", "batch"]', '["layer", "batch"]', "tensor '1.num_batches_tracked' does not belong"),
    ('"1.num_batches_tracked": {"dtype": "I64"', '"1.num_batches_tracked": {"dtype": "F64"', "missing or not one"),
    ("1.running_mean", "1.runnung_mean", "'1.runnung_mean' does not belong"),
])  # fmt: skip
def test_damaged_files(tmp_path, before, damaged, message):
    small().save(tmp_path / "model")
    found = (tmp_path / "model").read_bytes()
    before, damaged = (
        (text if "num" in text else text.replace('"', '\\"')).encode() for text in (before, damaged)
    )  # the configuration is JSON in JSON
    assert before in found
    (tmp_path / "model").write_bytes(found.replace(before, damaged))
    with pytest.raises(CheckpointError, match=message):
        Trainer.load(tmp_path / "model")


def test_variances_in_files_are_not_negative(tmp_path):
    trainer = small()
    trainer.statistics[1].variance[2] = -1
    trainer.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"'4\.running_var' has numbers below 0"):
        Trainer.load(tmp_path / "model")


def test_a_model_alone_has_initial_statistics_unless_they_are_given(tmp_path):
    network = small().network
    checkpoint.write(tmp_path / "model", network, small().parameters, {})
    stored = checkpoint.read(tmp_path / "model")
    assert stored.statistics.tolist() == network.initial_statistics().tolist()
    assert stored.batches == [0, 0]
    with pytest.raises(ValueError, match=r"statistics is \(3,\) float32, but this network's are \(18,\)"):
        checkpoint.write(tmp_path / "model", network, small().parameters, {}, statistics=np.zeros(3, np.float32))


@pytest.mark.parametrize("arguments", [
    {}, {"norm": "layer", "norm_position": "after", "bias": "none"},
    {"norm": ["batch(0.3)", "layer(0.01)"], "norm_position": ["after", "before"], "input_norm": "batch",
     "output_norm": "layer"},
])  # fmt: skip
def test_onnx(tmp_path, arguments):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    trainer = small(**arguments)
    trainer.fit(X, Y, epochs=5)
    trainer.save(tmp_path / "model")
    trainer.to_onnx(tmp_path / "trainer.onnx")
    from briskmlp.convert.onnx import to_onnx

    to_onnx(tmp_path / "model", tmp_path / "file.onnx")
    for name in ("trainer.onnx", "file.onnx"):
        session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"X": X.astype(np.float32)})
        np.testing.assert_allclose(found, trainer.predict(X), rtol=1e-5, atol=1e-5)


# --- other users of a network ----------------------------------------------------------------------------------------


def test_profiles_count_what_a_normalisation_reads_and_writes():
    plain, normed = (
        make_plan(Network([3, 4, 2], **norms), loss="mse", optimizer=SGD(0.1), batch_size=8, seed=0)
        for norms in ({}, {"norm": "batch", "input_norm": "layer", "output_norm": "batch"})
    )

    def more(layer, phase):
        flops, n_bytes = (
            np.subtract(*pair) for pair in zip(*(model(p, layer, phase, 8, 1, 4) for p in (normed, plain)), strict=True)
        )
        assert flops == 0
        return n_bytes / 4 / 8

    assert [more(0, GATHER), more(1, GATHER)] == [2 * 3, 0]
    assert [more(0, FORWARD), more(1, FORWARD)] == [2 * 4, 2 * 2]
    assert [more(0, DX), more(1, DX)] == [3 * 3, 3 * 4]
    assert [more(0, LOSS), more(1, LOSS)] == [0, 3 * 2]
    trainer = small()
    with trainer.profile() as profile:
        trainer.fit(X, Y, epochs=40)
    assert profile.steps == 200


def test_the_command_line(workdir, report, refused):
    table = "a,b,y\n" + "".join(f"{a},{b},{a * b}\n" for a in range(7) for b in range(7))
    with open("t.csv", "w") as file:  # noqa: PTH123
        file.write(table)
    line = "train t.csv --target y --task regression --hidden 5,4 --epochs 3 --out m.safetensors"
    report(f"{line} --norm batch(0.2) --norm-position after")
    stored = checkpoint.read("m.safetensors")
    assert stored.network.norm == ("batch(0.2, 1e-05)",) * 2
    assert stored.network.norm_position == ("after", "after")
    assert stored.statistics.tolist() != stored.network.initial_statistics().tolist()
    assert len(report("predict m.safetensors t.csv")["predictions"]) == 49
    report("profile --layers 4,5,2 --batch 8 --steps 2 --norm layer")
    assert "argument --norm: norm is 'batsh'" in refused(f"{line} --norm batsh", "did you mean 'batch'?")
    refused(f"{line} --norm batch --batch-size 38", "X has 39 rows and batch_size is 38")
