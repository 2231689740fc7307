"""What loops do that fit and training do not support is refused by name, before anything moves."""

import copy
import random

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torch_loop import data, network, nn, numbers, optim, torch

from briskmlp.interop.torch import fit, loader, training

pytestmark = pytest.mark.torch
schedulers = optim.lr_scheduler
X, Y = data()
LABELS = data(targets="labels")[1]
TENSORS = TensorDataset(X, Y)


@pytest.fixture(autouse=True)
def numpy_backend(monkeypatch):
    """What is refused is so on any backend."""
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    monkeypatch.setenv("BRISKMLP_BACKEND", "numpy")


class Own(Dataset):
    def __init__(self, make, n=23):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.make(index)


class Endless(Dataset):
    def __getitem__(self, index):
        return X[index], Y[index]


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(TENSORS)


class Prefetching(DataLoader):
    def __iter__(self):
        return super().__iter__()


class Batches:
    """A batch sampler that draws on all random states, and yields batches of these rows."""

    def __init__(self, *batches):
        self.batches, self.generator = batches, torch.Generator()

    def __iter__(self):
        torch.rand(1, generator=self.generator), torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        return iter(self.batches)


def own(make, n=23, **options):
    return DataLoader(Own(make, n), batch_size=5, **options)


def noisy(index):
    return X[index] + torch.rand(4).double(), Y[index]


def collated(items):
    return torch.stack([x for x, _ in items]) + torch.rand(1).double(), torch.stack([y for _, y in items])


REUSED = np.empty(4)


def reused(index):
    """Return items that share memory, of which PyTorch would make batches of their last row."""
    REUSED[:] = X[index]
    return REUSED, Y[index].numpy()


LOADERS = {
    "X is over an IterableDataset, Streamed; accepted: a Dataset with a length": lambda: DataLoader(Streamed(), 5),
    "X has batch_size=None; accepted: one that stacks": lambda: DataLoader(TENSORS, batch_size=None),
    "X is a Prefetching, which iterates in its own way": lambda: Prefetching(TENSORS, 5),
    "X is over a Endless without a length": lambda: DataLoader(Endless(), sampler=range(3)),
    "X's item 0 is a dict; accepted: pairs": lambda: own(lambda i: {"x": X[i], "y": Y[i]}),
    "X's item 0 is a Tensor; accepted: pairs": lambda: own(lambda i: X[i]),
    "X's item 0 has 3 parts; accepted: two": lambda: own(lambda i: (X[i], Y[i], i)),
    "X has items of 1 parts; accepted: of two, X and Y": lambda: DataLoader(TensorDataset(X), 5),
    "X has items of 3 parts": lambda: DataLoader(Subset(TensorDataset(X, Y, X), range(5)), 5),
    "X's item 0 has a str for y; accepted: a tensor, an array or a number": lambda: own(lambda i: (X[i], "cat")),
    "X's item 0 has y of dtype <U3; accepted: numbers": lambda: own(lambda i: (X[i], np.array(["cat"]))),
    "X's item 0 has x on meta; accepted: CPU tensors": lambda: own(lambda i: (X[i].to("meta"), Y[i])),
    "X's item 7 has 1 parts": lambda: own(lambda i: (X[i], Y[i])[: 1 if i == 7 else 2]),
    r"X has X of torch.float64, \(4,\), but torch.float32 of shape \(4,\) among items 1 to 22": lambda: own(
        lambda i: (X[i] if i == 0 else X[i].float(), Y[i])
    ),
    "X has items that cannot be stacked: stack expects each tensor to be equal size": lambda: own(
        lambda i: (X[i][: 4 if i < 5 else 3], Y[i])
    ),
    "X has items that change, such as by random augmentation: item 0; train such data by PyTorch's": lambda: own(noisy),
    "X has items that change, .*: item 1": lambda: own(reused),
    "X has a collate_fn that does not stack the items of its first batch": lambda: own(
        lambda i: (X[i], Y[i]), collate_fn=collated
    ),
    "X has a collate_fn that does not stack": lambda: DataLoader(TENSORS, 5, collate_fn=lambda items: items),
    "X is over a dataset without items": lambda: DataLoader(Own(X, 0), sampler=range(3)),
    "X is over datasets of different dtypes or shapes": lambda: DataLoader(
        ConcatDataset([TENSORS, TensorDataset(X.float(), Y)]), 5
    ),
    "X has no batch; accepted: a batch_size, or a sampler, that leaves one": lambda: DataLoader(
        TENSORS, 24, drop_last=True
    ),
    r"X has a batch_sampler with batches of \[1, 2\] rows; accepted: all of 1 rows, as the first": lambda: DataLoader(
        TENSORS, batch_sampler=Batches([1], [2, 3], [4])
    ),
    r"X has a batch_sampler with batches of \[0, 1\] rows": lambda: DataLoader(TENSORS, batch_sampler=Batches([1], [])),
    "X has no batch": lambda: DataLoader(TENSORS, batch_sampler=Batches()),
    "X has a sampler that yields 0 to 23; accepted: 0 to 22, the items of its dataset": lambda: DataLoader(
        TENSORS, 5, sampler=range(24)
    ),
    "X has a sampler that yields -1 to 3": lambda: DataLoader(TENSORS, batch_sampler=Batches([1, -1], [3])),
    r"takes rows, \(5, 4\), but it gets \(5, 4, 1\)": lambda: own(lambda i: (X[i][:, None], Y[i])),
    r"Y has shape \(23, 2\)": lambda: own(lambda i: (X[i], Y[i, :2])),
    "X is on meta; accepted: CPU tensors": lambda: DataLoader(TensorDataset(X.to("meta"), Y.to("meta")), 5),
    "Y has dtype torch.bfloat16": lambda: DataLoader(TensorDataset(X, Y.bfloat16()), 5),
}


