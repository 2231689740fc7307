"""The session: a plan, what runs it, and all that training changes; and the one loop over its kernel calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import deepcopy
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends import contract, dispatch
from briskmlp.backends.contract import Divergence, Examples, Position, State, Steps, built_in_order
from briskmlp.backends.recording import Recording
from briskmlp.backends.threads import blas_threads, thread_limit
from briskmlp.data.examples import Data
from briskmlp.data.inputs import Inputs
from briskmlp.network import FloatArray
from briskmlp.plan import Floats, Ints, Plan, whole_batches

STAGE_BYTES = 64 * 2**20  # what is converted at once of data that are not trained on in place
CALL_SECONDS = 0.05  # a kernel call lasts about this long, so that Ctrl-C is answered within 0.2 s


class TrainingState(NamedTuple):
    """All that training changes, and what an epoch that was cut can be finished with."""

    state: State
    unfinished: tuple[int, int] | None  # batch size and checksum of the data, inside an epoch

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for a pickle."""
        return vars(self.state) | {"position": vars(self.state.position), "unfinished": self.unfinished}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingState:
        """Return what ``to_dict`` was of, or what it was of before there were sessions."""
        arrays = dict(values)
        unfinished = arrays.pop("unfinished")
        if "counts" in arrays:
            position = Position(arrays["counts"], arrays["sums"])
            return cls(State(arrays["parameters"], arrays["state"], position=position), unfinished)
        position = Position(**arrays.pop("position"))
        return cls(State(**arrays, position=position), unfinished)


