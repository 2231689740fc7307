"""The contract of a backend: functions over a Plan and plain arrays, which a module offers.

Rules that every backend obeys
------------------------------
- ``parameters`` and each of the ``slots`` are flat and dense (W1 b1 W2 b2 … and then γ and β of each normalisation, C
  order) and of the dtype that is trained in, as are the ``statistics``. Packed, padded or transposed copies are
  workspace, rebuilt on entry to a call.
- ``X`` is (n, n_in) of that dtype with unit stride along columns and any row stride; it is only read.
  ``Y`` is (n, n_out) of that dtype, C order, or int64 labels (n,). ``weight`` is (n,) of that dtype or None.
- ``rows`` is an int64 index vector into X, Y and weight.
- A batch is ``order[batch * batch_size:(batch + 1) * batch_size]``; the last of an epoch may be short. Its gradient, a
  sum over its rows, is divided by their weight, by their number, or by 1, as ``plan.divisor`` says; a batch of weight
  zero that would be divided by it is skipped. All gradients of a step precede any of its updates.
- Dropout and clipping are ``train``'s alone. Unit u of hidden layer l (from 0) is dropped if its number in
  ``random.dropout_numbers`` is below ``t = round(plan.dropout[l] * 2**16)``, and else multiplied by
  ``2**16 / (2**16 - t)``; an example's place is ``batch * batch_size`` plus its index in the batch, whatever its row.
  A gradient, l2 and biases included, whose float64 norm plus ``plan.clip_epsilon`` is above ``plan.clip_norm`` is
  multiplied by the quotient of the latter and that sum.
- Batch normalisations take the mean and variance of all rows of a step in ``train``, which moves the running ones, and
  of all rows that it is given in ``gradient`` with ``grad``; the running ones in ``forward``, in ``gradient`` without
  ``grad``, and wherever ``plan.norm_fixed`` is 1. Weights of examples do not count in them. A batch that is skipped
  moves none. Calls of ``gradient`` with ``grad`` must then not be cut, nor have more rows than ``batch_size`` unless
  that is 0. Where a normalisation stands before an activation, that is of its output, as is a slope that is saved;
  dropout comes after both.
- ``plan.precision`` says what the three products, ``A @ W``, ``delta @ W.T`` and ``A.T @ delta``, read of their
  operands; all else is float32: sums, bias, activation, loss, f', db, clipping, state, and the parameters, which stay
  whole. HIGHEST reads numbers as they are. BFLOAT16 rounds each operand once, where it is produced: A[0] to A[L-1],
  after dropout, and every delta, ``scale`` included, are kept rounded, and f' and db are of these; W is rounded to a
  copy. HIGH keeps A and delta whole, and reads of each operand two parts, ``x1 = bfloat16(x)`` and
  ``x2 = bfloat16(x - x1)``: a product is ``x1 w1 + x1 w2 + x2 w1``. HIGHEST may read them so as well, of float32 all in
  three parts, whose products ``x1 w3 + x2 w2 + x3 w1`` are then added. ``bfloat16`` rounds to 8 significant bits, to
  nearest, ties to even; from 3.396e38 on to infinity, whose second part is NaN; and what is below 2**-126, the smallest
  normal number, to 0. Products of two parts are exact in float32; their sums may run in any order.
- ``plan.report_scale`` multiplies the loss of the data that ``train`` and ``gradient`` tell; no gradient, no l2 term.
- Results depend on the Plan, the data and the position alone: not on where calls are cut, nor on what a workspace was
  used for before.
- Kernels read no clock, unless they keep a record, draw no randomness but the Plan's streams, and allocate nothing
  that grows with use.
- When a loss is not finite ``train`` stops and says where. A backend that RESTORES then leaves parameters, state and
  position as they were, and does so too where what was learned is not finite; its calls move everything or nothing.
  With the others all this is undefined: the caller keeps a copy from before the call, looks whether what was learned
  is finite, and restores it, in this one place for such backends and interrupts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from briskmlp.network import FloatArray
from briskmlp.operations.rules import BY_CODE
from briskmlp.plan import HIGHEST, Floats, Ints, Plan
from briskmlp.random import sample_order

Rows = Ints
Workspace = Any
LARGEST_CHUNK = 4096  # rows whose activations are held at once at most: enough for BLAS, bounded for any batch
CACHE_LINE = 64  # bytes


def aligned_zeros(n: int, dtype: np.dtype[Any]) -> FloatArray:
    """Return ``n`` zeros that start on a cache line."""
    line = CACHE_LINE // dtype.itemsize
    buffer: FloatArray = np.zeros(n + line, dtype=dtype)
    start = (-buffer.ctypes.data // dtype.itemsize) % line
    return buffer[start : start + n]


@dataclass
class Position:
    """How far training has come. Kernels move it; whatever is cut at a position goes on from it with the same bits."""

    counts: Ints = field(default_factory=lambda: np.zeros(3, dtype=np.int64))  # epoch, batch, step
    # the epoch's Σ batch loss·divisor, and Σ divisor; with report_rows, a batch counts by its rows
    sums: Floats = field(default_factory=lambda: np.zeros(2))

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return int(self.counts[0])

    @property
    def batch(self) -> int:
        """Batches done of the epoch in progress."""
        return int(self.counts[1])

    @property
    def step(self) -> int:
        """Updates made."""
        return int(self.counts[2])

    def drop_epoch(self) -> None:
        """Forget the batches done of an unfinished epoch; the weights keep what these taught."""
        self.counts[1] = 0
        self.sums[:] = 0.0


@dataclass
class State:
    """All that training changes. What is in the arrays moves; the arrays stay."""

    parameters: FloatArray  # (n_parameters,)
    slots: FloatArray  # (n_slots, n_parameters), what the update rule keeps of each parameter
    scalars: Floats = field(default_factory=lambda: np.zeros(0))  # what it keeps beside; NAdam's product of momenta
    # (n_statistics,), what no gradient moves: running mean and variance of each batch normalisation
    statistics: FloatArray = field(default_factory=lambda: np.zeros(0))
    position: Position = field(default_factory=Position)

    @classmethod
    def initial(cls, plan: Plan, dtype: np.dtype[Any]) -> State:
        """Return the state of a training that has not begun, whose parameters are still to be drawn."""
        n = plan.n_parameters
        slots = aligned_zeros(plan.n_slots * n, dtype).reshape(plan.n_slots, n)
        state = cls(aligned_zeros(n, dtype), slots, np.zeros(plan.n_scalars), np.zeros(plan.n_statistics, dtype))
        for place in np.flatnonzero(plan.norm_statistics >= 0):
            _, variance = statistics_at(plan, int(place), state.statistics)
            variance.fill(1.0)
        BY_CODE[plan.rule].fill(slots, state.scalars, plan.hyper)
        return state

    @property
    def arrays(self) -> tuple[FloatArray, ...]:
        """All but the position."""
        return self.parameters, self.slots, self.scalars, self.statistics

    def copy_from(self, other: State) -> None:
        """Take over the numbers of another state of the same plan."""
        for own, given in zip(self.arrays, other.arrays, strict=True):
            np.copyto(own, given)
        self.position.counts[:], self.position.sums[:] = other.position.counts, other.position.sums

    def is_finite(self) -> bool:
        """Return whether all numbers are finite."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays)


