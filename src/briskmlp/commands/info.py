"""``briskmlp info``: what is installed, what can run here, and why the rest cannot."""

from __future__ import annotations

import os
import platform
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from briskmlp._console import Result


def info(_: Namespace) -> Result:
    """Report versions, backends with reasons, instruction sets, threads and the environment's overrides."""
    from briskmlp.backends import dispatch, native
    from briskmlp.backends.threads import thread_limit

    def state(reason: str | None) -> dict[str, Any]:
        return {"available": reason is None, "reason": reason}

    versions = {name: installed(name) for name in ("briskmlp", "numpy", "numba", "scipy", "scikit-learn")}
    environment = {name: value for name, value in os.environ.items() if name.startswith("BRISKMLP_")}
    backends = dispatch.backends()
    report = {
        "version": versions["briskmlp"],
        "backends": {name: state(reason) for name, reason in backends.items()},
        "extension": state(native.reason()),
        "isas": native.isas(),
        "threads": thread_limit(None),
        "environment": environment,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
    }
    facts = {
        "instruction sets": " ".join(native.isas()) or f"unknown: {native.reason()}",
        "threads": report["threads"],
        **environment,
        "python": report["python"],
        "platform": report["platform"],
        **{name: version for name, version in versions.items() if name != "briskmlp"},
    }
    lines = [f"briskmlp {versions['briskmlp']}", "", "backends, fastest first"]
    lines += [f"  {name:<8} {reason or 'available'}" for name, reason in backends.items()]
    lines += ["", *(f"{name:<17} {value}" for name, value in facts.items())]
    return Result(report, "\n".join(lines) + "\n")


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, None if it is not installed.

    Examples
    --------
    >>> installed("no such thing") is None
    True
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
