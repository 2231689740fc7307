"""The report's tables from its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
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
    """Three significant digits, without exponents, as far as measured times go."""
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
    # Of 2.13.0+cpu, what stands behind the plus says how it was built.
    head += [f"{NAMES[name]} {(report['versions'][PACKAGES[name]] or '').partition('+')[0]}".strip() for name in rivals]
    lines = []
    for workload in report["workloads"]:
        found = {name: find(report, workload["name"], name) for name in ("briskmlp-native", "briskmlp-numba", *rivals)}
        # scikit-learn's row is other work: it has no part in who is fastest.
        times = [row["us"] for name, row in found.items() if row and name != "sklearn"]
        cells = [workload["name"], network(workload), f"{workload['batch']:,}"]
        for name, row in found.items():
            time = step_time(row)
            if row and name != "sklearn" and row["us"] == min(times):
                time = "**" + time.replace(" ", "** ", 1) if " " in time else f"**{time}**"
            cells.append(time)
            if name == "briskmlp-native":
                cells.append(percent(row["gflops"] / limit(report, row)) if row else "–")
        lines.append(cells)
    return table(head, lines, left=2)


def limit(report: Row, row: Row) -> float:
    """GFLOP/s of the FMA units for the row's dtype and number of threads."""
    return float(next(limit["fma"] for limit in report["limits"] if setting(limit) == setting(row)))


def setting(row: Row) -> str:
    return f"{row['dtype']}, {row['threads']} thread" + "s" * (row["threads"] > 1)


def span(low: float, high: float) -> str:
    return f"{figure(low)} – {figure(high)}"


def all_numbers(report: Row, rows: Iterable[Row]) -> str:
    """A table of every measured row of one dtype and number of threads."""
    head = [
        "workload",
        "contender",
        "ISA",
        "µs/step",
        "quartiles",
        "× briskmlp",
        "quartiles",
        "of best",
        "pairs",
        "GFLOP/s",
        "of limit",
    ]
    lines = []
    for row in rows:
        workload = row["workload"] + (", linear output" if row.get("linear_output") else "")
        name = title(row["contender"].partition("@")[0])
        times = [figure(row["us"]), span(*row["us_quartiles"]), figure(row["ratio"]), span(*row["ratio_quartiles"])]
        rest = [
            figure(row["ratio_of_best"]),
            str(row["pairs"]),
            figure(row["gflops"]),
            percent(row["gflops"] / limit(report, row)),
        ]
        lines.append([workload, name, row["isa"] or "", *times, *rest])
    return table(head, lines, left=3)


def step_time(row: Row | None) -> str:
    """The median and, unless it is the base itself, how many times the base's."""
    if row is None:
        return "–"
    return figure(row["us"]) + ("" if row["base"] else f" ({figure(row['ratio'])}×)")


def growth(report: Row) -> str:
    """A table of the growing networks: one line per size, one column per contender."""
    rows = measured(report["sweeps"])
    names = list(dict.fromkeys(row["contender"] for row in rows))
    times = {(row["axis"], row["value"], row["contender"]): row for row in rows}
    lines = []
    for axis, value in dict.fromkeys((row["axis"], row["value"]) for row in rows):
        found = [times.get((axis, value, name)) for name in names]
        cells = [step_time(row) for row in found]
        flops = next(row["flops"] for row in rows if (row["axis"], row["value"]) == (axis, value))
        lines.append([f"{axis} {value:,}", figure(flops / limit(report, rows[0]) / 1e3), *cells])
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
    who: dict[tuple[str, str, str], list[str]] = {}  # by where and why
    for row in (*report["rows"], *report["sweeps"], *report["starts"]):
        if "absent" in row:
            where = (setting(row), row["workload"]) if "workload" in row else ("start", "")
            who.setdefault((*where, row["absent"]), []).append(title(row["contender"]))
    places: dict[tuple[str, str, str], list[str]] = {}
    for (where, workload, why), contenders in who.items():
        places.setdefault(("; ".join(dict.fromkeys(contenders)), why, where), []).append(workload)
    lines = [
        f"- {contenders}: {why} ({': '.join(filter(None, (where, ', '.join(dict.fromkeys(workloads)))))})"
        for (contenders, why, where), workloads in places.items()
    ]
    return "\n".join(lines) or "Nobody."
