"""Which duels the report consists of, in the order of their interest: the time may be over before the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workloads import SWEEPS, WORKLOADS, Workload, swept

OURS = ("briskmlp-native", "briskmlp-numba", "briskmlp-numpy")
RIVALS = {"torch": "torch", "jax": "jax", "sklearn": "sklearn.neural_network", "numpy": "numpy"}  # what they import


@dataclass(frozen=True)
class Settings:
    """How much is measured; without arguments, everything."""

    threads: tuple[int, ...]  # the last is the main one
    rivals: tuple[str, ...] = tuple(RIVALS)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    dtypes: tuple[str, ...] = ("float32", "float64")  # the first is the main one
    sweeps: dict[str, tuple[int, ...]] = field(default_factory=lambda: SWEEPS)
    pairs: int = 9
    sweep_pairs: int = 5
    seconds: float = 0.1  # length of a turn
    slowest: float = 3.0  # seconds of an epoch; whoever would take longer is left out
    starts: int = 5  # fresh processes of each contender
    cold: bool = True  # one more, which compiles Numba's kernels
    memory_of: tuple[str, ...] = ("xor", "deep", "wide")  # the first one's start is timed
    minutes: float = 50.0  # after which nothing is begun


QUICK: dict[str, Any] = {
    "sweeps": {"width": (32, 256, 1024), "depth": (1, 8), "batch": (1, 64, 1024)},
    "pairs": 3,
    "sweep_pairs": 3,
    "seconds": 0.05,
    "slowest": 0.5,
    "starts": 1,
    "cold": False,
    "memory_of": ("xor", "deep"),
    "minutes": 2.5,
}


@dataclass(frozen=True)
class Job:
    """One duel, and the part of the report that its rows belong to."""

    part: str
    names: Sequence[str]
    workload: Workload
    dtype: str
    threads: int
    pairs: int
    labels: dict[str, Any] = field(default_factory=dict)


def plan(settings: Settings) -> list[list[Job]]:
    """The jobs in groups whose contenders' processes may stay."""
    main = settings.dtypes[0], settings.threads[-1]
    groups = [[*steps(settings, *main), *growing(settings, *main)]]
    for dtype in settings.dtypes:
        groups += [steps(settings, dtype, t) for t in reversed(settings.threads) if (dtype, t) != main]
    return [group for group in groups if group]


def steps(settings: Settings, dtype: str, threads: int) -> list[Job]:
    """Every workload. scikit-learn can do only those with a linear output, so that it meets us there."""
    rivals = [name for name in settings.rivals if name != "sklearn"]
    jobs = []
    for name in settings.workloads:
        workload = WORKLOADS[name]
        names = [OURS[0], *forced(), *OURS[1:], *rivals]
        jobs.append(Job("rows", names, workload, dtype, threads, settings.pairs))
        if "sklearn" in settings.rivals:
            names, labels = [OURS[0], "sklearn"], {"linear_output": True}
            jobs.append(Job("rows", names, workload.linear_output(), dtype, threads, settings.pairs, labels))
    return jobs


def growing(settings: Settings, dtype: str, threads: int) -> list[Job]:
    names = [*OURS[:2], *settings.rivals]
    jobs = []
    for axis, values in settings.sweeps.items():
        for value in values:
            workload = swept(axis, value)
            labels = {"axis": axis, "value": value, "flops": workload.flops}
            jobs.append(Job("sweeps", names, workload, dtype, threads, settings.sweep_pairs, labels))
    return jobs


def forced() -> list[str]:
    """Our contenders that are forced to an instruction set which is not the best here."""
    from briskmlp.backends import native

    # What multiplies bfloat16 has no float32.
    others = (native.isa(), *native.UNITS)
    return [f"{OURS[0]}@{isa}" for isa in native.isas() if isa not in others]
