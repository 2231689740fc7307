"""fit(module, …) leaves what a PyTorch loop over the same batches leaves: parameters and optimizer state, to 1e-10."""

from functools import partial

import numpy as np
import oracle
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from tasks import interrupt_in_call
from torch_loop import assert_same, data, loop, network, nn, numbers, optim, torch, twins

from briskmlp.backends import dispatch
from briskmlp.interop.torch import fit

pytestmark = pytest.mark.torch
schedulers, F = optim.lr_scheduler, nn.functional

OPTIMIZERS = {
    "sgd": partial(optim.SGD, lr=0.1),
    "decay": partial(optim.SGD, lr=0.1, weight_decay=0.05),
    "momentum": partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": partial(optim.SGD, lr=0.05, momentum=0.8, nesterov=True),
    "adam": partial(optim.Adam, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    "adam-decay": partial(optim.Adam, lr=0.01, weight_decay=0.03),
    "adamw": partial(optim.AdamW, lr=0.01, weight_decay=0.2),
    "fused": partial(optim.AdamW, lr=0.01, fused=True),
    "rmsprop": partial(optim.RMSprop, lr=0.01, alpha=0.9, weight_decay=0.03),
}
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
HALF = torch.tensor(0.5, dtype=torch.float64)
# name: loss, last layers, n_out, targets
LOSSES = {
    "mse": (nn.MSELoss, [], 3, "numbers"),
    "mse-sigmoid": (nn.MSELoss, [nn.Sigmoid()], 3, "numbers"),
    "mse-tanh": (nn.MSELoss, [nn.Tanh()], 3, "numbers"),
    "mse-relu": (nn.MSELoss, [nn.ReLU()], 3, "numbers"),
    "mse-leaky": (nn.MSELoss, [nn.LeakyReLU(0.2)], 3, "numbers"),
    "mse-softmax": (nn.MSELoss, [nn.Softmax(dim=-1)], 3, "rows"),
    "mse-one": (nn.MSELoss, [nn.Identity()], 1, "numbers"),
    "l1": (nn.L1Loss, [], 3, "numbers"),
    "l1-sigmoid": (nn.L1Loss, [nn.Sigmoid()], 3, "numbers"),
    "huber": (partial(nn.HuberLoss, delta=0.3), [], 3, "numbers"),
    "huber-tanh": (nn.HuberLoss, [nn.Tanh()], 3, "numbers"),
    "smooth-l1": (partial(nn.SmoothL1Loss, beta=0.3), [], 3, "numbers"),
    "smooth-l1-tanh": (nn.SmoothL1Loss, [nn.Tanh()], 3, "numbers"),
    "smooth-l1-of-l1": (partial(nn.SmoothL1Loss, beta=0.0), [], 3, "numbers"),
    "poisson": (nn.PoissonNLLLoss, [], 3, "counts"),
    "smooth-labels": (partial(nn.CrossEntropyLoss, label_smoothing=0.1), [], 3, "labels"),
    "smooth-probabilities": (partial(nn.CrossEntropyLoss, label_smoothing=0.2), [], 3, "rows"),
    "smooth-weighted": (partial(nn.CrossEntropyLoss, weight=CLASS_WEIGHTS, label_smoothing=0.1), [], 3, "rows"),
    "labels": (nn.CrossEntropyLoss, [], 3, "labels"),
    "probabilities": (nn.CrossEntropyLoss, [], 3, "rows"),
    "any-sums": (nn.CrossEntropyLoss, [], 3, "each"),
    "weighted-labels": (partial(nn.CrossEntropyLoss, weight=CLASS_WEIGHTS), [], 3, "labels"),
    "weighted-probabilities": (partial(nn.CrossEntropyLoss, weight=CLASS_WEIGHTS), [], 3, "rows"),
    "bce": (nn.BCELoss, [nn.Sigmoid()], 3, "each"),
    "bce-weight": (partial(nn.BCELoss, weight=HALF), [nn.Sigmoid()], 3, "bits"),
    "logits": (nn.BCEWithLogitsLoss, [], 3, "bits"),
    "logits-one": (nn.BCEWithLogitsLoss, [], 1, "each"),
    "positive": (partial(nn.BCEWithLogitsLoss, pos_weight=torch.tensor([3.0])), [], 1, "each"),
}
ROWS = torch.arange(23)


@pytest.fixture
def numpy_backend(monkeypatch):
    """Train on the NumPy backend: the others are held to it elsewhere."""
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    monkeypatch.setenv("BRISKMLP_BACKEND", "numpy")


@pytest.fixture
def each_backend(backend_name, monkeypatch):
    """Train on each backend in turn."""
    if backend_name != "native":
        monkeypatch.setenv("BRISKMLP_BACKEND", backend_name)
    return backend_name


def adam(module):
    return optim.Adam(module.parameters(), lr=0.01)


def made(name):
    """Return what makes an optimizer of OPTIMIZERS for a module."""
    return lambda module: OPTIMIZERS[name](module.parameters())


def mix(pair, loss_fn):
    """Return module, loss and optimizer in the order of fit's arguments."""
    return pair[0], loss_fn, pair[1]


def assert_as_loop(module, make_optimizer, loss_fn=None, *, task=None, epochs=4, orders=None, **options):
    """Train one twin by fit, with these options, and one by the loop; return History and the loop's losses."""
    X, Y = task or data()
    ours, theirs = (mix(twin, loss_fn or nn.MSELoss()) for twin in twins(module, make_optimizer))
    options = {"batch_size": 5, **options}
    history = fit(*ours, X, Y, epochs=epochs, **options)
    drop_last, orders = options.get("drop_last", False), orders or [torch.arange(len(X))] * epochs
    losses = loop(*theirs, X, Y, orders, options["batch_size"], drop_last=drop_last)
    assert_same(ours[::2], theirs[::2])
    return history, losses


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("batch_size", [5, 23], ids=["short-last", "whole"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, reduction, batch_size):
    make_loss, last, n_out, targets = LOSSES[name]
    task, module = data(n_out=n_out, targets=targets), network(nn.Tanh(), *last, n_out=n_out)
    loss_fn = make_loss(reduction=reduction)
    history, losses = assert_as_loop(module, made("momentum"), loss_fn, task=task, batch_size=batch_size)
    if name != "weighted-labels" or reduction == "sum":  # whose mean is by the weight of rows, not by rows
        np.testing.assert_allclose(history.loss, losses, rtol=1e-10)


FUNCTIONS = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber-tanh": F.huber_loss,
    "smooth-l1": partial(F.smooth_l1_loss, beta=0.3),
    "poisson": F.poisson_nll_loss,
    "labels": F.cross_entropy,
    "smooth-labels": partial(F.cross_entropy, label_smoothing=0.1),
    "weighted-probabilities": partial(F.cross_entropy, weight=CLASS_WEIGHTS),
    "bce": F.binary_cross_entropy,
    "logits": F.binary_cross_entropy_with_logits,
}


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_losses_as_functions(name):
    _, last, n_out, targets = LOSSES[name]
    task, module = data(n_out=n_out, targets=targets), network(nn.Tanh(), *last, n_out=n_out)
    validation = tuple(part[:7] for part in task)
    history, losses = assert_as_loop(module, adam, FUNCTIONS[name], task=task, validation_data=validation)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    assert len(history["val_loss"]) == 4


@pytest.mark.usefixtures("numpy_backend")
def test_the_mean_of_labels_with_weights_is_by_weight():
    module = network(nn.Tanh())
    X, Y = data(targets="labels")
    loss_fn = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)
    expected = loss_fn(module(X), Y).item()
    sgd = optim.SGD(module.parameters(), lr=0.0)
    assert fit(module, loss_fn, sgd, X, Y, epochs=1, batch_size=5).loss == pytest.approx([expected], rel=1e-12)


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    task = data(targets="labels")
    history, losses = assert_as_loop(network(nn.Sigmoid()), made(name), nn.CrossEntropyLoss(), task=task, epochs=6)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize(
    "hidden",
    [nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(), nn.LeakyReLU(0.3), nn.Identity()],
    ids=str,
)
@pytest.mark.parametrize("name", ["nesterov", "adamw"])
def test_activations(hidden, name):
    assert_as_loop(network(hidden), made(name), epochs=6)


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_takes_over_from_the_other_and_a_saved_optimizer_goes_on(name):
    loss_fn = nn.MSELoss()
    X, Y = data()
    ours, theirs = twins(network(nn.Tanh()), made(name))
    for _ in range(2):
        fit(*mix(ours, loss_fn), X, Y, epochs=2, batch_size=5)
        loop(*mix(ours, loss_fn), X, Y, [ROWS] * 3, 5)
    loaded = network(nn.Tanh())
    loaded.load_state_dict(ours[0].state_dict())
    again = OPTIMIZERS[name](loaded.parameters())
    again.load_state_dict(ours[1].state_dict())
    fit(loaded, loss_fn, again, X, Y, epochs=2, batch_size=5)
    loop(*mix(theirs, loss_fn), X, Y, [ROWS] * 12, 5)
    assert_same((loaded, again), theirs)


