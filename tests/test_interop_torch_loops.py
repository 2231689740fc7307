"""fit and training beside PyTorch's own loop: ways of passing data, samplers, schedulers, and the options of loops."""

import copy
import itertools
import random
from functools import partial

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from tasks import interrupt_in_call
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)  # fmt: skip
from torch_loop import assert_same, data, network, nn, numbers, optim, run_loop, torch, twins

from briskmlp.backends import dispatch
from briskmlp.interop.torch import fit, training

pytestmark = pytest.mark.torch
schedulers = optim.lr_scheduler
X, Y = data()
LABELS = data(targets="labels")[1]
N = len(X)
TENSORS = TensorDataset(X, Y)


@pytest.fixture(autouse=True)
def numpy_backend(request, monkeypatch):
    """Train on the NumPy backend, unless a test asks for each."""
    if "each_backend" not in request.fixturenames:
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


def momentum(module):
    return optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


def in_groups(kind):
    """Return what makes an optimizer whose rates and decays differ."""
    return lambda module: kind(
        [{"params": module[0].parameters(), "lr": 0.003, "weight_decay": 0.1}, {"params": module[2].parameters()}],
        lr=0.01,
    )


def states():
    """The global random states."""
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002


# --- ways of passing data --------------------------------------------------------------------------------------------


class Own(Dataset):
    """A user's own dataset, whose items are made by a function; it counts how often each is asked for."""

    def __init__(self, make, n=N):
        self.make, self.n, self.asked = make, n, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.asked.append(index)
        return self.make(index)


class Batched(Own):
    """One that is asked for several items at once."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


ARRAYS = X.numpy(), Y.numpy()
DATASETS = {
    "tensors": lambda: TensorDataset(X, Y),
    "subset": lambda: Subset(TensorDataset(X, Y), [3, 1, 4, 15, 9, 2, 6, 5, 3, 20, 22]),
    "subset-of-subset": lambda: Subset(Subset(TensorDataset(X, Y), range(5, 20)), [0, 2, 4, 6, 8, 10, 12, 14]),
    "random-split": lambda: random_split(TensorDataset(X, Y), [17, 6], torch.Generator().manual_seed(1))[0],
    "concat": lambda: ConcatDataset([TensorDataset(X[:10], Y[:10]), Subset(TensorDataset(X, Y), range(10, 23))]),
    "concat-own": lambda: ConcatDataset([TensorDataset(X, Y), Own(lambda i: (X[i], Y[i]), 7)]),
    "own": lambda: Own(lambda i: (X[i], Y[i])),
    "own-lists": lambda: Own(lambda i: [X[i], Y[i]]),
    "own-arrays": lambda: Own(lambda i: (ARRAYS[0][i], ARRAYS[1][i])),
    "own-batched": lambda: Batched(lambda i: (X[i], Y[i])),
    "own-subset": lambda: Subset(Own(lambda i: (X[i], Y[i])), range(0, 23, 2)),
    "stack": lambda: StackDataset(list(X), list(Y)),
    "list": lambda: [(x, y) for x, y in zip(X, Y, strict=True)],
}


class Reversed(Sampler):
    """A user's own sampler, which yields tensors."""

    def __iter__(self):
        return iter(torch.arange(N - 1, -1, -1))


class Halves(Sampler):
    """A user's own batch sampler: batches of 6, in a random order, of which the last has what is left."""

    def __init__(self, eager=False):
        self.eager = eager

    def __iter__(self):
        return iter(torch.randperm(N).split(6)) if self.eager else self.lazily()

    def lazily(self):
        yield from torch.randperm(N).split(6)


class Twice(BatchSampler):
    """One that inherits PyTorch's, and makes other batches."""

    def __iter__(self):
        for batch in super().__iter__():
            yield batch
            yield batch


SAMPLERS = {
    "sequential": {"batch_size": 5},
    "default": {},
    "shuffle": {"batch_size": 5, "shuffle": True},
    "shuffle-drop": {"batch_size": 5, "shuffle": True, "drop_last": True},
    "whole": {"batch_size": 100, "shuffle": True},
    "weighted": {"batch_size": 5, "sampler": lambda: WeightedRandomSampler(torch.arange(N) + 1.0, 17)},
    "oversampled": {"batch_size": 8, "sampler": lambda: WeightedRandomSampler(torch.arange(N) + 1.0, 60)},
    "oversampled-whole": {"batch_size": 50, "sampler": lambda: RandomSampler(range(N), True, 40)},
    "subset-random": {"batch_size": 4, "sampler": lambda: SubsetRandomSampler(range(3, 19))},
    "own": {"batch_size": 7, "sampler": Reversed},
    "batches": {"batch_sampler": lambda: BatchSampler(RandomSampler(range(N)), 6, drop_last=True)},
    "own-batches": {"batch_sampler": Halves},
    "own-batches-eager": {"batch_sampler": lambda: Halves(eager=True)},
    "own-batches-twice": {"batch_sampler": lambda: Twice(SequentialSampler(range(20)), 4, drop_last=False)},
}


def made(options):
    """Return options of a DataLoader, with what makes an object replaced by that object."""
    return {name: value() if callable(value) else value for name, value in options.items()}


