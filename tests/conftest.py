"""Fixtures and settings that all tests share."""

import contextlib
import importlib
import itertools
import json
import os
import signal
import sys

import numpy as np
import pytest
from hypothesis import settings

from briskmlp import cli
from briskmlp.backends import dispatch, native
from briskmlp.session import Session

# Compiling and caches make first calls slow, so no deadline; where nobody watches, the same examples every time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Before anything imports Matplotlib: it draws without a screen.
os.environ["MPLBACKEND"] = "Agg"

# Each backend that can run here, with each of its instruction sets. One that cannot is left out; test_dispatch.py skips
# once for it, with the reason.
RUNNABLE = [(name, None) for name, reason in dispatch.backends().items() if reason is None and name != "native"]
if dispatch.backends()["native"] is None:
    RUNNABLE[:0] = [("native", isa) for isa in native.isas() if isa not in native.UNITS]


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """Let SIGINT interrupt: shells start what runs in the background with it ignored, and tests would wait for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def closed():
    """Close the figures that a test leaves, if it has drawn any."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(params=RUNNABLE, ids=lambda chosen: "-".join(filter(None, chosen)))
def backend_name(request, monkeypatch):
    """Return the name of each backend that can run here, in turn; the native one with each ISA, in turn."""
    name, isa = request.param
    if isa is not None:
        monkeypatch.setenv("BRISKMLP_ISA", isa)
    return name


@pytest.fixture
def backend(backend_name):
    """Return the module of each backend in turn."""
    return importlib.import_module(f"briskmlp.backends.{backend_name}")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Return each dtype that networks are trained in."""
    return np.dtype(request.param)


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def workdir(monkeypatch, tmp_path):
    """Work in an empty folder, on the NumPy backend, which has nothing to compile."""
    monkeypatch.setenv("BRISKMLP_BACKEND", "numpy")
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Return a function that runs a command, given without its name, and returns its exit code and what it printed."""

    def run(line, *more):
        code = cli.main([*line.split(), *map(str, more)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def report(run):
    """Return a function that runs a command with --json, which must succeed, and returns the object."""

    def report(line, *more):
        code, out, err = run(line, *more, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return report


@pytest.fixture
def refused(run):
    """Return a function that runs a command, which must be refused with this message, and returns all it said."""

    def refused(line, message):
        code, out, err = run(line)
        assert (code, out) == (2, "")
        assert message in err
        return err

    return refused


@pytest.fixture
def ctrl_c(monkeypatch):
    """Return a context, given a number, in which the kernel call of this number is interrupted."""

    @contextlib.contextmanager
    def interrupted(number):
        calls, advance = itertools.count(1), Session.run

        def cut(*arguments):
            if next(calls) == number:
                raise KeyboardInterrupt
            return advance(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Session, "run", cut)
            yield

    return interrupted
