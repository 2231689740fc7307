"""Pictures of a profile: Chrome trace events, which https://ui.perfetto.dev opens; and a plot, by Matplotlib.

The format is "Trace Event Format", Google, 2016; its times are in microseconds with three decimals. The plot is the
roofline with a mark for each layer and phase, and bars of time.
"""

from __future__ import annotations

from typing import Any

from briskmlp.backends.recording import EVENTS, PHASES
from briskmlp.profiling.machine import Machine
from briskmlp.profiling.rows import Row

COLOURS = {
    "gather": "#9c755f", "forward": "#4e79a7", "loss": "#b07aa1", "dX": "#76b7b2", "dW": "#f28e2b",
    "dW+update": "#e15759", "norm": "#edc948", "update": "#ff9da7", "wait": "#bab0ac", "prepare": "#59a14f",
}  # fmt: skip


def trace_events(record: Any, ticks_per_second: float) -> list[dict[str, Any]]:
    """Return complete events on one track per thread: each step, and in it the phases of its layers."""
    kept = [_kept(worker) for worker in record]
    first = min((int(events["start"].min()) for events in kept if len(events)), default=0)

    def microseconds(ticks: int) -> float:
        return round((ticks - first) / ticks_per_second * 1e9) / 1e3  # of both ends alike: what nested, nests

    n_layers = record["counts"].shape[1] - 1
    named: list[dict[str, Any]] = []
    for worker, events in enumerate(kept):
        if not len(events):
            continue
        thread = {"pid": 0, "tid": worker}
        named.append({"name": "thread_name", "ph": "M", **thread, "args": {"name": f"worker {worker}"}})
        # A step begins with its first phase, and must come before it.
        for start, end, step, place in sorted(events.tolist(), key=lambda event: (event[0], -event[1], event[3])):
            layer, phase = divmod(place, len(PHASES))
            of, number = ("step", step) if place < 0 else (PHASES[phase], layer + 1)
            name = of if layer == n_layers else f"{of} {number}"
            begin, finish = microseconds(start), microseconds(end)
            event = {"name": name, "cat": of, "ph": "X", "ts": begin, "dur": round(finish - begin, 3)}
            named.append({**event, **thread, "args": {"step": step}})
    return named


def _kept(worker: Any) -> Any:
    """Return a thread's last events: those of the complete steps in the ring buffer, and of a step in progress."""
    n = int(worker["n_events"])
    events = worker["events"][:n]
    if n > EVENTS:  # the oldest step may have lost its first phases: it is left out
        events = events[events["step"] != events[n % EVENTS]["step"]]
    return events


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
