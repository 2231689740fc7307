"""Ctrl-C and divergence: what is left is whole and finite, and training goes on from it with the same bits."""

import copy
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from tasks import BACKENDS, data, everything, interrupt_in_call, make

from briskmlp import SGD, Adam, RMSprop, Trainer

X, Y, WEIGHT = data("mse", 23)
N_BATCHES = 6  # of 4 rows, the last of 3


def new(backend_name, **arguments):
    return make("mse", **{"backend": backend_name, "batch_size": 4, "optimizer": Adam(0.01), **arguments})


@pytest.fixture
def interrupt(backend, monkeypatch):
    """interrupt(trainer, k): Ctrl-C in the k-th kernel call of fit, each of one step, after it has moved everything.

    Returns how many batches are done. A backend that restores has done that of the call; with the others the engine
    cannot know, and has it made again.
    """

    def cut(trainer, k, epochs=3, **arguments):
        with monkeypatch.context() as patch:
            calls = interrupt_in_call(patch, backend, k)
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(X, Y, epochs=epochs, **arguments)
        assert len(calls) == k
        return k if backend.RESTORES else k - 1

    return cut


@pytest.mark.parametrize("k", [1, 2, 6, 7, 10, 18])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_an_interrupted_epoch_is_finished_first_with_the_same_bits(backend_name, interrupt, k, weight):
    trainer, twin = new(backend_name), new(backend_name)
    whole = twin.fit(X, Y, epochs=4, sample_weight=weight).loss
    done = interrupt(trainer, k, sample_weight=weight)
    assert (trainer.epoch, trainer._session.position.batch) == divmod(done, N_BATCHES)
    left = 4 - done // N_BATCHES
    history = trainer.fit(X, Y, epochs=left, sample_weight=weight)
    assert everything(trainer) == everything(twin)
    assert history.loss == whole[-left:]  # a cut epoch's loss is that of all its batches
    assert history["epoch"] == [1, 2, 3, 4][-left:]


def test_an_interrupt_before_the_kernel_call_leaves_all_as_it_was(backend, backend_name, monkeypatch):
    trainer = new(backend_name)
    trainer.fit(X, Y, epochs=1)
    before = everything(trainer)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backend, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=1)
    assert everything(trainer) == before


def test_an_interrupt_in_a_callback_comes_after_a_whole_epoch(backend_name):
    trainer, twin = new(backend_name), new(backend_name)

    class Interrupt:
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=5, callbacks=[Interrupt()])
    assert trainer.epoch == 2
    trainer.fit(X, Y, epochs=3)
    twin.fit(X, Y, epochs=5)
    assert everything(trainer) == everything(twin)


def test_an_epoch_interrupted_twice_goes_on_after_pickling_and_from_other_containers(backend_name, interrupt):
    trainer, twin = new(backend_name), new(backend_name)
    done = interrupt(trainer, 3) + interrupt(trainer, 2)
    assert trainer._session.position.batch == done
    again = pickle.loads(pickle.dumps(trainer))
    again.fit(X.tolist(), np.asfortranarray(Y), epochs=1)
    twin.fit(X, Y, epochs=1)
    assert everything(again) == everything(twin)


@pytest.mark.parametrize("what", ["rows", "a value", "targets", "weights", "batch size"])
def test_with_other_data_the_unfinished_epoch_is_dropped_with_a_warning(backend_name, interrupt, what):
    trainer = new(backend_name)
    done = interrupt(trainer, 9)
    parameters = trainer.parameters.copy()
    other = {"X": X.copy(), "Y": Y.copy(), "sample_weight": None}
    if what == "rows":
        other["X"], other["Y"] = X[:22], Y[:22]
    elif what == "a value":
        other["X"][7, 1] += 1
    elif what == "targets":
        other["Y"][7, 1] += 0.5
    elif what == "weights":
        other["sample_weight"] = WEIGHT
    else:
        trainer.batch_size = 5

    class Look:
        def on_fit_begin(self, trainer):
            np.testing.assert_array_equal(trainer.parameters, parameters)

    with pytest.warns(UserWarning, match=f"epoch 1 was cut after {done - N_BATCHES} batches and is dropped") as warned:
        history = trainer.fit(other.pop("X"), other.pop("Y"), epochs=1, callbacks=[Look()], **other)
    assert warned[0].filename == __file__  # points at the user's line
    assert (len(history), trainer.epoch, trainer._session.position.batch) == (1, 2, 0)
    trainer.fit(X, Y, epochs=1)  # and no warning the next time: warnings are errors here


