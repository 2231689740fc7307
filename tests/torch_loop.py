"""What interop.torch is held to: a plain PyTorch loop over the same batches, and comparisons with what it leaves."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn, optim = torch.nn, torch.optim
torch.set_num_threads(1)  # for tensors as small as these


def loop(module, loss_fn, optimizer, X, Y, orders, batch_size, scheduler=None, drop_last=False):
    """Train as PyTorch's users do; return the mean of the batches' losses by their rows, of each epoch."""
    losses = []
    for order in orders:
        total, visited = 0.0, 0
        for rows in torch.as_tensor(order).split(batch_size):
            if drop_last and len(rows) < batch_size:
                continue
            optimizer.zero_grad()
            loss = loss_fn(module(X[rows]), Y[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            visited += len(rows)
        losses.append(total / visited)
        if scheduler is not None:
            plateau = isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*([losses[-1]] if plateau else []))
    return losses


def run_loop(module, loss_fn, optimizer, loader, Y=None, *, epochs, batch_size=None, order=None, scheduler=None,
             scheduler_step="epoch", clip_norm=None, sample_weight=None, validation_data=None, stop=None):  # fmt: skip
    """Train as PyTorch's users do, with the arguments of fit; return the mean of the batches' losses of each epoch.

    With sample_weight a batch of a loader has a third part; ``stop`` takes (epoch, batch) after each update.
    """
    losses, plateau = [], isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau)
    for epoch in range(epochs):
        total, visited = 0.0, 0
        for batch, (x, y, *w) in enumerate(_batches(loader, Y, sample_weight, batch_size, order and order[epoch])):
            optimizer.zero_grad()
            loss = loss_fn(module(x), y)
            if w:
                loss = (w[0].reshape(-1, *[1] * (loss.ndim - 1)) * loss).mean()
            loss.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
            optimizer.step()
            if scheduler_step == "batch":
                scheduler.step()
            total, visited = total + loss.item() * len(x), visited + len(x)
            if stop is not None and stop(epoch, batch):
                return losses
        losses.append(total / visited)
        if scheduler is not None and scheduler_step == "epoch":
            validated = losses[-1] if validation_data is None else evaluate(module, loss_fn, validation_data)
            scheduler.step(*([validated] if plateau else []))
        elif isinstance(validation_data, torch.utils.data.DataLoader):
            evaluate(module, loss_fn, validation_data)
    return losses


def _batches(X, Y, weight, batch_size, order):
    if isinstance(X, torch.utils.data.DataLoader):
        return X
    rows = torch.arange(len(X)) if order is None else torch.as_tensor(order)
    parts = [X, Y] if weight is None else [X, Y, weight]
    return [[part[each] for part in parts] for each in rows.split(batch_size or len(X))]


def evaluate(module, loss_fn, validation_data):
    """Return the loss in evaluation mode: of a loader, the mean of its batches' by their rows."""
    batches = validation_data if isinstance(validation_data, torch.utils.data.DataLoader) else [validation_data]
    module.eval()
    with torch.no_grad():
        values = [(loss_fn(module(x), y).item(), len(x)) for x, y in batches]
    module.train()
    return sum(value * n for value, n in values) / sum(n for _, n in values)


def twins(module, make_optimizer):
    """Return two copies of a module, each with an optimizer of its own."""
    return [(twin, make_optimizer(twin)) for twin in (copy.deepcopy(module), copy.deepcopy(module))]


def numbers(module, optimizer):
    """Return all that training changes, by name, as arrays."""
    found = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    for name, parameter in module.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            found[f"{name} {kind}"] = None if value is None else np.asarray(value)
    return found


def assert_same(ours, theirs, tolerance=1e-10):
    """Both are (module, optimizer); each array may differ by ``tolerance`` of its norm."""
    ours, theirs = numbers(*ours), numbers(*theirs)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if expected is None:
            assert ours[name] is None
            continue
        assert ours[name].dtype == expected.dtype
        assert ours[name].shape == expected.shape
        assert np.linalg.norm(ours[name] - expected) <= tolerance * np.linalg.norm(expected), name


def network(hidden, *last, n_in=4, n_out=3, bias=True):
    """Return two Linears in float64, always the same, with these activations."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(n_in, 6, bias=bias), hidden, nn.Linear(6, n_out, bias=bias), *last).double()


def data(n=23, n_in=4, n_out=3, targets="numbers"):
    """Return X and Y: numbers, zeros and ones, probabilities that sum to 1, or labels."""
    generator = torch.Generator().manual_seed(2)
    options = {"generator": generator, "dtype": torch.float64}
    X = torch.randn(n, n_in, **options)
    if targets == "labels":
        return X, torch.randint(n_out, (n,), generator=generator)
    Y = torch.randn(n, n_out, **options)
    made = {"numbers": Y, "bits": (Y > 0).double(), "rows": Y.softmax(dim=1), "each": Y.sigmoid()}
    return X, {**made, "counts": ((Y > 0).double() + (Y > 1))}[targets]
