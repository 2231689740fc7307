"""The report's figures from its numbers. Colours are Okabe's and Ito's, which the colour-blind tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from report_render import NAMES, PACKAGES, find, limit, measured, title

Row = Mapping[str, Any]
STYLE = {  # colour and marker of each contender, the same in all figures
    "briskmlp-native": ("#0072B2", "o"),
    "briskmlp-numba": ("#56B4E9", "D"),
    "briskmlp-numpy": ("#999999", "v"),
    "torch": ("#D55E00", "s"),
    "jax": ("#009E73", "^"),
    "numpy": ("#CC79A7", "P"),
    "sklearn": ("#E69F00", "X"),
}
LOOK = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.axisbelow": True,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "savefig.bbox": "tight",
}


def draw(report: Row, folder: Path) -> dict[str, str]:
    """Draw what there are numbers for; the figures' paths beside REPORT.md, by name."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # not pyplot: no window, no state

    drawn = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, painter in FIGURES.items():
        with mpl.rc_context(LOOK):
            figure = Figure(layout="constrained")
            if painter(report, figure):
                path = folder / f"{name}.png"
                figure.savefig(path, metadata={"Software": None})
                drawn[name] = f"{folder.name}/{path.name}"
    return drawn


def short(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×" if ratio >= 0.995 else f"{ratio:.2f}×"


def bars(axes: Any, report: Row, names: Sequence[str], colours: Mapping[str, Any], hatches: Mapping[str, str]) -> bool:
    """Ratios to ours per workload as bars from 1, up where the other takes longer; whiskers are quartiles."""
    workloads = [workload["name"] for workload in report["workloads"]]
    width = 0.84 / max(1, len(names))
    any_drawn = False
    for index, name in enumerate(names):
        found = [(place, row) for place, w in enumerate(workloads) if (row := find(report, w, name))]
        x = [place + (index - (len(names) - 1) / 2) * width for place, _ in found]
        ratios = [row["ratio"] for _, row in found]
        spread = [[r - row["ratio_quartiles"][0] for r, (_, row) in zip(ratios, found, strict=True)]]
        spread += [[row["ratio_quartiles"][1] - r for r, (_, row) in zip(ratios, found, strict=True)]]
        axes.bar(
            x,
            [ratio - 1 for ratio in ratios],
            width * 0.92,
            bottom=1,
            color=colours[name],
            hatch=hatches.get(name),
            edgecolor="white",
            linewidth=0,
            label=title(name),
        )
        # The median of few ratios may lie beyond their quartiles by a digit.
        axes.errorbar(x, ratios, [[max(0, s) for s in side] for side in spread], fmt="none", ecolor="#333333", elinewidth=0.9)
        for place, (_, row) in zip(x, found, strict=True):
            high = max(row["ratio_quartiles"][1], 1) if row["ratio"] >= 1 else row["ratio_quartiles"][0]
            axes.annotate(
                short(row["ratio"]),
                (place, high),
                xytext=(0, 3 if row["ratio"] >= 1 else -3),
                textcoords="offset points",
                ha="center",
                va="bottom" if row["ratio"] >= 1 else "top",
                fontsize=7.5,
            )
        any_drawn = any_drawn or bool(found)
    axes.axhline(1, color="#0072B2", linewidth=1.6)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.grid(axis="y")
    axes.set_xticks(range(len(workloads)), workloads)
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.01, y=0.12)
    return any_drawn


def speed(report: Row, figure: Any) -> bool:
    """How many times longer than ours do rivals take?"""
    figure.set_size_inches(10, 4.2)
    axes = figure.subplots()
    drawn = bars(axes, report, list(PACKAGES), {name: STYLE[name][0] for name in PACKAGES}, {})
    axes.set_ylabel("time of a step / briskmlp's")
    main = report["main"]
    axes.set_title(f"Times briskmlp's step, {main['dtype']}, {main['threads']} threads: bars above the line are slower")
    axes.legend(ncols=len(PACKAGES), loc="upper right", bbox_to_anchor=(1, 1.0), fontsize=9)
    return drawn


