"""Does the comparison of two builds compare? This one with itself: the same bits, of every kind of plan."""

from __future__ import annotations

from builds import compare_bits, differences
from duel import Contestant


def bench_builds_finds_a_build_equal_to_itself() -> None:
    with Contestant("briskmlp-native", 2) as build:
        assert compare_bits(build, build, 10, seed=1) == 0


def bench_builds_tells_what_differs() -> None:
    old = {"avx2": {"0.weight": "a", "predict": "b"}, "amx": {"refused": "for one reason"}, "numpy": {"predict": "b"}}
    new = {"avx2": {"0.weight": "a", "new": "c"}, "amx": {"refused": "for another"}, "numpy": {"refused": "now"}}
    assert list(differences(old, new)) == ["avx2: predict", "numpy: trained before, now after"]
