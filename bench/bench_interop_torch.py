"""What does an epoch of `interop.torch.training` cost beyond its kernels? Module, optimizer and data stay PyTorch's."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from briskmlp.interop.torch import training

BATCHES, ROWS = 100, 128
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.01),
    "adam": optim.Adam,
}


@pytest.mark.parametrize("source", ["tensors", "loader"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def bench_an_epoch_beyond_its_kernels(benchmark: Any, name: str, source: str) -> None:
    """extra_info["beyond"]: what an epoch of 100 batches on 784-256-10 takes beyond its kernels, as a part of these."""
    torch.manual_seed(1)
    n = BATCHES * ROWS
    X, Y = torch.rand(n, 784), torch.randint(10, (n,))
    module = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer, loss_fn = OPTIMIZERS[name](module.parameters()), nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(X, Y), batch_size=ROWS, shuffle=True)
    seconds: list[float] = []
    with training(module, loss_fn, optimizer, batch_size=ROWS if source == "tensors" else None) as t:

        def epoch() -> None:
            start = time.perf_counter()
            t.epoch(*((X, Y) if source == "tensors" else (loader,)))
            seconds.append(time.perf_counter() - start)

        epoch()  # makes what is made once
        benchmark.pedantic(epoch, rounds=15)
    kernels = t.history.time[1:]
    beyond = [whole / alone - 1 for whole, alone in zip(seconds[1:], kernels, strict=True)]
    benchmark.extra_info["beyond"] = median(beyond)
    benchmark.extra_info["kernels_s"] = median(kernels)