class Session:
    """What trains, for a Trainer, an estimator or a PyTorch module: a plan, a backend, and all that training changes.

    ``state``, its ``parameters`` and ``position`` are the same objects as long as the session lives; ``begin`` and
    ``replace_plan`` change the ``plan``. ``threads``, an upper bound, may be changed between two calls. ``steps`` is
    how many the next kernel call may make, to last about 50 ms; ``recording`` is of a profile.
    """

    def __init__(self, plan: Plan, dtype: np.dtype[Any], backend: str = "auto", threads: int | None = None) -> None:
        self.plan, self.dtype, self.threads = plan, dtype, threads
        self.choice = dispatch.choose(plan, dtype, backend)
        self.backend: Any = self.choice.backend
        self.state = State.initial(plan, dtype)
        self.parameters, self.position = self.state.parameters, self.state.position
        self.recording: Recording | None = None
        self.steps = 1
        self._kept: State | None = None  # of before a call of a backend that does not restore
        self._began = 0, 0  # the epoch and batch before a call
        self._unfinished: tuple[int, int] | None = None
        self._training: Data | None = None  # what is being trained on
        self._limit = 1  # of threads, as it was when that began: to ask takes 10 µs
        self._work: tuple[Any, Any] | None = None
        self._idle: list[tuple[Any, Any]] = []  # the workspace of the last call that trained nothing
        # an epoch whose data are staged, its order, and -n…n-1, of which each stage's order is a view
        self._staged: tuple[int, Ints, Ints] | None = None
        self._in_kernel = False

    def replace_plan(self, plan: Plan) -> None:
        """Train by another plan from now on, such as one with a scheduler's new hyperparameters.

        Its parameters and slots are laid out as before. The batch size stays until ``begin``; workspaces too, unless
        something has changed.
        """
        plan = plan._replace(batch_size=self.plan.batch_size)
        if not all(np.array_equal(new, old) for new, old in zip(plan, self.plan, strict=True)):  # type: ignore[arg-type]
            self.plan = plan

    # --- what the network says ---------------------------------------------------------------------------------------

    def predict(self, inputs: Inputs, out: FloatArray | None = None) -> FloatArray:
        """Return the last activations, (n, n_out)."""
        if out is None:
            out = np.empty((inputs.n, self.plan.layers[-1]), dtype=self.dtype)
        with self._blas():
            for chunk, X, rows, work in self._chunks(inputs):
                self.backend.forward(work, self.state, X, rows, out[chunk])
        return out

    def loss(self, data: Data) -> float:
        """Return the loss without the l2 term."""
        return self._sum(data, None, with_penalty=False) / data.total_weight

    def gradient(self, data: Data) -> tuple[float, FloatArray]:
        """Return the loss of these rows as one batch, l2 included, and its gradient."""
        grad = np.zeros(self.plan.n_parameters, dtype=self.dtype)
        return self._sum(data, grad, with_penalty=True) / data.total_weight, grad

    def _sum(self, data: Data, grad: FloatArray | None, *, with_penalty: bool) -> float:
        total, scale = 0.0, 1.0 / data.total_weight
        # normalisation over a batch sees all of it at once
        whole = grad is not None and whole_batches(self.plan)
        with self._blas():
            for chunk, X, rows, work in self._chunks(data.inputs, training=grad is not None, whole=whole):
                examples = Examples(X, data.Y[chunk], None if data.weight is None else data.weight[chunk])
                total += self.backend.gradient(work, self.state, examples, rows, scale, grad, with_penalty=with_penalty)
                with_penalty = False  # once per batch
        return total

    def _chunks(
        self, inputs: Inputs, *, training: bool = False, whole: bool = False
    ) -> Iterator[tuple[slice, FloatArray, Ints, Any]]:
        """Yield chunks of rows: their place, an array that holds them, their rows in it, and a workspace.

        Or all rows as one chunk and one batch, if they are wanted whole.
        """
        n, plan = inputs.n, self.plan
        size = min(n, max(1, STAGE_BYTES // (int(plan.layers.max()) * self.dtype.itemsize)))
        if whole:
            size, plan = n, plan._replace(batch_size=n)
        key = plan, size, training, thread_limit(self.threads)
        work = self._take(key)
        index = np.arange(size, dtype=np.int64)
        for start in range(0, n, size):
            chunk = slice(start, min(start + size, n))
            X = inputs.take(chunk) if inputs.array is None else inputs.array[chunk]
            yield chunk, X, index[: len(X)], work
        self._idle = [(key, work)]

    def _take(self, key: tuple[Plan, int, bool, int]) -> Any:
        """Return a workspace that no other thread has: the last one, where it fits, as new memory has its price."""
        with suppress(IndexError):  # none, or another thread was faster
            idle, work = self._idle.pop()
            if idle[0] is key[0] and idle[1:] == key[1:]:
                return work
        plan, n, training, threads = key
        return self.backend.workspace(plan, self.dtype, n, training=training, threads=threads, isa=self.choice.isa)

    # --- training ----------------------------------------------------------------------------------------------------

    def begin(self, batch_size: int, data: Data) -> None:
        """Prepare for training on these data; drop an unfinished epoch unless it was of these."""
        self._idle = []  # its memory is not needed beside training's
        if batch_size != self.plan.batch_size:
            self.plan = self.plan._replace(batch_size=batch_size)
        n_batches = -(-data.inputs.n // batch_size)  # a file may claim any position
        if self.position.batch and (self._unfinished != self._made_of(data) or self.position.batch >= n_batches):
            warnings.warn(
                f"epoch {self.position.epoch} was cut after {self.position.batch} batches and is dropped, because "
                "this fit has other data or another batch size; what its batches taught stays in the weights",
                stacklevel=3,
            )
            self.position.drop_epoch()
        self._kept = None if self.backend.RESTORES else deepcopy(self.state)
        self._training, self._limit, self.steps = data, thread_limit(self.threads), 1

    def _made_of(self, data: Data) -> tuple[int, int] | None:
        """Return what tells whether an unfinished epoch can be finished with these data."""
        return (self.plan.batch_size, data.checksum()) if self.position.batch else None

    def end(self) -> None:
        """Remember what an unfinished epoch is made of; free what only training needs."""
        if self._training is not None:
            self._unfinished = self._made_of(self._training)
        self._training = self._kept = self._staged = None

    @property
    def data(self) -> Data:
        """What is trained on."""
        if self._training is None:
            raise RuntimeError("a session trains between begin and end")
        return self._training

    def run(self, steps: Steps) -> float:
        """Make one kernel call; whatever goes wrong, leave all as it was before it. Return its seconds.

        An interrupt comes before or after the call of a backend that restores, and then all has moved or nothing.
        """
        examples, steps = self._stage(steps)
        n = self.data.inputs.n if steps.order is None else max(self.data.inputs.n, len(steps.order))
        work, state = self._workspace(n), self.state
        self._began = self.position.epoch, self.position.batch
        if self._kept is not None:
            self._kept.copy_from(state)
        start = perf_counter()
        self._in_kernel = True
        try:
            with self._blas():
                diverged = self.backend.train(work, state, examples, steps)
            if diverged is None and not self.backend.RESTORES and not state.is_finite():
                diverged = Divergence(state.position.epoch, state.position.batch, contract.WEIGHTS_NOT_FINITE)
            if diverged is not None:
                raise FloatingPointError(
                    f"training diverged: {diverged.problem} epoch {diverged.epoch}, batch {diverged.batch} (counted "
                    f"from 0); the weights are back at epoch {self._began[0]}, batch {self._began[1]}. "
                    f"Lower the learning rate ({steps.rates[0]:g})"
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

    def _stage(self, steps: Steps) -> tuple[Examples, Steps]:
        """Return arrays that a kernel can read, and the steps that these serve, with their order."""
        inputs, Y, weight = self.data
        if inputs.array is not None:
            return Examples(inputs.array, Y, weight), steps
        n, plan, epoch = inputs.n if steps.order is None else len(steps.order), self.plan, self.position.epoch
        most = STAGE_BYTES // (plan.batch_size * int(plan.layers[0]) * self.dtype.itemsize)
        n_steps = max(1, min(steps.max_steps, most))
        start = self.position.batch * plan.batch_size
        if self._staged is None or self._staged[0] != epoch:
            order = built_in_order(plan, epoch, n) if steps.order is None else steps.order
            self._staged = epoch, order, np.arange(-n, n, dtype=np.int64)
        _, order, ramp = self._staged
        rows = order[start : start + n_steps * plan.batch_size]
        # Places in the epoch's order count from 0, rows of the stage from its first: place p holds row p - start.
        places = ramp[n - start : 2 * n - start]
        examples = Examples(inputs.take(rows), Y[rows], None if weight is None else weight[rows])
        return examples, steps._replace(max_steps=n_steps, order=places)

    def _workspace(self, n: int) -> Any:
        """Return the training workspace, allocated at first use and kept for later training of this plan and size."""
        threads = self._limit if self._training is not None else thread_limit(self.threads)
        if self._work is None or self._work[0][0] is not self.plan or self._work[0][1:] != (n, threads):
            key, record = (self.plan, n, threads), None
            self._work = None  # free the old one first
            if self.recording is not None:
                record = self.recording.of(self.plan, self.backend.NAME)
                threads = min(threads, len(record))
            work = self.backend.workspace(self.plan, self.dtype, n, threads=threads, isa=self.choice.isa, record=record)
            self._work = key, work
        return self._work[1]

    def record(self, recording: Recording | None) -> None:
        """Let training from now on be recorded, or no longer."""
        self.recording, self._work = recording, None

    def _restore(self) -> None:
        if self._kept is None:
            return
        try:
            self.state.copy_from(self._kept)
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

    def training_state(self) -> TrainingState:
        """Return all that training changes, between two kernel calls: the arrays themselves, no copies."""
        return TrainingState(self.state, self._unfinished if self._training is None else self._made_of(self._training))

    def restore(self, training_state: TrainingState) -> None:
        """Go on from what ``training_state`` of a session of the same plan returned."""
        self.state.copy_from(training_state.state)
        self._unfinished = training_state.unfinished

    def memory(self) -> int:
        """Return about how many bytes training takes beside the data: what is learned, its copies, and activations."""
        n, threads = self.plan.batch_size or contract.LARGEST_CHUNK, thread_limit(self.threads)
        work: int = self.backend.memory(self.plan, self.dtype, n, threads=threads, isa=self.choice.isa)
        copies = 1 if self.backend.RESTORES else 2  # live, and kept
        return work + copies * sum(array.nbytes for array in self.state.arrays)


class Completed(NamedTuple):
    """The epochs that a kernel call has completed."""

    first: int  # epochs completed before them
    losses: Floats
    rates: Floats
    seconds: float  # of all of them

    def columns(self) -> dict[str, Any]:
        """Return what a History records of them; they share the time evenly."""
        n = len(self.losses)
        return {
            "epoch": np.arange(self.first + 1, self.first + n + 1),
            "loss": self.losses,
            "learning_rate": self.rates,
            "time": np.full(n, self.seconds / n),
        }


def drive(
    session: Session,
    until: int,
    rates: Callable[[int, int], Floats],
    on_epochs: Callable[[Completed], bool | None],
    *,
    orders: Callable[[int], Ints] | None = None,
    per_step: Callable[[int], Floats] | None = None,
    next_stop: Callable[[int], int] | None = None,
    on_call_end: Callable[[], None] | None = None,
) -> None:
    """Train a session that has begun, until so many epochs are completed: kernel calls of about 50 ms each.

    ``rates`` takes two epochs, and returns the learning rate of each from the first to before the second. ``on_epochs``
    takes the epochs that a call has completed, whose time includes that of the calls before it that completed none;
    True stops. ``orders`` takes an epoch, once, and returns the rows that it visits; None: the built-in order.
    ``per_step`` takes a batch of the epoch in progress, before each kernel call, and returns the learning rates and
    hyperparameters of the steps from there on, or of some of them; None: the rates of the epochs and the plan's.
    ``next_stop`` takes an epoch, and returns a later one, beyond which a call must not train. ``on_call_end`` is called
    after each kernel call, also inside an epoch, unless training was stopped.
    """
    position, elapsed, order = session.position, 0.0, None
    ordered = -1  # the epoch that the order is of
    while position.epoch < until:
        first, first_batch = position.epoch, position.batch
        if orders is not None and ordered != first:
            order, ordered = orders(first), first
        n_batches = -(-(session.data.inputs.n if order is None else len(order)) // session.plan.batch_size)
        own = None if per_step is None else per_step(first_batch)
        further = session.steps // n_batches if order is None and own is None else 0
        last = min(until, first + 1 + further)
        if next_stop is not None:
            last = min(last, next_stop(first))
        most = session.steps if own is None else min(session.steps, len(own))
        steps = Steps(rates(first, last), np.empty(last - first), most, order, own)
        seconds = session.run(steps)
        elapsed += seconds
        done = position.epoch - first
        made = done * n_batches + position.batch - first_batch
        session.steps = max(1, min(made * 8, int(made * CALL_SECONDS / max(seconds, 1e-9))))
        if done:
            if on_epochs(Completed(first, steps.losses[:done], steps.rates[:done], elapsed)):
                return
            elapsed = 0.0
        if on_call_end is not None:
            on_call_end()