def given(loader):
    return {"X": loader(), "Y": None, "batch_size": None}


def without_bias():
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 3)).double()


def beside(**options):
    return {"X": DataLoader(TENSORS, 5), "Y": None, "batch_size": None, **options}


REFUSED = {
    "Y is given beside a DataLoader, which has its own": beside(Y=Y),
    "batch_size is given beside a DataLoader": beside(batch_size=5),
    "shuffle is given beside a DataLoader": beside(shuffle=True),
    "generator is given beside a DataLoader": beside(generator=torch.Generator()),
    "order is given beside a DataLoader": beside(order=[range(23)]),
    "drop_last is given beside a DataLoader": beside(drop_last=True),
    "Y is missing, and X is a Tensor; accepted: X and Y, or a DataLoader": {"Y": None},
    "X is a TensorDataset; accepted: tensors, arrays, or a DataLoader over it": {"X": TENSORS, "Y": None},
    "clip_norm is 0, but must be finite and > 0|clip_norm is 0, but must be > 0": {"clip_norm": 0},
    "clip_norm must be a number": {"clip_norm": "1"},
    "sample_weight has 5 rows, but X has 23": {"sample_weight": torch.ones(5)},
    r"sample_weight has shape \(23, 3\); accepted: \(23,\)": {"sample_weight": torch.ones(23, 3)},
    "sample_weight has .* weights must be 0 or more": {"sample_weight": -torch.ones(23)},
    "sample_weight sums to 0": {"sample_weight": torch.zeros(23)},
    "sample_weight is on meta": {"sample_weight": torch.ones(23, device="meta")},
    "sample_weight is given, but loss_fn has class weights, by whose sum its mean is divided": {
        "loss_fn": nn.CrossEntropyLoss(weight=torch.ones(3)), "Y": LABELS, "sample_weight": torch.ones(23),
    },
    "validation_data is a Tensor; accepted: .X, Y. or a DataLoader": {"validation_data": X},
    "validation_data is a tuple of 3; accepted: .X, Y. or a DataLoader": {"validation_data": (X, Y, X)},
    r"validation_data: Y has shape \(22, 3\)": {"validation_data": (X, Y[1:])},
    "validation_data: X has nan at row 0": {"validation_data": (X * torch.nan, Y)},
    "validation_data: X is on meta; accepted: CPU tensors": {"validation_data": (X.to("meta"), Y)},
    "validation_data has items that change": {"validation_data": own(noisy)},
    "validation_data has no batch": {"validation_data": DataLoader(TENSORS, 24, drop_last=True)},
    "metrics is 'acuracy', but must be one of .*did you mean 'accuracy'": {"metrics": ["acuracy"]},
    "metrics must be names or functions such as": {"metrics": 3},
    "metrics has 'mae', which is there already; accepted: each name once": {"metrics": ["mae", "mae"]},
    "metric 'mae' needs dense targets": {"metrics": "mae", "loss_fn": nn.CrossEntropyLoss(), "Y": LABELS},
    "metric 'mae' needs dense targets .*, but Y is labels": {
        "metrics": "mae", "loss_fn": nn.CrossEntropyLoss(), "Y": LABELS, "validation_data": (X, LABELS),
    },
    "on_epoch_end is 3; accepted: a function": {"on_epoch_end": 3},
    "patience is 0, but must be >= 1": {"patience": 0},
    "restore_best must be True or False": {"restore_best": 1},
    "progress must be True, False or None": {"progress": "bar"},
    "clip_norm is given, but module has no 0.bias, and other biases": {"clip_norm": 1.0, "module": without_bias},
}  # fmt: skip
REFUSED |= {message: given(make) for message, make in LOADERS.items()}