def in_groups(module, kind=optim.AdamW):
    biases = [tensor for name, tensor in module.named_parameters() if "bias" in name]
    return kind(
        [
            {"params": [module[0].weight], "lr": 0.001, "weight_decay": 0.3},
            {"params": biases, "weight_decay": 0.0},
            {"params": [module[2].weight], "lr": 0.03},
        ],
        lr=0.01,
        weight_decay=0.1,
    )


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_groups(each_backend, kind):
    assert_as_loop(network(nn.Tanh()), partial(in_groups, kind=kind), epochs=5)


SCHEDULERS = {
    "step": partial(schedulers.StepLR, step_size=2, gamma=0.5),
    "exponential": partial(schedulers.ExponentialLR, gamma=0.7),
    "cosine": partial(schedulers.CosineAnnealingLR, T_max=6),
    "from-zero": partial(schedulers.LambdaLR, lr_lambda=lambda epoch: epoch / 6),
    "each-its-own": partial(schedulers.LambdaLR, lr_lambda=[lambda epoch, c=c: c**epoch for c in (1.2, 0.0, 0.8)]),
    "one-cycle": partial(schedulers.OneCycleLR, max_lr=0.05, total_steps=7),  # moves momentum or beta1, too
    "plateau": partial(schedulers.ReduceLROnPlateau, patience=0, threshold=0.5),
}


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("kind", [partial(optim.SGD, momentum=0.9), optim.AdamW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name, kind):
    assert_scheduled(name, kind)


def test_rates_that_change_apart(each_backend):
    assert_scheduled("each-its-own", optim.AdamW)


def assert_scheduled(name, kind):
    X, Y = data()
    ours, theirs = twins(network(nn.Tanh()), partial(in_groups, kind=kind))
    of_ours, of_theirs = SCHEDULERS[name](ours[1]), SCHEDULERS[name](theirs[1])
    history = fit(*mix(ours, nn.MSELoss()), X, Y, epochs=6, batch_size=5, scheduler=of_ours)
    loop(*mix(theirs, nn.MSELoss()), X, Y, [ROWS] * 6, 5, of_theirs)
    assert_same(ours, theirs)
    assert of_ours.get_last_lr() == of_theirs.get_last_lr()
    assert len(history["learning_rate"]) == 6


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("given", ["generator", "global"])
def test_shuffle_draws_one_permutation_per_epoch(given, drop_last):
    X, Y = data()
    ours, theirs = twins(network(nn.Tanh()), adam)
    generator = torch.Generator().manual_seed(5) if given == "generator" else None
    torch.manual_seed(6)
    options = {"shuffle": True, "generator": generator, "drop_last": drop_last}
    fit(*mix(ours, nn.MSELoss()), X, Y, epochs=3, batch_size=5, **options)
    next_ours = torch.rand(1, generator=generator)
    generator = torch.Generator().manual_seed(5) if given == "generator" else None
    torch.manual_seed(6)
    orders = [torch.randperm(23, generator=generator) for _ in range(3)]
    loop(*mix(theirs, nn.MSELoss()), X, Y, orders, 5, drop_last=drop_last)
    assert_same(ours, theirs)
    assert next_ours == torch.rand(1, generator=generator)  # both have drawn as much


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_orders(each_backend, reduction, drop_last):
    orders = [torch.arange(22, -1, -1), np.array([3, 3, 1, 0, 7, 9]), [5, 4, 3, 2, 1], torch.arange(3, 18)]
    options = {"orders": orders, "order": orders, "drop_last": drop_last}
    assert_as_loop(network(nn.Tanh()), made("sgd"), nn.MSELoss(reduction=reduction), **options)


def test_numbers_of_the_plan_reach_each_backend(each_backend):
    module, loss_fn = network(nn.LeakyReLU(0.3), nn.LeakyReLU(0.3)), nn.HuberLoss(delta=0.7, reduction="sum")
    assert_as_loop(module, made("nesterov"), loss_fn, epochs=3, drop_last=True)


def test_epochs_that_need_nothing_between_them(each_backend):
    options = {"task": data(n=10), "epochs": 60, "drop_last": True}
    history, losses = assert_as_loop(network(nn.Tanh()), made("sgd"), **options)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    assert history["epoch"] == list(range(1, 61))


@pytest.mark.usefixtures("numpy_backend")
@pytest.mark.parametrize("name", ["momentum", "adamw", "rmsprop"])
def test_float32(name):
    """Our distance from float64 is of the size of PyTorch's own."""
    X, Y = data(targets="labels")
    (exact, optimizer), _ = twins(network(nn.Tanh()), made(name))
    loop(exact, nn.CrossEntropyLoss(), optimizer, X, Y, [ROWS] * 5, 5)
    expected = numbers(exact, optimizer)
    ours, theirs = twins(network(nn.Tanh()).float(), made(name))
    fit(*mix(ours, nn.CrossEntropyLoss()), X.float(), Y, epochs=5, batch_size=5)
    loop(*mix(theirs, nn.CrossEntropyLoss()), X.float(), Y, [ROWS] * 5, 5)
    theirs, u = numbers(*theirs), np.finfo(np.float32).eps / 2
    for key, value in numbers(*ours).items():
        assert value.dtype == theirs[key].dtype
        size, distance = np.linalg.norm(expected[key]), np.linalg.norm(theirs[key] - expected[key])
        # 25 steps of a handful of roundings each, whose signs are random, in another order than PyTorch's
        assert np.linalg.norm(value - expected[key]) <= 4 * distance + 10 * u * size, key


@pytest.mark.usefixtures("numpy_backend")
def test_modules_of_many_shapes():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 5, bias=False), nn.Sigmoid(), nn.Dropout(0.0)),
        nn.Identity(),
        nn.Linear(5, 4),
        nn.Linear(4, 2),
    ).double()
    with torch.no_grad():  # not in memory as PyTorch makes it
        module[3].weight.data = module[3].weight.data.t().contiguous().t()
    X, Y = data(n_in=6, n_out=2)
    assert_as_loop(module, adam, task=(X.reshape(23, 2, 3), Y))
    alone, twin = twins(nn.Linear(4, 3).double(), adam)
    X, Y = data()
    fit(*mix(alone, nn.MSELoss()), X.numpy(), Y.tolist(), epochs=4, batch_size=5)
    loop(*mix(twin, nn.MSELoss()), X, Y, [ROWS] * 4, 5)
    assert_same(alone, twin)


