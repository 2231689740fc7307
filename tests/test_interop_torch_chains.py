"""Networks written as people write them: fit reads their forward, and trains them as PyTorch's loop does."""

import copy
import math
import random
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn import functional as F
from torch_loop import assert_same, data, loop, nn, numbers, optim, torch, twins
from torch_modules import (
    Autoencoder,
    Blocks,
    Inherited,
    Initialised,
    Loop,
    Modes,
    Numbered,
    Optional,
    OwnWeights,
    Tower,
    built,
    chains,
    mlp,
    net,
)

from briskmlp.interop.torch import fit

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def numpy_backend(monkeypatch):
    """Train on the NumPy backend: the others are held to it elsewhere."""
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    monkeypatch.setenv("BRISKMLP_BACKEND", "numpy")


def counting(self, X):
    self.calls += 1
    self.seen.append(X)
    self.last = H = F.relu(self.fc1(X))
    self.statistics = H.detach().mean().item()
    return self.fc2(H)


def mixed_shapes(self, X):
    n, width = X.shape[0], X.shape[1] * X.shape[2]
    return self.fc2(torch.relu(self.fc1(X.reshape((n, width)))))


def by_axes(self, X):
    n, *others = X.shape
    features = 1
    for width in others:
        features *= width
    X = X.view(*X.shape[:1], features).view(n, -1) if len(X.shape) == 4 and len(X.size()) > 2 else X
    return self.fc2(F.relu(self.fc1(X)))


def flatten_if_need_be(self, X):
    assert X.shape[-1] <= 4
    if X.dim() > 2 and not X.is_cuda:
        X = X.flatten(1)
    return self.fc2(F.relu(self.fc1(X)))


def with_positional_arguments(self, X):
    H = F.leaky_relu(self.fc1(X), 0.2)
    return F.elu(self.fc2(H), 0.5)


def with_keywords(self, X):
    H = F.hardtanh(input=self.fc1(X), min_val=-0.5, max_val=0.7)
    return F.celu(self.fc2(H), alpha=0.5)  # PyTorch rounds 1/alpha to float32


def step_by_step(self, X):
    X = X.float().double() if X.dtype is None else X.double()
    X = self.fc1(X)
    X = X.relu_()
    X = self.fc2(X).contiguous()
    return X.to(torch.float64).to("cpu").clone()


def early_squeeze(self, X):
    return torch.sigmoid(self.fc2(torch.tanh(self.fc1(X))).squeeze(-1))


