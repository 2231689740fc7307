"""The choice of a backend: a forced one is taken or refused, the environment counts, auto takes the fastest."""

import re
import types

import numpy as np
import pytest
from build import build

from briskmlp.backends import dispatch, native

F32 = np.dtype("float32")
PLAN = build([3, 4, 2]).plan


def refused(message, requested="auto", plan=PLAN, dtype=F32):
    with pytest.raises(ValueError, match=message):
        dispatch.choose(plan, dtype, requested)


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch):
    for name in ("BRISKMLP_BACKEND", "BRISKMLP_ISA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", dispatch.PREFERENCE)
def test_backend_runs_here(name):
    """One skip, with its reason, for each backend that the tests of all backends leave out."""
    reason = dispatch.backends()[name]
    if reason is not None:
        refused(re.escape(reason), name)
        pytest.skip(f"{name}: {reason}")
    assert name == dispatch.choose(PLAN, F32, name).backend.NAME
    fastest = next(other for other, obstacle in dispatch.backends().items() if obstacle is None)
    assert fastest == dispatch.choose(PLAN, F32, "auto").backend.NAME


def test_a_forced_choice_is_taken(backend_name, monkeypatch):
    """What runs is the module itself: its train is called, and no other's."""
    from briskmlp import Trainer

    called = []
    for name in dispatch.PREFERENCE:
        module = dispatch._module(name)
        train = module.train
        monkeypatch.setattr(module, "train", lambda *a, _n=name, _t=train: called.append(_n) or _t(*a))
    X = np.zeros((4, 2))
    Trainer([2, 1], backend=backend_name).fit(X, X[:, 0], epochs=1)
    assert set(called) == {backend_name}
    called.clear()
    monkeypatch.setenv("BRISKMLP_BACKEND", backend_name)
    trainer = Trainer([2, 1])
    trainer.fit(X, X[:, 0], epochs=1)
    assert set(called) == {backend_name} == {trainer.backend}


def test_the_argument_is_above_the_environment(monkeypatch):
    monkeypatch.setenv("BRISKMLP_BACKEND", "numba")
    assert dispatch.choose(PLAN, F32, "numpy").backend.NAME == "numpy"
    assert dispatch.choose(PLAN, F32, "auto").backend.NAME == "numba"
    monkeypatch.setenv("BRISKMLP_BACKEND", "")  # empty is unset
    assert dispatch.choose(PLAN, F32, "auto").backend.NAME in dispatch.PREFERENCE


def test_auto_steps_over_what_cannot_run(monkeypatch):
    import importlib

    real = importlib.import_module

    def broken(name, *args):
        if name.endswith("backends.numba"):
            raise ImportError("no LLVM here")
        return real(name, *args)

    monkeypatch.setattr(dispatch.importlib, "import_module", broken)
    monkeypatch.setattr(native, "unavailable", lambda: "no compiler there")
    assert dispatch.choose(PLAN, F32, "auto").backend.NAME == "numpy"
    assert dispatch.backends()["native"] == "no compiler there"
    assert "no LLVM here" in dispatch.backends()["numba"]
    refused("backend='numba' cannot be honoured: it cannot be imported: no LLVM here", "numba")


def test_a_plan_that_a_backend_does_not_support(monkeypatch):
    real = dispatch._module

    def module(name):
        if name == "numpy":
            return real(name)
        return types.SimpleNamespace(NAME=name, unavailable=lambda: None, unsupported=lambda plan, dtype: "too wide")

    monkeypatch.setattr(dispatch, "_module", module)
    assert dispatch.choose(PLAN, F32, "auto").backend.NAME == "numpy"
    refused("backend='numba' cannot be honoured: too wide", "numba")


def test_names_are_checked(monkeypatch):
    refused(r"backend is 'nunba'.*did you mean 'numba'", "nunba")
    monkeypatch.setenv("BRISKMLP_BACKEND", "Numpy")
    refused(r"BRISKMLP_BACKEND is 'Numpy'.*did you mean 'numpy'")
    monkeypatch.delenv("BRISKMLP_BACKEND")
    monkeypatch.setenv("BRISKMLP_ISA", "avx3")
    refused(r"BRISKMLP_ISA is 'avx3'.*did you mean 'avx2'")


def test_an_isa_asks_for_the_native_backend(monkeypatch):
    """Where that cannot run, the request is refused, never replaced; other explicit choices ignore it."""
    monkeypatch.setenv("BRISKMLP_ISA", "portable")
    assert dispatch.choose(PLAN, F32, "numpy").backend.NAME == "numpy"
    for requested in ("auto", "native"):
        if native.reason() is None:
            choice = dispatch.choose(PLAN, F32, requested)
            assert (choice.backend.NAME, choice.backend.isa()) == ("native", "portable")
            assert choice.why == "asked for by BRISKMLP_ISA=portable"
        else:
            refused("BRISKMLP_ISA=portable cannot be honoured", requested)


def test_an_isa_and_another_backend_contradict_each_other(monkeypatch):
    monkeypatch.setenv("BRISKMLP_ISA", "portable")
    monkeypatch.setenv("BRISKMLP_BACKEND", "numba")
    refused("BRISKMLP_BACKEND=numba and BRISKMLP_ISA=portable contradict each other")
    assert dispatch.choose(PLAN, F32, "numpy").backend.NAME == "numpy"  # an argument is above both


@pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
def test_an_isa_that_cannot_run_is_refused_with_those_that_can(monkeypatch):
    monkeypatch.setattr(native, "isas", lambda: ("portable", "avx2"))
    monkeypatch.setenv("BRISKMLP_ISA", "avx512")
    refused("BRISKMLP_ISA=avx512 cannot be honoured: .* cannot run on this processor; what can .* is portable, avx2")


@pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
def test_tiles_that_the_operating_system_refuses_are_not_used(monkeypatch):
    from briskmlp import _native

    monkeypatch.setattr(native, "isas", lambda: native.ISAS)
    monkeypatch.setattr(_native, "permits_tiles", lambda: False)
    monkeypatch.setenv("BRISKMLP_ISA", "amx")
    message = "the operating system refuses the tiles of amx to this process"
    refused(f"BRISKMLP_ISA=amx cannot be honoured: {message}")
    assert dispatch.backends()["native"].startswith(message)
    monkeypatch.setattr(_native, "permits_tiles", lambda: True)
    assert dispatch.choose(PLAN, F32, "auto").isa == "amx"
    refused("amx splits float32 numbers into bfloat16, but dtype is 'float64'", dtype=np.dtype("float64"))


def test_other_precisions_are_for_the_backends_that_have_them(monkeypatch):
    plan = PLAN._replace(precision=2)
    for obstacle, chosen in ((None, "native"), ("not built", "numpy")):
        monkeypatch.setattr(native, "unavailable", lambda obstacle=obstacle: obstacle)
        if obstacle or native.reason() is None:
            assert chosen == dispatch.choose(plan, F32, "auto").backend.NAME
    refused("it has no precision 'bfloat16'", "numba", plan=plan)
    for requested in dispatch.CHOICES:
        refused("precision='bfloat16' needs dtype='float32'", requested, plan=plan, dtype=np.dtype("float64"))