@pytest.mark.usefixtures("numpy_backend")
def test_a_learning_rate_that_is_a_tensor():
    assert_as_loop(network(nn.Tanh()), lambda m: optim.Adam(m.parameters(), lr=torch.tensor(0.01).double()))


@pytest.mark.usefixtures("numpy_backend")
def test_a_scheduler_may_be_stepped_outside():
    """PyTorch's warning that no step was made, an error in tests, is not raised."""
    X, Y = data()
    module = network(nn.Tanh())
    optimizer = adam(module)
    scheduler = schedulers.StepLR(optimizer, 1)
    fit(module, nn.MSELoss(), optimizer, X, Y, epochs=1, batch_size=5)
    scheduler.step()


@pytest.mark.usefixtures("numpy_backend")
def test_one_activation_in_many_places():
    tanh = nn.Tanh()
    assert_as_loop(nn.Sequential(nn.Linear(4, 5), tanh, nn.Linear(5, 5), tanh, nn.Linear(5, 3)).double(), adam)


def test_without_biases(each_backend):
    for module in (network(nn.Tanh(), bias=False), nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, False))):
        assert_as_loop(module.double(), made("adamw"))


@pytest.mark.usefixtures("numpy_backend")
def test_autograd_sees_that_the_module_has_changed():
    module, (X, Y) = network(nn.Tanh()), data()
    optimizer, versions = adam(module), [parameter._version for parameter in module.parameters()]
    loss = nn.MSELoss()(module(X), Y)
    fit(module, nn.MSELoss(), optimizer, X, Y, epochs=1, batch_size=5)
    assert all(p._version > old for p, old in zip(module.parameters(), versions, strict=True))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_memory_map_of_another_dtype(each_backend, tmp_path, reduction):
    X, Y = data()
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X.numpy()
    ours, theirs = twins(network(nn.Tanh()), made("sgd"))
    loss_fn, orders = nn.MSELoss(reduction=reduction), [torch.arange(22, 4, -1), torch.arange(3, 20)]
    fit(*mix(ours, loss_fn), mapped, Y, epochs=2, batch_size=5, order=orders)
    loop(*mix(theirs, loss_fn), X.float().double(), Y, orders, 5)
    assert_same(ours, theirs)


