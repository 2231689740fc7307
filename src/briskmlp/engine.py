"""The engine: parameters, optimizer state and position, and the kernel calls that move them or read them."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends import dispatch
from briskmlp.backends.contract import LARGEST_CHUNK, WEIGHTS_NOT_FINITE, Divergence, Position, aligned_zeros
from briskmlp.backends.recording import Recording
from briskmlp.backends.threads import blas_threads, thread_limit
from briskmlp.data.inputs import Inputs
from briskmlp.network import FloatArray
from briskmlp.operations.rules import BY_CODE
from briskmlp.plan import Floats, Ints, Plan
from briskmlp.random import sample_order

STAGE_BYTES = 64 * 2**20  # what is converted at once of data that are not trained on in place


class Data(NamedTuple):
    """Checked examples."""

    inputs: Inputs
    Y: Any  # (n, n_out) of the dtype, or int64 labels (n,)
    weight: FloatArray | None

    @property
    def total_weight(self) -> float:
        """Σ weight, or the number of examples."""
        return float(self.inputs.n if self.weight is None else self.weight.sum(dtype=np.float64))

    def checksum(self) -> int:
        """Return a checksum over the shapes and up to 64 of the rows."""
        n = self.inputs.n
        rows = np.unique(np.linspace(0, n - 1, min(n, 64)).astype(np.int64))
        checksum = zlib.crc32(repr((n, self.Y.shape, self.weight is None)).encode())
        for part in (self.inputs.take(rows), self.Y[rows], None if self.weight is None else self.weight[rows]):
            checksum = checksum if part is None else zlib.crc32(part.tobytes(), checksum)
        return checksum


class _Staged(NamedTuple):
    """The order of an epoch whose data are staged, and -n…n-1, of which each stage's order is a view."""

    epoch: int
    order: Ints
    ramp: Ints


