"""Training trajectories equal PyTorch's: autograd, losses and optimizers, 50 steps in float64, to 1e-10."""

import numpy as np
import oracle
import pytest
from build import build

from briskmlp.optimizers import SGD, Adam, AdamW, RMSprop

pytestmark = pytest.mark.torch

CASES = {
    "sgd": (SGD(0.1), lambda optim, p: optim.SGD(p, 0.1)),
    "decay": (SGD(0.1, weight_decay=0.05), lambda optim, p: optim.SGD(p, 0.1, weight_decay=0.05)),
    "momentum": (SGD(0.05, momentum=0.9), lambda optim, p: optim.SGD(p, 0.05, momentum=0.9)),
    "nesterov": (
        SGD(0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
        lambda optim, p: optim.SGD(p, 0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
    ),
    "adam": (Adam(0.01, weight_decay=0.03), lambda optim, p: optim.Adam(p, 0.01, weight_decay=0.03)),
    "adamw": (AdamW(0.01, weight_decay=0.2), lambda optim, p: optim.AdamW(p, 0.01, weight_decay=0.2)),
    "rmsprop": (RMSprop(0.01, weight_decay=0.03), lambda optim, p: optim.RMSprop(p, 0.01, weight_decay=0.03)),
}
PROBLEMS = {
    "sigmoid-mse": {"hidden": "sigmoid", "output": "sigmoid", "loss": "mse"},
    "relu-labels": {"hidden": "relu", "output": "softmax", "loss": "cross_entropy", "labels": True},
    "tanh-binary": {"hidden": "tanh", "output": "sigmoid", "loss": "cross_entropy"},
    "leaky-huber": {"hidden": "leaky_relu", "output": "leaky_relu", "loss": "huber"},
    "leaky-absolute": {"hidden": "leaky_relu", "output": "tanh", "loss": "absolute_error"},
    "tanh-poisson": {"hidden": "tanh", "output": "exp", "loss": "poisson"},
}


def train_in_torch(torch, case, make_optimizer, epochs):
    """Return what the same training leaves: a plain loop over the batches of the same orders."""
    F = torch.nn.functional
    weights, biases = ([torch.tensor(a, requires_grad=True) for a in arrays] for arrays in case.tensors(case.params))
    X, Y = torch.tensor(case.X), torch.tensor(case.Y)
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "softmax": None}
    functions |= {"leaky_relu": F.leaky_relu, "exp": torch.exp}
    sums = {"mse": F.mse_loss, "huber": F.huber_loss, "absolute_error": F.l1_loss}
    optimizer, losses = make_optimizer(torch.optim, [*weights, *biases]), []
    for epoch in range(epochs):
        total = 0.0
        order = torch.tensor(oracle.sample_order(case.plan.seed, epoch, case.n))
        for rows in order.split(case.plan.batch_size):
            A = X[rows]
            for W, b, name in zip(weights, biases, case.network.activations, strict=True):
                Z = A @ W + b
                A = functions[name](Z) if functions[name] else None
            if case.loss in sums:
                loss = sums[case.loss](A, Y[rows], reduction="sum") / len(rows)
            elif case.loss == "poisson":
                loss = F.poisson_nll_loss(Z, Y[rows], reduction="sum") / len(rows)
                loss = loss + (torch.xlogy(Y[rows], Y[rows]) - Y[rows]).sum() / len(rows)  # it leaves out Y alone
            elif case.Y.ndim == 1:
                loss = F.cross_entropy(Z, Y[rows])
            else:
                loss = F.binary_cross_entropy_with_logits(Z, Y[rows], reduction="sum") / len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / case.n)
    return case.flat(*([a.detach().numpy() for a in arrays] for arrays in (weights, biases))), losses


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", CASES)
def test_trajectory(backend, name, problem):
    torch = pytest.importorskip("torch")
    optimizer, make_optimizer = CASES[name]
    case = build([5, 9, 7, 3], n=23, batch_size=5, optimizer=optimizer, seed=4, **PROBLEMS[problem])
    expected, expected_losses = train_in_torch(torch, case, make_optimizer, 10)  # 5 batches, the last of 3 rows
    params, _, losses = case.train(backend, [optimizer.learning_rate] * 10)
    assert np.linalg.norm(params - expected) <= 1e-10 * np.linalg.norm(expected)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-10)
