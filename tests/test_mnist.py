"""Real data: 784-30-10 on MNIST-5k learns what the same run in PyTorch learns."""

import gzip
from pathlib import Path

import numpy as np
import oracle
import pytest

from briskmlp import SGD, Trainer

DATA = Path(__file__).parent / "data" / "mnist_5k.csv.gz"
EPOCHS, BATCH, RATE = 15, 10, 1.5


@pytest.fixture(scope="module")
def mnist():
    """4,000 digits to train on and 1,000 to test on, 100 of each class: X in [0, 1], labels."""
    with gzip.open(DATA) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    X, labels = (table[:, :-1] / 255).astype(np.float32), table[:, -1].astype(np.int64)
    test = np.arange(len(X)) % 5 == 4
    assert np.bincount(labels[test]).tolist() == [100] * 10
    return X[~test], labels[~test], X[test], labels[test]


def accuracy(A, labels):
    return (np.asarray(A).argmax(axis=1) == labels).mean()


@pytest.fixture(scope="module")
def trained(mnist):
    """The trainer before its first step, as a copy, and after its last."""
    X, labels, _, _ = mnist
    trainer = Trainer([784, 30, 10], loss="mse", optimizer=SGD(RATE), batch_size=BATCH, seed=0)
    first = trainer.parameters.copy()
    history = trainer.fit(X, np.eye(10, dtype=np.float32)[labels], epochs=EPOCHS)
    assert len(history) == EPOCHS
    assert history.loss[-1] < history.loss[0] / 5
    return trainer, first


def test_it_learns(mnist, trained):
    assert accuracy(trained[0].predict(mnist[2]), mnist[3]) > 0.92


@pytest.mark.torch
def test_it_learns_as_much_as_pytorch_from_the_same_first_weights(mnist, trained):
    torch = pytest.importorskip("torch")
    X, labels, X_test, labels_test = mnist
    trainer, first = trained
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 30), torch.nn.Sigmoid(), torch.nn.Linear(30, 10), torch.nn.Sigmoid()
    )
    network = trainer.network
    with torch.no_grad():
        for layer, W, b in zip(model[::2], network.weights(first), network.biases(first), strict=True):
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    X, Y = torch.from_numpy(X), torch.eye(10)[torch.from_numpy(labels)]
    # Our mse is the sum over the outputs, MSELoss their mean: its gradients are ours / 10, so its rate is ours * 10.
    optimizer = torch.optim.SGD(model.parameters(), lr=10 * RATE, fused=True)
    loss = torch.nn.MSELoss()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these steps are too small to share
    for epoch in range(EPOCHS):
        order = torch.from_numpy(oracle.sample_order(trainer.seed, epoch, len(X)))
        for batch, targets in zip(X[order].split(BATCH), Y[order].split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(model(batch), targets).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    with torch.no_grad():
        theirs = accuracy(model(torch.from_numpy(X_test)), labels_test)
    ours = accuracy(trainer.predict(X_test), labels_test)
    assert abs(ours - theirs) <= 0.01, (ours, theirs)
