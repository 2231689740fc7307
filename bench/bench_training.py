"""How long is a training step?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import TURNS
from duel import summary
from workloads import WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("backend", ["native", "numba", "numpy"])
def bench_training_step(
    benchmark: Any, ready: Callable[..., Any], machine: dict[str, Any], workload: str, backend: str
) -> None:
    """The table has the time of a turn of `steps_per_turn` steps and the pause after it; extra_info the step's."""
    w = WORKLOADS[workload]
    [ours] = ready(w, f"briskmlp-{backend}")
    benchmark.group = workload
    benchmark.pedantic(ours.turn, rounds=TURNS)
    numbers = summary(ours, ours, w)
    kept = ("version", "us_per_step", "us_per_step_min", "gflops", "steps_per_turn", "busy_cores", "loss")
    benchmark.extra_info.update(machine, backend=backend, **{key: numbers[key] for key in kept})
    benchmark.extra_info["share_of_fma_limit"] = numbers["gflops"] / machine["fma_limit_gflops"]