def assert_as_loop(make_loader, make_optimizer=adam, *, loss_fn=None, module=None, epochs=3, seed=5, **options):
    """Train one twin by fit, one by PyTorch's loop, from one random state; afterwards both draw the same."""
    loss_fn, results = loss_fn or nn.MSELoss(), []
    for train, (twin, optimizer) in zip(
        (fit, run_loop), twins(module or network(nn.Tanh()), make_optimizer), strict=True
    ):
        torch.manual_seed(seed)
        history = train(twin, loss_fn, optimizer, make_loader(), epochs=epochs, **options)
        results.append(((twin, optimizer), history.loss if train is fit else history, torch.rand(3).tolist()))
    (ours, losses, drawn), (theirs, expected, theirs_drawn) = results
    assert_same(ours, theirs)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert drawn == theirs_drawn


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name, shuffle):
    assert_as_loop(lambda: DataLoader(DATASETS[name](), batch_size=4, shuffle=shuffle))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    assert_as_loop(lambda: DataLoader(TensorDataset(X, Y), **made(SAMPLERS[name])), momentum)


@pytest.mark.parametrize("name", ["shuffle", "oversampled", "oversampled-whole", "own-batches"])
def test_samplers_on_each_backend(each_backend, name):
    assert_as_loop(lambda: DataLoader(TensorDataset(X, Y), **made(SAMPLERS[name])), momentum)


@pytest.mark.parametrize(
    "options", [{"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}], ids=["workers", "persistent"]
)
@pytest.mark.parametrize("sampler", ["shuffle", "own-batches-eager"])
def test_workers_do_not_matter(sampler, options):
    kept = {}

    def loader(**own):
        kept["loader"] = DataLoader(TensorDataset(X, Y), **made(SAMPLERS[sampler]), **own)
        return kept["loader"]

    assert_as_loop(partial(loader, **options), epochs=2)


def test_a_loader_whose_workers_persist_draws_one_seed_in_all():
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, num_workers=1, persistent_workers=True)
    module, (torch_state, *_) = network(nn.Tanh()), states()
    fit(module, nn.MSELoss(), adam(module), loader, epochs=2)
    once = states()[0]
    fit(module, nn.MSELoss(), adam(module), loader, epochs=2)
    assert states()[0] == once != torch_state


def test_a_generator_of_the_loader_s_own():
    def loader():
        return DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(3))

    assert_as_loop(loader)
    ours, theirs = loader(), loader()
    module = network(nn.Tanh())
    fit(module, nn.MSELoss(), adam(module), ours, epochs=2)
    for _ in range(2):
        list(theirs)
    assert ours.generator.get_state().tolist() == theirs.generator.get_state().tolist()


def test_batches_are_the_loop_s_where_dropout_is_active():
    """Dropout's masks are our own; with a generator of its own the loader's batches do not depend on what they draw."""
    batches = []

    class Noted(Sampler):
        def __init__(self, generator):
            self.generator = generator

        def __iter__(self):
            batches.append(torch.randperm(N, generator=self.generator).tolist())
            return iter(batches[-1])

    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    for train in (fit, run_loop):
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(4)
        loader = DataLoader(TensorDataset(X, Y), batch_size=5, sampler=Noted(generator), generator=generator)
        twin = copy.deepcopy(module)
        train(twin, nn.MSELoss(), adam(twin), loader, epochs=3)
    assert batches[:3] == batches[3:]


@pytest.mark.parametrize("make", [Own, Batched])
def test_every_item_is_asked_for_once_and_64_of_them_twice(make):
    n = 1500
    dataset, module = make(lambda i: (X[i % N], Y[i % N]), n), network(nn.Tanh())
    fit(module, nn.MSELoss(), adam(module), DataLoader(dataset, batch_size=500), epochs=3)
    assert sorted(dataset.asked[:n]) == list(range(n))
    assert len(set(dataset.asked[n:])) == len(dataset.asked[n:]) == 64


def test_asking_leaves_the_random_states():
    """Items that draw numbers which they do not use; PyTorch's own loop would draw again in each epoch."""

    def make(index):
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        return X[index], Y[index]

    module, optimizer = network(nn.Tanh()), None
    optimizer = adam(module)
    torch.manual_seed(2)
    torch.empty((), dtype=torch.int64).random_()  # the base seed of one epoch
    expected = states()
    torch.manual_seed(2)
    fit(module, nn.MSELoss(), optimizer, DataLoader(Own(make), batch_size=5), epochs=1)
    assert states() == expected


@pytest.mark.parametrize("kind", [int, float, bool, np.int32, np.float32], ids=lambda kind: kind.__name__)
def test_items_that_are_numbers(kind):
    """One target each, of labels or of a single output."""
    if kind in (int, np.int32):
        loss_fn, module, targets = nn.CrossEntropyLoss(), network(nn.Tanh()), LABELS
        assert_as_loop(
            lambda: DataLoader(Own(lambda i: (X[i], int(targets[i]) if kind is int else targets[i].long())), 5),
            loss_fn=loss_fn, module=module,
        )  # fmt: skip
        return
    module, optimizer = network(nn.Tanh(), n_in=1, n_out=1), None
    optimizer = adam(module)
    dataset = Own(lambda i: (np.array([X[i, 0]]), np.array([kind(Y[i, 0] > 0)])))
    before = copy.deepcopy(numbers(module, optimizer))
    fit(module, nn.BCEWithLogitsLoss(), optimizer, DataLoader(dataset, 5), epochs=1)
    assert not np.array_equal(numbers(module, optimizer)["0.weight"], before["0.weight"])


