"""Normalisation and PyTorch: its own loop, modules there and back, state dicts, and what is refused."""

import copy
import re

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch_loop import assert_same, loop, twins  # noqa: E402

from briskmlp import SGD, Adam, Trainer  # noqa: E402
from briskmlp.convert.torch import from_torch, state_dict, to_torch  # noqa: E402
from briskmlp.interop.torch import fit, training  # noqa: E402
from briskmlp.network import Network  # noqa: E402

nn, optim = torch.nn, torch.optim
Linear, Batch, Layer, Drop = nn.Linear, nn.BatchNorm1d, nn.LayerNorm, nn.Dropout
N, SIZE = 23, 5

# a bias directly before a BatchNorm has a gradient of round-off, from which Adam makes a step
MODULES = {
    "before": lambda: (Linear(4, 6, bias=False), Batch(6), nn.ReLU(), Linear(6, 3, bias=False)),
    "before, with bias": lambda: (Linear(4, 6), Batch(6), nn.Tanh(), Linear(6, 3)),
    "after": lambda: (
        Linear(4, 6), nn.GELU(), Batch(6, momentum=0.3, eps=1e-3), Linear(6, 5), nn.Tanh(), Batch(5), Linear(5, 3)
    ),
    "layer": lambda: (Linear(4, 6), Layer(6), nn.Mish(), Linear(6, 5), nn.Tanh(), Layer(5, eps=1e-2), Linear(5, 3)),
    "both": lambda: (Layer(4), Linear(4, 6), nn.Tanh(), Batch(6), Linear(6, 5), Layer(5), nn.SiLU(), Linear(5, 3)),
    "first and last": lambda: (nn.Flatten(), Batch(4), Linear(4, 6), nn.Tanh(), Linear(6, 3), Layer(3)),
    "nested": lambda: (nn.Sequential(Linear(4, 6), nn.Tanh(), Batch(6)), nn.Identity(), nn.Sequential(Linear(6, 3))),
}  # fmt: skip


def make(name):
    torch.manual_seed(3)
    module = nn.Sequential(*MODULES[name]()).double()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (Batch, Layer)):  # PyTorch's begin with 1 and 0
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 0.5)
    return module


def data():
    generator = torch.Generator().manual_seed(2)
    options = {"generator": generator, "dtype": torch.float64}
    return 2 + torch.randn(N, 4, **options), torch.randn(N, 3, **options)


def close(name):
    """1e-10 of the norm; 1e-8 for what a gradient of round-off moves, and what follows from it."""
    return 1e-8 if "with bias" in name else 1e-10


def assert_equal_buffers(ours, theirs, tolerance=1e-10):
    ours, theirs = dict(ours.named_buffers()), dict(theirs.named_buffers())
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        if name.endswith("num_batches_tracked"):
            assert ours[name] == expected, name
        else:
            assert (ours[name] - expected).norm() <= tolerance * expected.norm(), name


# --- PyTorch's own loop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("make_optimizer", [
    lambda module: optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.02),
    lambda module: optim.AdamW(module.parameters(), lr=0.01),
], ids=["sgd", "adamw"])  # fmt: skip
def test_fit_is_pytorchs_loop(name, make_optimizer):
    if "with bias" in name and make_optimizer(nn.Linear(1, 1)).__class__ is optim.AdamW:
        pytest.skip("Adam makes steps of round-off")
    ours, theirs = twins(make(name), make_optimizer)
    X, Y = data()
    history = fit(*ours[:1], nn.MSELoss(), ours[1], X, Y, epochs=3, batch_size=SIZE)
    losses = loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [range(N)] * 3, SIZE)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    assert_same(ours, theirs, close(name) if "with bias" not in name else np.inf)
    assert_equal_buffers(ours[0], theirs[0], close(name))
    for module in (ours[0], theirs[0]):
        module.eval()
    assert (ours[0](X) - theirs[0](X)).norm() <= 1e-10 * theirs[0](X).norm()


def test_fit_goes_on_from_the_buffers_and_counts_batches():
    ours, theirs = twins(make("after"), lambda module: optim.Adam(module.parameters()))
    X, Y = data()
    loop(*ours[:1], nn.MSELoss(), ours[1], X, Y, [range(N)], SIZE)
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=SIZE)
    loop(*theirs[:1], nn.MSELoss(), theirs[1], X, Y, [range(N)] * 3, SIZE)
    assert_same(ours, theirs)
    assert_equal_buffers(ours[0], theirs[0])
    assert ours[0][2].num_batches_tracked == 15