SIGNAL = """
import os, signal, sys, threading
import numpy as np
from briskmlp import Adam, Trainer

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(20_000, 8)), rng.normal(size=(20_000, 2))
make = lambda: Trainer([8, 16, 2], optimizer=Adam(), seed=0, backend=sys.argv[1])
make().fit(X[:9], Y[:9], epochs=1)  # compiled
trainer, twin = make(), make()
print("ready", flush=True)
try:
    trainer.fit(X, Y, epochs=10**9)
    raise SystemExit("not interrupted")
except KeyboardInterrupt:
    pass
assert np.isfinite(trainer.parameters).all()
epoch, batch = trainer.epoch, trainer._session.position.batch
trainer.fit(X, Y, epochs=1)
assert trainer.epoch == epoch + 1
twin.fit(X, Y, epochs=epoch + 1)
assert trainer.parameters.tobytes() == twin.parameters.tobytes()
assert trainer._session.state.slots.tobytes() == twin._session.state.slots.tobytes()
print(epoch, batch)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_ctrl_c_from_a_terminal(backend_name):
    command = [sys.executable, "-c", SIGNAL, backend_name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):  # one that comes before fit has begun would end the process: wait until it trains
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


# --- divergence ------------------------------------------------------------------------------------------------------


def diverging(backend_name, optimizer=SGD, **arguments):
    """A Trainer whose rate the list decides, and the list."""
    rate = [1e30]
    kwargs = {"hidden": "identity", "optimizer": optimizer(lambda epoch: rate[0]), "seed": 1, "batch_size": 4}
    return Trainer([3, 5, 2], backend=backend_name, **{**kwargs, **arguments}), rate


OPTIMIZERS = {"SGD": SGD, "momentum": lambda rate: SGD(rate, momentum=0.9), "Adam": Adam, "RMSprop": RMSprop}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rate_that_is_far_too_high(backend_name, dtype, optimizer):
    trainer, rate = diverging(backend_name, OPTIMIZERS[optimizer], dtype=dtype)
    rate[0] = 0.01
    trainer.fit(X, Y, epochs=2)
    rate[0] = 1e30 if dtype == np.float32 else 1e200
    with pytest.raises(FloatingPointError, match=r"training diverged: the loss is not finite in epoch \d+, batch \d+"):
        trainer.fit(X, Y, epochs=100)
    assert np.isfinite(trainer.parameters).all()
    assert np.isfinite(trainer._session.state.slots).all()
    assert 2 <= trainer.epoch < 102


def test_the_state_of_before_is_back_and_training_goes_on(backend_name, dtype):
    momentum = OPTIMIZERS["momentum"]
    trainer, rate = diverging(backend_name, momentum, dtype=dtype, batch_size=None)
    rate[0] = 0.01
    trainer.fit(X, Y, epochs=3)
    twin = copy.deepcopy(trainer)
    rate[0] = 3e38 if dtype == np.float32 else 1.7e308  # one step overflows the weights, after a finite loss
    with pytest.raises(FloatingPointError, match=r"the weights are back at epoch 3, batch 0\. Lower the learning rate"):
        trainer.fit(X * 3, Y * 1e3, epochs=1)
    assert everything(trainer) == everything(twin)
    rate[0] = 0.01
    assert trainer.fit(X, Y, epochs=3).loss == twin.fit(X, Y, epochs=3).loss
    assert everything(trainer) == everything(twin)


@pytest.mark.parametrize("big", ["X", "Y"])
def test_numbers_whose_loss_overflows(backend_name, big):
    trainer, rate = diverging(backend_name)
    rate[0] = 0.1
    before = everything(trainer)
    scale = {"X": (3e38, 1), "Y": (1, 3e38)}[big]
    with pytest.raises(FloatingPointError, match="training diverged"):
        trainer.fit(np.sign(X) * scale[0], np.sign(Y) * scale[1], epochs=3)
    assert everything(trainer)[:2] == before[:2]
    assert trainer.fit(X, Y, epochs=1).loss[0] < 1e3


@pytest.mark.parametrize("task", ["softmax", "binary"])
def test_cross_entropy_diverges_by_name_too(backend_name, task):
    X, Y, _ = data(task, 23)
    trainer = make(task, backend=backend_name, hidden="relu", optimizer=SGD(1e38))
    with pytest.raises(FloatingPointError, match=r"Lower the learning rate \(1e\+38\)"):
        trainer.fit(X, Y, epochs=50)
    assert np.isfinite(trainer.parameters).all()


def test_weights_that_the_user_made_infinite_are_left_to_the_user(backend_name):
    trainer = new(backend_name)
    trainer.weights[0][0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 0, batch 0"):
        trainer.fit(X, Y, epochs=1)
    trainer.weights[0][0, 0] = 0.0
    assert len(trainer.fit(X, Y, epochs=1)) == 1
