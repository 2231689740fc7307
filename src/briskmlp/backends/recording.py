"""The record of a profiled training: how often and how long each worker was in each phase of each layer.

A record is one int64 array, which whoever profiles allocates and reads, and a backend's ``train`` writes: no worker
allocates anything. ``kernels/profile.h`` and ``numba/recording.py`` have the same layout. A step is cut into laps: each
begins where the one before ended, so that they add up to the step. Times are in the ``ticks`` of the backend's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from briskmlp.plan import Ints, Plan

# "dW+update": each block of weights is moved as soon as its gradient is complete. norm: of a gradient that is to be
# clipped. update: slices added up, clipped, applied. wait: at a barrier, after work on this layer. prepare: gradients
# zeroed, weights transposed, the l2 term.
PHASES = ("gather", "forward", "loss", "dX", "dW", "dW+update", "norm", "update", "wait", "prepare")
GATHER, FORWARD, LOSS, DX, DW, DW_UPDATE, NORM, UPDATE, WAIT, PREPARE = range(len(PHASES))
EVENTS = 2**16  # the last ones are kept
HEAD = ("every", "steps", "rows", "sampled", "ticks", "n_events", "mark", "start", "step")
EVENT = ("start", "end", "step", "place")  # place is layer * len(PHASES) + phase, or -1 for a whole step

# A lap costs some 40 ns on the slowest clock in use, a step of L layers has about 4 L + 2, and kernels do 100 GFLOP/s
# and more: every step of 10 MFLOP is recorded, of smaller ones so many fewer. Which ones, multiples of the golden ratio
# say, as they keep step with no number of batches in an epoch.
STEP_FLOPS = 1e7
RAREST = 64
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / 1.618…
MOST = 2**64 - 1


def every(plan: Plan, rows: int) -> int:
    """Return of how many steps one is recorded, in batches of so many rows: the same for any machine.

    Examples
    --------
    >>> from briskmlp.network import Network
    >>> from briskmlp.optimizers import SGD
    >>> from briskmlp.plan import make_plan
    >>> plan = make_plan(Network([784, 100, 10]), loss="mse", optimizer=SGD(), batch_size=0, l2=0, shuffle=True, seed=0)
    >>> every(plan, 32), every(plan, 8)
    (1, 3)
    """
    flops = 6.0 * rows * float(plan.layers[:-1] @ plan.layers[1:])
    return int(min(RAREST, max(1.0, -(-STEP_FLOPS // flops))))


def make_record(n_layers: int, workers: int) -> Any:
    """Return an empty record of so many workers: a structured array (workers,), whose memory is int64 throughout.

    ``counts`` (n_layers + 1, phases) has calls and ticks; the last layer stands for the whole network.
    """
    counts = np.dtype([("calls", np.int64), ("ticks", np.int64)])
    fields: list[Any] = [(name, np.int64) for name in HEAD]
    fields += [("counts", counts, (n_layers + 1, len(PHASES)))]
    fields += [("events", [(name, np.int64) for name in EVENT], (EVENTS,))]
    return np.zeros(workers, dtype=np.dtype(fields))


def words(record: Any) -> Ints:
    """Return a record as the flat int64 numbers that kernels take."""
    return record.view(np.int64)  # type: ignore[no-any-return] # of a structured array


@dataclass
class Recording:
    """A record, and the seconds of the kernel calls that wrote it."""

    record: Any
    seconds: float = 0.0

    def of(self, plan: Plan) -> Any:
        """Return the record for kernels of a plan; the first one's batches decide which steps it has."""
        if not self.record["every"].any():
            self.record["every"] = every(plan, plan.batch_size)
        return self.record


class Laps:
    """One worker's laps, written by Python.

    Parameters
    ----------
    record : record of one worker, or None
        None records nothing.
    clock : function
        Returns the time in ticks.
    """

    def __init__(self, record: Any, clock: Any) -> None:
        self._record, self._clock, self._step, self._mark, self._start = record, clock, 0, 0, 0

    def begin(self, step: int, rows: int) -> None:
        """Begin a step, which counts from 1."""
        record = self._record
        if record is None:
            return
        record["steps"] += 1
        record["rows"] += rows
        self._step = step if step * GOLDEN & MOST <= MOST // max(1, int(record["every"])) else 0
        if self._step:
            self._mark = self._start = self._clock()

    def lap(self, layer: int, phase: int) -> None:
        """Note that the time since the last lap was spent in this phase; layer -1 is the whole network."""
        if not self._step:
            return
        now, counts = self._clock(), self._record["counts"]
        layer %= len(counts)
        counts[layer, phase]["calls"] += 1
        counts[layer, phase]["ticks"] += now - self._mark
        self._write(self._mark, now, layer * len(PHASES) + phase)
        self._mark = now

    def end(self) -> None:
        """End the step."""
        if not self._step:
            return
        now, record = self._clock(), self._record
        record["sampled"] += 1
        record["ticks"] += now - self._start
        self._write(self._start, now, -1)
        self._step = 0

    def _write(self, start: int, end: int, place: int) -> None:
        n = int(self._record["n_events"])
        self._record["events"][n % EVENTS] = start, end, self._step, place
        self._record["n_events"] = n + 1


NO_LAPS = Laps(None, None)