def test_a_collate_fn_that_stacks():
    def collate(items):
        return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])

    assert_as_loop(lambda: DataLoader(TensorDataset(X, Y), 5, shuffle=True, collate_fn=collate))


# --- schedulers ------------------------------------------------------------------------------------------------------

STEPS = 15  # batches in 3 epochs
EACH_BATCH = {
    "one-cycle": partial(schedulers.OneCycleLR, max_lr=0.05, total_steps=STEPS + 1),
    "one-cycle-rates": partial(schedulers.OneCycleLR, max_lr=0.05, total_steps=STEPS + 1, cycle_momentum=False),
    "cyclic": partial(schedulers.CyclicLR, base_lr=0.001, max_lr=0.02, step_size_up=4, cycle_momentum=False),
    "cosine": partial(schedulers.CosineAnnealingLR, T_max=STEPS),
    "restarts": partial(schedulers.CosineAnnealingWarmRestarts, T_0=4),
    "warm-up": partial(schedulers.LinearLR, start_factor=0.1, total_iters=6),
    "from-zero": partial(schedulers.LambdaLR, lr_lambda=lambda step: min(1.0, step / 6)),
    "through-zero": partial(schedulers.LambdaLR, lr_lambda=lambda step: abs(step - 6) / 6),
    "polynomial": partial(schedulers.PolynomialLR, total_iters=STEPS, power=2.0),
    "each-its-own": partial(schedulers.LambdaLR, lr_lambda=[lambda step, c=c: c**step for c in (1.2, 0.8)]),
    "sequence": lambda optimizer: schedulers.SequentialLR(
        optimizer,
        [schedulers.LinearLR(optimizer, 0.1, total_iters=4), schedulers.CosineAnnealingLR(optimizer, T_max=STEPS)],
        [4],
    ),
    "chain": lambda optimizer: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(optimizer, 0.5, total_iters=7), schedulers.ExponentialLR(optimizer, 0.9)]
    ),
}
GROUPS = ("sgd", "adamw", "rmsprop")
KINDS = {
    "sgd": in_groups(partial(optim.SGD, momentum=0.9)),
    "adamw": in_groups(optim.AdamW),
    "rmsprop": in_groups(partial(optim.RMSprop, momentum=0.8)),
    "one-group": lambda module: optim.Adam(module.parameters(), lr=0.01, amsgrad=True),
    "tensor-rate": lambda module: optim.Adam(module.parameters(), lr=torch.tensor(0.01).double()),
}


def assert_scheduled(name, kind, **options):
    """Train twins by fit and by the loop with schedulers of their own; all that they keep is the same, too."""
    kept = []
    for train, (twin, optimizer) in zip((fit, run_loop), twins(network(nn.Tanh()), KINDS[kind]), strict=True):
        scheduler = EACH_BATCH[name](optimizer)
        torch.manual_seed(2)
        loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True)
        train(twin, nn.MSELoss(), optimizer, loader, epochs=3, scheduler=scheduler, scheduler_step="batch", **options)
        kept.append(((twin, optimizer), scheduler))
    (ours, of_ours), (theirs, of_theirs) = kept
    assert_same(ours, theirs)
    assert_same_schedulers(of_ours, of_theirs)


def assert_same_schedulers(ours, theirs):
    assert getattr(ours, "last_epoch", None) == getattr(theirs, "last_epoch", None)
    assert ours.get_last_lr() == theirs.get_last_lr()
    for ours_group, theirs_group in zip(ours.optimizer.param_groups, theirs.optimizer.param_groups, strict=True):
        for option in ours_group.keys() - {"params"}:
            assert ours_group[option] == theirs_group[option], option


@pytest.mark.parametrize(
    ("name", "kind"),
    [pair for pair in itertools.product(EACH_BATCH, KINDS) if pair[0] != "each-its-own" or pair[1] in GROUPS],
)
def test_schedulers_that_are_stepped_after_each_batch(name, kind):
    assert_scheduled(name, kind)


@pytest.mark.parametrize("name", ["one-cycle", "each-its-own", "from-zero"])
def test_schedulers_on_each_backend(each_backend, name):
    for kind in ("sgd", "adamw"):
        assert_scheduled(name, kind, clip_norm=0.05)


@pytest.fixture
def interrupt(each_backend, monkeypatch):
    """interrupt(k): Ctrl-C in the k-th kernel call, each of one step; returns how many steps are kept."""
    module = dispatch._module(each_backend)

    def cut(k):
        interrupt_in_call(monkeypatch, module, k)
        return k if module.RESTORES else k - 1

    return cut