relu = nn.ReLU()
shared = mlp(nn.Linear(4, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, 3))
FLAT, IMAGES, BITS, ROW = (4,), (1, 2, 2), "bits", "row"
# name: module, shape of a row of X, loss, targets
CHAINS = {
    # §1a: fc1, fc2, … and functions
    "functional relu": (net(lambda m, X: m.fc2(F.relu(m.fc1(X)))), FLAT, nn.MSELoss(), "numbers"),
    "torch.relu": (net(lambda m, X: m.fc2(torch.relu(m.fc1(X)))), FLAT, nn.CrossEntropyLoss(), "labels"),
    "method relu": (net(lambda m, X: m.fc2(m.fc1(X).relu())), FLAT, nn.L1Loss(), "numbers"),
    "in place": (net(lambda m, X: m.fc2(F.relu(m.fc1(X), inplace=True))), FLAT, nn.MSELoss(), "numbers"),
    "in place, by name": (net(lambda m, X: m.fc2(torch.relu_(m.fc1(X)))), FLAT, nn.MSELoss(), "numbers"),
    "step by step": (net(step_by_step), FLAT, nn.MSELoss(), "numbers"),
    "positional arguments": (net(with_positional_arguments), FLAT, nn.MSELoss(), "numbers"),
    "keyword arguments": (net(with_keywords), FLAT, nn.MSELoss(), "numbers"),
    "a shared module": (net(lambda m, X: m.relu(m.fc2(m.relu(m.fc1(X)))), relu=relu), FLAT, nn.MSELoss(), "numbers"),
    "made in forward": (net(lambda m, X: m.fc2(nn.ReLU()(m.fc1(X)))), FLAT, nn.MSELoss(), "numbers"),
    "a call of forward": (net(lambda m, X: m.fc2.forward(m.fc1.forward(X).sigmoid())), FLAT, nn.MSELoss(), "numbers"),
    "effects in Python": (net(counting), FLAT, nn.MSELoss(), "numbers"),
    "a default": (built(Inherited), FLAT, nn.BCELoss(), "bits"),
    "F.linear": (built(OwnWeights), FLAT, nn.MSELoss(), "numbers"),
    "training mode": (built(Modes), FLAT, nn.CrossEntropyLoss(), "labels"),
    "evaluation mode": (lambda: built(Modes)().eval(), FLAT, nn.MSELoss(), "rows"),
    # §1a: containers
    "a ModuleList": (built(Loop, [4, 5, 6, 3], nn.ReLU()), FLAT, nn.CrossEntropyLoss(), "labels"),
    "a ModuleList and a function": (built(Loop, [4, 6, 3], torch.tanh), FLAT, nn.MSELoss(), "numbers"),
    "a ModuleDict": (built(Numbered), FLAT, nn.MSELoss(), "numbers"),
    "a subclass of Sequential": (built(Tower, 4, 6, 5, 3), FLAT, nn.HuberLoss(), "numbers"),
    "blocks": (built(Blocks), FLAT, nn.MSELoss(), "numbers"),
    "a shared activation in a Sequential": (shared, FLAT, nn.MSELoss(), "numbers"),
    "nested Sequentials": (mlp(nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh())), nn.Linear(5, 3)), FLAT,
                           nn.MSELoss(), "numbers"),
    "a Sequential of own classes": (mlp(nn.Sequential(Initialised(4, 6), nn.ReLU()), Tower(6, 5, 3)), FLAT,
                                    nn.MSELoss(), "numbers"),
    "an autoencoder": (built(Autoencoder), IMAGES, nn.MSELoss(), "images"),
    "self.net": (net(lambda m, X: m.net(X), net=nn.Sequential(nn.Linear(4, 9), nn.SiLU(), nn.Linear(9, 3))), FLAT,
                 nn.MSELoss(), "numbers"),
    "optional parts": (built(Optional, "softplus", bias=False), FLAT, nn.MSELoss(), "numbers"),
    "DataParallel": (lambda: nn.DataParallel(built(Modes)()), FLAT, nn.CrossEntropyLoss(), "labels"),
    # the beginning
    "nn.Flatten": (net(lambda m, X: m.fc2(F.relu(m.fc1(m.flatten(X)))), flatten=nn.Flatten()), IMAGES,
                   nn.CrossEntropyLoss(), "labels"),
    "view of sizes": (net(lambda m, X: m.fc2(F.relu(m.fc1(X.view(X.size(0), -1))))), IMAGES, nn.MSELoss(), "numbers"),
    "view of a width": (net(lambda m, X: m.fc2(F.relu(m.fc1(X.view(-1, 2 * 2))))), IMAGES, nn.MSELoss(), "numbers"),
    "view of a shape": (net(lambda m, X: m.fc2(m.fc1(X.view(X.shape[0], -1)).relu())), IMAGES, nn.MSELoss(), "numbers"),
    "reshape by arithmetic": (net(mixed_shapes), (2, 2), nn.MSELoss(), "numbers"),
    "torch.flatten": (net(lambda m, X: m.fc2(F.relu(m.fc1(torch.flatten(X, 1))))), IMAGES, nn.MSELoss(), "numbers"),
    "method flatten": (net(lambda m, X: m.fc2(F.relu(m.fc1(X.flatten(start_dim=1))))), (2, 2), nn.L1Loss(), "numbers"),
    "flatten if need be": (net(flatten_if_need_be), IMAGES, nn.MSELoss(), "numbers"),
    "no need to flatten": (net(flatten_if_need_be), FLAT, nn.MSELoss(), "numbers"),
    "device": (net(lambda m, X: m.fc2(m.fc1(X.to(X.device)).to(m.fc2.weight.device))), FLAT, nn.MSELoss(), "numbers"),
    "by the number of axes": (net(by_axes), IMAGES, nn.MSELoss(), "numbers"),
    "a product of axes": (net(lambda m, X: m.fc2(m.fc1(X.view(-1, math.prod(X.shape[1:]))))), IMAGES, nn.MSELoss(),
                          "numbers"),
    "squeeze of an axis": (net(lambda m, X: m.fc2(m.fc1(X.squeeze(1)).tanh())), (1, 4), nn.MSELoss(), "numbers"),
    "unsqueeze": (mlp(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 3)), (), nn.MSELoss(),
                  "numbers"),
    "Flatten in the middle": (mlp(nn.Linear(4, 6), nn.Flatten(), nn.ReLU(), nn.Linear(6, 3)), FLAT, nn.MSELoss(),
                              "numbers"),
    # the end
    "squeeze(-1)": (net(lambda m, X: m.fc2(F.relu(m.fc1(X))).squeeze(-1), n_out=1), FLAT, nn.MSELoss(), ROW),
    "squeeze()": (net(lambda m, X: m.fc2(F.relu(m.fc1(X))).squeeze(), n_out=1), FLAT, nn.MSELoss(), ROW),
    "squeeze(1) of a batch of one": (net(lambda m, X: m.fc2(F.relu(m.fc1(X))).squeeze(1), n_out=1), FLAT,
                                     nn.BCEWithLogitsLoss(), "row of bits"),
    "view(-1)": (net(lambda m, X: m.fc2(F.relu(m.fc1(X))).view(-1), n_out=1), FLAT, nn.HuberLoss(), ROW),
    "Flatten(0)": (mlp(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)), FLAT, nn.MSELoss(), ROW),
    "flatten()": (net(lambda m, X: torch.flatten(m.fc2(F.relu(m.fc1(X)))), n_out=1), FLAT, nn.MSELoss(), ROW),
    "a column": (net(lambda m, X: m.fc2(F.relu(m.fc1(X)))[:, 0], n_out=1), FLAT, nn.MSELoss(), ROW),
    "sigmoid after squeeze": (net(early_squeeze, n_out=1), FLAT, nn.BCELoss(), "row of bits"),
    "an axis more": (net(lambda m, X: m.fc2(F.relu(m.fc1(X))).unsqueeze(1)), FLAT, nn.MSELoss(), "an axis more"),
    "reshape": (mlp(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4), nn.Unflatten(1, (1, 2, 2))), FLAT, nn.MSELoss(),
                "images"),
    "LogSoftmax": (mlp(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.LogSoftmax(1)), FLAT, nn.NLLLoss(), "labels"),
    "F.log_softmax": (net(lambda m, X: F.log_softmax(m.fc2(F.relu(m.fc1(X))), dim=1)), FLAT,
                      nn.NLLLoss(weight=torch.tensor([0.5, 2.0, 1.0]).double(), reduction="sum"), "labels"),
    "log_softmax twice": (net(lambda m, X: m.fc2(m.fc1(X).relu()).log_softmax(-1)), FLAT, nn.CrossEntropyLoss(),
                          "labels"),
    "softmax": (net(lambda m, X: torch.softmax(m.fc2(F.relu(m.fc1(X))), dim=-1)), FLAT, nn.MSELoss(), "rows"),
    # dropout that does nothing
    "dropout off": (net(lambda m, X: m.fc2(F.dropout(F.relu(m.fc1(X)), 0.5, training=False))), FLAT, nn.MSELoss(),
                    "numbers"),
    "dropout of mode": (lambda: net(lambda m, X: m.fc2(F.dropout(m.fc1(X).tanh(), 0.5, m.training)))().eval(), FLAT,
                        nn.MSELoss(), "numbers"),
    "dropout of 0": (mlp(nn.Linear(4, 6), nn.Dropout(0.0), nn.Tanh(), nn.Linear(6, 3)), FLAT, nn.MSELoss(), "numbers"),
}  # fmt: skip