class Engine:
    """What a Trainer trains with: a plan, a backend that can run it, and all that training changes.

    Attributes
    ----------
    parameters : ndarray, shape (n_parameters,)
    state : ndarray, shape (n_slots, n_parameters)
        The optimizer's.
    position : Position
    recording : Recording or None
        Of a profile.
    """

    def __init__(self, plan: Plan, dtype: np.dtype[Any], backend: str, threads: int | None) -> None:
        self.plan, self.dtype, self.threads = plan, dtype, threads
        self.choice = dispatch.choose(plan, dtype, backend)
        self.parameters = aligned_zeros(plan.n_parameters, dtype)
        self.state = aligned_zeros(plan.n_slots * plan.n_parameters, dtype).reshape(plan.n_slots, plan.n_parameters)
        BY_CODE[plan.rule].fill(self.state, np.empty(plan.n_scalars), plan.hyper)
        self.position = Position()
        self._kept, self._kept_position = (self.parameters[:0], self.state[:0]), Position()
        self._unfinished: tuple[int, int] | None = None  # batch size and data of an epoch that was cut
        self._training: Data | None = None  # what is being trained on
        self._limit = 1  # of threads, as it was when that began: to ask takes 10 µs
        self._work: tuple[Any, Any] | None = None
        self._idle: list[tuple[Any, Any]] = []  # the workspace of the last call that trained nothing
        self._staged: _Staged | None = None
        self.recording: Recording | None = None
        self._in_kernel = False

    @property
    def backend(self) -> Any:
        """The backend's module."""
        return self.choice.backend

    # --- what it has learned -----------------------------------------------------------------------------------------

    def predict(self, inputs: Inputs, out: FloatArray | None = None) -> FloatArray:
        """Return the last activations, (n, n_out)."""
        if out is None:
            out = np.empty((inputs.n, self.plan.layers[-1]), dtype=self.dtype)
        with self._blas():
            for chunk, X, rows, work in self._chunks(inputs):
                self.backend.forward(self.plan, self.parameters, X, rows, out[chunk], work)
        return out

    def loss(self, data: Data) -> float:
        """Return the loss without the l2 term."""
        return self._sum(self.plan.without_l2(), data, None) / data.total_weight

    def gradient(self, data: Data) -> tuple[float, FloatArray]:
        """Return the loss of these rows as one batch, and its gradient."""
        grad = np.zeros(self.plan.n_parameters, dtype=self.dtype)
        return self._sum(self.plan, data, grad) / data.total_weight, grad

    def _sum(self, plan: Plan, data: Data, grad: FloatArray | None) -> float:
        total, scale = 0.0, 1.0 / data.total_weight
        with self._blas():
            for chunk, X, rows, work in self._chunks(data.inputs, training=grad is not None):
                weight = None if data.weight is None else data.weight[chunk]
                Y = data.Y[chunk]
                total += self.backend.gradient(plan, self.parameters, X, Y, weight, rows, scale, grad, work)
                plan = plan.without_l2()  # once per batch
        return total

    def _chunks(self, inputs: Inputs, *, training: bool = False) -> Iterator[tuple[slice, FloatArray, Ints, Any]]:
        """Yield chunks of rows: their place, an array that holds them, their rows in it, and a workspace."""
        n = inputs.n
        size = min(n, max(1, STAGE_BYTES // (int(self.plan.layers.max()) * self.dtype.itemsize)))
        key = self.plan.batch_size, size, training, thread_limit(self.threads)
        work = self._take(key)
        index = np.arange(size, dtype=np.int64)
        for start in range(0, n, size):
            chunk = slice(start, min(start + size, n))
            X = inputs.take(chunk) if inputs.array is None else inputs.array[chunk]
            yield chunk, X, index[: len(X)], work
        self._idle = [(key, work)]

    def _take(self, key: tuple[Any, int, bool, int]) -> Any:
        """Return a workspace that no other thread has: the last one, where it fits, as new memory has its price."""
        try:
            idle = self._idle.pop()
        except IndexError:  # none, or another thread was faster
            idle = None
        if idle is not None and idle[0] == key:
            return idle[1]
        _, n, training, threads = key
        options = {"training": training, "threads": threads, "isa": self.choice.isa}
        return self.backend.workspace(self.plan, self.dtype, n, **options)

    # --- training ----------------------------------------------------------------------------------------------------

    def begin(self, batch_size: int, data: Data) -> None:
        """Prepare for training on these data; drop an unfinished epoch unless it was of these."""
        self._idle = []  # its memory is not needed beside training's
        self.plan = self.plan._replace(batch_size=batch_size)
        n_batches = -(-data.inputs.n // batch_size)  # a file may claim any position
        if self.position.batch and (self._unfinished != self._made_of(data) or self.position.batch >= n_batches):
            warnings.warn(
                f"epoch {self.position.epoch} was cut after {self.position.batch} batches and is dropped, because "
                "this fit has other data or another batch size; what its batches taught stays in the weights",
                UserWarning,
                stacklevel=4,
            )
            self.position.drop_epoch()
        if not self.backend.RESTORES:
            self._kept = np.empty_like(self.parameters), np.empty_like(self.state)
        self._training, self._limit = data, thread_limit(self.threads)

    def _made_of(self, data: Data) -> tuple[int, int] | None:
        """Return what tells whether an unfinished epoch can be finished with these data."""
        return (self.plan.batch_size, data.checksum()) if self.position.batch else None

    def end(self, data: Data) -> None:
        """Remember what an unfinished epoch is made of; free what only training needs."""
        self._unfinished, self._training = self._made_of(data), None
        self._kept, self._staged = (self.parameters[:0], self.state[:0]), None

    def advance(self, data: Data, rates: Floats, steps: int, losses: Floats, order: Ints | None = None) -> float:
        """Make one kernel call; whatever goes wrong, leave all as it was before it. Return its seconds.

        ``order`` holds the rows of the epoch in progress, if it is not the built-in order of all rows.
        An interrupt comes before or after the call of a backend that restores, and then all has moved or nothing.
        """
        X, Y, weight, order, steps = self._stage(data, steps, order)
        work = self._workspace(data.inputs.n)
        self._keep()
        start = perf_counter()
        self._in_kernel = True
        try:
            with self._blas():
                diverged = self.backend.train(
                    self.plan,
                    self.parameters,
                    self.state,
                    X,
                    Y,
                    weight,
                    order,
                    self.position,
                    rates,
                    steps,
                    losses,
                    work,
                )
            if diverged is None and not self.backend.RESTORES and not self._is_finite():
                diverged = Divergence(self.position.epoch, self.position.batch, WEIGHTS_NOT_FINITE)
            if diverged is not None:
                raise FloatingPointError(
                    f"training diverged: {diverged.problem} epoch {diverged.epoch}, batch {diverged.batch} "
                    f"(counted from 0); the weights are back at epoch {self._kept_position.epoch}, batch "
                    f"{self._kept_position.batch}. Lower the learning rate ({rates[0]:g})"
                )
        except BaseException:
            self._restore()
            raise
        finally:
            self._in_kernel = False
            seconds = perf_counter() - start
            if self.recording is not None:
                self.recording.seconds += seconds
        return seconds

    def _blas(self) -> AbstractContextManager[None]:
        """Hold BLAS to the number of threads, if it has any part in this."""
        return blas_threads(self.threads) if self.backend.USES_BLAS else nullcontext()

    def _stage(
        self, data: Data, steps: int, order: Ints | None
    ) -> tuple[FloatArray, Any, FloatArray | None, Ints | None, int]:
        """Return arrays that a kernel can read, the order over them, and how many steps they serve."""
        inputs, Y, weight = data
        if inputs.array is not None:
            return inputs.array, Y, weight, order, steps
        n, plan, epoch = inputs.n if order is None else len(order), self.plan, self.position.epoch
        steps = max(1, min(steps, STAGE_BYTES // (plan.batch_size * int(plan.layers[0]) * self.dtype.itemsize)))
        start = self.position.batch * plan.batch_size
        if self._staged is None or self._staged.epoch != epoch:
            if order is None:
                order = sample_order(plan.seed % 2**64, epoch, n) if plan.shuffle else np.arange(n, dtype=np.int64)
            self._staged = _Staged(epoch, order, np.arange(-n, n, dtype=np.int64))
        rows = self._staged.order[start : start + steps * plan.batch_size]
        # Places in the epoch's order count from 0, rows of the stage from its first: place p holds row p - start.
        places = self._staged.ramp[n - start : 2 * n - start]
        return inputs.take(rows), Y[rows], None if weight is None else weight[rows], places, steps

    def _workspace(self, n: int) -> Any:
        """Return the training workspace, allocated at first use and kept for the next training of this shape."""
        threads = self._limit if self._training is not None else thread_limit(self.threads)
        key = self.plan.batch_size, n, threads
        if self._work is None or self._work[0] != key:
            self._work, record = None, None  # free the old one first
            if self.recording is not None:
                record = self.recording.of(self.plan, self.backend.NAME)
                threads = min(threads, len(record))
            work = self.backend.workspace(self.plan, self.dtype, n, threads=threads, isa=self.choice.isa, record=record)
            self._work = key, work
        return self._work[1]

    def record(self, recording: Recording | None) -> None:
        """Let training from now on be recorded, or no longer."""
        self.recording, self._work = recording, None

    def _is_finite(self) -> bool:
        return all(bool(np.isfinite(learned).all()) for learned in (self.parameters, self.state))

    def _keep(self) -> None:
        """Copy what a kernel call changes, to go back to when it fails or is interrupted."""
        self._kept_position.copy_from(self.position)
        if self.backend.RESTORES:
            return
        for kept, live in zip(self._kept, (self.parameters, self.state), strict=True):
            np.copyto(kept, live)

    def _restore(self) -> None:
        if self.backend.RESTORES:
            return
        try:
            for kept, live in zip(self._kept, (self.parameters, self.state), strict=True):
                np.copyto(live, kept)
            self.position.copy_from(self._kept_position)
        except KeyboardInterrupt:  # an impatient second one: all is restored, or nothing is worth keeping
            self._restore()
            raise

    def recover(self) -> None:
        """Go back to before a kernel call that a fork cut in another thread.

        A backend that restores has not moved anything by then, unless the fork came while it handed back what was
        learned: the child then begins from weights of which some are a call ahead.
        """
        if self._in_kernel:
            self._restore()
            self._work, self._in_kernel = None, False

    # --- keeping it --------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        """Return all that training changes, between two kernel calls."""
        position = self.position
        unfinished = self._unfinished if self._training is None else self._made_of(self._training)
        arrays = {"parameters": self.parameters, "state": self.state, "counts": position.counts, "sums": position.sums}
        return {**arrays, "unfinished": unfinished}

    def take_over(self, learned: dict[str, Any]) -> None:
        """Take over what ``learned`` of an engine of the same plan returned."""
        np.copyto(self.parameters, learned["parameters"])
        np.copyto(self.state, learned["state"])
        self.position.copy_from(Position(learned["counts"], learned["sums"]))
        self._unfinished = learned["unfinished"]

    def memory(self) -> int:
        """Return about how many bytes training takes beside the data: what is learned, its copies, and activations."""
        plan, numbers = self.plan, self.parameters.size + self.state.size
        copies = 1 if self.backend.RESTORES else 2  # live, and kept
        n = plan.batch_size or LARGEST_CHUNK
        threads = thread_limit(self.threads)
        work: int = self.backend.memory(plan, self.dtype, n, threads=threads, isa=self.choice.isa)
        return copies * numbers * self.dtype.itemsize + work
