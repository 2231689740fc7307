"""Plot of a profile: the roofline with a mark for each layer and phase, and bars of time. Needs Matplotlib."""

from __future__ import annotations

from typing import Any

from briskmlp.profiling.machine import Machine
from briskmlp.profiling.rows import Row

COLOURS = {
    "gather": "#9c755f", "forward": "#4e79a7", "loss": "#b07aa1", "dX": "#76b7b2", "dW": "#f28e2b",
    "dW+update": "#e15759", "norm": "#edc948", "update": "#ff9da7", "wait": "#bab0ac", "prepare": "#59a14f",
}  # fmt: skip


def draw(rows: list[Row], machine: Machine | None, title: str) -> Any:
    """Return a matplotlib Figure."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError('plot() needs Matplotlib: pip install "briskmlp[plot]"') from error
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    figure.suptitle(title)
    _draw_roofline(left, rows, machine)
    _draw_bars(right, rows)
    return figure


def _draw_roofline(ax: Any, rows: list[Row], machine: Machine | None) -> None:
    """Draw rate over intensity, both logarithmic; phases without products are left out."""
    rows = [row for row in rows if row.flops > 0 and row.seconds > 0]
    ridge = [] if machine is None else [machine.flops / machine.bandwidth]
    intensities = [row.intensity for row in rows] + ridge or [1.0]
    low, high = min(intensities) / 4, max(intensities) * 4
    if machine is not None:
        points = [low, *ridge, high]
        roof = [min(machine.flops, x * machine.bandwidth) / 1e9 for x in points]
        label = f"{machine.flops / 1e9:.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s"
        ax.plot(points, roof, color="black", label=label)
    for row in rows:
        ax.plot(row.intensity, row.gflops, "o", color=COLOURS[row.phase], markeredgecolor="white")
        ax.annotate(str(row.layer), (row.intensity, row.gflops), textcoords="offset points", xytext=(6, -3), fontsize=8)
    for phase in dict.fromkeys(row.phase for row in rows):
        ax.plot([], [], "o", color=COLOURS[phase], label=phase)
    rates = [row.gflops for row in rows] + ([] if machine is None else [machine.flops / 1e9])
    ax.set(xscale="log", yscale="log", xlabel="FLOP/byte, of modelled bytes", ylabel="GFLOP/s")
    ax.set(xlim=(low, high), ylim=(min(rates, default=1.0) / 4, max(rates, default=1.0) * 4))
    ax.set_title("Roofline; numbers are layers")
    ax.grid(which="both", alpha=0.2)
    if ax.lines:
        ax.legend(loc="best", fontsize=8)  # neither over the roof nor over a mark


def _draw_bars(ax: Any, rows: list[Row]) -> None:
    """Draw the time of each layer and phase."""
    names = [f"{row.phase} {row.layer or ''}" for row in rows]
    ax.barh(names, [row.seconds * 1e3 for row in rows], color=[COLOURS[row.phase] for row in rows])
    for place, row in enumerate(rows):
        ax.text(row.seconds * 1e3, place, f" {row.share:.1%}", va="center", fontsize=8)
    ax.margins(x=0.12)
    ax.invert_yaxis()
    ax.set(xlabel="milliseconds", title="Time, mean of the threads")
