"""Checkpoints taken at any batch: training that goes on from one ends with the bits of the run that was never cut."""

import copy
import errno
import os
import pickle
import threading
import warnings
from pathlib import Path

import build
import numpy as np
import pytest
from scipy import sparse
from tasks import BACKENDS, data, everything, make

from briskmlp import (
    SGD,
    Adam,
    AdamW,
    Checkpoint,
    CheckpointError,
    Cosine,
    EarlyStopping,
    InverseScaling,
    RMSprop,
    StepDecay,
    Trainer,
)
from briskmlp.storage import checkpoint

X, Y, WEIGHT = data("mse", 23)
BATCH = 4  # six batches, the last of 3 rows
HELD_OUT = data("mse", 9, seed=1)[:2]

OPTIMIZERS = {
    "sgd": SGD(0.1),
    "momentum": SGD(StepDecay(0.1, every=2), momentum=0.9, nesterov=True),
    "adam": Adam(Cosine(0.1, epochs=5)),
    "adamw": AdamW(0.05),
    "rmsprop": RMSprop(InverseScaling(0.01)),
}


class Recording(Checkpoint):
    """Keeps each file that was written."""

    def save(self, trainer):
        super().save(trainer)
        self.files = [*getattr(self, "files", []), Path(self.path).read_bytes()]