@pytest.mark.parametrize(("name", "kind"), [*((name, "sgd") for name in EACH_BATCH), ("one-cycle", "tensor-rate")])
def test_a_scheduler_is_where_the_loop_s_is_after_an_interrupt(monkeypatch, name, kind):
    """NumPy's calls do not restore: of the eighth step nothing is kept, and the scheduler has been stepped 7 times."""
    ours, theirs = twins(network(nn.Tanh()), KINDS[kind])
    of_ours, of_theirs = EACH_BATCH[name](ours[1]), EACH_BATCH[name](theirs[1])
    options = {"batch_size": 5, "epochs": 3, "scheduler_step": "batch"}
    with monkeypatch.context() as patch:
        interrupt_in_call(patch, dispatch._module("numpy"), 8)
        with pytest.raises(KeyboardInterrupt):
            fit(ours[0], nn.MSELoss(), ours[1], X, Y, scheduler=of_ours, **options)
    stop = lambda epoch, batch: (epoch, batch) == (1, 1)  # noqa: E731
    run_loop(theirs[0], nn.MSELoss(), theirs[1], X, Y, scheduler=of_theirs, stop=stop, **options)
    assert_same(ours, theirs)
    assert_same_schedulers(of_ours, of_theirs)
    for train, (twin, optimizer), scheduler in zip((fit, run_loop), (ours, theirs), (of_ours, of_theirs), strict=True):
        options = {"batch_size": 5, "epochs": 1, "scheduler": scheduler, "scheduler_step": "batch"}
        train(twin, nn.MSELoss(), optimizer, X, Y, **options)
    assert_same(ours, theirs)
    assert_same_schedulers(of_ours, of_theirs)


@pytest.mark.parametrize("k", [1, 5, 8])
def test_an_interrupt_with_a_loader(interrupt, k):
    ours, theirs = twins(network(nn.Tanh()), KINDS["adamw"])
    kept, options = interrupt(k), {"epochs": 3, "clip_norm": 0.1, "scheduler_step": "batch"}
    of_ours, of_theirs = (EACH_BATCH["one-cycle"](optimizer) for _, optimizer in (ours, theirs))
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True)
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        fit(ours[0], nn.MSELoss(), ours[1], loader, scheduler=of_ours, **options)
    torch.manual_seed(1)
    if kept:
        stop = lambda epoch, batch: 5 * epoch + batch + 1 == kept  # noqa: E731
        run_loop(theirs[0], nn.MSELoss(), theirs[1], loader, scheduler=of_theirs, stop=stop, **options)
    assert_same(ours, theirs)
    assert_same_schedulers(of_ours, of_theirs)


def test_a_scheduler_that_has_no_more_steps_raises_where_the_loop_would():
    ours, theirs = twins(network(nn.Tanh()), adam)
    with pytest.raises(ValueError, match="Tried to step 9 times"):
        fit(*given(ours), X, Y, batch_size=5, epochs=3, scheduler_step="batch", scheduler=exhausted(ours[1]))
    with pytest.raises(ValueError, match="Tried to step 9 times"):
        run_loop(*given(theirs), X, Y, batch_size=5, epochs=3, scheduler_step="batch", scheduler=exhausted(theirs[1]))
    assert_same(ours, theirs)


def exhausted(optimizer):
    return schedulers.OneCycleLR(optimizer, max_lr=0.02, total_steps=8)


def given(pair, loss_fn=None):
    """Return module, loss and optimizer in the order of fit's arguments."""
    return pair[0], loss_fn or nn.MSELoss(), pair[1]


@pytest.mark.parametrize("steps", [10, 9, 6])
def test_a_scheduler_that_has_no_more_steps_at_each_place_of_an_epoch(steps):
    pairs, kept = twins(network(nn.Tanh()), momentum), []
    for train, pair in zip((fit, run_loop), pairs, strict=True):
        scheduler = schedulers.OneCycleLR(pair[1], max_lr=0.02, total_steps=steps)
        with pytest.raises(ValueError, match="Tried to step"):
            train(*given(pair), X, Y, batch_size=5, epochs=3, scheduler_step="batch", scheduler=scheduler)
        kept.append(scheduler)
    assert_same(*pairs)
    assert_same_schedulers(*kept)


def test_momentum_that_becomes_0_within_an_epoch_stops_there():
    def scheduled(optimizer):
        def set_momentum(step):
            optimizer.param_groups[0]["momentum"] = 0.0 if step >= 7 else 0.9
            return 1.0

        return schedulers.LambdaLR(optimizer, set_momentum)

    ours, theirs = twins(network(nn.Tanh()), momentum)
    options = {"batch_size": 5, "epochs": 3, "scheduler_step": "batch"}
    with pytest.raises(ValueError, match=r"momentum has become, or is no longer, 0, .* within an epoch"):
        fit(*given(ours), X, Y, scheduler=scheduled(ours[1]), **options)
    run_loop(*given(theirs), X, Y, scheduler=scheduled(theirs[1]), stop=lambda e, b: (e, b) == (1, 1), **options)
    assert_same(ours, theirs)


