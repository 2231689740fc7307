"""How many threads may be used: affinity, cores, cgroup quota, environment; and holding BLAS to that number."""

import threading

import numpy as np
import pytest
import threadpoolctl

from briskmlp.backends import threads


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch):
    """Pretend to a machine of 16 CPUs on 8 cores, without limits."""
    monkeypatch.setattr(threads, "_affinity", lambda: frozenset(range(16)))
    monkeypatch.setattr(threads, "_physical_cores", lambda cpus: 8)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    for name in ("BRISKMLP_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


REAL = {name: getattr(threads, name) for name in ("_affinity", "_physical_cores", "_cgroup_quota")}


def test_none_is_the_least_of_all_limits(monkeypatch):
    assert threads.thread_limit(None) == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "6,2")
    assert threads.thread_limit(None) == 6
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 5)
    assert threads.thread_limit(None) == 5
    monkeypatch.setenv("BRISKMLP_NUM_THREADS", " 3 ")
    assert threads.thread_limit(None) == 3
    monkeypatch.setattr(threads, "_affinity", lambda: frozenset([0, 7]))
    assert threads.thread_limit(None) == 2


def test_a_number_is_bound_by_affinity_alone(monkeypatch):
    monkeypatch.setenv("BRISKMLP_NUM_THREADS", "1")
    assert threads.thread_limit(12) == 12
    assert threads.thread_limit(99) == 16


def test_limits_that_are_unknown_do_not_count(monkeypatch):
    monkeypatch.setattr(threads, "_physical_cores", lambda cpus: None)
    assert threads.thread_limit(None) == 16


@pytest.mark.parametrize("text", ["two", "0", "-3", "1.5"])
def test_our_variable_is_checked_and_others_are_left_alone(monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads.thread_limit(None) == 8
    monkeypatch.setenv("BRISKMLP_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"BRISKMLP_NUM_THREADS is '{text}', but must be a whole number >= 1"):
        threads.thread_limit(None)


V1 = "4:memory:/box\n3:cpuset:/\n2:cpu,cpuacct:/box/job\n0::/\n"


def v1(quota, folder="cpu"):
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(("own", "files", "expected"), [
    ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
    ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    ("0::/\n", {"cpu.max": "nonsense"}, None),
    ("0::/box/job\n", {"box/job/cpu.max": "300000 100000\n", "box/cpu.max": "max 100000\n"}, 3),
    ("0::/box/job\n", {"box/job/cpu.max": "300000 100000\n", "box/cpu.max": "200000 100000\n"}, 2),
    ("0::/box/job\n", {"box/job/cpu.max": "max 100000\n", "cpu.max": "400000 100000\n"}, 4),
    ("0::/not/here\n", {"cpu.max": "200000 100000\n"}, 2),
    ("0::/box\n", {"box/cpu.max": "nonsense", "cpu.max": "200000 100000\n", "box/job/cpu.max": "1 1\n"}, 2),
    ("1:cpu:/\n", v1(300000), 3),
    ("1:cpu:/\n", v1(-1), None),
    ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "300000\n"}, None),
    (V1, v1(300000, "cpu/box/job") | v1(-1), 3),
    (V1, v1(300000, "cpu/box/job") | v1(200000, "cpu/box"), 2),
    (V1, v1(100000, "memory/box") | v1(100000, "cpu/other"), None),
    ("0::/\n", {}, None),
    ("nonsense", {"cpu.max": "200000 100000\n"}, 2),
    (None, {"cpu.max": "200000 100000\n"}, 2),
    ("", {"cpu.max": "200000 100000\n"}, 2),
])  # fmt: skip
def test_cgroup_quota(tmp_path, own, files, expected):
    root, listed = tmp_path / "fs", tmp_path / "listed"
    if own is not None:
        listed.write_text(own)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert REAL["_cgroup_quota"](root, listed) == expected


def test_physical_cores_count_siblings_once(tmp_path):
    for cpu in range(8):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    count = REAL["_physical_cores"]
    assert count(frozenset(range(8)), tmp_path) == 4
    assert count(frozenset([0, 4]), tmp_path) == 1
    assert count(frozenset([0, 1, 5]), tmp_path) == 2
    assert count(frozenset([0, 99]), tmp_path) is None


def test_this_machine_has_at_least_one():
    assert len(REAL["_affinity"]()) >= 1
    assert (REAL["_physical_cores"](REAL["_affinity"]()) or 1) >= 1


# --- BLAS ------------------------------------------------------------------------------------------------------------


def blas_numbers():
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def test_blas_is_held_and_let_go():
    if not blas_numbers():
        pytest.skip("threadpoolctl knows no BLAS here")
    before = blas_numbers()
    with threads.blas_threads(1):
        assert set(blas_numbers()) == {1}
        with threads.blas_threads(1):
            assert set(blas_numbers()) == {1}
        assert set(blas_numbers()) == {1}
    assert blas_numbers() == before
    with pytest.raises(KeyError), threads.blas_threads(1):
        raise KeyError
    assert blas_numbers() == before


def test_the_last_of_overlapping_holders_lets_go():
    with threads.blas_threads(1):  # this thread comes first, and stays alive
        pass
    before, entered, leave = blas_numbers(), threading.Event(), threading.Event()

    def other():
        with threads.blas_threads(1):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with threads.blas_threads(1):
        pass
    held = blas_numbers()
    leave.set()
    thread.join()
    assert set(held) <= {1}
    assert blas_numbers() == before