# --- the ways out ----------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupt(each_backend, monkeypatch):
    """interrupt(k): Ctrl-C in the k-th kernel call, each of one step; returns how many steps are kept."""
    module = dispatch._module(each_backend)

    def cut(k):
        interrupt_in_call(monkeypatch, module, k)
        return k if module.RESTORES else k - 1

    return cut


@pytest.mark.parametrize("k", [1, 5, 8])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_an_interrupt_leaves_what_the_loop_leaves(interrupt, name, k):
    X, Y = data()
    ours, theirs = twins(network(nn.Tanh()), made(name))
    kept = interrupt(k)
    with pytest.raises(KeyboardInterrupt):
        fit(*mix(ours, nn.MSELoss()), X, Y, epochs=3, batch_size=5)
    batches = [rows for _ in range(3) for rows in ROWS.split(5)]
    loop(*mix(theirs, nn.MSELoss()), X, Y, batches[:kept], 5)
    assert_same(ours, theirs)


@pytest.mark.usefixtures("numpy_backend")
def test_a_second_interrupt_while_the_module_is_written(monkeypatch):
    from briskmlp.interop.torch import run

    X, Y = data()
    ours, theirs = twins(network(nn.Tanh()), adam)
    write, calls = run.rules.write_state, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(run.rules, "write_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(*mix(ours, nn.MSELoss()), X, Y, epochs=2, batch_size=5)
    loop(*mix(theirs, nn.MSELoss()), X, Y, [ROWS] * 2, 5)
    assert_same(ours, theirs)


def test_divergence_leaves_finite_numbers_of_a_loop(each_backend):
    X, Y = data()
    ours, theirs = twins(network(nn.Identity()), lambda module: optim.SGD(module.parameters(), lr=50.0, momentum=0.5))
    with pytest.raises(FloatingPointError, match="training diverged"):
        fit(*mix(ours, nn.MSELoss()), X, Y, epochs=100, batch_size=5)
    kept = numbers(*ours)
    assert all(np.isfinite(value).all() for value in kept.values() if value is not None)
    batches = (rows for _ in range(100) for rows in ROWS.split(5))
    key = "0.weight"  # rounding grows with the numbers, so the place is found by their size
    size = np.linalg.norm(kept[key])
    while not np.isclose(np.linalg.norm(numbers(*theirs)[key]), size, rtol=1e-8):
        loop(*mix(theirs, nn.MSELoss()), X, Y, [next(batches)], 5)
    assert_same(ours, theirs, 1e-8)


@pytest.mark.usefixtures("numpy_backend")
def test_a_scheduler_may_make_a_rule_of_another_kind():
    X, Y = data()
    ours, theirs = twins(network(nn.Tanh()), made("momentum"))

    def scheduled(optimizer):
        def set_momentum(epoch):
            optimizer.param_groups[0]["momentum"] = 0.0 if 2 <= epoch < 4 else 0.9
            return 1.0

        return schedulers.LambdaLR(optimizer, set_momentum)

    fit(*mix(ours, nn.MSELoss()), X, Y, epochs=6, batch_size=5, scheduler=scheduled(ours[1]))
    loop(*mix(theirs, nn.MSELoss()), X, Y, [ROWS] * 6, 5, scheduled(theirs[1]))
    assert_same(ours, theirs)


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("numpy_backend")
def test_dropout_is_that_of_the_training_mode():
    X, Y = data()
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)).double().eval()
    assert_as_loop(module, adam, epochs=2)
    results = []
    for seed in (1, 1, 2):
        (twin, optimizer), _ = twins(module.train(), adam)
        torch.manual_seed(seed)
        fit(twin, nn.MSELoss(), optimizer, X, Y, epochs=2, batch_size=5)
        results.append(twin[0].weight.detach().numpy())
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2])


