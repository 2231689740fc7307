"""What the report is made of, measured: duels, growing networks, starts and memory, as rows of plain numbers.

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
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from duel import Contestant, MissingError, check, summary
from limits import fma_limit
from startup import IMPORT, run
from workloads import SWEEPS, WORKLOADS, Workload, swept

Row = dict[str, Any]
RIVALS = {"torch": "torch", "jax": "jax", "sklearn": "sklearn.neural_network", "numpy": "numpy"}  # what they import
OURS = ("briskmlp-native", "briskmlp-numba", "briskmlp-numpy")


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    threads: tuple[int, ...]  # the last is the main one
    rivals: tuple[str, ...] = tuple(RIVALS)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    dtypes: tuple[str, ...] = ("float32", "float64")
    sweeps: dict[str, tuple[int, ...]] = field(default_factory=lambda: SWEEPS)
    pairs: int = 9
    sweep_pairs: int = 5
    starts: int = 5
    cold: bool = True  # compile Numba's kernels
    memory_of: tuple[str, ...] = ("xor", "deep", "wide")  # the first one's start is timed
    seconds: float = 0.1  # length of a turn
    slowest: float = 2.5  # seconds of an epoch; whoever would take longer is left out
    minutes: float = 50.0


QUICK: dict[str, Any] = {
    "sweeps": {"width": (32, 256, 1024), "depth": (1, 8), "batch": (1, 64, 1024)},
    "pairs": 3,
    "sweep_pairs": 3,
    "starts": 1,
    "cold": False,
    "memory_of": ("xor", "deep"),
    "seconds": 0.05,
    "slowest": 0.5,
    "minutes": 2.5,
}


class LeftOutError(Exception):
    """The contender is not asked, for a reason."""


class Pool:
    """The warm processes of one number of threads, each started at its first use, and what they did."""

    def __init__(self, threads: int) -> None:
        self.threads, self.started = threads, dict[str, Contestant | str]()
        self.rates: dict[tuple[str, str], float] = {}  # FLOP/s of a contender and dtype, where arithmetic rules

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


def start(name: str, threads: int, **environment: str) -> Contestant:
    """Start a contender's process; ``briskmlp-native@avx2`` is forced to an instruction set."""
    name, _, isa = name.partition("@")
    return Contestant(name, threads, environment | ({"BRISKMLP_ISA": isa} if isa else {}))


def duel(pool: Pool, names: Sequence[str], workload: Workload, dtype: str, settings: Settings, pairs: int) -> list[Row]:
    """One row per contender; the first of ours that works is the base of the ratios."""
    ready: dict[str, Contestant] = {}
    absent: dict[str, str] = {}

    def attempt(name: str, action: Callable[[Contestant], object]) -> None:
        try:
            ready[name] = pool[name]
            action(ready[name])
        except (LeftOutError, OSError, RuntimeError) as reason:
            absent[name] = str(reason)
            lost = ready.pop(name, None)
            if lost and lost.process.poll() is not None:
                pool.started[name] = str(reason)

    def prepare(contestant: Contestant, name: str) -> None:
        epoch = workload.steps * workload.flops / pool.rates.get((name, dtype), float("inf"))
        if epoch > settings.slowest:
            raise LeftOutError(f"an epoch would take about {epoch:.2g} s, and those above {settings.slowest:g} s are out")
        contestant.prepare(workload, dtype, shuffle=False, quick=False, seconds=settings.seconds)
        check([contestant], workload)

    for name in names:
        attempt(name, lambda contestant, name=name: prepare(contestant, name))  # type: ignore[misc] # bound now
    for _ in range(pairs):
        for name in list(ready):
            attempt(name, Contestant.turn)
    rows = []
    base = next((name for name in names if name in ready and name.startswith("briskmlp")), None)
    for name in names:
        row: Row = {"contender": name, "workload": workload.name, "dtype": dtype, "threads": pool.threads}
        if base is None or name in absent:
            rows.append({**row, "absent": absent.get(name, "nothing of briskmlp's to compare with")})
            continue
        numbers = summary(ready[name], ready[base], workload)
        if workload.flops > 1e9:
            pool.rates[name, dtype] = numbers["gflops"] * 1e9
        step = [1e6 * seconds for seconds in ready[name].per_step]
        row |= {"isa": ready[name].isa, "base": name == base, "us": numbers["us_per_step"], "us_quartiles": quartiles(step)}
        row |= {key: numbers[key] for key in ("ratio", "ratio_quartiles", "pairs", "gflops")}
        rows.append({**row, "share": numbers["gflops"] / fma_limit(dtype, pool.threads)})
    return rows


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
    return {"first_s": statistics.median(seconds), "first_quartiles": quartiles(seconds), "peak_mib": peaks}


