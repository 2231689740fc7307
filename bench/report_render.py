"""The report's text from its numbers: REPORT.md, and the part of README.md between two markers. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PACKAGES = {"torch": "torch", "jax": "jax", "numpy": "numpy", "sklearn": "scikit-learn"}
NAMES = {
    "briskmlp-native": "briskmlp",
    "briskmlp-numba": "briskmlp, Numba backend",
    "briskmlp-numpy": "briskmlp, NumPy backend",
    "torch": "PyTorch",
    "jax": "JAX",
    "numpy": "NumPy",
    "sklearn": "scikit-learn",
}


def figure(value: float) -> str:
    """Three significant digits, without exponents.

    >>> [figure(v) for v in (0.08412, 6.868, 217.4, 1037512.0)]
    ['0.0841', '6.87', '217', '1,040,000']
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}" if rounded >= 1e-4 else f"{rounded:.3e}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %" if share >= 1e-3 else "< 0.1 %"


def title(name: str) -> str:
    """A contender's name for people."""
    name, _, isa = name.partition("@")
    plain, _, rest = name.partition(", ")
    return NAMES.get(plain, plain) + (f", {rest}" if rest else "") + (f" with {isa}" if isa else "")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first `left` columns are text and whose others are numbers."""
    marks = ["---" if column < left else "--:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, marks, *rows))


def network(workload: Row) -> str:
    optimizer = ", Adam" if workload["optimizer"] == "adam" else ""
    return "-".join(map(str, workload["layers"])) + f" {workload['hidden']}{optimizer}"


def measured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if "absent" not in row]


def find(report: Row, workload: str, contender: str) -> Row | None:
    """The row of the main dtype and number of threads; None if it has no numbers."""
    for row in measured(report["rows"]):
        wanted = {"workload": workload, "contender": contender, **report["main"]}
        same_work = bool(row.get("linear_output")) == (contender == "sklearn")
        if same_work and all(row[key] == value for key, value in wanted.items()):
            return row
    return None


def headline(report: Row) -> str:
    """One line per workload: step times, ratios to ours."""
    rivals = [name for name in PACKAGES if any(row["contender"] == name for row in report["rows"])]
    head = ["workload", "network", "batch", "briskmlp", "of FMA limit", "Numba backend"]
    head += [f"{NAMES[name]} {version}" if (version := report["versions"][PACKAGES[name]]) else NAMES[name] for name in rivals]
    lines = []
    for workload in report["workloads"]:
        found = {name: find(report, workload["name"], name) for name in ("briskmlp-native", "briskmlp-numba", *rivals)}
        # scikit-learn's row is other work: it has no part in who is fastest.
        times = [row["us"] for name, row in found.items() if row and name != "sklearn"]
        ours = found["briskmlp-native"]
        cells = [workload["name"], network(workload), f"{workload['batch']:,}"]
        for name, row in found.items():
            time = figure(row["us"]) if row else "–"
            time = f"**{time}**" if row and name != "sklearn" and row["us"] == min(times) else time
            if row and name != "briskmlp-native":
                time += f" ({figure(row['ratio'])}×)"
            cells.append(time)
            if name == "briskmlp-native":
                cells.append(percent(ours["share"]) if ours else "–")
        lines.append(cells)
    return table(head, lines, left=2)


def conditions(report: Row) -> str:
    machine, main = report["machine"], report["main"]
    pairs = max((row["pairs"] for row in report["rows"] if "pairs" in row), default=0)
    threads = f"{main['threads']} thread" + "s" * (main["threads"] > 1)
    return (
        f"Microseconds per training step and, in brackets, how many times briskmlp's: {main['dtype']}, {threads}, squared "
        f"errors, on {machine['cpu']} ({machine['cpus']} CPUs), {report['date']}. Medians of {pairs} turns; the ratio is "
        "the median of neighbouring turns'. Each contender is a warm process of its own, they take strict turns, and all "
        "are first checked to compute the same result. Gathering batches and computing the loss are included for all. "
        "scikit-learn's output is linear: its ratio is to briskmlp at that same work."
    )


def readme_block(report: Row) -> str:
    """What stands in README.md, markers included."""
    lines = [
        BEGIN,
        "<!-- Written by bench/report.py from bench/report.json: edit neither here nor there. -->",
        conditions(report),
        "",
        headline(report),
        "",
        "![How many times longer than briskmlp the others take](bench/report/speed.png)",
        "",
        f"`{report['command']}` measured this in {report['minutes']:.0f} minutes, and repeats it on your machine. "
        "[All numbers](bench/REPORT.md): every backend, instruction set, dtype and number of threads, quartiles, "
        "growing networks, start and memory.",
        END,
    ]
    return "\n".join(lines)


def replace_block(text: str, block: str) -> str:
    """`text` with what stands between the markers replaced.

    >>> replace_block(f"a {BEGIN} old {END} b", "new")
    'a new b'
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    return before + block + rest.split(END)[1]


def limit(report: Row) -> float:
    """GFLOP/s of the FMA units, of the main dtype on the main number of threads."""
    [row] = [row for row in report["limits"] if all(row[key] == value for key, value in report["main"].items())]
    return float(row["fma"])


def setting(row: Row) -> str:
    return f"{row['dtype']}, {row['threads']} thread" + "s" * (row["threads"] > 1)


def span(low: float, high: float) -> str:
    return f"{figure(low)} – {figure(high)}"