def task(row, targets, n=21):
    """Return X and Y with a last batch of one row, where batches have 5."""
    X = data(n)[0]
    X = X[:, 0] if row == () else X.reshape(n, *row)
    column = data(n, n_out=1)[1][:, 0]
    if targets == "images":
        return X, data(n, n_out=4, targets="each")[1].reshape(n, 1, 2, 2)
    special = {"row": column, "row of bits": (column > 0).double(), "an axis more": data(n)[1][:, None]}
    return X, special[targets] if targets in special else data(n, targets=targets)[1]


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.filterwarnings("ignore:Using a target size")  # of squeeze() and one row: PyTorch warns, and broadcasts
def test_chains(name):
    make, row, loss_fn, targets = CHAINS[name]
    X, Y = task(row, targets)
    ours, theirs = twins(make(), lambda module: optim.AdamW(module.parameters(), lr=0.01))
    history = fit(ours[0], loss_fn, ours[1], X, Y, epochs=3, batch_size=5)
    losses = loop(theirs[0], loss_fn, theirs[1], X, Y, [torch.arange(len(X))] * 3, 5)
    assert_same(ours, theirs)
    if loss_fn.reduction == "mean":
        np.testing.assert_allclose(history.loss, losses, rtol=1e-10)


# --- what else forward has -------------------------------------------------------------------------------------------


