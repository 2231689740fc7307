"""The record of a profiled training: how often and how long each worker was in each phase of each layer.

A record is one int64 array, which whoever profiles allocates and reads, and a backend's ``train`` writes: no worker
allocates anything. ``kernels/runtime/profile.h`` and ``numba/recording.py`` have the same layout. A step is cut into
laps: each begins where the one before ended, so that they add up to the step. Times are in the ``ticks`` of the
backend's clock.
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
_EVERY, _STEPS, _ROWS, _SAMPLED, _TICKS, _N_EVENTS = range(6)  # of HEAD

# A lap costs some 40 ns on the slowest clock in use, a step of L layers has about 4 L + 2, and kernels do 100 GFLOP/s
# and more: every step of 10 MFLOP is recorded, of smaller ones so many fewer. NumPy's laps are written by Python, which
# takes some 7 µs a step. Which steps, multiples of the golden ratio say: they keep step with no number of batches.
STEP_FLOPS = {"native": 1e7, "numba": 1e7, "numpy": 1e8}
RAREST = 64
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / 1.618…
MOST = 2**64 - 1


def every(plan: Plan, rows: int, backend: str = "native") -> int:
    """Return of how many steps one is recorded, in batches of so many rows: the same for any machine."""
    flops = 6.0 * rows * float(plan.layers[:-1] @ plan.layers[1:])
    return int(min(RAREST, max(1.0, -(-STEP_FLOPS[backend] // flops))))


def make_record(n_layers: int, workers: int) -> Any:
    """Return an empty record of so many workers: a structured array (workers,), whose memory is int64 throughout.

    ``counts`` (n_layers + 1, phases) has calls and ticks; the last layer stands for the whole network.
    """
    fields: list[Any] = [(name, np.int64) for name in HEAD]
    fields += [("counts", [(name, np.int64) for name in ("calls", "ticks")], (n_layers + 1, len(PHASES)))]
    fields += [("events", [(name, np.int64) for name in EVENT], (EVENTS,))]
    return np.zeros(workers, dtype=fields)


def words(record: Any) -> Ints:
    """Return a record as the flat int64 numbers that kernels take."""
    return record.view(np.int64)  # type: ignore[no-any-return] # of a structured array


@dataclass
class Recording:
    """A record, and the seconds of the kernel calls that wrote it."""

    record: Any
    seconds: float = 0.0

    def of(self, plan: Plan, backend: str) -> Any:
        """Return the record for a backend's kernels of a plan; the first one's batches decide which steps it has."""
        if not self.record["every"].any():
            self.record["every"] = every(plan, plan.batch_size, backend)
        return self.record


class Laps:
    """One worker's laps, written by Python into the ``words`` of its record, in ticks of a clock; None records nothing.

    A lap only takes the time: to write one into an array takes longer than the lap's own end, so it is done after the
    step, which ends with its last lap. A step that was broken off leaves nothing.
    """

    def __init__(self, record: Ints | None, clock: Any) -> None:
        self._record = None if record is None else record.data  # single numbers: quicker than an array
        self._clock, self._step, self._laps = clock, 0, [(0, 0, 0)]

    def begin(self, step: int, rows: int) -> None:
        """Begin a step, which counts from 1."""
        record = self._record
        if record is None:
            return
        record[_STEPS] += 1
        record[_ROWS] += rows
        self._step = step if step * GOLDEN & MOST <= MOST // max(1, record[_EVERY]) else 0
        if self._step:
            self._laps = [(self._clock(), 0, 0)]

    def lap(self, layer: int, phase: int) -> None:
        """Note that the time since the last lap was spent in this phase; layer -1 is the whole network."""
        if self._step:
            self._laps.append((self._clock(), layer, phase))

    def end(self) -> None:
        """End the step, and write its laps."""
        record = self._record
        if not self._step or record is None:
            return
        n_layers = (len(record) - len(HEAD) - len(EVENT) * EVENTS) // (2 * len(PHASES))
        start = mark = self._laps[0][0]
        for now, layer, phase in self._laps[1:]:
            place = layer % n_layers * len(PHASES) + phase
            record[len(HEAD) + 2 * place] += 1
            record[len(HEAD) + 2 * place + 1] += now - mark
            self._write(record, mark, now, place)
            mark = now
        record[_SAMPLED] += 1
        record[_TICKS] += mark - start
        self._write(record, start, mark, -1)
        self._step = 0

    def _write(self, record: memoryview, start: int, end: int, place: int) -> None:
        event = len(record) - len(EVENT) * (EVENTS - record[_N_EVENTS] % EVENTS)
        record[event], record[event + 1], record[event + 2], record[event + 3] = start, end, self._step, place
        record[_N_EVENTS] += 1