def test_a_batchnorm_in_evaluation_mode_keeps_its_statistics_and_trains_gamma_and_beta():
    module = make("after")
    module[2].running_mean.uniform_(-1, 1)
    module[2].running_var.uniform_(0.5, 2)
    module[2].eval()
    ours, theirs = twins(module, lambda module: optim.Adam(module.parameters()))
    X, Y = data()
    before = copy.deepcopy(dict(module[2].named_buffers()))
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=SIZE)
    loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [range(N)] * 2, SIZE)
    assert_same(ours, theirs)
    assert_equal_buffers(ours[0], theirs[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours[0][2].named_buffers())
    assert not torch.equal(ours[0][2].weight, module[2].weight)
    assert (ours[0][2].training, ours[0][5].training) == (False, True)


@pytest.mark.parametrize(
    "norm", [Batch(6, affine=False), Layer(6, elementwise_affine=False), Layer(6, bias=False)], ids=str
)
def test_normalisations_without_gamma_or_beta(norm):
    torch.manual_seed(0)
    module = nn.Sequential(Linear(4, 6), nn.Tanh(), norm, Linear(6, 3)).double()
    ours, theirs = twins(module, lambda module: optim.Adam(module.parameters(), weight_decay=0.1))
    X, Y = data()
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=SIZE)
    loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [range(N)] * 2, SIZE)
    assert_same(ours, theirs)
    assert_equal_buffers(ours[0], theirs[0])
    with pytest.raises(ValueError, match=r"module has no 2\.(weight|bias)"):
        from_torch(module)


def test_fit_refuses_batches_of_one_row():
    module, (X, Y) = make("after"), data()
    optimizer = optim.SGD(module.parameters(), lr=0.1)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"X has 21 rows and batch_size is 5, .*; accepted: batch_size=6"):
        fit(module, nn.MSELoss(), optimizer, X[:21], Y[:21], epochs=1, batch_size=5)
    with pytest.raises(ValueError, match="X has 16 rows and batch_size is 5"):
        fit(module, nn.MSELoss(), optimizer, X, Y, epochs=1, batch_size=5, order=[torch.arange(16)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    fit(module, nn.MSELoss(), optimizer, X[:21], Y[:21], epochs=1, batch_size=5, drop_last=True)
    assert module[2].num_batches_tracked == 4
    for norm in (module[2], module[5]):
        norm.eval()
    fit(module, nn.MSELoss(), optimizer, X[:21], Y[:21], epochs=1, batch_size=5)


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_trainer_trains_what_the_module_does(name):
    """In float64, its parameters and buffers, and predictions in evaluation mode."""
    X, Y = data()
    module = make(name)
    with_bias = "with bias" in name  # whose gradient is round-off, of which Adam makes whole steps
    options = {"optimizer": SGD(0.05) if with_bias else Adam(0.01), "batch_size": SIZE, "shuffle": False, "seed": 0}
    trainer = Trainer.from_torch(module, **options)
    assert trainer.dtype == np.float64
    optimizer = optim.SGD(module.parameters(), 0.05) if with_bias else optim.Adam(module.parameters(), lr=0.01)
    summed = lambda A, Y: ((A - Y) ** 2).sum() / len(Y)  # noqa: E731 - the Trainer's mse
    loop(module, summed, optimizer, X, Y, [range(N)] * 3, SIZE)
    trainer.fit(X.numpy(), Y.numpy(), epochs=3)
    made = trainer.to_torch()
    assert all(layer.training for layer in made.modules())
    if not with_bias:
        for (ours, found), expected in zip(made.state_dict().items(), module.state_dict().values(), strict=True):
            assert (found - expected).double().norm() <= 1e-10 * expected.double().norm(), ours
    for each in (made, module):
        each.eval()
    np.testing.assert_allclose(trainer.predict(X.numpy()), module(X).detach(), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(made(X).detach(), module(X).detach(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name):
    module = make(name).float()
    module(data()[0].float())  # which moves the buffers
    trainer = Trainer.from_torch(module)
    made = trainer.to_torch()
    again = Trainer.from_torch(made)
    assert again.network == trainer.network
    for mine, theirs in zip(made.state_dict().values(), module.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, made.state_dict()[name]), name
        assert tensor.dtype == made.state_dict()[name].dtype
    other = Trainer.from_torch(make_other(made))
    other.load_state_dict(trainer.state_dict())
    np.testing.assert_array_equal(other.predict(data()[0].numpy()), trainer.predict(data()[0].numpy()))
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), made.state_dict().values(), strict=True))


def make_other(module):
    other = copy.deepcopy(module)
    for layer in other.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return other


def test_modules_in_their_order_and_dropout_without_a_number():
    trainer = Trainer([3, 4, 5, 2], hidden="relu", norm="batch", norm_position=["before", "after"], dropout=0.3, seed=0)
    module = trainer.to_torch()
    names = [name for name, _ in module.named_children()]
    assert names == ["0", "1", "2", "3", "4", "5", "5_dropout", "6", "7"]
    kinds = [Linear, Batch, nn.Sequential, Linear, nn.ReLU, Batch, Drop, Linear, nn.ReLU]
    assert [type(layer) for layer in module.children()] == kinds
    assert [type(layer) for layer in module[2]] == [nn.ReLU, Drop]
    assert module[6].p == 0.3
    without = Trainer([3, 4, 5, 2], hidden="relu", norm="batch", norm_position=["before", "after"], seed=0)
    assert list(module.state_dict()) == list(without.to_torch().state_dict())
    assert set(module.state_dict()) == set(trainer.state_dict())
    back = Trainer.from_torch(module)
    assert (back.network, back.dropout) == (trainer.network, trainer.dropout)


def test_a_checkpoint_is_a_state_dict(tmp_path):
    load_file = pytest.importorskip("safetensors.torch").load_file
    trainer = Trainer([3, 4, 2], norm="batch", batch_size=4, seed=0)
    trainer.fit(np.random.default_rng(0).normal(size=(8, 3)), np.ones((8, 2)), epochs=3)
    trainer.save(tmp_path / "model")
    module = to_torch(trainer.network, np.zeros_like(trainer.parameters))
    module.load_state_dict({k: v for k, v in load_file(tmp_path / "model").items() if k[0].isdigit()})
    for name, tensor in trainer.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name]), name
    assert module[1].num_batches_tracked == 6
    loaded = Trainer.load(tmp_path / "model")
    assert loaded.state_dict()["1.num_batches_tracked"] == 6
    other = Trainer([3, 4, 2], norm="batch", batch_size=4, seed=1)
    other.load_state_dict(load_file(tmp_path / "model"))
    assert other.state_dict()["1.num_batches_tracked"] == 6
    assert other.predict(np.eye(3)).tobytes() == trainer.predict(np.eye(3)).tobytes()