def test_an_interrupt_while_the_scheduler_is_stepped_ahead():
    """In the second epoch: all is as after the first."""

    def scheduled(optimizer, *, cut):
        def rate(step):
            if cut and step == 8:
                raise KeyboardInterrupt
            return 0.9**step

        return schedulers.LambdaLR(optimizer, rate)

    ours, theirs = twins(network(nn.Tanh()), momentum)
    of_ours, of_theirs = scheduled(ours[1], cut=True), scheduled(theirs[1], cut=False)
    options = {"batch_size": 5, "scheduler_step": "batch"}
    with pytest.raises(KeyboardInterrupt):
        fit(*given(ours), X, Y, epochs=3, scheduler=of_ours, **options)
    run_loop(*given(theirs), X, Y, epochs=1, scheduler=of_theirs, **options)
    assert_same(ours, theirs)
    assert_same_schedulers(of_ours, of_theirs)


def test_divergence_rewinds_the_scheduler(monkeypatch):
    """Whatever is kept, the scheduler has been stepped as often as batches were."""
    monkeypatch.setattr("briskmlp.session.CALL_SECONDS", 0.0)
    module = network(nn.Identity())
    sgd = optim.SGD(module.parameters(), lr=1.0, momentum=0.5)
    scheduler = schedulers.LambdaLR(sgd, lambda step: 10.0**step)
    with pytest.raises(FloatingPointError, match="training diverged"):
        fit(module, nn.MSELoss(), sgd, X, Y, epochs=100, batch_size=5, scheduler=scheduler, scheduler_step="batch")
    twin = network(nn.Identity())
    other = optim.SGD(twin.parameters(), lr=1.0, momentum=0.5)
    theirs = schedulers.LambdaLR(other, lambda step: 10.0**step)
    stop = lambda epoch, batch: 5 * epoch + batch + 1 == scheduler.last_epoch  # noqa: E731
    run_loop(
        twin, nn.MSELoss(), other, X, Y, epochs=9, batch_size=5, scheduler=theirs, scheduler_step="batch", stop=stop
    )
    assert_same((module, sgd), (twin, other), 1e-8)
    assert sgd.param_groups[0]["lr"] == other.param_groups[0]["lr"]


def test_a_plateau_on_the_validation_loss():
    kept = []
    for train, pair in zip((fit, run_loop), twins(network(nn.Tanh()), partial(adam)), strict=True):
        scheduler = schedulers.ReduceLROnPlateau(pair[1], patience=0, threshold=0.02)
        train(*given(pair), X, Y, epochs=12, batch_size=5, scheduler=scheduler, validation_data=(X[:9] + 1, Y[:9]))
        kept.append((pair, scheduler))
    (ours, of_ours), (theirs, of_theirs) = kept
    assert_same(ours, theirs)
    assert of_ours.get_last_lr() == of_theirs.get_last_lr() < [0.01]
    assert of_ours.best == pytest.approx(of_theirs.best, rel=1e-10)


# --- clipping and weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_clipping(each_backend, kind, bias):
    """Of some batches the gradient is clipped, of others not."""
    norms = []
    module = network(nn.Tanh(), bias=bias)
    for rows in torch.arange(N).split(5):
        module.zero_grad()
        nn.MSELoss()(module(X[rows]), Y[rows]).backward()
        norms.append(float(nn.utils.clip_grad_norm_(module.parameters(), np.inf)))
    for limit in (np.median(norms), 1e-7):  # of the second, 1e-6 is a large part
        pairs = twins(network(nn.Tanh(), bias=bias), KINDS[kind])
        for train, pair in zip((fit, run_loop), pairs, strict=True):
            train(*given(pair), X, Y, epochs=3, batch_size=5, clip_norm=limit)
        assert_same(*pairs)


WEIGHT = torch.arange(N).double() % 4  # the rows of weight 0 among them
WEIGHTED = {  # loss, last layers, n_out, targets
    "mse": (nn.MSELoss, [], 3, "numbers"),
    "l1": (nn.L1Loss, [], 3, "numbers"),
    "huber": (partial(nn.HuberLoss, delta=0.3), [], 3, "numbers"),
    "labels": (nn.CrossEntropyLoss, [], 3, "labels"),
    "probabilities": (nn.CrossEntropyLoss, [], 3, "each"),
    "weighted-probabilities": (partial(nn.CrossEntropyLoss, weight=torch.tensor([1.0, 2, 3]).double()), [], 3, "rows"),
    "bce": (nn.BCELoss, [nn.Sigmoid()], 3, "each"),
    "positive": (partial(nn.BCEWithLogitsLoss, pos_weight=torch.tensor([3.0])), [], 1, "each"),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_sample_weight_is_that_of_a_mean_over_rows(name, reduction):
    """(w * loss).mean(), whatever the weights add up to; also where those of a batch are all 0."""
    make_loss, last, n_out, targets = WEIGHTED[name]
    X, Y = data(n_out=n_out, targets=targets)
    weight = WEIGHT.clone()
    weight[5:10] = 0
    ours, theirs = twins(network(nn.Tanh(), *last, n_out=n_out), adam)
    history = fit(*given(ours, make_loss(reduction=reduction)), X, Y, epochs=3, batch_size=5, sample_weight=weight)
    none = make_loss(reduction="none")

    def weighted(outputs, parts):
        Y, w = parts
        loss = none(outputs, Y)
        loss = w.reshape(-1, *[1] * (loss.ndim - 1)) * loss
        return loss.mean() if reduction == "mean" else loss.sum()

    losses = []
    for _ in range(3):
        total = 0.0
        for rows in torch.arange(N).split(5):
            theirs[1].zero_grad()
            loss = weighted(theirs[0](X[rows]), (Y[rows], weight[rows]))
            loss.backward()
            theirs[1].step()
            total += loss.item() * len(rows)
        losses.append(total / N)
    assert_same(ours, theirs)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)