def test_tracing_leaves_no_trace():
    """Attributes that forward sets, lists that it adds to, and all random states are as they were."""
    module = net(counting)()
    module.table = {"a": [1], "b": {2}}
    module.function = lambda m, X: (m.table["a"].append(X), m.table["b"].clear(), counting(m, X))[-1]
    X, Y = data()
    optimizer = optim.SGD(module.parameters(), 0.1)
    states = random.getstate(), torch.get_rng_state()
    attributes = {name: id(value) for name, value in vars(module).items()}
    fit(module, nn.MSELoss(), optimizer, X, Y, epochs=1, batch_size=5)
    assert (module.calls, module.seen, module.table) == (0, [], {"a": [1], "b": {2}})
    assert {name: id(value) for name, value in vars(module).items()} == attributes
    assert all("forward" not in vars(layer) for layer in module.modules())
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


@pytest.mark.parametrize(
    "make_optimizer", [partial(optim.AdamW, lr=0.01), partial(optim.SGD, lr=0.1, weight_decay=0.1)]
)
@pytest.mark.parametrize("held", ["all", "used"])
def test_layers_that_forward_does_not_use_stay(make_optimizer, held):
    """PyTorch gives them no gradient, and optimizers leave them alone, weight decay included."""
    X, Y = data()
    module = net(lambda m, X: m.fc2(m.fc1(X).relu()), other=nn.Linear(6, 3), scale=nn.PReLU())()
    before = copy.deepcopy(module.other.state_dict())
    pairs = []
    for twin in (copy.deepcopy(module), copy.deepcopy(module)):
        parameters = [*twin.fc1.parameters(), *twin.fc2.parameters()] if held == "used" else twin.parameters()
        pairs.append((twin, make_optimizer(parameters)))
        twin.other.weight.grad = torch.ones(3, 6).double()  # zero_grad, before the first step, takes it away
    ours, theirs = pairs
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=3, batch_size=5)
    loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [torch.arange(23)] * 3, 5)
    assert_same(ours, theirs)
    assert (ours[0].other.weight.grad is None) == (held == "all")
    for name, tensor in ours[0].other.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not ours[1].state.get(ours[0].other.weight)


def scalars(m, X):
    return m.fc2(m.fc1(X).relu()).squeeze()


def column(m, X):
    return m.fc2(m.fc1(X).relu())


# forward, n_out, loss, targets (21, …), batch size: and the message
TARGETS = {
    r"Y has shape \(21,\), but must have the shape of the outputs, \(21, 1\): Y\[:, None\], or .squeeze\(-1\) of": (
        column, 1, nn.MSELoss(), lambda Y: Y[:, 0], 5,
    ),
    r"Y has shape \(21, 1\), but must have the shape of the outputs, \(21,\): Y\[:, 0\]": (
        scalars, 1, nn.MSELoss(), lambda Y: Y[:, :1], 5,
    ),
    r"Y has shape \(21, 3\), but must have the shape of the outputs, \(21, 1, 3\)": (
        lambda m, X: column(m, X)[:, None], 3, nn.MSELoss(), lambda Y: Y, 5,
    ),
    r"Y has shape \(21, 1\); accepted: labels \(21,\) or probabilities \(21, 3\): Y\[:, 0\]": (
        column, 3, nn.CrossEntropyLoss(), lambda Y: (Y[:, :1] > 0).long(), 5,
    ),
    r"Y has shape \(21, 3\); accepted: labels \(21,\)$": (
        lambda m, X: column(m, X).log_softmax(1), 3, nn.NLLLoss(), lambda Y: Y.softmax(1), 5,
    ),
    r"CrossEntropyLoss, but the module's outputs are \(21, 1, 3\); accepted: 2 or more, one for each class": (
        lambda m, X: column(m, X)[:, None], 3, nn.CrossEntropyLoss(), lambda Y: (Y[:, 0] > 0).long(), 5,
    ),
    "NLLLoss, but the module ends in identity; accepted: one that ends in log_softmax": (
        column, 3, nn.NLLLoss(), lambda Y: (Y[:, 0] > 0).long(), 5,
    ),
    "MSELoss, but the module ends in log_softmax; accepted: one that ends in sigmoid, tanh": (
        lambda m, X: column(m, X).log_softmax(1), 3, nn.MSELoss(), lambda Y: Y, 5,
    ),
    r"outputs of shape \(\) of a batch of one row, and loss_fn is BCEWithLogitsLoss.*; accepted: squeeze\(-1\)": (
        scalars, 1, nn.BCEWithLogitsLoss(), lambda Y: (Y[:, 0] > 0).double(), 5,
    ),
    r"outputs of shape \(3,\) of a batch of one row, and loss_fn is CrossEntropyLoss": (
        scalars, 3, nn.CrossEntropyLoss(), lambda Y: (Y[:, 0] > 0).long(), 5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", TARGETS)
def test_targets_of_another_shape_than_the_outputs(message):
    forward, n_out, loss_fn, targets, batch_size = TARGETS[message]
    module, (X, Y) = net(forward, n_out=n_out)(), data(21)
    optimizer = optim.Adam(module.parameters())
    before = copy.deepcopy(numbers(module, optimizer))
    with pytest.raises(ValueError, match=message):
        fit(module, loss_fn, optimizer, X, targets(Y), epochs=1, batch_size=batch_size)
    np.testing.assert_equal(numbers(module, optimizer), before)


@pytest.mark.filterwarnings("ignore:Using a target size")  # that of squeeze() of one row: PyTorch broadcasts
@pytest.mark.parametrize("n_out", [1, 3])
def test_batches_of_one_row_alone(n_out):
    X, Y = task(FLAT, "row" if n_out == 1 else "numbers", n=6)
    ours, theirs = twins(net(scalars, n_out=n_out)(), lambda module: optim.Adam(module.parameters()))
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=1)
    loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [torch.arange(6)] * 2, 1)
    assert_same(ours, theirs)