@pytest.mark.parametrize(("change", "message"), [
    (lambda state: state.pop("1.running_var"), r"state has no \['1.running_var'\]"),
    (lambda state: state["1.running_var"].fill_(-1), "state has a running_var below 0"),
    (lambda state: state["1.running_mean"].fill_(np.nan), "NaN"),
    (lambda state: state.update({"1.weight": torch.ones(3)}), r"1.weight has shape \(3,\), but must have \(4,\)"),
    (lambda state: state.update({"1.num_batches_tracked": torch.ones(1)}), r"has shape \(1,\), but must have \(\)"),
])  # fmt: skip
def test_state_dicts_that_do_not_fit(change, message):
    trainer = Trainer([3, 4, 2], norm="batch", seed=0)
    state = trainer.state_dict()
    before = copy.deepcopy(state)
    change(state)
    with pytest.raises(ValueError, match=message):
        trainer.load_state_dict(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.state_dict().items())


def test_state_dict_of_a_network_alone():
    network = Network([3, 4, 2], norm="batch")
    state = state_dict(network, np.ones(network.n_parameters))
    assert (state["1.running_var"].tolist(), state["1.num_batches_tracked"].item()) == ([1.0] * 4, 0)


# --- refusals --------------------------------------------------------------------------------------------------------