def test_weights_of_a_loader_s_items(each_backend):
    """One for each item of the dataset, in its order."""
    ours, theirs = twins(network(nn.Tanh()), momentum)
    torch.manual_seed(3)
    fit(*given(ours), DataLoader(TensorDataset(X, Y), 5, shuffle=True), epochs=2, sample_weight=WEIGHT.numpy())
    torch.manual_seed(3)
    loader = DataLoader(TensorDataset(X, Y, WEIGHT), 5, shuffle=True)
    run_loop(*given(theirs, nn.MSELoss(reduction="none")), loader, epochs=2, sample_weight=WEIGHT)
    assert_same(ours, theirs)


# --- validation, metrics, stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_loader", [False, True])
def test_validation(with_loader):
    """Its loss is the module's own in evaluation mode; a loader draws on random states as PyTorch's loop lets it."""

    def validation():
        if not with_loader:
            return X[:9] + 1, Y[:9]
        return DataLoader(TensorDataset(X[:9] + 1, Y[:9]), 4, shuffle=True)

    results = []
    for train, pair in zip((fit, run_loop), twins(network(nn.Tanh()), adam), strict=True):
        torch.manual_seed(3)
        loader, validated = DataLoader(TensorDataset(X, Y), 5, shuffle=True), validation()
        history = train(*given(pair), loader, epochs=3, validation_data=validated)
        results.append((pair, history, torch.rand(2).tolist()))
    (ours, history, drawn), (theirs, _, theirs_drawn) = results
    assert_same(ours, theirs)
    assert drawn == theirs_drawn
    with torch.no_grad():
        assert history.val_loss[-1] == pytest.approx(nn.MSELoss()(ours[0](X[:9] + 1), Y[:9]).item(), rel=1e-12)


def test_each_submodule_s_mode_is_put_back():
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3), nn.Dropout(0.0)).double()
    module[4].eval()
    history = fit(module, nn.MSELoss(), adam(module), X, Y, epochs=2, batch_size=5, validation_data=(X, Y))
    assert [each.training for each in module.modules()] == [True, True, True, True, True, False]
    module.eval()
    assert history.val_loss[-1] == pytest.approx(nn.MSELoss()(module(X), Y).item(), rel=1e-12)


def mean_error(outputs, targets):
    assert not outputs.requires_grad
    return (outputs - targets).abs().mean()


@pytest.mark.parametrize("validated", [False, True])
def test_metrics(validated):
    module, X1 = network(nn.Tanh()), X + 1
    options = {"validation_data": (X1, Y)} if validated else {}
    history = fit(
        module, nn.MSELoss(), adam(module), X if validated else X1, Y, epochs=2, batch_size=5,
        metrics=["mae", mean_error], **options,
    )  # fmt: skip
    prefix = "val_" * validated
    expected = mean_error(module(X1).detach(), Y).item()
    assert history[f"{prefix}mae"][-1] == pytest.approx(expected, rel=1e-12)
    assert history[f"{prefix}mean_error"][-1] == pytest.approx(expected, rel=1e-12)


def test_accuracy_of_logits():
    module = network(nn.Tanh())
    history = fit(module, nn.CrossEntropyLoss(), adam(module), X, LABELS, epochs=3, batch_size=5, metrics="accuracy")
    assert history["accuracy"][-1] == pytest.approx((module(X).argmax(1) == LABELS).double().mean().item())
    module, bits = network(nn.Tanh(), n_out=1), (Y[:, :1] > 0).double()
    loader = DataLoader(TensorDataset(X, bits), 5, shuffle=True)
    history = fit(module, nn.BCEWithLogitsLoss(), adam(module), loader, epochs=3, metrics=["accuracy"])
    assert history["accuracy"][-1] == pytest.approx(((module(X) > 0) == bits).double().mean().item())


def test_a_function_is_told_of_each_epoch_and_may_stop():
    records, weights = [], []
    module = network(nn.Tanh())

    def told(record):
        records.append(record)
        weights.append(module[0].weight.tolist())
        return record["epoch"] == 3

    options = {"batch_size": 5, "validation_data": (X, Y)}
    history = fit(module, nn.MSELoss(), adam(module), X, Y, epochs=9, on_epoch_end=told, **options)
    assert history.records == records
    assert list(records[0]) == ["epoch", "loss", "learning_rate", "time", "val_loss"]
    assert weights[-1] == module[0].weight.tolist() != weights[-2]
    assert len(fit(module, nn.MSELoss(), adam(module), X, Y, epochs=3, on_epoch_end=lambda record: 1, **options)) == 3


