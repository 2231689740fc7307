"""The benchmark report: what it plans, how a duel counts, and what it writes from the numbers. Nothing is timed."""

import itertools
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))  # its files are scripts, not a package

import report_measure  # noqa: E402, its folder had to be on the path
from report import dump  # noqa: E402, the same
from report_plan import Settings, plan  # noqa: E402, the same
from report_render import BEGIN, END, readme_block, replace_block, report_text  # noqa: E402, the same
from report_tables import figure, headline, left_out, percent  # noqa: E402, the same
from workloads import WORKLOADS  # noqa: E402, the same


def row(contender, workload, us, ratio, **more):
    ours = contender == "briskmlp-native"
    return {
        "contender": contender, "workload": workload, "dtype": "float32", "threads": 2, "isa": "avx2" if ours else None,
        "base": ours, "us": us, "us_quartiles": [0.9 * us, 1.1 * us], "pairs": 9, "gflops": 100.0,
        "ratio": ratio, "ratio_quartiles": [0.8 * ratio, 1.5 * ratio], "ratio_of_best": 0.9 * ratio, **more,
    }  # fmt: skip


def absent(contender, workload, why):
    return {"contender": contender, "workload": workload, "dtype": "float32", "threads": 2, "absent": why}


@pytest.fixture
def report():
    """Two workloads; PyTorch is faster at one and missing at the other, JAX is not installed."""
    numbers = {"peak_mib": {"xor": 40.0}, "first_s": 0.3, "first_quartiles": [0.2, 0.4], "starts": 3}
    grown = {"axis": "width", "value": 64, "flops": 4_000_000}
    trained = {"hidden": "tanh", "optimizer": "adam"}
    return {
        "command": "python bench/report.py",
        "date": "2026-01-02",
        "minutes": 12.3,
        "complete": True,
        "revision": None,
        "machine": {"cpu": "A CPU", "cpus": 2, "memory_gib": 8, "system": "Linux", "isas": ["avx2"], "load": 0.1},
        "versions": {"python": "3.12", "numba": None, "torch": "2.0+cpu", "jax": None, "scikit-learn": "1.7"},
        "limits": [{"dtype": "float32", "threads": 2, "fma": 400.0, "gemm": 200.0}],
        "main": {"dtype": "float32", "threads": 2},
        "workloads": [
            {"name": name, "layers": WORKLOADS[name].layers, "batch": WORKLOADS[name].batch, **trained}
            for name in ("xor", "mid")
        ],
        "rows": [
            row("briskmlp-native", "xor", 0.25, 1.0),
            row("torch", "xor", 0.2, 0.8),
            absent("jax", "xor", "No module named 'jax'"),
            row("briskmlp-native", "xor", 0.3, 1.0, linear_output=True),
            row("sklearn", "xor", 0.1, 0.3333, linear_output=True),
            row("briskmlp-native", "mid", 1234.5, 1.0),
            absent("torch", "mid", "torch died"),
            absent("jax", "mid", "No module named 'jax'"),
        ],
        "sweeps": [
            row("briskmlp-native", "width 64", 20.0, 1.0, **grown),
            row("torch", "width 64", 90.0, 4.5, **grown),
        ],
        "starts": [
            {"contender": "briskmlp-native", "import_s": 0.001, "import_quartiles": [0.001, 0.002], **numbers},
            {"contender": "briskmlp-numba, first time ever", **numbers},
            {"contender": "jax", "absent": "No module named 'jax'"},
        ],
    }


def test_headline(report):
    """The base row is that of the same output; the fastest is bold, but scikit-learn's work is another."""
    head, _, xor, mid = headline(report).splitlines()
    columns = (
        "workload | network | batch | briskmlp | of FMA limit | Numba backend | PyTorch 2.0 | JAX | scikit-learn 1.7"
    )
    assert head == f"| {columns} |"
    assert xor == "| xor | 2-2-1 tanh, Adam | 4 | 0.25 | 25 % | – | **0.2** (0.8×) | – | 0.1 (0.333×) |"
    assert mid == "| mid | 784-256-10 tanh, Adam | 128 | **1,230** | 25 % | – | – | – | – |"


def test_left_out_names_who_where_and_why(report):
    assert left_out(report).splitlines() == [
        "- JAX: No module named 'jax' (float32, 2 threads: xor, mid)",
        "- PyTorch: torch died (float32, 2 threads: mid)",
        "- JAX: No module named 'jax' (start)",
    ]


def test_text_has_every_number_and_the_conditions(report):
    text = report_text(report, {"speed": "report/speed.png"})
    assert "| xor | PyTorch |  | 0.2 | 0.18 – 0.22 | 0.8 | 0.64 – 1.2 | 0.72 | 9 | 100 | 25 % |" in text
    assert "| xor, linear output | scikit-learn |" in text
    assert "| width 64 | 10 | 20 | 90 (4.5×) |" in text  # 4 MFLOP at 400 GFLOP/s take 10 µs
    assert "| briskmlp | 1 | 1 – 2 | 0.3 | 0.2 – 0.4 | 40 |" in text
    assert "| briskmlp, Numba backend, first time ever | – | – | 0.3 |" in text
    assert "`python bench/report.py`, 12.3 minutes, 2026-01-02" in text
    assert "(report/speed.png)" in text
    assert "growth.png" not in text  # was not drawn
    assert "Interrupted" not in text
    assert "**Interrupted**" in report_text(report | {"complete": False}, {})


@pytest.mark.parametrize(
    ("value", "text"), [(0.08412, "0.0841"), (6.868, "6.87"), (99.96, "100"), (217.4, "217"), (1037512.0, "1,040,000")]
)
def test_figures_have_three_digits(value, text):
    assert figure(value) == text