REFUSED = {
    "layer 1, BatchNorm1d(6, eps=1e-05, momentum=None": lambda: (Linear(4, 6), Batch(6, momentum=None), Linear(6, 3)),
    "track_running_stats=False, which is not supported; accepted: True": lambda: (
        Linear(4, 6), Batch(6, track_running_stats=False), Linear(6, 3)
    ),
    "has 5 features; accepted: 6, as it is of 6 numbers": lambda: (Linear(4, 6), Batch(5), Linear(6, 3)),
    "has shape (2, 3); accepted: (6,), as it is of 6 numbers": lambda: (Linear(4, 6), Layer((2, 3)), Linear(6, 3)),
    "eps is 0.0, but must be > 0": lambda: (Linear(4, 6), Layer(6, eps=0.0), Linear(6, 3)),
    "momentum is 2.0, but must be >= 0 and <= 1": lambda: (Linear(4, 6), Batch(6, momentum=2.0), Linear(6, 3)),
    "follows another normalisation, which is not supported": lambda: (Linear(4, 6), Batch(6), Layer(6), Linear(6, 3)),
    "follows a Dropout, which is not supported": lambda: (Linear(4, 6), Drop(0.5), Batch(6), Linear(6, 3)),
    "ends in a normalisation after an activation": lambda: (Linear(4, 6), nn.Tanh(), Batch(6)),
    "layer 0, BatchNorm1d(5, eps=1e-05, momentum=0.1": lambda: (Batch(5), Linear(4, 3)),
    "module's layer 1 is a BatchNorm2d": lambda: (Linear(4, 6), nn.BatchNorm2d(6), Linear(6, 3)),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        from_torch(nn.Sequential(*REFUSED[message]()))


# --- traced modules and loops ----------------------------------------------------------------------------------------


class Model(nn.Module):
    """As people write it: one BatchNorm by its module, another after the activation, dropout off."""

    def __init__(self):
        super().__init__()
        self.bn0, self.fc1, self.bn1 = Batch(4), Linear(4, 6, bias=False), Batch(6)
        self.fc2, self.norm, self.fc3 = Linear(6, 5, bias=False), Layer(5), Linear(5, 3, bias=False)

    def forward(self, x):
        x = self.bn1(torch.tanh(self.fc1(self.bn0(x))))
        x = nn.functional.silu(self.norm(self.fc2(x)))
        return self.fc3(x)


def test_a_traced_module_through_a_loader_and_with_options():
    """clip_grad_norm_, a schedule for each batch, validation in evaluation mode, and the best epoch restored."""
    torch.manual_seed(0)
    module = Model().double()
    X, Y = data()
    ours, theirs = twins(module, lambda module: optim.AdamW(module.parameters(), lr=0.01))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), SIZE, shuffle=True)
    torch.manual_seed(5)
    history = fit(
        ours[0], nn.functional.mse_loss, ours[1], loader, epochs=4, clip_norm=0.5, validation_data=(X, Y),
    )  # fmt: skip
    torch.manual_seed(5)
    for epoch in range(4):
        for x, y in loader:
            theirs[1].zero_grad()
            nn.functional.mse_loss(theirs[0](x), y).backward()
            nn.utils.clip_grad_norm_(theirs[0].parameters(), 0.5)
            theirs[1].step()
        theirs[0].eval()
        with torch.no_grad():
            value = nn.functional.mse_loss(theirs[0](X), Y).item()
        theirs[0].train()
        assert history["val_loss"][epoch] == pytest.approx(value, rel=1e-9)
    assert_same(ours, theirs)
    assert_equal_buffers(ours[0], theirs[0])
    assert all(layer.training for layer in ours[0].modules())


def test_mode_and_buffers_are_taken_in_between_epochs():
    torch.manual_seed(0)
    module = Model().double()
    X, Y = data()
    ours, theirs = twins(module, lambda module: optim.SGD(module.parameters(), lr=0.05))
    with training(ours[0], nn.MSELoss(), ours[1], batch_size=SIZE) as t:
        for epoch in range(3):
            for each, optimizer in (ours, theirs):
                each.bn1.train(epoch != 1)
                each.bn0.running_mean.mul_(0.5)
                if each is ours[0]:
                    t.epoch(X, Y)
                else:
                    loop(each, nn.MSELoss(), optimizer, X, Y, [range(N)], SIZE)
    assert_same(ours, theirs)
    assert_equal_buffers(ours[0], theirs[0])
    assert ours[0].bn1.num_batches_tracked == 10


def test_custom_batches_of_one_row_are_refused_as_they_are_drawn():
    module, (X, Y) = make("after"), data()
    optimizer = optim.SGD(module.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(X, Y), batch_sampler=[[0, 1, 2], [3, 4, 5], [6]]
    )
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match="X has a batch of one row, but batch normalisation needs two or more"):
        fit(module, nn.MSELoss(), optimizer, loader, epochs=1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[:21], Y[:21]), batch_size=5)
    with pytest.raises(ValueError, match="X has 21 rows and batch_size is 5"):
        fit(module, nn.MSELoss(), optimizer, loader, epochs=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
