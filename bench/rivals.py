"""The same training in other libraries: what our own has to beat.

Each does what its users do, at its best: the rules are in `contender.py`. scikit-learn cannot do all of this work;
its class says when it can.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from contender import BriskmlpBfloat16, BriskmlpHigh, BriskmlpNative, BriskmlpNumba, BriskmlpNumpy, Contender
from workloads import Array, Workload

# Adam as PyTorch defines it, with PyTorch's defaults.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class NumPy(Contender):
    """What one writes by hand: the equations, one array expression each. In float64 it is the reference."""

    package = "numpy"

    def prepare(self, W: list[Array], b: list[Array]) -> None:
        self.W, self.b, self.t = W, b, 0
        if self.workload.optimizer == "adam":
            self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in (*W, *b)]

    def run(self, epochs: int) -> float:
        batch, loss = self.workload.batch, 0.0
        for _ in range(epochs):
            order, loss = self.order(), 0.0
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                loss += self.step(self.X[rows], self.Y[rows])
        return loss / self.workload.steps

    def step(self, X: Array, Y: Array) -> float:
        n, last = len(X), len(self.W) - 1
        A = [X]
        for layer, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            Z = A[-1] @ W + b
            A.append(self.activate(layer, Z))
        error = A[-1] - Y
        delta = 2 / n * error * self.derivative(last, A[-1])
        gradients: list[tuple[Array, Array]] = []
        for layer in range(last, -1, -1):
            gradients.insert(0, (A[layer].T @ delta, delta.sum(axis=0)))
            if layer:
                delta = (delta @ self.W[layer].T) * self.derivative(layer - 1, A[layer])
        dW, db = zip(*gradients, strict=True)
        self.update((*self.W, *self.b), (*dW, *db))
        return float((error * error).sum() / n)

    def activation(self, layer: int) -> str:
        return self.workload.output if layer == len(self.W) - 1 else self.workload.hidden

    def activate(self, layer: int, Z: Array) -> Array:
        name = self.activation(layer)
        return Z if name == "identity" else np.tanh(Z) if name == "tanh" else 1 / (1 + np.exp(-Z))

    def derivative(self, layer: int, A: Array) -> Array | float:
        name = self.activation(layer)
        return 1.0 if name == "identity" else 1 - A * A if name == "tanh" else A * (1 - A)

    def update(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        rate = self.workload.learning_rate
        self.t += 1
        if self.workload.optimizer == "sgd":
            for p, g in zip(parameters, gradients, strict=True):
                p -= rate * g
            return
        for p, g, (m, v) in zip(parameters, gradients, self.moments, strict=True):
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            p -= rate / (1 - BETA1**self.t) * m / (np.sqrt(v) / np.sqrt(1 - BETA2**self.t) + EPSILON)

    def weights(self) -> list[Array]:
        return self.W


class Torch(Contender):
    """PyTorch eager, as its tutorials write it, without a DataLoader (which costs more than the training)."""

    package = "torch"

    def prepare(self, W: list[Array], b: list[Array]) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(self.threads)
        self.torch = torch
        function = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}
        modules: list[Any] = []
        for layer, (weight, bias) in enumerate(zip(W, b, strict=True)):
            linear = nn.Linear(weight.shape[0], weight.shape[1], dtype=getattr(torch, self.dtype.name))
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weight.T.copy()))
                linear.bias.copy_(torch.from_numpy(bias))
            name = self.workload.output if layer == len(W) - 1 else self.workload.hidden
            modules += [linear, function[name]()]
        self.model = nn.Sequential(*modules)
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[self.workload.optimizer]
        self.optimizer: Any = optimizer(self.model.parameters(), lr=self.workload.learning_rate)
        self.inputs, self.targets = torch.from_numpy(self.X), torch.from_numpy(self.Y)

    def run(self, epochs: int) -> float:
        loss = 0.0
        for _ in range(epochs):
            total = self.inputs.new_zeros(())
            for rows in self.torch.split(self.torch.from_numpy(self.order()), self.workload.batch):
                X, Y = self.inputs[rows], self.targets[rows]
                self.optimizer.zero_grad()
                E = self.error(X, Y)
                E.backward()
                self.optimizer.step()
                total += E.detach()
            loss = total.item() / self.workload.steps
        return loss

    def error(self, X: Any, Y: Any) -> Any:
        return ((self.model(X) - Y) ** 2).sum() / len(X)

    def weights(self) -> list[Array]:
        return [m.weight.detach().numpy().T for m in self.model if isinstance(m, self.torch.nn.Linear)]


class TorchAutocast(Torch):
    """The same with PyTorch's automatic mixed precision: products of bfloat16 numbers, weights in float32."""

    operand_roundoff = 2.0**-8

    def error(self, X: Any, Y: Any) -> Any:
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16):
            return super().error(X, Y)