@pytest.fixture(autouse=True)
def _one_batch_per_call(monkeypatch):
    monkeypatch.setattr("briskmlp.session.CALL_SECONDS", 0.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def stored(path, *callbacks, epochs=1, **arguments):
    """Write a checkpoint at the end of a training; return the Trainer."""
    trainer = make("mse", backend="numpy")
    trainer.fit(X, Y, epochs=epochs, callbacks=[*callbacks, Checkpoint(path)], **arguments)
    return trainer


def load(path):
    return Trainer.load(path, backend="numpy")


def rewrite(path, **changed):
    """Change what a checkpoint holds."""
    checkpoint.write(path, **{**vars(checkpoint.read(path)), **changed})


def resume(path, content, backend, inputs, epochs, callbacks=(), **arguments):
    """Go on from a file; return the trainer and the history."""
    path.write_bytes(content)
    trainer = Trainer.load(path, backend=backend)
    return trainer, trainer.fit(*inputs, epochs=epochs - trainer.epoch, callbacks=callbacks, **arguments)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_batch_of_every_optimizer(tmp_path, backend_name, name):
    optimizer, dtype = OPTIMIZERS[name], ("float32", "float64")[[*OPTIMIZERS].index(name) % 2]
    whole = make("mse", backend=backend_name, dtype=dtype, optimizer=optimizer, batch_size=BATCH, l2=0.01)
    keep = Recording(tmp_path / "run", every_seconds=0)
    history = whole.fit(X, Y, epochs=3, sample_weight=WEIGHT, callbacks=[keep])
    assert len(keep.files) == 1 + 3 * 6 + 1  # before, after each batch, and at the end
    for done, content in enumerate(keep.files[:-1]):
        trainer, rest = resume(tmp_path / "cut", content, backend_name, (X, Y), 3, sample_weight=WEIGHT)
        assert everything(trainer) == everything(whole)
        assert rest.loss == history.loss[done // 6 :]
        assert (trainer.seed, trainer.optimizer, trainer.batch_size) == (whole.seed, optimizer, BATCH)


@pytest.mark.parametrize("name", build.OPTIMIZERS)
def test_what_each_rule_keeps(tmp_path, name):
    """Up to three slots, what these start at, and scalars; and activations with parameters, as text in the file."""
    hidden = ["leaky_relu(0.2)", "elu(0.5)", "gelu"]
    optimizer, layers = build.OPTIMIZERS[name], [X.shape[1], 4, 3, 4, Y.shape[1]]
    whole = Trainer(layers, hidden=hidden, loss="mse", backend="numpy", optimizer=optimizer, batch_size=BATCH, seed=1)
    keep = Recording(tmp_path / "run", every_seconds=0)
    whole.fit(X, Y, epochs=2, callbacks=[keep])
    for content in keep.files[::5]:
        trainer, _ = resume(tmp_path / "cut", content, "numpy", (X, Y), 2)
        assert everything(trainer) == everything(whole)
        assert (trainer.optimizer, trainer.network) == (optimizer, whole.network)
    assert trainer.network.hidden == tuple(hidden)


@pytest.mark.parametrize(
    ("arguments", "X"),
    [
        ({"dropout": 0.5, "clip_norm": 0.1, "bias": "layer"}, X),
        ({"shuffle": False, "bias": "none"}, X),
        ({"seed": 2**64 - 1}, sparse.csr_array(X)),  # which is staged
    ],
    ids=["drop and clip", "in order", "staged"],
)
def test_every_option(tmp_path, backend_name, arguments, X):
    """Cut a run of four epochs after each batch, and compare what comes of it."""
    whole = make("mse", backend=backend_name, batch_size=BATCH, optimizer=Adam(0.02), **arguments)
    keep = Recording(tmp_path / "run", every_seconds=0)
    whole.fit(X, Y, epochs=4, sample_weight=WEIGHT, callbacks=[keep])
    for content in keep.files:
        trainer, _ = resume(tmp_path / "cut", content, backend_name, (X, Y), 4, sample_weight=WEIGHT)
        assert everything(trainer) == everything(whole)


@pytest.mark.parametrize(("patience", "restore_best"), [(1, True), (3, False)])
def test_early_stopping(tmp_path, backend_name, patience, restore_best):
    """A rate this high makes the loss rise and fall, so that epochs before the cut decide when training stops."""

    def callbacks(*more):
        return [*more, EarlyStopping(patience=patience, restore_best=restore_best), Count()]

    whole = make("mse", backend=backend_name, optimizer=SGD(1.5, momentum=0.5), batch_size=BATCH)
    keep = Recording(tmp_path / "run", every_epochs=1)
    first = callbacks(keep)  # called last all the same
    history = whole.fit(X, Y, epochs=60, validation_data=HELD_OUT, callbacks=first)
    assert 2 <= len(history) < 60
    assert len(keep.files) == 1 + len(history) + 1
    for done, content in enumerate(keep.files):
        second = callbacks()
        with warnings.catch_warnings():
            stopped = done >= len(history)
            warnings.filterwarnings("ignore" if stopped else "error", "EarlyStopping had stopped")
            trainer, rest = resume(
                tmp_path / "cut", content, backend_name, (X, Y), 60, second, validation_data=HELD_OUT
            )
        assert everything(trainer) == everything(whole)
        assert rest.val_loss == history.val_loss[done:]
        assert (second[0].best, second[0].wait) == (first[1].best, first[1].wait)
        assert second[1].epochs == len(history)


class Count:
    """A user's callback with a state."""

    def __init__(self):
        self.epochs, self.losses = 0, np.empty(0)

    def on_epoch_end(self, trainer, record):
        self.epochs += 1
        self.losses = np.append(self.losses, record["loss"])

    def state_dict(self):
        return {"epochs": self.epochs, "losses": self.losses}

    def load_state_dict(self, state):
        self.epochs, self.losses = state["epochs"], state["losses"]


def test_a_stopped_training_says_that_it_is(path):
    trainer = make("mse", backend="numpy", batch_size=BATCH, shuffle=False, optimizer=SGD(0.0))
    trainer.fit(X, Y, epochs=9, callbacks=[EarlyStopping("loss", patience=2), Checkpoint(path)])
    assert trainer.epoch == 3
    with pytest.warns(UserWarning, match="had stopped this training 2 epochs after the best, 1, so nothing is trained"):
        assert len(load(path).fit(X, Y, epochs=9, callbacks=[EarlyStopping("loss", patience=2)])) == 0
    assert len(load(path).fit(X, Y, epochs=9, callbacks=[EarlyStopping("loss", patience=5)])) == 3


def test_callbacks_are_matched_by_class_and_order(tmp_path):
    def callbacks():
        return [EarlyStopping("loss", 50), EarlyStopping("mae", 50), Count()]

    stored(tmp_path / "run", *callbacks(), epochs=3, metrics=["mae"])
    load(tmp_path / "run").save(tmp_path / "again")  # before any fit: the states are kept
    for path in (tmp_path / "run", tmp_path / "again"):
        loaded, (loss, mae, count) = pickle.loads(pickle.dumps(copy.deepcopy(load(path)))), callbacks()
        loaded.fit(X, Y, epochs=1, metrics=["mae"], callbacks=[count, loss, mae])
        assert [loss.best_epoch, mae.best_epoch, count.epochs, len(count.losses)] == [4] * 4
    loaded.fit(X, Y, epochs=1, callbacks=[count])
    assert count.epochs == 5  # only the first fit is given states


def test_what_is_left_over_is_told(path):
    class OneWay(Count):
        load_state_dict = property()  # as if it had none

    stored(path, Count(), OneWay())
    trainer = load(path)
    with pytest.warns(UserWarning, match="run holds the state of") as told:
        trainer.fit(X, Y, epochs=1, callbacks=[OneWay()])
    assert "the state of Count" in (said := str(told[0].message))
    assert "OneWay, but this fit has no such callback with load_state_dict" in said
    assert told[0].filename == __file__
    trainer.fit(X, Y, epochs=1)


def test_states_that_do_not_fit(path):
    stopping = EarlyStopping("loss")
    stored(path, stopping)
    trainer = load(path)
    before = everything(trainer)
    message = "run: the state of a callback is not usable: .*"
    with pytest.raises(CheckpointError, match=f"{message}monitor is 'mae'"):
        trainer.fit(X, Y, epochs=1, metrics=["mae"], callbacks=[EarlyStopping("mae")])
    assert everything(trainer) == before
    trainer.fit(X, Y, epochs=1, callbacks=[stopping])  # still there
    assert stopping.best_epoch == 2
    [(kind, state)] = checkpoint.read(path).callbacks
    rewrite(path, callbacks=[(kind, {**state, "best_parameters": state["best_parameters"][None]})])
    with pytest.raises(CheckpointError, match=f"{message} best_parameters of shape"):
        load(path).fit(X, Y, epochs=1, callbacks=[EarlyStopping("loss")])


def test_complete_runs_train_nothing(path):
    trainer, loaded = stored(path, epochs=3), load(path)
    assert len(loaded.fit(X, Y, epochs=3 - loaded.epoch)) == 0
    assert everything(loaded) == everything(trainer)


def test_other_data_drop_a_cut_epoch(tmp_path):
    keep = Recording(tmp_path / "run", every_seconds=0)
    make("mse", backend="numpy", batch_size=BATCH).fit(X, Y, epochs=1, callbacks=[keep])
    for other in ((X + 1, Y), (X, Y + 0.5), (X[:-1], Y[:-1])):
        with pytest.warns(UserWarning, match="epoch 0 was cut after 2 batches and is dropped"):
            resume(tmp_path / "cut", keep.files[2], "numpy", other, 1)


def test_a_batch_that_the_epoch_does_not_have_is_never_trained(path, backend_name):
    """A file may claim any position; the checksum of the data is no secret."""
    keep = Recording(path, every_seconds=0)
    make("mse", backend=backend_name, batch_size=BATCH).fit(X, Y, epochs=1, callbacks=[keep])
    path.write_bytes(keep.files[2])
    for batch in (6, 10**9, 2**53):
        rewrite(path, training=checkpoint.read(path).training._replace(batch=batch))
        with pytest.warns(UserWarning, match=f"cut after {batch} batches and is dropped"):
            Trainer.load(path, backend=backend_name).fit(X, Y, epochs=1)


def test_the_optimizers_state_must_be_there(path):
    make("mse", backend="numpy", optimizer=Adam(0.1)).save(path)
    rewrite(path, slots={"exp_avg_sq": checkpoint.read(path).slots["exp_avg_sq"]})
    with pytest.raises(CheckpointError, match=r"run: Adam\(.*needs the state exp_avg, exp_avg_sq, not exp_avg_sq"):
        load(path)


def test_a_configuration_of_no_trainer(path):
    trainer = make("mse", backend="numpy")
    for changed in ({"l2": -1.0}, {"dropout": [2.0]}, {"loss": "poisson"}, {"seed": -1}, {"l2": 10**400}):
        checkpoint.write(path, trainer.network, trainer.parameters, trainer.configuration | changed)
        with pytest.raises(CheckpointError, match="run: no Trainer can be made of it: "):
            load(path)


@pytest.mark.parametrize("layers", [[3, 5, 2], [7, 3]], ids=["untrained", "another network"])
def test_a_checkpoint_that_was_not_loaded_is_not_replaced(path, layers):
    trainer = stored(path, epochs=2)
    content = path.read_bytes()
    other = Trainer(layers, hidden="tanh", seed=1, backend="numpy")
    before, others = everything(other), (np.ones((4, layers[0])), np.ones((4, layers[-1])))
    message = r"run is a checkpoint of (\d+ steps|Network\(.*\)), but this trainer has made 0"
    with pytest.raises(ValueError, match=message):
        other.fit(*others, epochs=9, callbacks=[Checkpoint(path)])
    assert path.read_bytes() == content
    assert everything(other) == before
    for going_on in (trainer, load(path)):  # both have made as many steps
        path.write_bytes(content)
        going_on.fit(X, Y, epochs=1, callbacks=[Checkpoint(path)])
    path.write_bytes(b"no checkpoint")
    other.fit(*others, epochs=1, callbacks=[Checkpoint(path)])
    assert load(path).epoch == 1


def test_a_fit_that_fails_to_begin_loses_no_state(path):
    stored(path, EarlyStopping("loss"), epochs=3)
    trainer, stopping = load(path), EarlyStopping("loss")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            trainer.fit(X, Y, epochs=1, callbacks=[stopping, Checkpoint(path.parent / "no" / "run")])
    for best in (3, 0):  # only the first fit is given states
        trainer.fit(X, Y, epochs=0, callbacks=[stopping])
        assert stopping.best_epoch == best


def test_the_directory_may_change(tmp_path, monkeypatch):
    class Move:
        def on_epoch_end(self, trainer, record):
            (tmp_path / "other").mkdir(exist_ok=True)
            os.chdir(tmp_path / "other")

    monkeypatch.chdir(tmp_path)
    stored("run", Move(), epochs=2)
    assert load(tmp_path / "run").epoch == 2
    assert list((tmp_path / "other").iterdir()) == []


# --- another backend -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(len(BACKENDS) < 2, reason="only one backend can run here")
def test_another_backend_warns_once_that_bits_may_differ(path):
    first, second = BACKENDS[:2]
    trainer = make("mse", backend=first)
    trainer.save(path)
    Trainer.load(path, backend=second).fit(X, Y, epochs=1)  # nothing was trained before
    trainer.fit(X, Y, epochs=1)
    trainer.save(path)
    loaded = Trainer.load(path, backend=second)
    loaded.predict(X)
    message = f"trained on the backend {first}.* and goes on on {second}.*the last bits may"
    with pytest.warns(UserWarning, match=message):
        loaded.fit(X, Y, epochs=1)
    loaded.fit(X, Y, epochs=1)


@pytest.mark.skipif("native" not in BACKENDS, reason="the native backend cannot run here")
def test_another_isa_warns(path, monkeypatch):
    monkeypatch.setenv("BRISKMLP_ISA", "portable")
    trainer = make("mse", backend="native")
    trainer.fit(X, Y, epochs=1)
    trainer.save(path)
    monkeypatch.delenv("BRISKMLP_ISA")
    loaded = Trainer.load(path, backend="native")
    if loaded.isa == "portable":
        pytest.skip("this processor has one instruction set only")
    with pytest.warns(UserWarning, match=f"native with portable and goes on on native with {loaded.isa}"):
        loaded.fit(X, Y, epochs=1)


# --- the callback ----------------------------------------------------------------------------------------------------


def test_every_epochs_counts_the_trainers_epochs(tmp_path, path, monkeypatch):
    monkeypatch.setattr("briskmlp.session.CALL_SECONDS", 0.05)  # many epochs in a call
    trainer, keep = make("mse", backend="numpy"), Recording(path, every_epochs=5)
    trainer.fit(X, Y, epochs=2)
    trainer.fit(X, Y, epochs=15, callbacks=[keep])
    for content, epoch in zip(keep.files, (2, 5, 10, 15, 17), strict=True):
        path.write_bytes(content)
        assert load(path).epoch == epoch


@pytest.mark.parametrize("hook", ["on_kernel_call_end", "on_pause"])  # the latter is its older name
def test_every_seconds_waits(tmp_path, monkeypatch, hook):
    now = [0.0]
    monkeypatch.setattr("briskmlp.callbacks.checkpoint.time.monotonic", lambda: now[0])

    def tick(self, trainer):
        now[0] += 1.0

    clock = type("Clock", (), {hook: tick})()
    keep = Recording(tmp_path / "run", every_seconds=4)
    make("mse", backend="numpy", batch_size=BATCH).fit(X, Y, epochs=2, callbacks=[keep, clock])
    assert len(keep.files) == 1 + 12 // 4 + 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": 3}, TypeError, "path must be that of a file, got 3"),
        ({"every_epochs": 0}, ValueError, "every_epochs is 0, but must be >= 1"),
        ({"every_epochs": 1.5}, TypeError, "every_epochs must be an integer, got 1.5"),
        ({"every_seconds": -1}, ValueError, "every_seconds is -1, but must be >= 0"),
        ({"every_epochs": 1, "every_seconds": 1}, ValueError, "every_epochs is 1 and every_seconds 1, but one alone"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Checkpoint(**{"path": "run", **arguments})


@pytest.mark.parametrize(
    ("path", "arguments", "callbacks", "error"),
    [
        ("no/run", {}, [], FileNotFoundError),
        (".", {}, [], OSError),
        ("run", {"optimizer": SGD(lambda epoch: 0.1)}, [], TypeError),
        ("run", {}, [type("Unkeepable", (Count,), {"state_dict": lambda self: {"callable": print}})()], TypeError),
    ],
)
def test_what_cannot_be_kept_is_found_out_before_training(tmp_path, path, arguments, callbacks, error):
    trainer = make("mse", backend="numpy", **arguments)
    before = everything(trainer)
    with pytest.raises(error):
        trainer.fit(X, Y, epochs=1, callbacks=[*callbacks, Checkpoint(tmp_path / path)])
    assert everything(trainer) == before
    assert list(tmp_path.iterdir()) == []


def test_no_other_thread_saves_while_weights_move(tmp_path, backend_name):
    trainer, caught = make("mse", backend=backend_name), []

    def save():
        try:
            trainer.save(tmp_path / "other")
        except RuntimeError as error:
            caught.append(str(error))

    class Save:
        def on_epoch_end(self, trainer, record):
            trainer.save(tmp_path / "own", callbacks=[self])
            thread = threading.Thread(target=save)
            thread.start()
            thread.join()

        def state_dict(self):
            return {}

    trainer.fit(X, Y, epochs=1, callbacks=[Save()])
    assert caught == ["another fit of this Trainer is running; a Trainer trains in one thread at a time"]
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    assert everything(Trainer.load(tmp_path / "own", backend=backend_name)) == everything(trainer)
    trainer.save(tmp_path / "other")


# --- a disk that is full ---------------------------------------------------------------------------------------------


def test_a_write_that_fails_keeps_the_file_and_what_was_learned(tmp_path, backend_name, monkeypatch):
    whole = make("mse", backend=backend_name, batch_size=BATCH, optimizer=Adam(0.1))
    whole.fit(X, Y, epochs=4)
    trainer = make("mse", backend=backend_name, batch_size=BATCH, optimizer=Adam(0.1))
    path, written = tmp_path / "run", []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) == 7:  # each file takes two: its own, and its directory's
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=r"No space left on device; the file that was there is unchanged: .*run"):
            trainer.fit(X, Y, epochs=4, callbacks=[Checkpoint(path)])
    assert list(tmp_path.iterdir()) == [path]
    loaded = Trainer.load(path, backend=backend_name)
    assert (trainer.epoch, loaded.epoch) == (3, 2)
    for survivor in (trainer, loaded):
        path.unlink(missing_ok=True)
        survivor.fit(X, Y, epochs=4 - survivor.epoch, callbacks=[Checkpoint(path)])
        assert everything(survivor) == everything(whole)
