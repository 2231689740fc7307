"""Fixtures of the benchmarks: contenders' processes, and what a benchmark writes down about its machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from duel import Contestant, MissingError, check
from limits import cpu_model, fma_limit
from workloads import Workload

THREADS = int(os.environ.get("BRISKMLP_BENCH_THREADS", "2"))
DTYPE = "float32"
TURNS = 9
SECONDS = 0.4  # length of a turn


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[[str], Contestant]]:
    """The process of a contender, started at its first use and kept warm; skips if the library is missing."""
    started: dict[str, Contestant | MissingError] = {}
    with ExitStack() as stack:

        def start(name: str) -> Contestant:
            if name not in started:
                try:
                    started[name] = stack.enter_context(Contestant(name, THREADS))
                except MissingError as reason:
                    started[name] = reason
            contestant = started[name]
            if isinstance(contestant, MissingError):
                pytest.skip(str(contestant))  # names the rival that is not installed
            return contestant

        yield start


@pytest.fixture
def ready(start: Callable[[str], Contestant], benchmark: Any) -> Callable[..., list[Contestant]]:
    """Contenders with the workload set up, checked to compute the same result and calibrated to equal turns.

    With --benchmark-disable the workload is scaled down: everything runs once, and no time means anything.
    """

    def ready(workload: Workload, *names: str) -> list[Contestant]:
        contestants = [start(name) for name in names]
        for contestant in contestants:
            contestant.prepare(workload, DTYPE, shuffle=False, quick=benchmark.disabled, seconds=SECONDS)
        check(contestants, workload.quick() if benchmark.disabled else workload)
        return contestants

    return ready


@pytest.fixture
def machine() -> dict[str, Any]:
    """What a time is worth nothing without."""
    return {"cpu": cpu_model(), "threads": THREADS, "dtype": DTYPE, "fma_limit_gflops": fma_limit(DTYPE, THREADS)}
