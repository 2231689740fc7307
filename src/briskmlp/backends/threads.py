"""How many threads a training may use, and holding BLAS to that number while it runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from briskmlp._messages import check_integer

_LIMITS = ("BRISKMLP_NUM_THREADS", "OMP_NUM_THREADS")


def thread_limit(requested: int | None) -> int:
    """Return the number of threads to use: ``requested``, but no more than this process may run at once.

    None stands for physical cores, CPU affinity, cgroup quota and the environment's limits, whichever is least. An
    explicit number is bound by affinity alone.
    """
    available = _affinity()
    if requested is not None:
        return min(requested, len(available))
    limits = [len(available), _physical_cores(available), _cgroup_quota(), *map(_environment, _LIMITS)]
    return max(1, min(limit for limit in limits if limit is not None))


def _affinity() -> frozenset[int]:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _environment(name: str) -> int | None:
    text = os.environ.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may list nested levels
    if not text:
        return None
    try:
        return check_integer(name, int(text), low=1)
    except ValueError:
        if name == "OMP_NUM_THREADS":  # other libraries' variable: theirs to report
            return None
        raise ValueError(f"{name} is {text!r}, but must be a whole number >= 1") from None


@cache
def _physical_cores(cpus: frozenset[int], root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Return how many cores carry these CPUs; None where the system does not say."""
    try:
        siblings = {(root / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus}
    except OSError:
        return None
    return len(siblings) or None


@cache
def _cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the CPUs that the quotas of this process's cgroup and of those above it allow; None without one."""
    quotas = [_quota(root), _quota(root / "cpu")]  # even where a container hides which group is ours
    try:
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)  # version 2 names no controllers
            if controllers and "cpu" not in controllers.split(","):
                continue
            mount = root / "cpu" if controllers else root
            group = mount / path.lstrip("/")  # in a container it may not be there, but the mount is
            quotas += [_quota(each) for each in (group, *group.parents) if each.is_relative_to(mount)]
    except (OSError, ValueError):
        pass
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path) -> int | None:
    """Return the CPUs that a cgroup's own quota allows, rounded up; None without one."""
    try:
        if (group / "cpu.max").exists():  # version 2
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None


class _Blas:
    """The BLAS libraries of this process, and who holds their number of threads down."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.libraries: Any = None
        self.with_scipy = False
        self.held: Any = None

    def hold(self, n: int) -> None:
        # Numba's BLAS is SciPy's, which is loaded when a network first needs it.
        loaded = "scipy.linalg.cython_blas" in sys.modules
        if self.libraries is None or self.with_scipy != loaded:
            import threadpoolctl  # only trainings need it

            self.libraries = threadpoolctl.ThreadpoolController().select(user_api="blas")
            self.with_scipy = loaded
        if self.holders == 0 and any(library["num_threads"] > n for library in self.libraries.info()):
            self.held = self.libraries.limit(limits=n)
            self.let_any_thread_release()
        self.holders += 1

    def release(self) -> None:
        self.holders -= 1
        if self.holders == 0 and self.held is not None:
            self.held.restore_original_limits()
            self.held = None
            self.let_any_thread_release()

    def let_any_thread_release(self) -> None:
        """Undo threadpoolctl's rule (from 3.8) that only the first thread to set a limit may change it again."""
        for library in self.libraries.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()


_blas = _Blas()
if hasattr(os, "register_at_fork"):  # a child has none of the threads that may hold the lock or the limit
    os.register_at_fork(after_in_child=_blas.__init__)  # type: ignore[misc] # starts the object afresh


@contextmanager
def blas_threads(requested: int | None) -> Iterator[None]:
    """Hold BLAS to ``thread_limit(requested)``; it has its own number again after the last holder.

    BLAS keeps one number for the whole process, so trainings that overlap share the first one's.
    """
    with _blas.lock:
        _blas.hold(thread_limit(requested))
    try:
        yield
    finally:
        with _blas.lock:
            _blas.release()
