"""The seven workloads that every number of this project refers to, with synthetic data in memory; and families of
networks of growing width, depth and batch.

The data stand for real ones: pixels are mostly zero and lie in [0, 1], labels are one-hot and can be learned.
Random noise would leave the activations near 1/2 or drive them into saturation, and neither is what users train.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Workload:
    """A network, its optimizer and its data set; one epoch is `steps` batches of equal size."""

    name: str
    layers: tuple[int, ...]
    batch: int
    examples: int
    learning_rate: float
    hidden: Literal["sigmoid", "tanh"] = "sigmoid"
    output: Literal["sigmoid", "tanh", "identity"] = "sigmoid"
    optimizer: Literal["sgd", "adam"] = "sgd"
    data: Literal["xor", "pixels", "table"] = "pixels"

    def __post_init__(self) -> None:
        # A short last batch would make the FLOPs of a step vary, and JAX's scan wants equal shapes.
        if self.examples % self.batch:
            raise ValueError(f"examples = {self.examples} is not a multiple of batch = {self.batch}")

    @property
    def steps(self) -> int:
        """Training steps in one epoch."""
        return self.examples // self.batch

    @property
    def flops(self) -> int:
        """FLOPs of one step: three products per layer, but no gradient with respect to the input X."""
        products = [n_in * n_out for n_in, n_out in zip(self.layers, self.layers[1:], strict=False)]
        return 6 * self.batch * sum(products) - 2 * self.batch * products[0]

    def quick(self) -> Workload:
        """The same network with two small batches: for smoke runs, whose times mean nothing."""
        batch = min(self.batch, 64)
        return replace(self, batch=batch, examples=2 * batch if self.data != "xor" else batch)

    def linear_output(self) -> Workload:
        """The same network with an identity output, the only one that scikit-learn has for squared errors.

        The loss curves up to 16 times as much without the output's sigmoid, whose slope is 1/4 at most.
        """
        return replace(self, output="identity", learning_rate=self.learning_rate / 16)

    def for_check(self) -> Workload:
        """The same steps on as many batches as a float64 run in NumPy affords (about 10 GFLOP an epoch)."""
        steps = max(1, min(self.steps, 10_000_000_000 // self.flops))
        return replace(self, examples=steps * self.batch)

    def dataset(self) -> tuple[Array, Array]:
        """X (examples, layers[0]) and Y (examples, layers[-1]), float32, the same on every call."""
        rng = np.random.default_rng(2024)
        n_in, n_out = self.layers[0], self.layers[-1]
        if self.data == "xor":
            X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
            return X, np.array([[0], [1], [1], [0]], np.float32)
        if self.data == "pixels":  # one prototype per class, a fifth of it inked, as in MNIST
            prototypes = rng.random((n_out, n_in)) < 0.2
            labels = rng.integers(n_out, size=self.examples)
            ink = rng.normal(0.7, 0.3, (self.examples, n_in)).astype(np.float32)
            X = np.clip(prototypes[labels] * ink, 0, 1)
            return X.astype(np.float32), np.eye(n_out, dtype=np.float32)[labels]
        X = rng.standard_normal((self.examples, n_in), dtype=np.float32)
        mixing = rng.standard_normal((n_in, n_out), dtype=np.float32) / np.float32(np.sqrt(n_in))
        Y = np.tanh(X @ mixing)
        return X, ((Y + 1) / 2 if self.output == "sigmoid" else Y).astype(np.float32)

    def initial_parameters(self) -> tuple[list[Array], list[Array]]:
        """Glorot-uniform weights (n_in, n_out) and zero biases (n_out,), float32, the same on every call."""
        rng = np.random.default_rng(7)
        weights, biases = [], []
        for n_in, n_out in zip(self.layers, self.layers[1:], strict=False):
            bound = np.sqrt(6 / (n_in + n_out))
            weights.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(np.float32))
            biases.append(np.zeros(n_out, np.float32))
        return weights, biases


# The learning rates keep the mean direction of the output layer stable: its curvature is about n_in / 8.
_ALL = (
    Workload("xor", (2, 2, 1), batch=4, examples=4, learning_rate=0.5, data="xor"),
    Workload("nielsen", (784, 30, 10), batch=10, examples=5000, learning_rate=1.5),
    Workload("digits", (64, 100, 10), batch=200, examples=2000, learning_rate=0.1),
    Workload(
        "simplechains",
        (4, 32, 16, 4),
        batch=10_000,
        examples=10_000,
        learning_rate=1e-3,
        hidden="tanh",
        output="tanh",
        optimizer="adam",
        data="table",
    ),
    Workload("mid", (784, 256, 10), batch=128, examples=5120, learning_rate=0.05),
    Workload("deep", (784, 512, 512, 10), batch=512, examples=4096, learning_rate=0.02),
    Workload("wide", (1024, 2048, 2048, 1024), batch=4096, examples=8192, learning_rate=0.005, data="table"),
)
WORKLOADS = {workload.name: workload for workload in _ALL}

# What grows, and its values. The other two dimensions stay: a batch of 128, two layers, 256 neurons (128 in the deep).
SWEEPS = {
    "width": (16, 32, 64, 128, 256, 512, 1024, 2048),
    "depth": (1, 2, 4, 8, 16, 32),
    "batch": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}


def swept(axis: str, value: int) -> Workload:
    """A network of equal layers with an identity output, so that every rival does the same work."""
    layers = {"width": (value,) * 3, "depth": (128,) * (value + 1), "batch": (256,) * 3}[axis]
    batch = value if axis == "batch" else 128
    name = f"{axis} {value}"
    one = Workload(name, layers, batch, batch, learning_rate=min(0.1, 0.5 / layers[0]), output="identity", data="table")
    return replace(one, examples=batch * max(2, min(64, 200_000_000 // one.flops)))  # many short steps, few long ones
