"""Benchmarks that anyone can rerun: writes report.json, and from it REPORT.md, its figures and README's table.

    python bench/report.py                       # all, within an hour
    python bench/report.py --quick               # within 3 minutes
    python bench/report.py --from report.json    # only writes anew what follows from the numbers

Each contender is a warm process of its own, and they take strict turns; each is first checked to compute the same
result. Ctrl-C keeps what was measured until then.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from report_machine import describe
from report_measure import measure
from report_plan import QUICK, RIVALS, Settings
from report_render import readme_block, replace_block, report_text
from workloads import WORKLOADS

from briskmlp.backends.threads import thread_limit

BENCH = Path(__file__).parent
README = BENCH.parent / "README.md"


def dump(report: dict[str, Any]) -> str:
    """JSON with one line per row and four digits: small, and readable as a difference of two versions."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, dict):
            return {key: rounded(inner) for key, inner in value.items()}
        return [rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    def show(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        return json.dumps(value)

    return "{\n " + ",\n ".join(f"{json.dumps(key)}: {show(value)}" for key, value in rounded(report).items()) + "\n}\n"


def write(report: dict[str, Any], folder: Path, readme: Path | None) -> None:
    """Write all that follows from the numbers."""
    from report_figures import draw

    figures = draw(report, folder / "report")
    (folder / "REPORT.md").write_text(report_text(report, figures), encoding="utf-8")
    if readme:
        text = readme.read_text(encoding="utf-8")
        readme.write_text(replace_block(text, readme_block(report)), encoding="utf-8")


def measured(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Measure as the options say and save to `path` all the time, so that Ctrl-C or a kill loses little."""
    settings = Settings(
        threads=whole_numbers(options.threads) if options.threads else tuple(sorted({1, thread_limit(None)})),
        rivals=names("rivals", options.rivals, RIVALS),
        workloads=names("workloads", options.workloads, WORKLOADS),
        **(QUICK if options.quick else {}) | ({"minutes": options.minutes} if options.minutes else {}),
    )
    begin = time.monotonic()
    report = {"command": shlex.join(["python", "bench/report.py", *sys.argv[1:]]), "quick": options.quick}

    def save() -> None:
        report["minutes"] = (time.monotonic() - begin) / 60
        path.write_text(dump(report), encoding="utf-8")

    try:
        report |= describe(settings.threads, settings.dtypes)
        measure(settings, report, save)
    except KeyboardInterrupt:
        if not report.get("rows"):
            sys.exit(130)  # nothing to write
        print("interrupted: writing what was measured", file=sys.stderr)
    save()
    return report


def names(option: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(text.split(",")) if text else ()
    if unknown := set(chosen) - set(known):
        sys.exit(f"--{option}: {', '.join(sorted(unknown))} is not among {', '.join(known)}")
    return chosen


def whole_numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        numbers = (0,)
    if min(numbers) < 1:
        sys.exit(f"--threads is {text!r}, but must be whole numbers >= 1 with commas between")
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns, without the slowest: 3 minutes")
    parser.add_argument("--rivals", default=",".join(RIVALS), help="default: %(default)s")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="default: %(default)s")
    parser.add_argument("--threads", help="numbers of threads, the main one last; default: 1 and all physical cores")
    parser.add_argument("--minutes", type=float, help="no measurement starts after so many; default 50, quick 2.5")
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="measure nothing, read this")
    parser.add_argument("--out", type=Path, help="write into this folder; default: bench/, and README.md as well")
    options = parser.parse_args()
    if not find_spec("matplotlib"):  # found out before an hour has passed
        sys.exit("the figures need matplotlib: pip install 'briskmlp[bench]'")
    folder, readme = (options.out, None) if options.out else (BENCH, README)
    folder.mkdir(parents=True, exist_ok=True)
    path = options.source or folder / "report.json"
    complete = options.source or measured(options, path)["complete"]
    write(json.loads(path.read_text(encoding="utf-8")), folder, readme)
    if not complete:
        sys.exit(130)


if __name__ == "__main__":
    main()
