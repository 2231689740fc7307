"""Small things to learn, and Trainers for them, which tests share; programs that run in a process of their own."""

import os
import signal
import subprocess
import sys

import numpy as np
import oracle

from briskmlp import Trainer
from briskmlp.backends import dispatch

BACKENDS = [name for name, reason in dispatch.backends().items() if reason is None]

TASKS = {  # name: layers, arguments, targets from (generator, n)
    "mse": ([3, 5, 2], {"hidden": "tanh"}, lambda rng, n: rng.uniform(-1, 1, (n, 2))),
    "softmax": ([3, 5, 4], {"hidden": "relu", "loss": "cross_entropy"}, lambda rng, n: rng.integers(4, size=n)),
    "binary": ([3, 5, 1], {"loss": "cross_entropy"}, lambda rng, n: rng.integers(2, size=n)),
}

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0, 1.0, 0.0])
TWO_WEIGHTS = ((0, 0, 0), (1, 1, 0))  # of small(): layer, from, to


def small(**arguments):
    """A Trainer for XOR; the same one each time."""
    return Trainer([2, 3, 1], **{"seed": 1, "dtype": "float64", "backend": "numpy", "batch_size": 2, **arguments})


def make(task, **arguments):
    """A Trainer for a task; the same one each time."""
    layers, own, _ = TASKS[task]
    return Trainer(layers, **{"seed": 3, **own, **arguments})


def data(task, n, seed=0):
    """X (n, 3) as float64, Y as the task wants it, and weights of which some are zero."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), TASKS[task][2](rng, n), rng.integers(3, size=n) + np.r_[1, np.zeros(n - 1)]


def described(trainer):
    """What the oracle needs to know of a trainer: weights and biases as float64 copies, activations, loss."""
    arrays = ([np.array(p, dtype=np.float64) for p in ps] for ps in (trainer.weights, trainer.biases))
    return *arrays, trainer.network.activations, trainer.loss


def assert_fits_as_oracle(trainer, X, Y, optimizer, *, epochs=2, weight=None, rtol=1e-9):
    """Train in float64; losses, weights and biases are those of the oracle's training with its optimizer."""
    start = described(trainer)
    options = {"batch_size": trainer.batch_size, "seed": trainer.seed, "shuffle": trainer.shuffle, "weight": weight}
    weights, biases, losses = oracle.train(*start, optimizer, X, Y, epochs=epochs, **options)
    history = trainer.fit(X, Y, epochs=epochs, sample_weight=weight)
    np.testing.assert_allclose(history.loss, losses, rtol=rtol)
    for ours, theirs in zip(trainer.weights + trainer.biases, weights + biases, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * 1e-2)


def everything(trainer):
    """All that training changes, as bytes and counts."""
    position = trainer._session.position
    state = trainer.parameters.tobytes(), trainer._session.state.slots.tobytes()
    return *state, position.counts.tolist(), position.sums.tolist(), trainer.epoch


def assert_same_model(own, other, tolerance=0.0):
    """Compare the parameters of two estimators, norm-wise."""
    for a, b in zip(own.coefs_ + own.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def interrupt_in_call(monkeypatch, backend, k):
    """Press Ctrl-C in the k-th kernel call from now on, each of one step, after it has moved everything.

    Returns a list of the calls.
    """
    calls = []

    def train(*args, run=backend.train):
        where = run(*args)
        calls.append(args)
        if len(calls) == k:
            os.kill(os.getpid(), signal.SIGINT)  # arrives at the latest when this function returns
        return where

    monkeypatch.setattr(backend, "train", train)
    monkeypatch.setattr("briskmlp.session.CALL_SECONDS", 0.0)
    return calls


def run_script(script, *arguments, timeout=120, **environment):
    """What a program prints that runs in a process of its own, with these variables in its environment as well."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
