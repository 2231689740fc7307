"""Machine, versions and limits: what a time is worth nothing without."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from limits import cpu_model, fma_limit, gemm_limit

PACKAGES = ("briskmlp", "numba", "torch", "jax", "scikit-learn", "numpy")


def describe(threads: Iterable[int], dtypes: Iterable[str]) -> dict[str, Any]:
    """Everything that stands on the report beside its numbers."""
    from briskmlp.backends import native

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {
            "cpu": cpu_model(),
            "cpus": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "isas": native.isas(),
            "load": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "revision": revision(),
        "limits": [
            {"dtype": d, "threads": t, "fma": fma_limit(d, t), "gemm": gemm_limit(d, t, n=1024, seconds=0.5)}
            for d in dtypes
            for t in threads
        ],
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def revision() -> str | None:
    """The commit that was measured, as git names it; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
