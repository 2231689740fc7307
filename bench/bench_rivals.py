"""How much faster than rivals?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import TURNS
from duel import summary
from workloads import WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("rival", ["torch", "jax", "numpy", "sklearn"])
@pytest.mark.parametrize("ours", ["briskmlp-native", "briskmlp-numba"])
def bench_against_rival(
    benchmark: Any, ready: Callable[..., Any], machine: dict[str, Any], workload: str, rival: str, ours: str
) -> None:
    """A duel, with scikit-learn at what it can do, an identity output.

    The rival's turn is our turn's setup, so that pytest-benchmark alternates them strictly.
    extra_info["ratio"] is the median of rival's time / ours over neighbouring turns.
    """
    w = WORKLOADS[workload].linear_output() if rival == "sklearn" else WORKLOADS[workload]
    we, they = ready(w, ours, rival)
    benchmark.group = workload

    def turn_of_rival() -> None:
        they.turn()

    benchmark.pedantic(we.turn, setup=turn_of_rival, rounds=TURNS)
    mine, numbers = summary(we, we, w), summary(they, we, w)
    benchmark.extra_info.update(machine, ours=ours, version=mine["version"], us_per_step=mine["us_per_step"])
    benchmark.extra_info.update(rival=rival, rival_version=numbers["version"], rival_us_per_step=numbers["us_per_step"])
    kept = ("ratio", "ratio_min", "ratio_max", "ratio_quartiles", "ratio_of_best", "pairs")
    benchmark.extra_info.update({key: numbers[key] for key in kept})
