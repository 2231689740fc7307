"""What this machine can do at best: the measure for "one step must cost about its arithmetic".

Run `python bench/limits.py` to see it.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

import numpy as np

from briskmlp.backends import native
from briskmlp.profiling.machine import cpu_model

__all__ = ["best_rate", "cpu_model", "fma_limit", "gemm_limit"]


def best_rate(work: Callable[[], object], flops: float, seconds: float) -> float:
    """GFLOP/s of the fastest of the calls that fit into `seconds`: a limit is what was reached undisturbed."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - start)
    return flops / best / 1e9


@functools.cache
def fma_limit(dtype: str = "float32", threads: int = 1) -> float:
    """Measured GFLOP/s of fused multiply-adds that touch no memory, on `threads` threads at once."""
    return native.limits(np.dtype(dtype), native.isa(), threads)[1] / 1e9


def gemm_limit(dtype: str = "float32", threads: int = 1, n: int = 2048, seconds: float = 2.0) -> float:
    """GFLOP/s that NumPy's BLAS reaches on two n × n matrices: a lower bound of what a kernel can do."""
    from threadpoolctl import threadpool_limits

    A = np.random.default_rng(0).random((n, n)).astype(dtype)
    C = np.empty_like(A)
    with threadpool_limits(threads):
        return best_rate(lambda: np.dot(A, A, out=C), 2 * n**3, seconds)


def main() -> None:
    print(f"{cpu_model()}, {os.cpu_count()} CPUs, {native.isa()}")
    for dtype in ("float32", "float64"):
        for threads in (1, 2):
            fma, gemm = fma_limit(dtype, threads), gemm_limit(dtype, threads)
            print(f"{dtype}, {threads} threads: FMA {fma:.0f} GFLOP/s, GEMM in NumPy's BLAS {gemm:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
