"""The report's text from its numbers: REPORT.md, and the part of README.md between two markers. Measures nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from report_tables import (
    Row,
    all_numbers,
    figure,
    growth,
    headline,
    left_out,
    measured,
    setting,
    starts,
    table,
)

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def conditions(report: Row) -> str:
    machine, main = report["machine"], report["main"]
    pairs = max((row["pairs"] for row in measured(report["rows"])), default=0)
    text = (
        "Microseconds per training step and, in brackets, how many times briskmlp's: "
        f"{setting(main)}, squared errors, on {machine['cpu']} ({machine['cpus']} CPUs), {report['date']}. "
        f"Medians of {pairs} turns; the ratio is the median of neighbouring turns'. Each contender is a warm process "
        "of its own, they take strict turns, and all are first checked to compute the same result. Gathering batches "
        "and computing the loss are included for all. scikit-learn's output is linear: its ratio is to briskmlp at "
        "that same work."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def readme_block(report: Row) -> str:
    """What stands in README.md, markers included."""
    command = f"`{report['command']}` measured this in {report['minutes']:.0f} minutes, and repeats it on your machine."
    return f"""{BEGIN}
<!-- Written by bench/report.py from bench/report.json: edit neither here nor there. -->
{conditions(report)}

{headline(report)}

![How many times longer than briskmlp the others take](bench/report/speed.png)

{command}
[All numbers](bench/REPORT.md): every backend, instruction set, dtype and number of threads, quartiles, growing
networks, start and memory.
{END}"""


def replace_block(text: str, block: str) -> str:
    """`text` with the markers and what stands between them replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    return before + block + rest.split(END)[1]


def details(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def about(report: Row) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    limits = [[setting(row), figure(row["fma"]), figure(row["gemm"])] for row in report["limits"]]
    unfinished = "" if report["complete"] else "\n- **Interrupted**: what follows was measured until then."
    return f"""- Command: `{report["command"]}`, {report["minutes"]:.1f} minutes, {report["date"]}
- Machine: {machine["cpu"]}, {machine["cpus"]} CPUs, {machine["memory_gib"]} GiB, {machine["system"]}; load before the
  start: {machine["load"]}
- Instruction sets of the native backend here: {", ".join(machine["isas"]) or "none"}
- Versions: {versions}; revision {report["revision"] or "unknown"}{unfinished}

The limit is what the multiply-add units reach without touching memory, measured by `bench/limits.py`. GEMM is NumPy's
BLAS on 1024 × 1024 matrices.

{table(["", "FMA, GFLOP/s", "GEMM, GFLOP/s"], limits)}"""


def report_text(report: Row, figures: Mapping[str, str]) -> str:
    """REPORT.md; `figures` has the paths of those that could be drawn, by name."""

    def picture(name: str, text: str) -> str:
        return f"![{text}]({figures[name]})\n\n" if name in figures else ""

    rows = measured(report["rows"])
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(setting(row), []).append(row)
    return f"""# Benchmark report

Written by `bench/report.py` from `report.json`, never by hand.

{about(report)}

## A training step

{conditions(report)}

{picture("speed", "How many times longer than briskmlp the others take")}{headline(report)}

## As networks grow

Two layers of 256 neurons (width: of so many; depth: so many layers of 128), batches of 128, linear output. µs per step
and, in brackets, how many times briskmlp's.

{picture("growth", "Step time against width, depth and batch")}{details("The numbers", growth(report))}

## Backends, instruction sets, threads

{picture("backends", "Backends and instruction sets; what threads gain")}Their numbers are below.

## Start and memory

Import: beyond NumPy's own, in a fresh process. First epoch: from the start of a process until xor is trained for an
epoch, with all that is imported, compiled and built for it. Peak: the most memory of a process that trained one epoch,
libraries and data included.

{starts(report)}

## Every number

"Of best" is the ratio of the shortest turns: where it is far from the ratio, the machine was disturbed.

{(chr(10) * 2).join(details(name, all_numbers(report, part)) for name, part in parts.items())}

## Left out

{left_out(report)}
"""
