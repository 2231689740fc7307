"""Profiles as Chrome trace events, which https://ui.perfetto.dev opens.

The format is "Trace Event Format", Google, 2016. Times are in microseconds with three decimals.
"""

from __future__ import annotations

from typing import Any

from briskmlp.backends.recording import EVENTS, PHASES


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