def states():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002


def everything(module, optimizer, scheduler, generators):
    """All that a call which is refused must leave."""
    kept = numbers(module, optimizer), [{**group, "params": None} for group in optimizer.param_groups]
    of_scheduler = None if scheduler is None else {**scheduler.state_dict()}
    return copy.deepcopy((*kept, of_scheduler, [each.get_state().tolist() for each in generators], states()))


def generators_of(*sources):
    """Those of DataLoaders, and of their samplers."""
    owners = [owner for source in sources if isinstance(source, DataLoader) for owner in (source, source.batch_sampler)]
    found = [getattr(owner, "generator", None) for owner in owners]
    return [each for each in found if each is not None]


def arguments_of(message):
    """Return module, loss, optimizer, the other arguments, and what must stay."""
    options = REFUSED[message]
    module = options["module"]() if "module" in options else network(nn.Tanh(), nn.Dropout(0.0))
    optimizer = optim.Adam(module.parameters())
    nn.MSELoss()(module(X), Y).backward()
    optimizer.step()
    return module, optimizer, {"X": X, "Y": Y, "batch_size": 5, "epochs": 1, **options}


@pytest.mark.parametrize("message", REFUSED)
def test_arguments(message):
    module, optimizer, arguments = arguments_of(message)
    arguments.pop("module", None)
    loss_fn = arguments.pop("loss_fn", None) or nn.MSELoss()
    generators = generators_of(arguments["X"], arguments.get("validation_data"))
    before = everything(module, optimizer, None, generators)
    with pytest.raises((TypeError, ValueError), match=message):
        fit(module, loss_fn, optimizer, **arguments)
    np.testing.assert_equal(everything(module, optimizer, None, generators), before)


def trained(module, loss_fn, optimizer, X, Y, epochs, **options):
    """Train as fit does, by an open training."""
    with training(module, loss_fn, optimizer, **options) as t:
        for _ in range(epochs):
            t.epoch(X, Y)


