"""The profile of one Trainer, recorded by its backend's kernels."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from briskmlp._messages import check_choice, count, describe_bytes
from briskmlp.backends import native
from briskmlp.backends.recording import HEAD, Recording, make_record
from briskmlp.backends.threads import thread_limit
from briskmlp.profiling.machine import Machine, limits
from briskmlp.profiling.pictures import draw, trace_events
from briskmlp.profiling.rows import Row, make_rows
from briskmlp.session import Session
from briskmlp.storage.files import written

MILLISECOND = 10**6  # in which a clock's rate is found to 0.1 %
# The columns of the table: what sorts them, their heading, and the cell of a row, with a dash for a missing value.
_CELLS: dict[str, tuple[str, str, Callable[[Row], str]]] = {
    "layer": ("layer", "layer", lambda row: str(row.layer or "all")),
    "phase": ("phase", "phase", lambda row: row.phase),
    "calls": ("calls", "calls", lambda row: str(row.calls)),
    "time": ("seconds", "time ms", lambda row: f"{row.seconds * 1e3:.3f}"),
    "share": ("share", "share", lambda row: f"{row.share:.1%}"),
    "gflops": ("gflops", "GFLOP/s", lambda row: f"{row.gflops:.1f}" if row.flops else "-"),
    "bytes": ("bytes", "bytes", lambda row: describe_bytes(round(row.bytes)) if row.bytes else "-"),
    "intensity": ("intensity", "FLOP/byte", lambda row: f"{row.intensity:.1f}" if row.flops else "-"),
    "roofline": ("roofline", "of roofline", lambda row: "-" if row.roofline is None else f"{row.roofline:.0%}"),
    "bound": ("bound", "bound by", lambda row: row.bound or "-"),
}
COLUMNS = tuple(_CELLS)
_TEXTS = ("phase", "bound")  # aligned left, and sorted in ascending order
MODELLED = (
    "FLOPs are those of the products alone. Bytes are modelled, not measured: each phase reads its operands and\n"
    "writes its results once. Where that would be faster than memory, they were in cache."
)


class Profile:
    """The time that a Trainer's training spends in each layer and phase, from ``with trainer.profile() as p``.

    The kernels record the time of each phase; the results of training stay the same bits. Of steps of fewer than
    10 MFLOP (100 MFLOP on the NumPy backend), only one in n is recorded, where n depends on the shape of the first
    training, and times are scaled to all steps. ``predict``, ``evaluate`` and validation are not recorded.

    Attributes
    ----------
    rows : list of Row
        One per layer and phase; ``layer`` (from 1, None for the whole network), ``phase``, ``calls`` (of all threads),
        ``seconds`` (mean of the threads), ``share``, ``flops``, ``bytes`` (modelled), ``gflops``, ``intensity``
        (FLOP/byte), ``roofline`` (share of ``min(peak, intensity · bandwidth)``), ``bound`` (``"compute"``,
        ``"memory"``, ``"cache"``: faster than memory could be, ``"barrier"``, or ``"overhead"``: below a tenth of the
        roofline).
    machine : Machine or None
        This machine's peak and bandwidth, measured at first use and cached in the user's cache directory.
    steps, sampled, every : int
        Number of steps, and of those recorded, one in ``every``.
    seconds, step_seconds : float
        Time of all kernel calls, and of all steps in them, scaled if not all were recorded.

    Examples
    --------
    >>> import numpy as np
    >>> from briskmlp import Trainer
    >>> trainer = Trainer([500, 400, 10], batch_size=100, seed=0, backend="numpy")
    >>> X, Y = np.zeros((400, 500)), np.zeros((400, 10))
    >>> with trainer.profile() as p:
    ...     history = trainer.fit(X, Y, epochs=2)
    >>> p.steps, p.sampled, [row.calls for row in p.rows if row.phase == "dX"]
    (8, 8, [8])
    """

    def __init__(self, session: Session) -> None:
        if session.recording is not None:
            raise RuntimeError("this Trainer is being profiled already; leave the first profile before the next")
        self._session = session
        self._begin = self._now()
        self._end: tuple[int, int] | None = None
        workers = thread_limit(session.threads) if session.backend is native else 1
        self._recording = Recording(make_record(len(session.plan.activations), workers))
        self._machine: Machine | None = None
        self._why: str | None = None  # there is none
        self._plan = session.plan
        self.backend, self.isa, self.dtype = session.backend.NAME, session.choice.isa, session.dtype.name
        session.record(self._recording)

    def clear(self) -> None:
        """Discard what was recorded so far, such as a first step, which also allocates the workspace."""
        record = self._recording.record
        for name in (*HEAD[1:], "counts"):
            record[name] = 0
        self._recording.seconds = 0.0

    def close(self) -> None:
        """Stop recording; what was recorded is kept."""
        if self._end is None:
            self._end = self._now(self._begin[1] + MILLISECOND)
            self._session.record(None)

    def _now(self, after: int = 0) -> tuple[int, int]:
        """Return the time by the backend's clock and the system's, after waiting if necessary."""
        while True:
            now = self._session.backend.ticks(), time.monotonic_ns()
            if now[1] >= after:
                return now

    @property
    def _ticks_per_second(self) -> float:
        """The rate of the backend's clock, measured against the system's over the whole profile, at least 1 ms."""
        ticks, nanoseconds = self._end or self._now(self._begin[1] + MILLISECOND)
        return (ticks - self._begin[0]) / (nanoseconds - self._begin[1]) * 1e9

    # --- what was recorded -------------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[Row]:
        """One per layer and phase with any calls, in the order of the layers."""
        itemsize = self._session.dtype.itemsize
        return make_rows(self._recording.record, self._plan, self.isa, itemsize, self._ticks_per_second, self.machine)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self._recording.record[0]["steps"])

    @property
    def sampled(self) -> int:
        """Number of steps recorded."""
        return int(self._recording.record[0]["sampled"])

    @property
    def every(self) -> int:
        """One in so many steps is recorded; 0 before any training."""
        return int(self._recording.record[0]["every"])

    @property
    def threads(self) -> int:
        """The largest number of threads that ran a step."""
        return max(1, int((self._recording.record["sampled"] > 0).sum()))

    @property
    def seconds(self) -> float:
        """The time of all kernel calls."""
        return self._recording.seconds

    @property
    def step_seconds(self) -> float:
        """The time of all steps, averaged over the threads and scaled from the recorded steps."""
        record = self._recording.record
        recorded = record["sampled"].sum()
        return float(record["ticks"].sum() / recorded / self._ticks_per_second * self.steps) if recorded else 0.0

    @property
    def machine(self) -> Machine | None:
        """The machine's limits, for the instruction set, dtype and threads of the training; None if not known."""
        if self._machine is None and self.sampled:
            try:
                # On other backends, BLAS uses the Trainer's threads.
                threads = self.threads if self.backend == "native" else thread_limit(self._session.threads)
                self._machine = limits(self.isa or native.isa(), self.dtype, threads)
            except RuntimeError as error:
                self._why = str(error)
        return self._machine

    # --- shown -------------------------------------------------------------------------------------------------------

    def table(self, sort_by: str = "layer") -> str:
        """Return a text table, as ``str`` and ``print`` do.

        Parameters
        ----------
        sort_by : {"layer", "phase", "calls", "time", "share", "gflops", "bytes", "intensity", "roofline", "bound"}
            Numeric columns are sorted in descending order.
        """
        check_choice("sort_by", sort_by, COLUMNS)
        rows, machine = self.rows, self.machine
        lines = [self._title()]
        if not rows:
            missing = f": only one in {self.every} is; train more" if self.steps else ""
            return "\n".join([*lines, f"of {self.steps} steps none was recorded{missing}"])
        if sort_by != "layer":
            attribute, texts = _CELLS[sort_by][0], sort_by in _TEXTS
            rows.sort(key=lambda row: getattr(row, attribute) or ("" if texts else 0), reverse=not texts)
        columns = []
        for name, (_, heading, cell) in _CELLS.items():
            cells = [heading, *map(cell, rows)]
            width = max(map(len, cells))
            columns.append([text.ljust(width) if name in _TEXTS else text.rjust(width) for text in cells])
        lines += ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
        lines += ["", self._sums(rows)]
        if machine is None:
            lines.append(f"no roofline: {self._why}")
        else:
            lines.append(f"this machine: {machine.describe()}")
            if any(row.bound == "compute" and (row.roofline or 0) > 1.05 for row in rows):
                again = "measure again with briskmlp profile --calibrate"
                lines.append(f"these limits are too low, the machine was busy: {again}")
        if self.backend != "native":
            lines.append(f"the {self.backend} backend's BLAS does not say how long its threads wait for each other")
        return "\n".join([*lines, MODELLED])

    __str__ = table

    def _title(self) -> str:
        widths = "-".join(map(str, self._plan.layers))
        how = " ".join(filter(None, (self.backend, self.isa, self.dtype)))
        sampled = f", one in {self.every} recorded and scaled" if self.every > 1 else ""
        team, steps = count(self.threads, "thread"), count(self.steps, "step")
        return f"{widths}, {how}, {team}: {steps}{sampled}, {self.step_seconds * 1e3:.1f} ms"

    def _sums(self, rows: list[Row]) -> str:
        bounds: dict[str, float] = {}
        for row in rows:
            bounds[row.bound or "unknown"] = bounds.get(row.bound or "unknown", 0.0) + row.share
        parts = ", ".join(f"{bound} {share:.1%}" for bound, share in sorted(bounds.items(), key=lambda kv: -kv[1]))
        seconds = self.seconds  # 0 while the first call is not over, which another thread may be in
        calls = f"; these are {self.step_seconds / seconds:.1%} of the calls' {seconds * 1e3:.1f} ms" if seconds else ""
        return f"bound by {parts}\nthe phases are {sum(row.share for row in rows):.1%} of the steps{calls}"

    def to_json(self) -> str:
        """Return the profile as a JSON object: ``rows``, ``machine`` and the totals of ``table``."""
        machine = self.machine
        same = ("backend", "isa", "dtype", "threads", "steps", "sampled", "every", "seconds", "step_seconds")
        report = {
            "layers": self._plan.layers.tolist(),
            **{name: getattr(self, name) for name in same},
            "machine": None if machine is None else {**machine._asdict(), "bandwidth": machine.bandwidth},
            "modelled": ["flops", "bytes", "gflops", "intensity", "roofline", "bound"],
            "rows": [{**row._asdict(), "gflops": row.gflops, "intensity": row.intensity} for row in self.rows],
        }
        return json.dumps(report)

    def to_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the last 65,536 laps and steps of each thread as a trace that https://ui.perfetto.dev opens.

        Parameters
        ----------
        path : str or path-like
            Path of a JSON file, which is replaced atomically.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        events = trace_events(self._recording.record, self._ticks_per_second)
        text = json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})
        with written(path) as file:
            file.write(text.encode())

    def plot(self) -> Any:
        """Return a matplotlib Figure: the roofline with a mark for each layer and phase, and bars of time.

        Raises
        ------
        ImportError
            Matplotlib is not installed.
        """
        return draw(self.rows, self.machine, self._title())
