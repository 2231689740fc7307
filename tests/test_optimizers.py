"""The optimizers' hyperparameters: what is accepted, how much state they need, the rates they give."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest

from briskmlp.optimizers import OPTIMIZERS, SGD, Adam, AdamW, RMSprop
from briskmlp.schedules import StepDecay

REFUSED = [
    (SGD, {"learning_rate": -0.1}, ValueError, "learning_rate is -0.1, but must be >= 0"),
    (SGD, {"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
    (SGD, {"learning_rate": True}, TypeError, "learning_rate must be a number"),
    (SGD, {"learning_rate": float("nan")}, ValueError, "learning_rate is nan"),
    (SGD, {"momentum": 1.0}, ValueError, "momentum is 1.0, but must be >= 0 and < 1"),
    (SGD, {"nesterov": True}, ValueError, "nesterov=True needs a momentum > 0"),
    (SGD, {"momentum": 0.5, "nesterov": 1}, TypeError, "nesterov must be True or False, got 1"),
    (SGD, {"weight_decay": -1}, ValueError, "weight_decay is -1, but must be >= 0"),
    (Adam, {"beta1": 1.0}, ValueError, "beta1 is 1.0"),
    (Adam, {"beta2": -0.1}, ValueError, "beta2 is -0.1"),
    (Adam, {"epsilon": 0.0}, ValueError, "epsilon is 0.0, but must be > 0"),
    (AdamW, {"weight_decay": float("inf")}, ValueError, "weight_decay is inf"),
    (RMSprop, {"alpha": 1}, ValueError, "alpha is 1, but must be >= 0 and < 1"),
    (RMSprop, {"epsilon": None}, TypeError, "epsilon must be a number, got None"),
]


@pytest.mark.parametrize(("cls", "arguments", "error", "message"), REFUSED)
def test_bad_hyperparameters_are_refused_by_name(cls, arguments, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        cls(**arguments)


@pytest.mark.parametrize(("optimizer", "n_slots"), [
    (SGD(0.1), 0), (SGD(0.1, momentum=0.9), 1), (Adam(), 2), (AdamW(), 2), (RMSprop(), 1),
])  # fmt: skip
def test_state_per_parameter(optimizer, n_slots):
    assert optimizer.n_slots == n_slots


def test_rates_come_from_the_schedule():
    np.testing.assert_array_equal(SGD(0.5).rates(3, 6), [0.5] * 3)
    np.testing.assert_allclose(Adam(StepDecay(1.0, every=2, factor=0.1)).rates(1, 5), [1, 0.1, 0.1, 0.01])
    np.testing.assert_allclose(SGD(lambda epoch: 1 / (1 + epoch)).rates(0, 2), [1, 0.5])
    with pytest.raises(ValueError, match="learning_rate is nan"):
        SGD(lambda epoch: float("nan")).rates(0, 1)


@pytest.mark.parametrize("cls", OPTIMIZERS.values())
def test_they_are_values(cls):
    optimizer = cls()
    assert optimizer == cls()
    assert hash(optimizer) == hash(cls())
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.learning_rate = 1.0


@pytest.mark.torch
@pytest.mark.parametrize("cls", [Adam, AdamW, RMSprop])
def test_defaults_are_pytorchs(cls):
    optim = pytest.importorskip("torch.optim")
    theirs = {name: p.default for name, p in inspect.signature(getattr(optim, cls.__name__)).parameters.items()}
    ours = cls()
    pairs = {"learning_rate": "lr", "epsilon": "eps", "weight_decay": "weight_decay", "alpha": "alpha"}
    for name, their_name in pairs.items():
        if hasattr(ours, name):
            assert getattr(ours, name) == theirs[their_name]
    if hasattr(ours, "beta1"):
        assert (ours.beta1, ours.beta2) == theirs["betas"]
