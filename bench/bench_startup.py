"""What does the first call cost? Each start is a fresh process, as a user's is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from startup import FIRST_FIT, IMPORT, run


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    code = "from briskmlp import Trainer"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])  # its last line: the module that is missing


def bench_import(benchmark: Any) -> None:
    """extra_info["import_s"]: what `import briskmlp` costs beyond NumPy's import, the best of the rounds."""
    runs: list[dict[str, float]] = []
    benchmark.pedantic(lambda: runs.append(run(IMPORT, "briskmlp")), rounds=9, warmup_rounds=1)
    benchmark.extra_info["import_s"] = min(r["import_s"] for r in runs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def bench_first_fit_native(benchmark: Any, dtype: str) -> None:
    """extra_info["first_fit_s"]: Trainer and fit of a network whose arithmetic takes a microsecond."""
    runs: list[dict[str, float]] = []
    benchmark.pedantic(lambda: runs.append(run(FIRST_FIT, dtype, "native")), rounds=9, warmup_rounds=1)
    best = {key: min(r[key] for r in runs) for key in runs[0]}
    benchmark.extra_info.update(dtype=dtype, backend="native", **best)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def bench_first_fit_numba(benchmark: Any, tmp_path: Path, dtype: str) -> None:
    """The table has the start with a filled Numba cache; extra_info["cold"] has the compiling one before it."""
    cold = run(FIRST_FIT, dtype, "numba", cache=tmp_path)
    if not list(tmp_path.rglob("*.nbi")):
        pytest.fail("the kernels were not cached in NUMBA_CACHE_DIR: this start was not cold, or none will be warm")
    runs: list[dict[str, float]] = []
    benchmark.pedantic(lambda: runs.append(run(FIRST_FIT, dtype, "numba", cache=tmp_path)), rounds=5)
    best = {key: min(r[key] for r in runs) for key in cold}
    benchmark.extra_info.update(dtype=dtype, backend="numba", cold=cold, cached=best)