def all_numbers(rows: Iterable[Row]) -> str:
    """A table of every measured row of one dtype and number of threads."""
    head = ["workload", "contender", "ISA", "µs/step", "quartiles", "× briskmlp", "quartiles", "pairs", "GFLOP/s", "of limit"]
    lines = []
    for row in rows:
        workload = row["workload"] + (", linear output" if row.get("linear_output") else "")
        name = title(row["contender"].partition("@")[0])
        times = [figure(row["us"]), span(*row["us_quartiles"]), figure(row["ratio"]), span(*row["ratio_quartiles"])]
        rest = [str(row["pairs"]), figure(row["gflops"]), percent(row["share"])]
        lines.append([workload, name, row["isa"] or "", *times, *rest])
    return table(head, lines, left=3)


def growth(report: Row) -> str:
    """A table of the growing networks: one line per size, one column per contender."""
    rows = measured(report["sweeps"])
    names = list(dict.fromkeys(row["contender"] for row in rows))
    times = {(row["axis"], row["value"], row["contender"]): row for row in rows}
    lines = []
    for axis, value in dict.fromkeys((row["axis"], row["value"]) for row in rows):
        found = [times.get((axis, value, name)) for name in names]
        cells = [f"{figure(row['us'])} ({figure(row['ratio'])}×)" if row else "–" for row in found]
        flops = next(row["flops"] for row in rows if (row["axis"], row["value"]) == (axis, value))
        lines.append([f"{axis} {value:,}", figure(flops / limit(report) / 1e3), *cells])
    return table(["", "FMA limit", *map(title, names)], lines)


def starts(report: Row) -> str:
    rows = measured(report["starts"])
    of = list(dict.fromkeys(name for row in rows for name in row["peak_mib"]))
    lines = []
    for row in rows:
        imports = ["–", "–"]
        if "import_s" in row:
            imports = [figure(1e3 * row["import_s"]), span(*(1e3 * s for s in row["import_quartiles"]))]
        first = [figure(row["first_s"]), span(*row["first_quartiles"])]
        peaks = [figure(row["peak_mib"][name]) if name in row["peak_mib"] else "–" for name in of]
        lines.append([title(row["contender"]), *imports, *first, *peaks])
    head = ["", "import, ms", "quartiles", "first epoch, s", "quartiles", *(f"peak MiB, {name}" for name in of)]
    return table(head, lines)


def left_out(report: Row) -> str:
    """Who has no numbers, and why."""
    who: dict[tuple[str, str], list[str]] = {}
    for row in (*report["rows"], *report["sweeps"], *report["starts"]):
        if "absent" in row:
            where = f"{row['workload']} ({setting(row)})" if "dtype" in row else "start"
            who.setdefault((where, row["absent"]), []).append(title(row["contender"]))
    places: dict[tuple[str, str], list[str]] = {}
    for (where, why), contenders in who.items():
        places.setdefault(("; ".join(dict.fromkeys(contenders)), why), []).append(where)
    lines = [f"- {contenders}: {why}. In: {', '.join(where)}." for (contenders, why), where in places.items()]
    return "\n".join(lines) or "Nobody."


def details(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def about(report: Row) -> str:
    machine, versions = report["machine"], report["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    limits = [[setting(row), figure(row["fma"]), figure(row["gemm"])] for row in report["limits"]]
    unfinished = "" if report["complete"] else "\n- **Interrupted**: what follows is what was measured until then."
    lines = [
        f"- Command: `{report['command']}`, {report['minutes']:.1f} minutes, {report['date']}",
        f"- Machine: {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB, {machine['system']}; its load "
        f"before the start was {machine['load']}",
        f"- Instruction sets of the native backend here: {', '.join(machine['isas']) or 'none'}",
        f"- Versions: {known}; revision {report['revision'] or 'unknown'}{unfinished}",
        "",
        "The limit is what the multiply-add units reach without touching memory, measured by `bench/limits.py`. GEMM is "
        "NumPy's BLAS on 1024 × 1024 matrices.",
        "",
        table(["", "FMA, GFLOP/s", "GEMM, GFLOP/s"], limits),
    ]
    return "\n".join(lines)


def report_text(report: Row, figures: Mapping[str, str]) -> str:
    """REPORT.md; `figures` has the paths of those that could be drawn, by name."""

    def picture(name: str, text: str) -> list[str]:
        return [f"![{text}]({figures[name]})", ""] if name in figures else []

    parts = [
        "# Benchmark report",
        "",
        "Written by `bench/report.py` from `report.json`, never by hand.",
        "",
        about(report),
        "",
        "## A training step",
        "",
        conditions(report),
        "",
        *picture("speed", "How many times longer than briskmlp the others take"),
        headline(report),
        "",
        "## As networks grow",
        "",
        "Two layers of 256 neurons (width: of so many, depth: so many of 128), batches of 128, linear output. µs per step "
        "and, in brackets, how many times briskmlp's.",
        "",
        *picture("growth", "Step time against width, depth and batch"),
        details("The numbers", growth(report)),
        "",
        "## Backends, instruction sets, threads",
        "",
        *picture("backends", "Backends and instruction sets; what threads gain"),
        "All of them are in the tables of every number, below.",
        "",
        "## Start and memory",
        "",
        "Import: beyond NumPy's own, in a fresh process. First epoch: from the start of a process until xor is trained for "
        "an epoch, with everything that is imported, compiled and built before. Peak: the most memory of a process that "
        "trained one epoch, libraries and data included.",
        "",
        starts(report),
        "",
        "## Every number",
        "",
    ]
    for key in dict.fromkeys((row["dtype"], row["threads"]) for row in measured(report["rows"])):
        rows = [row for row in measured(report["rows"]) if (row["dtype"], row["threads"]) == key]
        parts += [details(setting(rows[0]), all_numbers(rows)), ""]
    return "\n".join([*parts, "## Left out", "", left_out(report), ""])
