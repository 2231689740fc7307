"""What the report is made of, measured: duels, starts and memory, as rows of plain numbers.

Rows say in "absent" why a contender has no numbers: not installed, failed, too slow, or no time left. None of these
ends the run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, Self

from duel import Contestant, MissingError, check, summary
from limits import fma_limit
from report_plan import OURS, RIVALS, Job, Settings, plan
from startup import IMPORT, run
from workloads import WORKLOADS

Row = dict[str, Any]
NO_TIME = "no time was left"


class LeftOutError(Exception):
    """The contender is not asked, for a reason."""


def start(name: str, threads: int, **environment: str) -> Contestant:
    """Start a contender's process."""
    return Contestant(name, threads, environment)


class Pool:
    """The warm processes of one number of threads, each started at its first use."""

    def __init__(self, threads: int) -> None:
        self.threads, self.started = threads, dict[str, Contestant | str]()
        self.rates: dict[tuple[str, str], float] = {}  # best FLOP/s of a contender and dtype, where arithmetic rules

    def __enter__(self) -> Self:
        self.stack = ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def __getitem__(self, name: str) -> Contestant:
        if name not in self.started:
            try:
                self.started[name] = self.stack.enter_context(start(name, self.threads))
            except (MissingError, RuntimeError) as reason:
                self.started[name] = str(reason)
        contestant = self.started[name]
        if isinstance(contestant, str):
            raise LeftOutError(contestant)
        return contestant


class Duel:
    """One job at work: who is ready, and who is absent, and why."""

    def __init__(self, job: Job, pool: Pool, settings: Settings) -> None:
        self.job, self.pool, self.settings = job, pool, settings
        self.ready: dict[str, Contestant] = {}
        self.absent: dict[str, str] = {}

    def rows(self) -> list[Row]:
        """Let all take turns; one row each."""
        for name in self.job.names:
            self.attempt(name, self.prepare)
        for _ in range(self.job.pairs):
            for name in list(self.ready):
                self.attempt(name, Contestant.turn)
        base = next((name for name in self.job.names if name in self.ready and name.startswith("briskmlp")), None)
        return [self.row(name, base) for name in self.job.names]

    def attempt(self, name: str, action: Callable[[Contestant], object]) -> None:
        """Whoever fails is out of this duel; a process that ended, out of the pool too."""
        try:
            self.ready[name] = self.pool[name]
            action(self.ready[name])
        except (LeftOutError, OSError, RuntimeError) as reason:
            self.absent[name] = str(reason)
            failed = self.ready.pop(name, None)
            if failed and failed.process.poll() is not None:
                self.pool.started[name] = str(reason)

    def prepare(self, contestant: Contestant) -> None:
        workload, dtype = self.job.workload, self.job.dtype
        name = next(name for name, ready in self.ready.items() if ready is contestant)
        epoch = workload.steps * workload.flops / self.pool.rates.get((name, dtype), float("inf"))
        if epoch > self.settings.slowest:
            raise LeftOutError(f"too slow, about {epoch:.2g} s an epoch, where {self.settings.slowest:g} s are allowed")
        contestant.prepare(workload, dtype, shuffle=False, quick=False, seconds=self.settings.seconds)
        check([contestant], workload)

    def row(self, name: str, base: str | None) -> Row:
        """The numbers of a contender; ratios are to `base`, the first of ours that works."""
        workload, dtype, threads = self.job.workload, self.job.dtype, self.job.threads
        row: Row = {"contender": name, "workload": workload.name, "dtype": dtype, "threads": threads, **self.job.labels}
        if base is None or name in self.absent:
            return row | {"absent": self.absent.get(name, "nothing of briskmlp's to compare with")}
        contestant = self.ready[name]
        numbers = summary(contestant, self.ready[base], workload)
        if workload.flops > 1e9:
            self.pool.rates[name, dtype] = workload.flops / min(contestant.per_step)
        us = {"us": numbers["us_per_step"], "us_quartiles": quartiles([1e6 * s for s in contestant.per_step])}
        kept = {key: numbers[key] for key in ("ratio", "ratio_quartiles", "ratio_of_best", "pairs", "gflops")}
        return row | {"isa": contestant.isa, "base": name == base} | us | kept


def quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4)[::2] if len(values) > 1 else [*values, *values]


def first_epoch(name: str, settings: Settings, **environment: str) -> Row:
    """Time from nothing to a trained epoch of the first workload, and peaks of memory, each in a fresh process."""
    seconds, peaks = [], {}
    for index, workload in enumerate((settings.memory_of[0],) * settings.starts + settings.memory_of[1:]):
        begin = time.perf_counter()
        with start(name, settings.threads[-1], **environment) as contestant:
            fields = {"quick": False, "dtype": settings.dtypes[0], "shuffle": False}
            contestant.ask("setup", workload=asdict(WORKLOADS[workload]), **fields)
            contestant.ask("run", epochs=1)
            if index < settings.starts:
                seconds.append(time.perf_counter() - begin)
            peaks[workload] = contestant.ask("memory")["peak_mib"]
    first = {"starts": settings.starts, "first_s": statistics.median(seconds), "first_quartiles": quartiles(seconds)}
    return first | {"peak_mib": peaks}


def starts(settings: Settings, end: float) -> Iterator[Row]:
    """Imports, first epochs and memory of all, and Numba's without its cache; none begins after `end`."""
    for name in (*OURS, f"{OURS[1]}, first time ever", *settings.rivals):
        row: Row = {"contender": name}
        contender, _, cold = name.partition(", ")
        try:
            if time.monotonic() > end:
                yield row | {"absent": NO_TIME}
            elif cold and not settings.cold:
                yield row | {"absent": "left out of a quick run"}
            elif cold:
                with tempfile.TemporaryDirectory() as cache:
                    once = replace(settings, starts=1, memory_of=settings.memory_of[:1])
                    yield row | first_epoch(contender, once, NUMBA_CACHE_DIR=cache)
            else:
                imports = [run(IMPORT, RIVALS.get(name, "briskmlp"))["import_s"] for _ in range(settings.starts)]
                row |= {"import_s": statistics.median(imports), "import_quartiles": quartiles(imports)}
                yield row | first_epoch(contender, settings)
        except (MissingError, RuntimeError) as reason:
            yield {"contender": name, "absent": str(reason).rpartition("\n")[2]}


def raise_limit(limits: list[Row], dtype: str, threads: int) -> None:
    """Measure the FMA limit again: the best of many is what the machine can do when nobody disturbs it."""
    for row in limits:
        if (row["dtype"], row["threads"]) == (dtype, threads):
            row["fma"] = max(row["fma"], fma_limit.__wrapped__(dtype, threads))


def measure(settings: Settings, report: dict[str, Any], save: Callable[[], None]) -> None:
    """Fill `report`, which has "limits", and `save` it after each piece, so that whoever interrupts loses one piece."""
    end = time.monotonic() + 60 * settings.minutes
    report |= {
        "complete": False,
        "workloads": [asdict(WORKLOADS[name]) for name in settings.workloads],
        "main": {"dtype": settings.dtypes[0], "threads": settings.threads[-1]},
        "rows": [],
        "sweeps": [],
        "starts": [],
    }
    for group in plan(settings):
        with Pool(group[0].threads) as pool:
            for job in group:
                duel = Duel(job, pool, settings)
                if time.monotonic() < end:
                    if not job.labels:  # half a second each: for every workload, not for each of its variations
                        raise_limit(report["limits"], job.dtype, job.threads)
                    print(f"{job.workload.name}, {job.dtype}, {job.threads} threads", file=sys.stderr)
                    rows = duel.rows()
                else:
                    duel.absent = dict.fromkeys(job.names, NO_TIME)
                    rows = [duel.row(name, None) for name in job.names]
                report[job.part] += rows
                save()
        for row in () if report["starts"] else starts(settings, end):
            report["starts"].append(row)
            save()
    report["complete"] = True