@pytest.mark.parametrize(
    ("make", "step", "message"),
    [
        (schedulers.ReduceLROnPlateau, "batch", "scheduler_step is 'batch', but ReduceLROnPlateau needs an epoch's"),
        (lambda optimizer: schedulers.StepLR(optimizer, 1), "step", "scheduler_step is 'step', but must be one of"),
        (lambda _: None, "batch", "scheduler_step is 'batch', but there is no scheduler"),
        (lambda _: schedulers.StepLR(OTHER, 1), "batch", "scheduler is of another optimizer"),
        (lambda _: "cosine", "batch", "scheduler is a str; accepted: a torch.optim.lr_scheduler"),
        (lambda optimizer: schedulers.StepLR(optimizer, 1), "batch", "X has nan"),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_schedulers(make, step, message, opened):
    module = network(nn.Tanh())
    optimizer = optim.Adam(module.parameters())
    scheduler, source = make(optimizer), X * torch.nan if message == "X has nan" else X
    kept = scheduler if getattr(scheduler, "optimizer", None) is optimizer else None
    before = everything(module, optimizer, kept, [])
    options = {"batch_size": 5, "scheduler": scheduler, "scheduler_step": step}
    with pytest.raises((TypeError, ValueError), match=message):
        (trained if opened else fit)(module, nn.MSELoss(), optimizer, source, Y, epochs=1, **options)
    np.testing.assert_equal(everything(module, optimizer, kept, []), before)


def test_a_loss_that_is_a_function():
    module = network(nn.Tanh())
    optimizer = optim.Adam(module.parameters())
    before = everything(module, optimizer, None, [])
    with (
        training(module, nn.functional.soft_margin_loss, optimizer) as t,
        pytest.raises(TypeError, match="loss_fn is <func"),
    ):
        t.epoch(X, Y)
    np.testing.assert_equal(everything(module, optimizer, None, []), before)


OTHER = optim.SGD(network(nn.Tanh()).parameters(), 0.1)


def test_data_larger_than_memory(monkeypatch):
    monkeypatch.setattr(loader, "free_memory", lambda: 1000)
    for dataset in (
        Own(lambda i: (X[i], Y[i])), Subset(TENSORS, range(23)), ConcatDataset([TENSORS, TENSORS]),
    ):  # fmt: skip
        module = network(nn.Tanh())
        optimizer = optim.Adam(module.parameters())
        before = everything(module, optimizer, None, [])
        with pytest.raises(ValueError, match=r"X has data of .* KiB, but 1000 bytes of memory are free; accepted: X"):
            fit(module, nn.MSELoss(), optimizer, DataLoader(dataset, 5), epochs=1)
        np.testing.assert_equal(everything(module, optimizer, None, []), before)
    monkeypatch.setattr(loader, "free_memory", lambda: None)
    fit(module, nn.MSELoss(), optimizer, DataLoader(dataset, 5), epochs=1)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"meminfo": "MemTotal: 9 kB\nMemAvailable: 7 kB\n"}, 7 * 1024),
        ({"meminfo": "MemAvailable: 7 kB\n", "memory.max": "3000\n", "memory.current": "1000\n"}, 2000),
        ({"meminfo": "MemAvailable: 7 kB\n", "memory.max": "max\n", "memory.current": "1000\n"}, 7 * 1024),
        ({"meminfo": "MemAvailable: much\n"}, None),
    ],
)
def test_free_memory(monkeypatch, tmp_path, files, free):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(loader, "Path", lambda path: tmp_path / path.replace("/sys/fs/cgroup", ".").split("/proc/")[-1])
    assert loader.free_memory() == free


def test_a_batch_sampler_that_changes_its_batches_stops_the_training_between_two_epochs():
    """What a user's sampler will draw is not known before; the state is the loop's after the epochs before."""

    class Changing:
        epoch = 0

        def __iter__(self):
            self.epoch += 1
            return iter([[0, 1], [2]] if self.epoch < 3 else [[0, 1, 2], [3]])

    module, twin = network(nn.Tanh()), network(nn.Tanh())
    optimizer, of_twin = optim.SGD(module.parameters(), 0.1), optim.SGD(twin.parameters(), 0.1)
    with pytest.raises(ValueError, match=r"batches of \[1, 3\] rows; accepted: all of 2 rows, as the first"):
        fit(module, nn.MSELoss(), optimizer, DataLoader(TENSORS, batch_sampler=Changing()), epochs=4)
    fit(twin, nn.MSELoss(), of_twin, X, Y, epochs=2, batch_size=2, order=[[0, 1, 2]] * 2)
    np.testing.assert_array_equal(module[0].weight.detach(), twin[0].weight.detach())


def test_what_an_open_training_is_given_must_fit():
    module = network(nn.Tanh())
    optimizer = optim.SGD(module.parameters(), 0.1)
    with training(module, nn.MSELoss(), optimizer, batch_size=5) as t:
        t.epoch(X, Y)
        for change, message in (
            (lambda: module[0].weight.requires_grad_(False), "0.weight has requires_grad=False"),
            (lambda: module[0].register_forward_hook(print), "layer 0 has forward_hooks"),
            (lambda: optimizer.register_step_pre_hook(print), "optimizer has optimizer_step_pre_hooks"),
            (lambda: optimizer.param_groups[0].update(maximize=True), "optimizer has maximize=True"),
        ):
            undo = change()
            before = everything(module, optimizer, None, [])
            with pytest.raises(ValueError, match=message):
                t.epoch(X, Y)
            np.testing.assert_equal(everything(module, optimizer, None, []), before)
            undo.remove() if hasattr(undo, "remove") else module[0].weight.requires_grad_(True)
        optimizer.param_groups[0]["maximize"] = False
        assert len(t.history) == 1
        t.epoch(X, Y)