def statistics_at(plan: Plan, place: int, statistics: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return views of the running mean and variance of the batch normalisation at a place, each (n,)."""
    start, n = int(plan.norm_statistics[place]), int(plan.layers[place])
    return statistics[start : start + n], statistics[start + n : start + 2 * n]


class Examples(NamedTuple):
    """The rows that a call reads."""

    X: FloatArray
    Y: Any
    weight: FloatArray | None = None  # (n,); one number per element, (n, n_out), is refused so far
    divisor: FloatArray | None = None  # (n,) what a batch is divided by in place of its weight; refused so far


class Steps(NamedTuple):
    """What a call of ``train`` is to do: at most ``max_steps`` steps, and at most ``len(rates)`` epochs."""

    rates: Floats  # of each epoch from the one in progress
    losses: Floats  # is written to, one for each of these epochs that is completed
    max_steps: int
    order: Ints | None = None  # the rows of the epoch in progress, which the call then stays in; None: built_in_order
    # (max_steps or more, 1 + MAX_HYPER): of each step the learning rate and the rule's hyperparameters, in place of
    # ``rates`` and of the plan's
    per_step: Floats | None = None


def refuse_unfilled(examples: Examples, dX: FloatArray | None = None) -> None:
    """Refuse what the contract has a place for, but no kernel computes yet, in every backend's calls alike."""
    given = {
        "weight of (n, n_out)": examples.weight is not None and examples.weight.ndim != 1,
        "divisor": examples.divisor is not None,
        "dX": dX is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise NotImplementedError(f"{name} is given, which no kernel supports yet; accepted: None")


def built_in_order(plan: Plan, epoch: int, n: int) -> Ints:
    """Return the order in which an epoch visits ``n`` rows if no other is given."""
    return sample_order(plan.seed % 2**64, epoch, n) if plan.shuffle else np.arange(n, dtype=np.int64)


LOSS_NOT_FINITE = "the loss is not finite in"
WEIGHTS_NOT_FINITE = "weights or state overflowed before"


class Divergence(NamedTuple):
    """Where training met numbers that are not finite, counted from 0, and which."""

    epoch: int
    batch: int
    problem: str = LOSS_NOT_FINITE  # or WEIGHTS_NOT_FINITE; the place follows it


def no_reason(*_: Any) -> None:
    """Return None: what keeps a backend from running that runs anywhere, or its ISA if that is left to others."""


def estimate_memory(plan: Plan, dtype: np.dtype[Any], n: int, *, threads: int = 1, isa: str | None = None) -> int:
    """Return about the bytes of a workspace that pads what is learned, and has a gradient and activations."""
    numbers = (3 + plan.n_slots) * plan.n_parameters  # padded, and the gradient, and transposed weights
    return (numbers + 2 * min(n, LARGEST_CHUNK) * int(plan.layers.sum())) * dtype.itemsize


class Backend(Protocol):
    """What a backend module offers."""

    NAME: str  # under which users choose it
    RESTORES: bool  # whether ``train`` moves everything or nothing
    USES_BLAS: bool  # whether its threads are those of a BLAS library

    def isa(self, precision: int = HIGHEST) -> str | None:
        """Return the instruction set that a new workspace takes, or None if that is left to others."""

    def unavailable(self) -> str | None:
        """Return why this backend cannot run here, or None."""

    def unsupported(self, plan: Plan, dtype: np.dtype[Any]) -> str | None:
        """Return why this backend cannot run this plan, or None."""

    def workspace(
        self,
        plan: Plan,
        dtype: np.dtype[Any],
        n: int,
        *,
        training: bool = True,
        threads: int = 1,
        isa: str | None = None,
        record: Any = None,
    ) -> Workspace:
        """Allocate what calls over up to ``n`` rows need, bounded by fixed row chunks; compile what is missing.

        A workspace belongs to the plan, and serves one call at a time, and at most so many ``threads``. With
        ``training=False`` it serves ``forward``, and ``gradient`` without ``grad``, alone. ``isa`` is what ``isa()``
        returned when the backend was chosen; None asks it now. A backend without a choice of them ignores it. ``train``
        writes to a ``record`` (recording.py) of at least so many workers, which costs nothing where there is none.
        """

    def ticks(self) -> int:
        """Return the time by the clock of records; raises RuntimeError where it has none."""

    def memory(self, plan: Plan, dtype: np.dtype[Any], n: int, *, threads: int = 1, isa: str | None = None) -> int:
        """Return about how many bytes a workspace for training takes."""

    def forward(self, work: Workspace, state: State, X: FloatArray, rows: Rows, out: FloatArray) -> None:
        """Write the last activations of ``X[rows]`` to ``out``, (len(rows), n_out) in C order."""

    def gradient(
        self,
        work: Workspace,
        state: State,
        examples: Examples,
        rows: Rows,
        scale: float,
        grad: FloatArray | None = None,
        dX: FloatArray | None = None,
        *,
        with_penalty: bool = True,
    ) -> float:
        """Add ``scale`` times the un-normalised gradient of these rows to ``grad``; return their un-normalised loss.

        Both include the plan's l2 term once, or not at all, so that calls may share a batch; neither has dropout or
        clipping. The caller zeroes ``grad``; None computes the loss alone.
        """

    def update(self, plan: Plan, state: State, grad: FloatArray, rate: float) -> None:
        """Move the parameters by one step of the plan's rule, and count it."""

    def train(self, work: Workspace, state: State, examples: Examples, steps: Steps) -> Divergence | None:
        """Make steps from the state's position: gather, forward, backward, update.

        Returns None, or what is not finite. Without ``steps.order`` the call may cross epochs.
        """