def test_what_the_function_changes_is_taken_in():
    ours, theirs = twins(network(nn.Tanh()), momentum)

    def halve(pair):
        def change(record=None):
            pair[1].param_groups[0]["lr"] *= 0.5
            with torch.no_grad():
                pair[0][0].weight.mul_(0.9)

        return change

    fit(*given(ours), X, Y, epochs=3, batch_size=5, on_epoch_end=halve(ours), order=[range(N), range(9), range(4, N)])
    for order in (range(N), range(9), range(4, N)):
        run_loop(*given(theirs), X, Y, epochs=1, batch_size=5, order=[order])
        halve(theirs)()
    assert_same(ours, theirs)


LOSSES = [3.0, 2.0, float("nan"), 2.5, 2.0, 1.0, 4.0]  # of validation in each epoch


def worse_and_better(monkeypatch):
    """Let the validation losses be these."""
    values = iter(LOSSES)
    monkeypatch.setattr("briskmlp.interop.torch.validation.Evaluation.record", lambda *_: {"val_loss": [next(values)]})


@pytest.mark.parametrize("told", [None, lambda record: None])
@pytest.mark.parametrize(("patience", "trained"), [(1, 3), (3, 5), (4, 7), (None, 7)])
def test_patience_and_the_best_epoch(monkeypatch, patience, trained, told):
    worse_and_better(monkeypatch)
    module, best = network(nn.Tanh()), 2 if trained < 7 else 6
    module.register_buffer("steps", torch.zeros(1))
    optimizer, states = adam(module), {}
    twin = copy.deepcopy(module)
    of_twin = adam(twin)
    options = {"patience": patience, "restore_best": True, "validation_data": (X, Y), "on_epoch_end": told}
    history = fit(module, nn.MSELoss(), optimizer, X, Y, epochs=7, batch_size=5, **options)
    assert len(history) == trained
    for epoch in range(1, trained + 1):
        run_loop(twin, nn.MSELoss(), of_twin, X, Y, epochs=1, batch_size=5)
        states[epoch] = copy.deepcopy(twin.state_dict())
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, states[best][name], rtol=1e-10, atol=1e-12)
    assert int(optimizer.state[module[0].weight]["step"]) == 5 * trained


def test_patience_without_validation_is_on_the_loss():
    module = network(nn.Tanh())
    history = fit(module, nn.MSELoss(), optim.SGD(module.parameters(), 0.0), X, Y, epochs=9, batch_size=5, patience=2)
    assert len(history) == 3