class Jax(Contender):
    """JAX with everything in one jitted call: a scan over the epoch's batches inside a loop over epochs."""

    package = "jax"

    def prepare(self, W: list[Array], b: list[Array]) -> None:
        import jax
        import jax.numpy as jnp
        from jax import lax

        config: Any = jax.config
        config.update("jax_enable_x64", self.dtype == np.float64)
        w = self.workload
        function = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "identity": jnp.asarray}

        def loss(parameters: Any, X: Any, Y: Any) -> Any:
            for layer, (weight, bias) in enumerate(parameters):
                name = w.output if layer == len(parameters) - 1 else w.hidden
                X = function[name](X @ weight + bias)
            return ((X - Y) ** 2).sum() / w.batch

        def adam(p: Any, m: Any, v: Any, t: Any) -> Any:
            return p - w.learning_rate / (1 - BETA1**t) * m / (jnp.sqrt(v / (1 - BETA2**t)) + EPSILON)

        def train(carry: Any, inputs: Any, targets: Any, orders: Any, epochs: Any) -> Any:
            def step(carry: Any, rows: Any) -> Any:
                parameters, m, v, t = carry
                E, gradient = jax.value_and_grad(loss)(parameters, inputs[rows], targets[rows])
                if w.optimizer == "sgd":
                    moved = jax.tree.map(lambda p, g: p - w.learning_rate * g, parameters, gradient)
                    return (moved, m, v, t), E
                t = t + 1
                m = jax.tree.map(lambda m, g: m + (1 - BETA1) * (g - m), m, gradient)
                v = jax.tree.map(lambda v, g: v + (1 - BETA2) * (g * g - v), v, gradient)
                return (jax.tree.map(lambda p, m, v: adam(p, m, v, t), parameters, m, v), m, v, t), E

            def epoch(i: Any, state: Any) -> Any:
                carry, losses = lax.scan(step, state[0], orders[i % len(orders)])
                return carry, losses.mean()

            return lax.fori_loop(0, epochs, epoch, (carry, jnp.zeros((), self.dtype)))

        parameters = [(jnp.asarray(weight), jnp.asarray(bias)) for weight, bias in zip(W, b, strict=True)]
        zeros = [jax.tree.map(jnp.zeros_like, parameters) if w.optimizer == "adam" else () for _ in "mv"]
        self.carry: Any = (parameters, zeros[0], zeros[1], jnp.zeros((), self.dtype))
        self.inputs, self.targets = jnp.asarray(self.X), jnp.asarray(self.Y)
        self.train: Callable[..., Any] = jax.jit(train, donate_argnums=0)
        # A fixed number of rows, lest JAX compile again. Two copies of the natural order: from one, XLA would see
        # that single-step epochs repeat their gather, and do it once.
        self.orders = np.tile(np.arange(w.examples, dtype=np.int32), (256 if self.shuffle else 2, 1))

    def run(self, epochs: int) -> float:
        epochs_a_call = len(self.orders) if self.shuffle else epochs
        loss = 0.0
        for start in range(0, epochs, epochs_a_call):
            count = min(epochs_a_call, epochs - start)
            if self.shuffle:
                self.rng.permuted(self.orders[:count], axis=1, out=self.orders[:count])
            orders = self.orders.reshape(-1, self.workload.steps, self.workload.batch)
            self.carry, last = self.train(self.carry, self.inputs, self.targets, orders, count)
            loss = float(last)  # waits, so that `orders` may change
        return loss

    def weights(self) -> list[Array]:
        return [np.asarray(weight) for weight, _ in self.carry[0]]


class Sklearn(Contender):
    """scikit-learn's MLPRegressor, driven by its public `fit` with warm start.

    Its output layer is always the identity: only with such a workload is the work the same, except that without
    shuffling it slices batches instead of gathering them. Its loss is 1/2 of the mean over outputs, so its gradient
    is half of ours at twice the learning rate. Its Adam adds epsilon to an uncorrected moment, which float64 tells
    from ours. With another output it does slightly less work than asked, the
    result is not compared, and the learning rate is small, lest it diverge (no time depends on it).
    """

    package = "scikit-learn"

    @classmethod
    def same_work(cls, workload: Workload) -> bool:
        return workload.output == "identity"

    def prepare(self, W: list[Array], b: list[Array]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # reaching max_iter is the plan
        w = self.workload
        scale = {"sgd": 2, "adam": 1}[w.optimizer]  # Adam's step does not depend on the gradient's size
        self.model: Any = MLPRegressor(
            hidden_layer_sizes=w.layers[1:-1],
            activation={"sigmoid": "logistic", "tanh": "tanh"}[w.hidden],
            solver=w.optimizer,
            alpha=0.0,
            batch_size=w.batch,
            learning_rate_init=w.learning_rate * scale if self.same_work(w) else min(w.learning_rate, 1e-3),
            epsilon=EPSILON / 2,  # beside half of the gradient
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=self.shuffle,
            random_state=0,
            max_iter=1,
            n_iter_no_change=2**31,
            warm_start=True,
        )
        self.targets = self.Y.ravel() if self.Y.shape[1] == 1 else self.Y
        self.model.fit(self.X, self.targets)  # makes the arrays that the given ones replace
        for mine, given in zip((*self.model.coefs_, *self.model.intercepts_), (*W, *b), strict=True):
            mine[...] = given

    def run(self, epochs: int) -> float:
        self.model.set_params(max_iter=epochs).fit(self.X, self.targets)
        return float(self.model.loss_) * 2 * self.Y.shape[1]

    def weights(self) -> list[Array]:
        return list(self.model.coefs_)


CONTENDERS: dict[str, type[Contender]] = {
    "briskmlp-native": BriskmlpNative,
    "briskmlp-high": BriskmlpHigh,
    "briskmlp-bfloat16": BriskmlpBfloat16,
    "briskmlp-numba": BriskmlpNumba,
    "briskmlp-numpy": BriskmlpNumpy,
    "torch": Torch,
    "torch-autocast": TorchAutocast,
    "jax": Jax,
    "numpy": NumPy,
    "sklearn": Sklearn,
}
