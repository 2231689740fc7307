"""How many threads a training may use, and holding BLAS to that number while it runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
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
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)  # version 2 names no controllers
            if not controllers or "cpu" in controllers.split(","):
                mount = root / "cpu" if controllers else root
                group = mount / path.lstrip("/")  # in a container it may not be there, but the mount is
                quotas += [_quota(each) for each in (group, *group.parents) if each.is_relative_to(mount)]
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


@cache
def _libraries(with_scipy: bool) -> Any:
    """Return the BLAS libraries of this process; Numba's is SciPy's, which is loaded when a network first needs it."""
    import threadpoolctl  # only trainings need it

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


class _Blas:
    """Who holds the number of threads of the BLAS libraries down."""

    def __init__(self) -> None:
        self.lock, self.holders = threading.Lock(), 0
        self.held: Any = None

    @contextmanager
    def limited_to(self, n: int) -> Iterator[None]:
        libraries = _libraries("scipy.linalg.cython_blas" in sys.modules)
        with self.lock:
            if self.holders == 0 and any(library["num_threads"] > n for library in libraries.info()):
                self.held = libraries.limit(limits=n)
                _let_any_thread_release(libraries)
            self.holders += 1
        try:
            yield
        finally:
            with self.lock:
                self.holders -= 1
                if self.holders == 0 and self.held is not None:
                    self.held.restore_original_limits()
                    self.held = None
                    _let_any_thread_release(libraries)


def _let_any_thread_release(libraries: Any) -> None:
    """Undo threadpoolctl's rule (from 3.8) that only the first thread to set a limit may change it again."""
    for library in libraries.lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


_blas = _Blas()
if hasattr(os, "register_at_fork"):  # a child has none of the threads that may hold the lock or the limit
    os.register_at_fork(after_in_child=_blas.__init__)  # type: ignore[misc] # starts the object afresh


def blas_threads(requested: int | None) -> AbstractContextManager[None]:
    """Hold BLAS to ``thread_limit(requested)``; it has its own number again after the last holder.

    BLAS keeps one number for the whole process, so trainings that overlap share the first one's.
    """
    return _blas.limited_to(thread_limit(requested))