def test_an_interrupt_leaves_the_last_update_not_the_best(monkeypatch):
    ours, theirs = twins(network(nn.Tanh()), adam)

    def told(record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(*given(ours), X, Y, epochs=9, batch_size=5, restore_best=True, on_epoch_end=told)
    run_loop(*given(theirs), X, Y, epochs=3, batch_size=5)
    assert_same(ours, theirs)


def test_a_progress_bar(capsys):
    module = network(nn.Tanh())
    fit(module, nn.MSELoss(), adam(module), X, Y, epochs=7, batch_size=5, progress=True)
    assert "7/7" in capsys.readouterr().err
    fit(module, nn.MSELoss(), adam(module), X, Y, epochs=2, batch_size=5, progress=None)
    assert capsys.readouterr().err == ""


# --- training --------------------------------------------------------------------------------------------------------


def test_epochs_of_a_loop_of_one_s_own(each_backend):
    """Weights, rates, the mode and the data change between epochs; nothing is read twice that stays."""
    ours, theirs = twins(network(nn.Tanh()), momentum)
    loader = DataLoader(TensorDataset(X, Y), 5, shuffle=True)

    def change(epoch, module, optimizer):
        if epoch == 1:
            optimizer.param_groups[0]["lr"] = 0.02
        elif epoch == 2:
            module[0].weight.data.clamp_(-0.3, 0.3)
        elif epoch == 3:
            optimizer.param_groups[0]["momentum"] = 0.0
        elif epoch == 4:
            optimizer.param_groups[0].update(momentum=0.8, weight_decay=0.1)
            optimizer.state.clear()

    losses = []
    torch.manual_seed(1)
    with training(*given(ours)) as t:
        for epoch in range(6):
            losses.append(t.epoch(loader))
            change(epoch, *ours)
    expected = []
    torch.manual_seed(1)
    for epoch in range(6):
        expected += run_loop(*given(theirs), loader, epochs=1)
        change(epoch, *theirs)
    assert_same(ours, theirs)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert t.history.loss == losses
    assert t.history["epoch"] == [1, 2, 3, 4, 5, 6]


def test_what_is_made_once(monkeypatch):
    from briskmlp.interop.torch import epochs

    counts = {"modules": 0, "sessions": 0}

    def counted(name, function):
        def call(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        return call

    for name, attribute in (("modules", "read_module"), ("sessions", "Run")):
        function = getattr(epochs, attribute)
        monkeypatch.setattr(epochs, attribute, counted(name, function))
    module, dataset = network(nn.Tanh(), nn.Dropout(0.0)), Own(lambda i: (X[i], Y[i]))
    loader = DataLoader(dataset, 5)
    with training(module, nn.MSELoss(), adam(module)) as t:
        for _ in range(4):
            t.epoch(loader)
            module.eval()
            module.train()
        assert counts == {"modules": 1, "sessions": 1}
        assert len(dataset.asked) == 2 * N
        module.eval()
        t.epoch(loader)
        assert counts == {"modules": 2, "sessions": 2}


def test_data_that_change_are_read_again():
    """Tensors as PyTorch counts their changes, arrays each time, other objects always."""
    changing, array = X.clone(), X.numpy().copy()
    ours, theirs = twins(network(nn.Tanh()), adam)
    with training(*given(ours), batch_size=5) as t:
        for source in (changing, array, changing, array):
            t.epoch(source, Y)
            source *= 2
        t.epoch(X, Y, order=range(10, 20))
        t.epoch(X[:9], Y[:9], sample_weight=torch.full((9,), 2.0))
    for factor in (1, 1, 2, 2):
        run_loop(*given(theirs), X * factor, Y, epochs=1, batch_size=5)
    run_loop(*given(theirs), X, Y, epochs=1, batch_size=5, order=[range(10, 20)])
    run_loop(*given(theirs, lambda A, B: 2 * nn.MSELoss()(A, B)), X[:9], Y[:9], epochs=1, batch_size=5)
    assert_same(ours, theirs)


def test_a_loader_of_tensors_that_change():
    changing, pairs = X.clone(), twins(network(nn.Tanh()), adam)
    loader = DataLoader(TensorDataset(changing, Y), 5)
    with training(*given(pairs[0])) as t:
        for factor in (1, 3):
            changing.mul_(factor)
            t.epoch(loader)
            run_loop(*given(pairs[1]), X * factor, Y, epochs=1, batch_size=5)
    assert_same(*pairs)


def test_another_loader_of_the_same_data_is_checked_as_well():
    module = network(nn.Tanh())
    with training(module, nn.MSELoss(), adam(module)) as t:
        t.epoch(DataLoader(TENSORS, 5))
        with pytest.raises(ValueError, match="X has a collate_fn that does not stack"):
            t.epoch(DataLoader(TENSORS, 5, collate_fn=lambda items: items))


def test_a_loss_whose_weights_change():
    pairs, X, Y = twins(network(nn.Tanh()), adam), *data(targets="labels")
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    loss_fn = nn.CrossEntropyLoss(weight=weight)
    with training(*given(pairs[0], loss_fn), batch_size=5) as t:
        for _ in range(3):
            t.epoch(X, Y)
            run_loop(*given(pairs[1], loss_fn), X, Y, epochs=1, batch_size=5)
            weight[0] *= 3
    assert_same(*pairs)


def test_training_goes_on_after_an_interrupt(interrupt):
    kept, (ours, theirs) = interrupt(3), twins(network(nn.Tanh()), adam)
    with training(*given(ours), batch_size=5) as t:
        with pytest.raises(KeyboardInterrupt):
            t.epoch(X, Y)
        t.epoch(X, Y)
        t.epoch(X, Y)
    run_loop(*given(theirs), X, Y, epochs=1, batch_size=5, stop=lambda epoch, batch: batch + 1 == kept)
    run_loop(*given(theirs), X, Y, epochs=2, batch_size=5)
    assert_same(ours, theirs)


def test_masks_of_dropout_are_others_in_each_epoch():
    """Also where a session is made anew, or an epoch was cut."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 6), nn.Identity(), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    optimizer, losses = optim.SGD(module.parameters(), lr=0.0, momentum=0.5), []
    with training(module, nn.MSELoss(), optimizer, batch_size=5) as t:
        for epoch in range(6):
            losses.append(t.epoch(X, Y))
            optimizer.param_groups[0]["momentum"] = 0.5 * (epoch % 3 > 0)
    assert len(set(losses)) == 6


def test_masks_of_dropout_have_one_seed():
    """A scheduler makes a rule of another kind, whose session goes on with the seed: the bits of epochs one by one."""
    module = nn.Sequential(nn.Linear(4, 6), nn.Identity(), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    ours, theirs = twins(module, momentum)

    def set_momentum(optimizer, epoch):
        optimizer.param_groups[0]["momentum"] = 0.9 * (epoch < 2)
        return 1.0

    torch.manual_seed(1)
    fit(*given(ours), X, Y, epochs=4, scheduler=schedulers.LambdaLR(ours[1], partial(set_momentum, ours[1])))
    torch.manual_seed(1)
    with training(*given(theirs)) as t:
        for epoch in range(4):
            set_momentum(theirs[1], epoch)
            t.epoch(X, Y)
    assert_same(ours, theirs, 0.0)


def test_a_training_is_closed_at_its_end():
    module = network(nn.Tanh())
    with training(module, nn.MSELoss(), adam(module), batch_size=5) as t:
        t.epoch(X, Y)
    before = copy.deepcopy(numbers(module, t.optimizer))
    with pytest.raises(RuntimeError, match="this training is closed; accepted: epochs within its with statement"):
        t.epoch(X, Y)
    np.testing.assert_equal(numbers(module, t.optimizer), before)
    assert len(t.history) == 1
