"""Pickles and checkpoints written before operations were tables: each loads, predicts what it did, and trains on."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from briskmlp import Trainer

FOLDER = Path(__file__).parent / "data/before"
TRAINERS = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
ESTIMATORS = sorted({path.stem for path in FOLDER.glob("*.pickle")} - {*TRAINERS})
assert (len(TRAINERS), len(ESTIMATORS)) == (6, 4)
with np.load(FOLDER / "recorded.npz") as recorded:
    RECORDED = dict(recorded)
X = RECORDED["X"]
FUNCTION = 10  # u per activation, as in rounding.py


def unpickled(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to unpickle estimator")  # scikit-learn's own parts are of its 1.9
        return pickle.loads((FOLDER / f"{name}.pickle").read_bytes())


def rounding(weights, biases, dtype, *, rises=1.0):
    """Return how far two predictions may differ; an error passes no activation here enlarged by more than `rises`.

    A sum of K products and a bias errs by at most (K + 1) u Σ|x||w|, to first order, and carries each x's error on.
    """
    u = np.finfo(dtype).eps / 2
    size, error = np.abs(X).astype(float), 0.0
    for W, b in zip(weights, biases, strict=True):
        sums = size @ np.abs(W) + (np.abs(b) if b.size else 0.0)
        error = error @ np.abs(W) + (len(W) + 1) * u * sums if np.ndim(error) else (len(W) + 1) * u * sums
        size = np.maximum(sums, 1.0)  # |f(z)| <= |z| or <= 1
        error = error + FUNCTION * u * size
    return 2 * rises * error


def went_on(parameters, before, name):
    """Assert that training moved on as it did: in half the digits, as a lost rate or slot shows in the first ones."""
    later = RECORDED[f"{name} later"]
    travel = np.abs(later - before).max()
    assert travel > 1e-3
    assert np.abs(parameters - later).max() <= np.sqrt(np.finfo(later.dtype).eps) * travel


@pytest.mark.parametrize("name", TRAINERS)
def test_pickled_trainers_predict_and_train_on(name, backend_name, tmp_path, monkeypatch):
    monkeypatch.setenv("BRISKMLP_BACKEND", backend_name)
    trainer = unpickled(name)
    loaded = Trainer.load(FOLDER / f"{name}.safetensors", backend=backend_name)
    assert trainer.backend == loaded.backend == backend_name
    assert repr(trainer) == repr(loaded)
    for at, one in (("pickle", trainer), ("file", loaded)):
        one.save(tmp_path / at)
        assert one.epoch == (2 if name == "adam_cut" else 3)
    assert (tmp_path / "pickle").read_bytes() == (tmp_path / "file").read_bytes()
    recorded, epoch = RECORDED[name], trainer.epoch
    rises = recorded.max() if trainer.network.output == "exp" else 1.0  # exp's own error is that of its argument
    allowed = rounding(trainer.weights, trainer.biases, trainer.dtype, rises=rises)
    before = trainer.parameters.copy()
    for one in (trainer, loaded):
        predicted = one.predict(X)
        assert predicted.dtype == recorded.dtype
        assert (np.abs(predicted - recorded) <= allowed).all()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* was trained on the backend numpy")
            history = one.fit(X, RECORDED[f"{name} targets"], epochs=5 - epoch)
        assert history["epoch"] == list(range(epoch + 1, 6))
        went_on(one.parameters, before, name)
    assert trainer.parameters.tobytes() == loaded.parameters.tobytes()


def test_a_trainer_pickled_after_loading_and_before_training():
    """It holds what the checkpoint keeps for the next ``fit``, which goes on as after loading."""
    trainer, loaded = unpickled("loaded/adam_cut"), Trainer.load(FOLDER / "adam_cut.safetensors", backend="numpy")
    for one in (trainer, loaded):
        one.fit(X, RECORDED["adam_cut targets"], epochs=1)
        assert one.epoch == 3
    assert trainer.parameters.tobytes() == loaded.parameters.tobytes()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_pickled_estimators_predict_and_train_on(name, backend_name, monkeypatch):
    monkeypatch.setenv("BRISKMLP_BACKEND", backend_name)
    estimator = unpickled(name)
    targets, dtype = RECORDED[f"{name} targets"], estimator.coefs_[0].dtype
    inputs = X.astype(dtype)
    predicted = getattr(estimator, "predict_proba", estimator.predict)(inputs)
    assert (np.abs(predicted - RECORDED[name]) <= rounding(estimator.coefs_, estimator.intercepts_, dtype)).all()
    before = np.concatenate([a.ravel() for a in estimator.coefs_ + estimator.intercepts_])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
        if estimator.early_stopping or estimator.warm_start:
            estimator.fit(inputs, targets)
        else:
            estimator.partial_fit(inputs, targets)
    if not estimator.early_stopping:
        went_on(np.concatenate([a.ravel() for a in estimator.coefs_ + estimator.intercepts_]), before, name)
