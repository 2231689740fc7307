"""Threads, forks and many calls: one fit per Trainer at a time, any number of Trainers and predictions."""

import gc
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tasks import BACKENDS, data, everything, make, run_script

from briskmlp import Adam

X, Y, WEIGHT = data("mse", 40)


def new(backend_name, **arguments):
    return make("mse", **{"backend": backend_name, "batch_size": 8, "optimizer": Adam(), **arguments})


class Pause:
    """Holds a fit between two epochs until it may go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def on_epoch_end(self, trainer, record):
        self.reached.set()
        assert self.go_on.wait(60)


def test_a_second_fit_of_the_same_trainer_is_an_error_and_harms_nothing(backend_name):
    trainer, twin, pause = new(backend_name), new(backend_name), Pause()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(trainer.fit, X, Y, epochs=3, callbacks=[pause])
        assert pause.reached.wait(60)
        before = everything(trainer)
        for call in (lambda: trainer.fit(X, Y, epochs=1), lambda: trainer.partial_fit(X[:5], Y[:5])):
            with pytest.raises(RuntimeError, match="another fit of this Trainer is running"):
                call()
        assert everything(trainer) == before
        assert trainer.predict(X).shape == (40, 2)  # looking is allowed
        assert trainer.evaluate(X, Y) > 0
        pause.go_on.set()
        assert running.result(60).loss == twin.fit(X, Y, epochs=3).loss
    assert everything(trainer) == everything(twin)
    assert len(trainer.fit(X, Y, epochs=1)) == 1


def test_a_fit_inside_a_callback_is_an_error(backend_name):
    class Fit:
        def on_epoch_end(self, trainer, record):
            trainer.fit(X, Y, epochs=1)

    trainer = new(backend_name)
    with pytest.raises(RuntimeError, match="another fit of this Trainer is running"):
        trainer.fit(X, Y, epochs=2, callbacks=[Fit()])
    assert len(trainer.fit(X, Y, epochs=1)) == 1


def test_trainers_in_several_threads_train_as_one_after_another(backend_name):
    def run(seed):
        trainer = new(backend_name, seed=seed)
        return trainer.fit(X, Y, epochs=40, sample_weight=WEIGHT).loss, everything(trainer)

    expected = [run(seed) for seed in range(6)]
    start = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda seed: (start.wait(60), run(seed))[1], range(6))) == expected


def test_predictions_at_once_are_equal(backend_name, dtype):
    trainer = new(backend_name, dtype=dtype)
    many = np.random.default_rng(0).normal(size=(3000, 3))
    Y_many = np.zeros((3000, 2))
    expected = trainer.predict(many).tobytes(), trainer.evaluate(many, Y_many)
    start = threading.Barrier(4)

    def look(_):
        start.wait(60)
        return {(trainer.predict(many).tobytes(), trainer.evaluate(many, Y_many)) for _ in range(10)}

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(look, range(4))) == {expected}


def test_blas_has_its_threads_back(backend_name):
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info()]

    new(backend_name).fit(X, Y, epochs=1)  # loads SciPy's BLAS, if it was not there
    before, inside = threads(), []

    class Look:
        def on_epoch_end(self, trainer, record):
            inside.append(threads())

    new(backend_name, threads=1).fit(X, Y, epochs=2, callbacks=[Look()])
    assert threads() == before
    assert inside == [before] * 2  # between kernel calls the number is the user's


FORK = """
import os, signal, sys, threading, warnings
import numpy as np
from briskmlp import Adam, Trainer

warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(300, 300)), rng.normal(size=(300, 2))

def make():
    return Trainer([300, 200, 2], optimizer=Adam(), seed=0, backend=sys.argv[1])

def write(trainer):
    os.write(1, trainer.parameters[:8].tobytes().hex().encode() + b"\\n")

def in_child(run, *arguments):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # a child that waits for ever is killed
        os._exit(0 if run(*arguments) else 3)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status

def to_epoch_2(trainer, epochs):
    trainer.fit(X, Y, epochs=epochs)
    write(trainer)
    return trainer.epoch == 2 and np.isfinite(trainer.predict(X)).all()

trainer = make()
trainer.fit(X, Y, epochs=1)
in_child(to_epoch_2, trainer, 1)  # goes on where the parent was
in_child(to_epoch_2, make(), 2)  # afresh: the same bits
assert trainer.epoch == 1
stop = threading.Event()

class Stop:
    def on_epoch_end(self, trainer, record):
        return stop.is_set()

def goes_on():
    warnings.simplefilter("ignore", UserWarning)  # the epoch in progress may be dropped
    before = small.epoch  # what the parent's kernel has just counted, or from before its call
    small.fit(few, few[:, :2], epochs=2)
    return before < small.epoch <= before + 2 and np.isfinite(small.parameters).all()

# OpenBLAS itself hangs in a fork beside one of its threaded products: this network is too small for these.
small, few = Trainer([3, 4, 2], batch_size=8, seed=0, backend=sys.argv[1]), rng.normal(size=(64, 3))
small.fit(few, few[:, :2], epochs=1)
thread = threading.Thread(target=lambda: small.fit(few, few[:, :2], epochs=10**9, callbacks=[Stop()]), daemon=True)
thread.start()
for _ in range(10):  # forks while a thread trains
    in_child(to_epoch_2, make(), 2)
    in_child(goes_on)
stop.set()
thread.join()
trainer.fit(X, Y, epochs=1)
write(trainer)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_a_forked_child_trains_also_the_trainer_of_a_fit_that_is_running(backend_name):
    results = run_script(FORK, backend_name).split()
    assert len(results) == 13
    assert len(set(results)) == 1


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_a_thousand_fits_need_no_more_memory_than_the_first(backend_name):
    trainer = new(backend_name)

    def fits(n):
        for i in range(n):
            rows = slice(0, 40 - i % 3)  # so that workspaces change, too
            trainer.fit(X[rows], Y[rows], epochs=1, validation_data=(X, Y))
        gc.collect()
        return resident()

    before = fits(100)
    assert fits(1000) - before < 2**20  # 1 KiB for each


def test_a_long_history():
    trainer = new("numpy", batch_size=None)
    assert len(trainer.fit(X[:2], Y[:2], epochs=5000)) == 5000 == trainer.epoch
