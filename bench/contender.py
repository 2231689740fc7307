"""What every contender does, and our own library as one.

Every contender starts from the same weights, gathers each batch by an index vector from data in memory, computes
E = 1/n Σ_examples Σ_outputs (a - y)² at every step and returns the last epoch's mean of it. Each library is
imported by its own class only, because a contender's process must hold no second thread pool.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from workloads import Array, Workload


class Contender(ABC):
    """One library, ready to train one workload."""

    package: ClassVar[str]
    operand_roundoff: ClassVar[float] = 0.0  # to which products read their operands, beyond the dtype's
    isa: str | None = None  # the instruction set, where the library tells it

    def __init__(
        self,
        workload: Workload,
        X: Array,
        Y: Array,
        weights: Sequence[Array],
        biases: Sequence[Array],
        dtype: str,
        threads: int,
        shuffle: bool = False,
    ) -> None:
        self.workload, self.shuffle, self.threads = workload, shuffle, threads
        self.dtype = np.dtype(dtype)
        self.X, self.Y = X.astype(self.dtype), Y.astype(self.dtype)
        self.rng = np.random.default_rng(0)
        self.prepare([W.astype(self.dtype) for W in weights], [b.astype(self.dtype) for b in biases])

    @abstractmethod
    def prepare(self, W: list[Array], b: list[Array]) -> None:
        """Build the library's model from these arrays, which it may keep."""

    @abstractmethod
    def run(self, epochs: int) -> float:
        """Train `epochs` more epochs; the last one's loss."""

    @abstractmethod
    def weights(self) -> list[Array]:
        """The current weights, one (n_in, n_out) array per layer."""

    def order(self) -> NDArray[np.int64]:
        """Row numbers of one epoch, (examples,)."""
        n = self.workload.examples
        return self.rng.permutation(n) if self.shuffle else np.arange(n)

    @classmethod
    def same_work(cls, workload: Workload) -> bool:
        """Whether the library can do just this work, and so takes part in the equality check."""
        return True

    @classmethod
    def version(cls) -> str:
        return f"{cls.package} {version(cls.package)}"


class Briskmlp(Contender):
    """Our own Trainer; the subclasses name its backend."""

    package = "briskmlp"
    backend: ClassVar[str]
    precision: ClassVar[str] = "highest"

    @classmethod
    def version(cls) -> str:
        from briskmlp import Trainer  # noqa: F401, so that a missing one shows at once

        try:
            return super().version()
        except PackageNotFoundError:  # run from the source tree
            return cls.package

    def prepare(self, W: list[Array], b: list[Array]) -> None:
        from briskmlp import SGD, Adam, Trainer

        w = self.workload
        self.trainer: Any = Trainer(
            list(w.layers),
            hidden=w.hidden,
            output=w.output,
            loss="mse",
            optimizer={"sgd": SGD, "adam": Adam}[w.optimizer](w.learning_rate),
            batch_size=w.batch,
            dtype=self.dtype.name,
            precision=self.precision,
            shuffle=self.shuffle,
            seed=0,
            backend=self.backend,
            threads=self.threads,
        )
        self.isa = self.trainer.isa
        for layer, (weight, bias) in enumerate(zip(W, b, strict=True)):
            self.trainer.weights[layer][...] = weight
            self.trainer.biases[layer][...] = bias

    def run(self, epochs: int) -> float:
        return float(self.trainer.fit(self.X, self.Y, epochs=epochs, progress=False).loss[-1])

    def weights(self) -> list[Array]:
        return [np.asarray(W) for W in self.trainer.weights]


class BriskmlpNumba(Briskmlp):
    backend = "numba"


class BriskmlpNumpy(Briskmlp):
    backend = "numpy"


class BriskmlpNative(Briskmlp):
    backend = "native"


class BriskmlpHigh(BriskmlpNative):
    precision = "high"
    operand_roundoff = 2.0**-16


class BriskmlpBfloat16(BriskmlpNative):
    precision = "bfloat16"
    operand_roundoff = 2.0**-8