def test_outputs_whose_shape_depends_on_the_number_of_rows():
    X, Y = task(FLAT, "numbers")
    module = net(lambda m, X: column(m, X).view(X.size(0), X.size(0) - 4, -1), n_out=5)()
    with pytest.raises(
        ValueError, match=r"module's outputs have shapes \[\(9, 5, 1\), \(5, 1, 5\)\] in batches of \[9, 5\]"
    ):
        fit(module, nn.MSELoss(), optim.SGD(module.parameters(), 0.1), X[:14], Y[:14], epochs=1, batch_size=9)


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 5, "drop_last": True}, {"batch_size": 50}])
def test_no_batch_of_one_row_is_no_error(options):
    X, Y = task(FLAT, "row of bits")
    ours, theirs = twins(net(scalars, n_out=1)(), lambda module: optim.Adam(module.parameters()))
    fit(ours[0], nn.BCEWithLogitsLoss(), ours[1], X, Y, epochs=2, **options)
    drop_last = options.get("drop_last", False)
    loop(
        theirs[0],
        nn.BCEWithLogitsLoss(),
        theirs[1],
        X,
        Y,
        [torch.arange(21)] * 2,
        options["batch_size"],
        drop_last=drop_last,
    )
    assert_same(ours, theirs)


def test_batches_of_one_row_that_a_fixed_shape_asks_for():
    X, Y = task(FLAT, "numbers", n=6)
    ours, theirs = twins(net(lambda m, X: m.fc2(m.fc1(X.view(1, -1))))(), lambda m: optim.Adam(m.parameters()))
    with pytest.raises(ValueError, match=r"node view, view\(x, 1, -1\)|takes rows, \(2, 4\)"):
        fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=2)
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=1)
    loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [torch.arange(6)] * 2, 1)
    assert_same(ours, theirs)


@given(chains(), st.integers(1, 9), st.sampled_from([optim.SGD, optim.Adam]))
@settings(max_examples=50, deadline=None)
def test_random_chains(drawn, batch_size, make_optimizer):
    module, row, texts = drawn
    assume(texts[-1] != "exp")  # which poisson has, but not PyTorch's losses of fit
    X = torch.randn(7, *row, dtype=torch.float64)
    with torch.no_grad():
        Y = torch.randn_like(module(X)).sigmoid()
    ours, theirs = twins(module, lambda module: make_optimizer(module.parameters(), lr=0.01))
    fit(ours[0], nn.MSELoss(), ours[1], X, Y, epochs=2, batch_size=batch_size)
    loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, [torch.arange(7)] * 2, batch_size)
    assert_same(ours, theirs, 1e-9)