class PhiloxDropout(nn.Module):
    """Dropout after the first layer, by the oracle's masks, over epochs of 23 rows."""

    def __init__(self, rate, seed):
        super().__init__()
        self.rate, self.seed, self.epoch, self.place = rate, seed, 0, 0

    def forward(self, A):
        places = range(self.place, self.place + len(A))
        mask = oracle.dropout_mask(self.seed, self.epoch, places, 0, A.shape[1], self.rate)
        self.place += len(A)
        if self.place == len(ROWS):
            self.epoch, self.place = self.epoch + 1, 0
        return A * torch.from_numpy(mask)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ["mse", "labels", "weighted-labels", "weighted-probabilities", "positive"])
def test_dropout_with_every_divisor(each_backend, name, reduction):
    """A loop whose masks are those of the seed that ``fit`` draws; the last batch is short."""
    make_loss, last, n_out, targets = LOSSES[name]
    loss_fn, (X, Y) = make_loss(reduction=reduction), data(n_out=n_out, targets=targets)
    plain = network(nn.Tanh(), *last, n_out=n_out)
    module = nn.Sequential(*plain[:2], nn.Dropout(0.5), *plain[2:])
    ours, theirs = twins(module, made("momentum"))
    torch.manual_seed(7)
    theirs[0][2] = PhiloxDropout(0.5, int(torch.randint(2**63 - 1, ())))
    torch.manual_seed(7)
    history = fit(*mix(ours, loss_fn), X, Y, epochs=3, batch_size=5)
    losses = loop(*mix(theirs, loss_fn), X, Y, [ROWS] * 3, 5)
    assert_same(ours, theirs)
    if name != "weighted-labels" or reduction == "sum":
        np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
