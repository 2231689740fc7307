"""Does the report measure? The least that it can, for what it writes says the rest."""

from __future__ import annotations

from typing import Any

from report_machine import describe
from report_measure import measure
from report_plan import Settings
from report_render import report_text


def bench_report_runs() -> None:
    settings = Settings(
        threads=(1,),
        rivals=("numpy", "sklearn", "torch"),  # with one that may be missing
        workloads=("xor",),
        dtypes=("float32",),
        sweeps={"width": (16,)},
        pairs=2,
        sweep_pairs=2,
        seconds=0.002,
        starts=1,
        cold=False,
        memory_of=("xor",),
    )
    saved = []
    report: dict[str, Any] = {"command": "pytest bench", "minutes": 0.0} | describe(settings.threads, settings.dtypes)
    measure(settings, report, lambda: saved.append(len(report["rows"])))
    ours = [row for row in report["rows"] if row["contender"] == "numpy" and "absent" not in row]
    assert ours
    assert saved[0] < len(report["rows"]) == saved[-1]
    assert "| xor |" in report_text(report, {})
