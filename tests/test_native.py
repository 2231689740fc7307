"""The C extension: what it reports of the processor, and what is said when it is missing or broken."""

import sys
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import briskmlp
from briskmlp.backends import native

NAMES = ("portable", "avx2", "avx512", "amx")

# The kernel lists a flag only where it also saves the registers that go with it.
FLAGS = {
    "portable": set(),
    "avx2": {"avx", "avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "amx": {"amx_tile", "amx_bf16"},
}

needs_extension = pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))


def kernel_flags():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), None)


@pytest.fixture
def load_from(monkeypatch, tmp_path):
    """Return a function that loads a fresh copy of the module, which looks for the extension in ``tmp_path``."""

    def load():
        monkeypatch.delitem(briskmlp.__dict__, "_native", raising=False)
        monkeypatch.delitem(sys.modules, "briskmlp._native", raising=False)
        monkeypatch.setattr(briskmlp, "__path__", [str(tmp_path)])
        spec = spec_from_file_location("native_copy", native.__file__)
        copy = module_from_spec(spec)
        spec.loader.exec_module(copy)
        return copy

    return load


@needs_extension
def test_isas_are_nested_and_begin_with_portable():
    assert native.isas() == NAMES[: len(native.isas())] != ()


@needs_extension
@pytest.mark.skipif(kernel_flags() is None, reason="no processor flags in /proc/cpuinfo")
def test_isas_agree_with_the_kernel():
    wanted, expected = set(), []
    for name in NAMES:
        wanted |= FLAGS[name]
        if wanted <= kernel_flags():
            expected.append(name)
    assert native.isas() == tuple(expected)


@needs_extension
def test_the_best_isa_is_the_fastest_of_full_precision():
    from briskmlp import _native

    assert _native.best_isa() == [name for name in native.isas() if name != "amx"][-1]


@needs_extension
def test_extension_and_package_have_one_version():
    from briskmlp import _native

    assert _native.version == version("briskmlp")
    assert _native.compiler


def test_a_missing_extension_is_explained(load_from):
    copy = load_from()
    assert copy.isas() == ()
    assert "no working C compiler" in copy.reason()
    assert "BRISKMLP_REQUIRE_NATIVE=1" in copy.reason()


@needs_extension
def test_a_broken_extension_is_explained_in_the_loaders_words(load_from, tmp_path):
    (tmp_path / "_native.abi3.so").write_bytes(b"not a library")
    copy = load_from()
    assert copy.isas() == ()
    assert "failed to load" in copy.reason()
    assert "_native.abi3.so" in copy.reason()
