"""The optimizers' hyperparameters: what is accepted, how much state they need, the rates they give."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest
from build import OPTIMIZERS as TORCH
from build import build
from test_oracle import torch_on_one_thread  # noqa: F401 - a fixture

from briskmlp.backends import numpy as backend
from briskmlp.operations.rules import BY_CODE, hyperparameters_of
from briskmlp.optimizers import OPTIMIZERS, SGD, Adam, AdamW
from briskmlp.schedules import StepDecay

REFUSED = [
    (SGD, {"nesterov": True}, "nesterov=True needs a momentum > 0"),
    (SGD, {"momentum": 0.5, "nesterov": True, "dampening": 0.1}, "nesterov=True needs dampening 0, got"),
    (Adam, {"epsilon": 0.0}, "epsilon is 0.0, but must be > 0"),
    (AdamW, {"weight_decay": float("inf")}, "weight_decay is inf"),
]
FRACTIONS = ("momentum", "beta1", "beta2", "alpha", "rho")


@pytest.mark.parametrize(("cls", "arguments", "message"), REFUSED)
def test_bad_hyperparameters_are_refused_by_name(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


@pytest.mark.parametrize("cls", OPTIMIZERS.values())
def test_each_hyperparameter_is_checked(cls):
    for field in dataclasses.fields(cls):
        if isinstance(field.default, bool):
            wrong = {TypeError: [(1, "must be True or False, got 1"), (None, "must be True or False, got None")]}
        else:
            wrong = {TypeError: [(value, f"must be a number, got {value!r}") for value in ("x", None, True)]}
            wrong[ValueError] = [(-0.5, "is -0.5, but must be >=? 0"), (float("nan"), "is nan")]
            wrong[ValueError] += [(1, "is 1, but must be >= 0 and < 1")] * (field.name in FRACTIONS)
        for error, cases in wrong.items():
            for value, message in cases:
                with pytest.raises(error, match=f"^{field.name} {message}"):
                    cls(**{field.name: value})


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


@pytest.mark.parametrize("cls", OPTIMIZERS.values())
def test_those_of_older_pickles_have_the_defaults_of_what_they_lack(cls):
    """Python restores what was there; the rest are attributes of the class."""
    optimizer = object.__new__(cls)
    vars(optimizer).update(learning_rate=0.5)
    assert optimizer == cls(0.5)


REFUSED_HERE = {"maximize", "foreach", "differentiable", "fused", "capturable"}


@pytest.mark.torch
@pytest.mark.parametrize("cls", OPTIMIZERS.values())
def test_hyperparameters_and_defaults_are_pytorchs(cls):
    """All of PyTorch's but those of its own machinery; SGD's learning rate is ours."""
    optim = pytest.importorskip("torch.optim")
    signature = inspect.signature(getattr(optim, cls.__name__)).parameters
    theirs = {name: p.default for name, p in signature.items() if name not in REFUSED_HERE | {"params"}}
    if cls.__name__ in ("Adam", "AdamW"):
        theirs.pop("decoupled_weight_decay", None)  # is what tells them apart
    theirs["lr"] = 0.1 if cls is SGD else theirs["lr"]
    assert cls(**hyperparameters_of(cls, theirs)) == cls()
    names = {"lr": ["learning_rate"], "betas": ["beta1", "beta2"], "eps": ["epsilon"]}
    expected = [ours for name in theirs for ours in names.get(name, [name])]
    assert sorted(field.name for field in dataclasses.fields(cls)) == sorted(expected)


@pytest.mark.torch
@pytest.mark.parametrize("name", TORCH)
def test_trajectories_are_pytorchs(torch, name):
    """50 steps in float64, some gradients 0, with a rate for each step; and the same state after them."""
    optimizer = TORCH[name]
    case = build([3, 4, 2], optimizer=optimizer)
    state = case.start()
    options = {{"learning_rate": "lr", "epsilon": "eps"}.get(key, key): value for key, value in vars(optimizer).items()}
    if "beta1" in options:
        options["betas"] = options.pop("beta1"), options.pop("beta2")
    tensor = torch.tensor(state.parameters, requires_grad=True)
    theirs = getattr(torch.optim, type(optimizer).__name__)([tensor], foreach=False, **options)
    rng = np.random.default_rng(0)
    for step in range(1, 51):
        grad = rng.normal(size=case.params.size) * rng.choice([0.0, 1e-3, 1.0, 10.0], size=case.params.size)
        rate = optimizer.learning_rate * (1 + step % 3)
        backend.update(case.plan, state, grad, rate)
        tensor.grad, theirs.param_groups[0]["lr"] = torch.tensor(grad), rate
        theirs.step()
    np.testing.assert_allclose(state.parameters, tensor.detach().numpy(), rtol=1e-10, atol=1e-12)
    kept = theirs.state[tensor]
    row = BY_CODE[case.plan.rule]
    for slot, slot_name in zip(state.slots, row.slots, strict=True):
        np.testing.assert_allclose(slot, kept[slot_name].numpy(), rtol=1e-10, atol=1e-12)
    assert state.scalars.tolist() == pytest.approx([kept[scalar_name].item() for scalar_name in row.scalars], rel=1e-10)