def test_percent():
    assert [percent(share) for share in (0.914, 0.0999, 0.042, 0.0007)] == ["91 %", "10 %", "4.2 %", "< 0.1 %"]


def test_replace_block():
    assert replace_block(f"a\n{BEGIN}\nold\n{END}\nb", f"{BEGIN}\nnew\n{END}") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for text in ("no markers", f"{BEGIN} {BEGIN} {END}"):
        with pytest.raises(ValueError, match="once each"):
            replace_block(text, "new")


def test_dump_keeps_four_digits_and_one_line_per_row(report):
    text = dump(report | {"minutes": 1.23456})
    assert json.loads(text)["minutes"] == 1.235
    assert [row.get("us_quartiles") for row in json.loads(text)["rows"][:2]] == [[0.225, 0.275], [0.18, 0.22]]
    assert sum('"contender": "torch"' in line for line in text.splitlines()) == 3


def test_committed_texts_follow_from_the_committed_numbers():
    """README.md and REPORT.md are written by ``python bench/report.py``, or with ``--from bench/report.json``."""
    report = json.loads((ROOT / "bench/report.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert replace_block(readme, readme_block(report)) == readme
    drawn = {path.stem: f"report/{path.name}" for path in (ROOT / "bench/report").glob("*.png")}
    assert (ROOT / "bench/REPORT.md").read_text(encoding="utf-8") == report_text(report, drawn)


def test_figures(report, tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    from report_figures import draw

    report["limits"] += [{"dtype": "float32", "threads": 1, "fma": 200.0, "gemm": 100.0}]
    report["rows"] += [row("briskmlp-native", "mid", 2000.0, 1.0, threads=1)]
    report["rows"] += [row("briskmlp-native@portable", "mid", 5000.0, 4.0)]
    drawn = draw(report, tmp_path / "report")
    assert list(drawn) == ["speed", "growth", "backends"]
    once = {name: (tmp_path / path).read_bytes() for name, path in drawn.items()}
    assert all(content.startswith(b"\x89PNG") for content in once.values())
    assert draw(report, tmp_path / "report") == drawn
    assert once == {name: (tmp_path / path).read_bytes() for name, path in drawn.items()}
    nothing = report | {"rows": [], "sweeps": []}
    assert draw(nothing, tmp_path / "report") == {}
    assert not list(tmp_path.rglob("*.png"))  # none that would not belong to the numbers


def test_plan_covers_everything_and_begins_with_what_matters():
    groups = plan(Settings(threads=(1, 2)))
    done = {(job.workload.name, job.dtype, job.threads) for group in groups for job in group if job.part == "rows"}
    assert done == {*itertools.product(WORKLOADS, ("float32", "float64"), (1, 2))}
    first = groups[0][0]
    assert (first.dtype, first.threads) == ("float32", 2)
    for job in (job for group in groups for job in group):
        assert ("sklearn" in job.names) <= (job.workload.output == "identity")
        assert job.names[0] == "briskmlp-native"


class Fake:
    """A contender whose turns take given times; it fails where a text stands instead of a number."""

    def __init__(self, seconds):
        self.name, self.version, self.isa, self.dtype = "fake", "fake 1", None, "float32"
        self.process, self.checked, self.epochs, self.steps = self, set(), 1, 1
        self.left, self.turns = seconds, []
        self.exit_code = None

    def poll(self):
        return self.exit_code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def prepare(self, *_, **__):
        self.turns = []

    def ask(self, *_, **__):
        pass

    @property
    def per_step(self):
        return [turn["seconds"] for turn in self.turns]

    def turn(self):
        seconds = self.left.pop(0)
        if isinstance(seconds, str):
            self.exit_code = 1
            raise RuntimeError(seconds)  # noqa: TRY004, as Contestant does of a dead process
        self.turns.append({"seconds": seconds, "cpu": seconds, "idle_cpu": 0.0, "loss": 0.0})


def test_duel_takes_paired_ratios_and_outlives_failures(monkeypatch):
    turns = {"briskmlp-native": [1.0, 2.0, 4.0], "torch": [3.0, 2.0, 8.0], "numpy": [1.0, "numpy died", 1.0]}

    def start(name, threads):
        if name not in turns:
            raise report_measure.MissingError(f"{name}: not installed")
        return Fake(turns[name])

    monkeypatch.setattr(report_measure, "start", start)
    monkeypatch.setattr(report_measure, "check", lambda contestants, workload: None)
    monkeypatch.setattr(report_measure, "Contestant", Fake)
    names = ["briskmlp-native", "torch", "jax", "numpy"]
    settings = Settings(threads=(1,))
    job = report_measure.Job("rows", names, WORKLOADS["deep"], "float32", 1, pairs=3, labels={"more": 1})
    with report_measure.Pool(1) as pool:
        ours, torch, jax, numpy = report_measure.Duel(job, pool, settings).rows()
        assert (ours["ratio"], ours["us"], ours["base"], ours["more"]) == (1.0, 2e6, True, 1)
        assert (torch["ratio"], torch["us"], torch["pairs"]) == (2.0, 3e6, 3)  # of 3, 1, 2; the medians' are 3 and 2
        assert torch["gflops"] == pytest.approx(WORKLOADS["deep"].flops / 3 / 1e9)
        assert jax["absent"] == "jax: not installed"
        assert numpy["absent"] == "numpy died"
        # The dead one stays out; the others are known to need seconds for an epoch now, and are not asked.
        again = report_measure.Duel(job, pool, settings).rows()
        assert again[3]["absent"] == "numpy died"
        assert all(row["absent"].startswith("too slow, about") for row in again[:2])
