"""One contender in its own process: reads a request per line from stdin, writes a JSON reply per line.

    {"do": "setup", "workload": {…}, "quick": …, "dtype": …, "shuffle": …} → {"steps": per epoch, "isa": …}
    {"do": "check", "reference": PATH of a pickled Reference}              → {}
    {"do": "run", "epochs": n}                           → {"seconds": …, "cpu": …, "idle_cpu": …, "loss": …}
    {"do": "memory"}                                     → {"peak_mib": …}
    {"do": "describe"}, {"do": "train", "job": …, "on": …} → as of builds_job.py, for briskmlp alone

The first line, {"version": …}, is written unasked; {"missing": why} says that the library cannot be imported.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Thread pools spin for some milliseconds after their last task (OpenBLAS for about 80). They are left alone,
# because a passive wait policy would slow the library's own turn; instead nobody else starts before they sleep.
SETTLE = 0.12


def pin(threads: int) -> None:
    """Restrict the process to `threads` CPUs: the one limit that every library obeys."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Worker:
    def __init__(self, name: str, threads: int) -> None:
        from rivals import CONTENDERS

        self.kind, self.threads = CONTENDERS[name], threads
        self.idle_since: float | None = None

    def setup(self, workload: dict[str, Any], quick: bool, dtype: str, shuffle: bool) -> dict[str, Any]:
        from workloads import Workload

        self.contender: Any = None  # frees the previous workload's memory
        self.dtype, self.settle = dtype, 0.0 if quick else SETTLE
        w = Workload(**workload | {"layers": tuple(workload["layers"])})
        w = w.quick() if quick else w
        X, Y = w.dataset()
        self.contender = self.kind(w, X, Y, *w.initial_parameters(), dtype, self.threads, shuffle)
        return {"steps": w.steps, "isa": self.contender.isa}

    def check(self, reference: str) -> dict[str, Any]:
        from equality import check_equal

        check_equal(self.kind, pickle.loads(Path(reference).read_bytes()), self.dtype, self.threads)
        self.idle_since = None  # this was work
        return {}

    def run(self, epochs: int) -> dict[str, Any]:
        cpu = time.process_time()
        idle_cpu = cpu - self.idle_since if self.idle_since is not None else 0.0
        start = time.perf_counter()
        loss = self.contender.run(epochs)
        seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
        time.sleep(self.settle)
        self.idle_since = time.process_time()
        return {"seconds": seconds, "cpu": cpu, "idle_cpu": idle_cpu, "loss": loss}

    def memory(self) -> dict[str, Any]:
        return {"peak_mib": peak_mib()}

    def describe(self) -> dict[str, Any]:
        import builds_job

        return builds_job.describe()

    def train(self, job: dict[str, Any], on: list[Any]) -> dict[str, Any]:
        import builds_job

        return builds_job.train(job, on)


def peak_mib() -> float:
    """The most memory that this process ever held, in MiB, libraries and data included."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent, as which the process began
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    import resource  # which Windows lacks

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    # Libraries may print; the replies get a descriptor of their own and everything else goes to stderr.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    pin(threads)  # before NumPy is imported, whose BLAS counts CPUs then

    def reply(answer: Callable[[], dict[str, Any]]) -> None:
        try:
            print(json.dumps(answer()), file=replies)
        except ImportError as error:
            print(json.dumps({"missing": f"{error}"}), file=replies)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=replies)

    worker: Any = None

    def start() -> dict[str, Any]:
        nonlocal worker
        worker = Worker(name, threads)
        return {"version": worker.kind.version()}

    reply(start)
    for line in sys.stdin:
        request = json.loads(line)
        do = getattr(worker, request.pop("do"))
        reply(lambda do=do, request=request: do(**request))  # type: ignore[misc] # defaults bind now, not later


if __name__ == "__main__":
    main()
