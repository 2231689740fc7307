"""The rows of a profile: the record of each layer and phase, and the model of its FLOPs and memory traffic.

FLOPs are those of the matrix products only, 2 · rows · n_in · n_out each; if a precision splits its operands, each
product of splits counts. Bytes are modelled: a phase reads its operands and writes its results once, as if caches kept
nothing from one phase to the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.recording import DW, DW_UPDATE, DX, FORWARD, GATHER, LOSS, NORM, PHASES, PREPARE, UPDATE, WAIT
from briskmlp.plan import BFLOAT16, HIGH, HIGHEST, Plan
from briskmlp.profiling.machine import Machine

LEAST_SHARE = 0.1  # of the roofline: below, it is not what takes the time, but calls, short loops and latencies


class Row(NamedTuple):
    """One phase of one layer, over all steps; scaled to all of them if not every step was recorded."""

    # "#:" is read by Sphinx
    layer: int | None  #: counted from 1, as in the equations; None for the whole network
    phase: str  #: "gather", "forward", …
    calls: int  #: of all threads together
    seconds: float  #: the mean of the threads
    share: float  #: of the steps' time
    flops: float  #: of the products, modelled
    bytes: float  #: read and written, modelled
    roofline: float | None  #: share of what the machine can do at this intensity; None if that is not known
    bound: str | None  #: "compute", "memory", "cache" (faster than memory could be), "barrier" or "overhead"

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.seconds / 1e9 if self.seconds > 0 else 0.0

    @property
    def intensity(self) -> float:
        """FLOP/byte."""
        return self.flops / self.bytes if self.bytes else 0.0


def make_rows(
    record: Any, plan: Plan, isa: str | None, itemsize: int, ticks_per_second: float, machine: Machine | None
) -> list[Row]:
    """Return the rows of a record, in the order of the layers."""
    steps, sampled = int(record[0]["steps"]), int(record[0]["sampled"])
    if sampled == 0:
        return []
    scale, workers = steps / sampled, record["sampled"].sum() / sampled
    counts = record["counts"]
    calls, ticks = counts["calls"].sum(axis=0), counts["ticks"].sum(axis=0)
    all_seconds = record["ticks"].sum() / workers * scale / ticks_per_second
    products = {HIGHEST: 6 if isa == "amx" else 1, HIGH: 3, BFLOAT16: 1}[plan.precision]
    n_rows, rows = float(record[0]["rows"]), []
    for layer, phase in np.argwhere(calls).tolist():
        number = None if layer == len(plan.activations) else layer + 1
        seconds = float(ticks[layer, phase] / workers * scale / ticks_per_second)
        flops, n_bytes = model(plan, layer, phase, n_rows, steps, itemsize)
        flops *= products
        judged = _judge(phase, seconds, flops, n_bytes, machine)
        n_calls, share = round(calls[layer, phase] * scale), seconds / all_seconds
        rows.append(Row(number, PHASES[phase], n_calls, seconds, share, flops, n_bytes, *judged))
    return rows


def model(plan: Plan, layer: int, phase: int, rows: float, steps: int, itemsize: int) -> tuple[float, float]:
    """Return the FLOPs and bytes of a number of steps and rows; ``layer`` L is the whole network."""
    n_layers = len(plan.activations)
    if layer == n_layers:
        return 0.0, itemsize * sum(_numbers(plan, l, phase, rows, steps) for l in range(n_layers))
    multiplies = phase in (FORWARD, DX, DW, DW_UPDATE)
    flops = 2.0 * rows * float(plan.layers[layer] * plan.layers[layer + 1]) if multiplies else 0.0
    return flops, itemsize * _numbers(plan, layer, phase, rows, steps)


def _numbers(plan: Plan, layer: int, phase: int, rows: float, steps: int) -> float:
    """Return the number of elements that a phase reads and writes."""
    n_in, n_out = float(plan.layers[layer]), float(plan.layers[layer + 1])
    A, Z, W = rows * n_in, rows * n_out, steps * n_in * n_out
    moved = 2 * W * (1 + plan.n_slots)  # weights and state, read and written
    # A normalisation reads its input and writes its output, which backward reads, too, and then writes the delta. That
    # of the input counts as a part of the first layer, and that of the output as a part of the loss.
    normalised = [float(code != 0) for code in plan.norms[layer : layer + 2]]
    first, last = float(layer == 0) * normalised[0], float(layer == len(plan.activations) - 1) * normalised[1]
    return {
        GATHER: 2 * A + 2 * A * first,
        FORWARD: A + W + Z + 2 * Z * normalised[1],
        LOSS: 3 * Z + 3 * Z * last,  # A and Y, and delta
        DX: Z + W + 2 * A + 3 * A * normalised[0],  # delta, W, A for f', and the delta below
        DW: A + Z + W,
        DW_UPDATE: A + Z + moved,
        NORM: W,
        UPDATE: W + moved,
        WAIT: 0.0,
        PREPARE: W if layer == 0 else 2 * W,  # cleared; from layer 2 on, transposed
    }[phase]


def _judge(
    phase: int, seconds: float, flops: float, n_bytes: float, machine: Machine | None
) -> tuple[float | None, str | None]:
    """Return the fraction of the roofline that a phase reaches, and what it is bound by."""
    if phase == WAIT:
        return None, "barrier"
    if machine is None or seconds <= 0:
        return None, None
    share = machine.seconds(flops, n_bytes) / seconds
    if share < LEAST_SHARE:
        return share, "overhead"
    if flops / machine.flops >= n_bytes / machine.bandwidth:
        return share, "compute"
    return share, "memory" if share <= 1 else "cache"