def starts(settings: Settings) -> Iterator[Row]:
    """Imports, first epochs and memory of all; Numba's kernels once more without its cache."""
    for name in (*OURS, "briskmlp-numba, first time ever", *settings.rivals):
        row: Row = {"contender": name, "starts": settings.starts, "workload": settings.memory_of[0]}
        contender, _, cold = name.partition(", ")
        library = RIVALS.get(name, "briskmlp")
        try:
            if cold and not settings.cold:
                yield row | {"absent": "left out of a quick run"}
            elif cold:
                with tempfile.TemporaryDirectory() as cache:
                    one = Settings(settings.threads, starts=1, memory_of=settings.memory_of[:1])
                    yield row | {"starts": 1} | first_epoch(contender, one, NUMBA_CACHE_DIR=cache)
            else:
                imports = [run(IMPORT, library)["import_s"] for _ in range(settings.starts)]
                row |= {"import_s": statistics.median(imports), "import_quartiles": quartiles(imports)}
                yield row | first_epoch(contender, settings)
        except (MissingError, RuntimeError) as reason:
            yield row | {"absent": str(reason).rpartition("\n")[2]}


def measure(settings: Settings, report: dict[str, Any], save: Callable[[], None]) -> None:
    """Fill `report` in order of interest and `save` it after each piece, so that Ctrl-C loses one piece."""
    end = time.monotonic() + 60 * settings.minutes
    report |= {
        "complete": False,
        "workloads": [asdict(WORKLOADS[name]) for name in settings.workloads],
        "main": {"dtype": settings.dtypes[0], "threads": settings.threads[-1]},
        "rows": [],
        "sweeps": [],
        "starts": [],
    }
    forced = other_isas()
    rivals = [name for name in settings.rivals if name != "sklearn"]
    main, dtype = settings.threads[-1], settings.dtypes[0]

    def record(
        part: str, pool: Pool, names: Sequence[str], workload: Workload, dtype: str, pairs: int, **labels: object
    ) -> None:
        if time.monotonic() < end:
            rows = duel(pool, names, workload, dtype, settings, pairs)
        else:
            row = {"workload": workload.name, "dtype": dtype, "threads": pool.threads, "absent": "no time was left"}
            rows = [{"contender": name, **row} for name in names]
        report[part] += [row | labels for row in rows]
        print(f"{datetime.now(UTC):%H:%M:%S} {workload.name}, {dtype}, {pool.threads} threads", file=sys.stderr)
        save()

    def workloads(pool: Pool, dtype: str) -> None:
        for name in settings.workloads:
            workload = WORKLOADS[name]
            record("rows", pool, [OURS[0], *forced, *OURS[1:], *rivals], workload, dtype, settings.pairs)
            if "sklearn" in settings.rivals:
                linear = workload.linear_output()
                record("rows", pool, [OURS[0], "sklearn"], linear, dtype, settings.pairs, linear_output=True)

    with Pool(main) as pool:
        workloads(pool, dtype)
        for row in starts(settings):
            report["starts"].append(row)
            save()
        for axis, values in settings.sweeps.items():
            for value in values:
                labels = {"axis": axis, "value": value, "flops": swept(axis, value).flops}
                names = [*OURS[:2], *settings.rivals]
                record("sweeps", pool, names, swept(axis, value), dtype, settings.sweep_pairs, **labels)
    for dtype in settings.dtypes:
        for threads in reversed(settings.threads):
            if (threads, dtype) != (main, settings.dtypes[0]):
                with Pool(threads) as pool:
                    workloads(pool, dtype)
    report["complete"] = True


def other_isas() -> list[str]:
    """Our contenders that are forced to an instruction set which is not the best here."""
    from briskmlp.backends import native

    # The tiles of AMX multiply no float32.
    return [f"{OURS[0]}@{isa}" for isa in native.isas() if isa not in (native.isa(), "amx")]
