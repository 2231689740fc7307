"""The report's figures from its numbers. Colours are Okabe's and Ito's, which the colour-blind tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from report_tables import NAMES, PACKAGES, find, limit, measured, setting, title

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
DASHES = (0, (4, 3))
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
            path = folder / f"{name}.png"
            path.unlink(missing_ok=True)
            if painter(report, figure):
                figure.savefig(path, metadata={"Software": None})  # no version: equal numbers give equal files
                drawn[name] = f"{folder.name}/{path.name}"
    return drawn


def short(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×" if ratio >= 0.995 else f"{ratio:.2f}×"


def bars(axes: Any, report: Row, names: Sequence[str], colours: Mapping[str, str]) -> None:
    """Ratios to ours per workload as bars from 1, up where the other takes longer; whiskers are quartiles."""
    workloads = shown(report)
    width = 0.84 / max(1, len(names))
    for index, name in enumerate(names):
        offset = (index - (len(names) - 1) / 2) * width
        found = [(place + offset, row) for place, w in enumerate(workloads) if (row := find(report, w, name))]
        look = {"color": colours[name], "label": title(name).removeprefix("briskmlp").removeprefix(" with").strip(", ")}
        axes.bar([x for x, _ in found], [row["ratio"] - 1 for _, row in found], width * 0.92, bottom=1, **look)
        for x, row in found:
            low, high = row["ratio_quartiles"]
            slower = row["ratio"] >= 1
            axes.plot([x, x], [low, high], color="#333333", linewidth=0.9)
            place = {"xytext": (0, 3 if slower else -3), "va": "bottom" if slower else "top", "ha": "center"}
            at = (x, max(high, 1) if slower else low)
            axes.annotate(short(row["ratio"]), at, textcoords="offset points", fontsize=7.5, **place)
    axes.axhline(1, color=STYLE["briskmlp-native"][0], linewidth=1.6)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}×")
    axes.margins(y=0.14)
    name_workloads(axes, workloads)


def shown(report: Row) -> list[str]:
    """The workloads that have numbers."""
    names = {row["workload"] for row in measured(report["rows"])}
    return [workload["name"] for workload in report["workloads"] if workload["name"] in names]


def name_workloads(axes: Any, workloads: Sequence[str]) -> None:
    axes.set_xticks(range(len(workloads)), workloads)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(workloads) - 0.5)
    axes.grid(axis="y")


def speed(report: Row, figure: Any) -> bool:
    """How many times longer than ours do rivals take?"""
    if not shown(report):
        return False
    figure.set_size_inches(10, 4.2)
    axes = figure.subplots()
    bars(axes, report, list(PACKAGES), {name: STYLE[name][0] for name in PACKAGES})
    axes.set_title(f"Time of a training step / briskmlp's: {setting(report['main'])}")
    axes.legend(ncols=len(PACKAGES), loc="upper right", fontsize=9)
    return True


def growth(report: Row, figure: Any) -> bool:
    """Step time against width, depth and batch, with the time that the FLOPs take at the limit."""
    rows = measured(report["sweeps"])
    axes_of = list(dict.fromkeys(row["axis"] for row in rows))
    if not axes_of:
        return False
    figure.set_size_inches(11, 4.6)
    panels = figure.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
    for panel, axis in zip(panels, axes_of, strict=True):
        grow(panel, axis, [row for row in rows if row["axis"] == axis], limit(report, rows[0]))
    panels[0].set_ylabel("µs per training step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(STYLE) + 1, fontsize=9)
    return True


def grow(panel: Any, axis: str, rows: Sequence[Row], fma: float) -> None:
    for name, (colour, marker) in STYLE.items():
        points = [(row["value"], row["us"]) for row in rows if row["contender"] == name]
        if points:
            width, zorder = (2.4, 3) if name == "briskmlp-native" else (1.3, 2)
            look = {"linewidth": width, "zorder": zorder, "markersize": 5, "label": NAMES[name]}
            panel.plot(*zip(*points, strict=True), color=colour, marker=marker, **look)
    least = sorted({(row["value"], row["flops"] / fma / 1e3) for row in rows})
    panel.plot(*zip(*least, strict=True), color="#333333", linestyle=DASHES, linewidth=1.3, label="FMA limit")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    values = [value for value, _ in least]
    panel.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
    panel.minorticks_off()
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}")
    panel.grid()
    fixed = {"width": "2 layers, batch 128", "depth": "128 neurons, batch 128", "batch": "2 layers of 256"}
    panel.set_title(f"{axis.capitalize()} ({fixed[axis]})")
    panel.set_xlabel({"width": "neurons per layer", "depth": "layers", "batch": "examples per batch"}[axis])


def backends(report: Row, figure: Any) -> bool:
    """Our own backends and instruction sets; and what threads gain."""
    ours = [row["contender"] for row in measured(report["rows"]) if row["contender"].startswith("briskmlp")]
    names = [name for name in dict.fromkeys(ours) if name != "briskmlp-native"]
    gains = thread_gains(report)
    if not names and not gains:
        return False
    figure.set_size_inches(10, 7 if gains else 4.2)
    above, *below = figure.subplots(2, height_ratios=(3, 2)) if gains else (figure.subplots(),)
    forced = dict(zip((name for name in names if "@" in name), ("#00304F", "#0072B2", "#7F4F9F"), strict=False))
    bars(above, report, names, {name: forced.get(name) or STYLE[name][0] for name in names})
    best = next((row["isa"] for row in measured(report["rows"]) if row["base"] and row["isa"]), "the best")
    above.set_title(f"Time of a training step / the one with {best}: {setting(report['main'])}")
    above.legend(ncols=len(names), loc="upper right", fontsize=9)
    for axes in below:
        gain_bars(axes, report, gains)
    return True


def gain_bars(axes: Any, report: Row, gains: Mapping[str, Mapping[str, float]]) -> None:
    workloads = shown(report)
    threads = sorted({row["threads"] for row in measured(report["rows"])})
    for index, (dtype, gain) in enumerate(gains.items()):
        x = [workloads.index(name) + (index - (len(gains) - 1) / 2) * 0.4 for name in gain]
        axes.bar(x, list(gain.values()), 0.37, color=("#0072B2", "#56B4E9")[index], label=dtype)
        for at in zip(x, gain.values(), strict=True):
            axes.annotate(f"{at[1]:.2f}", at, xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7.5)
    axes.axhline(threads[-1], color="#333333", linestyle=DASHES, linewidth=1.2, label="ideal")
    axes.set_title(f"Time on {threads[0]} / time on {threads[-1]} threads")
    axes.set_ylim(0, 1.3 * max(threads[-1], *(value for gain in gains.values() for value in gain.values())))
    name_workloads(axes, workloads)
    axes.legend(fontsize=9, loc="upper right", ncols=3)


def thread_gains(report: Row) -> dict[str, dict[str, float]]:
    """By dtype and workload: our median on the fewest threads / on the most."""
    rows = [r for r in measured(report["rows"]) if r["contender"] == "briskmlp-native" and not r.get("linear_output")]
    threads = sorted({row["threads"] for row in rows})
    times = {(row["dtype"], row["workload"], row["threads"]): row["us"] for row in rows}
    gains: dict[str, dict[str, float]] = {}
    for (dtype, workload, count), many in times.items():
        few = times.get((dtype, workload, threads[0]))
        if count == threads[-1] and few and len(threads) > 1:
            gains.setdefault(dtype, {})[workload] = few / many
    return gains


FIGURES: dict[str, Callable[[Row, Any], bool]] = {"speed": speed, "growth": growth, "backends": backends}
