"""Laps of a profiled training, as kernels write them: see ``backends/recording.py``.

Kernels take a record of one worker, flat, or None. For None these functions compile to nothing, so that a kernel has
two instantiations, of which one knows no clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from briskmlp.backends.numba._options import jit
from briskmlp.backends.recording import EVENT, EVENTS, GOLDEN, HEAD, MOST, PHASES

MISSING = None if hasattr(time, "CLOCK_MONOTONIC") else "the numba backend has no clock to profile with on this system"
_EVERY, _STEPS, _ROWS, _SAMPLED, _TICKS, _N_EVENTS, _MARK, _START, _STEP = range(len(HEAD))
_GOLDEN, _MOST = np.uint64(GOLDEN), np.uint64(MOST)
_HEAD, _PHASES, _EVENT = len(HEAD), len(PHASES), len(EVENT)


@intrinsic
def nanoseconds(typing: Any) -> Any:
    """Return the time of ``time.monotonic_ns``: the counters of processors differ too much between systems."""
    number, clock = ir.IntType(64), ir.IntType(32)
    timespec = ir.LiteralStructType([number, number])

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(clock, [clock, timespec.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        now = cgutils.alloca_once(builder, timespec)
        builder.call(function, [clock(time.CLOCK_MONOTONIC), now])
        seconds, rest = (builder.load(cgutils.gep_inbounds(builder, now, 0, field)) for field in (0, 1))
        return builder.add(builder.mul(seconds, number(10**9)), rest)

    return types.int64(), generate


@jit
def _write(record: Any, start: int, end: int, place: int) -> None:
    event = record.size - _EVENT * (EVENTS - record[_N_EVENTS] % EVENTS)
    record[event], record[event + 1], record[event + 2], record[event + 3] = start, end, record[_STEP], place
    record[_N_EVENTS] += 1


def _recorded(function: Callable[..., None]) -> Any:
    """Return a kernel that does to a record what the function says, and nothing to None."""

    def hook(record: Any, *arguments: Any) -> None: ...

    @overload(hook, strict=False)
    def _hook(record: Any, *arguments: Any) -> Any:
        written = jit(function)
        if isinstance(record, types.NoneType):
            return lambda record, *arguments: None
        return lambda record, *arguments: written(record, *arguments)  # noqa: PLW0108 - its names are the overload's

    return hook


@_recorded
def begin(record: Any, step: int, rows: int) -> None:
    """Begin a step, which counts from 1."""
    record[_STEPS] += 1
    record[_ROWS] += rows
    record[_STEP] = 0
    if np.uint64(step) * _GOLDEN <= _MOST // np.uint64(max(1, record[_EVERY])):
        record[_STEP] = step
        record[_MARK] = record[_START] = nanoseconds()


@_recorded
def lap(record: Any, layer: int, phase: int) -> None:
    """Note that the time since the last lap was spent in this phase."""
    if record[_STEP] > 0:
        now, place = nanoseconds(), layer * _PHASES + phase
        record[_HEAD + 2 * place] += 1
        record[_HEAD + 2 * place + 1] += now - record[_MARK]
        _write(record, record[_MARK], now, place)
        record[_MARK] = now


@_recorded
def end(record: Any) -> None:
    """End the step, with its last lap."""
    if record[_STEP] > 0:
        record[_SAMPLED] += 1
        record[_TICKS] += record[_MARK] - record[_START]
        _write(record, record[_START], record[_MARK], -1)
        record[_STEP] = 0