def growth(report: Row, figure: Any) -> bool:
    """Step time against width, depth and batch, with the time that the FLOPs take at the limit."""
    rows = measured(report["sweeps"])
    axes_of = list(dict.fromkeys(row["axis"] for row in rows))
    if not axes_of:
        return False
    figure.set_size_inches(11, 4.4)
    panels = figure.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
    for panel, axis in zip(panels, axes_of, strict=True):
        chosen = [row for row in rows if row["axis"] == axis]
        for name, (colour, marker) in STYLE.items():
            points = [(row["value"], row["us"]) for row in chosen if row["contender"] == name]
            if points:
                ours = name == "briskmlp-native"
                style = {"linewidth": 2.4 if ours else 1.3, "markersize": 6 if ours else 5, "zorder": 3 if ours else 2}
                panel.plot(*zip(*points, strict=True), color=colour, marker=marker, label=NAMES[name], **style)
        flops = sorted({(row["value"], row["flops"] / limit(report) / 1e3) for row in chosen})
        panel.plot(*zip(*flops, strict=True), color="#333333", linestyle=(0, (4, 3)), linewidth=1.3, label="FMA limit")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        values = sorted({row["value"] for row in chosen})
        panel.set_xticks(values[:: 1 + (len(values) > 8)], [f"{v:,}" for v in values[:: 1 + (len(values) > 8)]], fontsize=8)
        panel.minorticks_off()
        panel.grid()
        fixed = {"width": "2 layers, batch 128", "depth": "128 neurons, batch 128", "batch": "2 layers of 256"}
        panel.set_title(f"{axis.capitalize()} ({fixed[axis]})", fontweight="normal")
        panel.set_xlabel({"width": "neurons per layer", "depth": "layers", "batch": "examples per batch"}[axis])
    panels[0].set_ylabel("µs per training step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(STYLE) + 1, fontsize=9)
    return True


def backends(report: Row, figure: Any) -> bool:
    """Our own backends and instruction sets; and what threads gain."""
    names = dict.fromkeys(row["contender"] for row in measured(report["rows"]) if row["contender"].startswith("briskmlp"))
    names.pop("briskmlp-native", None)
    gains = thread_gains(report)
    if not names and not gains:
        return False
    figure.set_size_inches(11, 4.2)
    left, *others = figure.subplots(1, 2, width_ratios=(3, 2)) if gains else (figure.subplots(),)
    forced = [name for name in names if "@" in name]
    colours = {name: STYLE[name.partition("@")[0]][0] for name in names}
    hatches = {name: "///" * (index + 1) for index, name in enumerate(forced)}
    bars(left, report, list(names), colours, hatches)
    best = next((row["isa"] for row in measured(report["rows"]) if row["base"] and row["isa"]), "native")
    left.set_title(f"Times the native step with {best}")
    left.set_ylabel(f"time of a step / native, {best}")
    left.legend([title(name).removeprefix("briskmlp").strip(", ") for name in names], fontsize=9, loc="upper right")
    for right in others:
        gain_bars(right, report, gains)
    return True


def gain_bars(right: Any, report: Row, gains: Mapping[str, Mapping[str, float]]) -> None:
    workloads = [workload["name"] for workload in report["workloads"]]
    for index, (dtype, gain) in enumerate(gains.items()):
        x = [workloads.index(name) + (index - 0.5) * 0.4 for name in gain]
        right.bar(x, list(gain.values()), 0.37, color=("#0072B2", "#56B4E9")[index], label=dtype)
        for place, value in zip(x, gain.values(), strict=True):
            right.annotate(f"{value:.2f}", (place, value), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    threads = sorted({row["threads"] for row in measured(report["rows"])})
    right.axhline(threads[-1], color="#333333", linestyle=(0, (4, 3)), linewidth=1.2)
    right.set_title(f"What {threads[-1]} threads gain over {threads[0]}")
    right.set_ylabel("times as fast (dashed: ideal)")
    right.set_xticks(range(len(workloads)), workloads, fontsize=8)
    right.grid(axis="y")
    right.legend(fontsize=9, loc="upper left")


def thread_gains(report: Row) -> dict[str, dict[str, float]]:
    """By dtype and workload: our median on the fewest threads / on the most."""
    rows = [row for row in measured(report["rows"]) if row["contender"] == "briskmlp-native" and not row.get("linear_output")]
    threads = sorted({row["threads"] for row in rows})
    times = {(row["dtype"], row["workload"], row["threads"]): row["us"] for row in rows}
    gains: dict[str, dict[str, float]] = {}
    for dtype, workload, count in times:
        few = times.get((dtype, workload, threads[0]))
        if count == threads[-1] and few and len(threads) > 1:
            gains.setdefault(dtype, {})[workload] = few / times[dtype, workload, count]
    return gains


FIGURES: dict[str, Callable[[Row, Any], bool]] = {"speed": speed, "growth": growth, "backends": backends}
