"""Which matrix product is fastest for a shape: register tiles, plain loops or BLAS? Fills BLAS_FROM in layout.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from briskmlp.backends.numba.product import product
from briskmlp.backends.numba.vector import pointer

# m, n, k: forward, dX and dW of the workloads, padded
SHAPES = {
    "nielsen forward": (16, 32, 784),
    "nielsen dW": (784, 32, 16),
    "digits forward": (128, 112, 64),
    "mid forward": (128, 256, 784),
    "mid dW": (784, 256, 128),
    "256": (256, 256, 256),
    "512": (512, 512, 512),
    "deep forward": (512, 512, 784),
    "1024": (1024, 1024, 1024),
}


@njit
def by_tiles(A: Any, B: Any, zeros: Any, C: Any) -> None:
    (m, k), n = A.shape, B.shape[1]
    product(pointer(A), 0, k, 1, pointer(B), 0, n, pointer(zeros), 0, 0, pointer(C), 0, n, m, n, k)


@njit
def by_loops(A: Any, B: Any, zeros: Any, C: Any) -> None:
    for i in range(A.shape[0]):
        C[i] = zeros
        for p in range(A.shape[1]):
            for j in range(B.shape[1]):
                C[i, j] += A[i, p] * B[p, j]


def by_blas(A: Any, B: Any, zeros: Any, C: Any) -> None:
    np.dot(A, B, out=C)


WAYS: dict[str, Callable[..., None]] = {"tiles": by_tiles, "loops": by_loops, "blas": by_blas}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def bench_product(benchmark: Any, shape: str, name: str) -> None:
    """GFLOP/s is in extra_info."""
    way = WAYS[name]
    m, n, k = SHAPES[shape]
    rng = np.random.default_rng(0)
    A, B = rng.random((m, k), dtype=np.float32), rng.random((k, n), dtype=np.float32)
    zeros, C = np.zeros(n, np.float32), np.empty((m, n), np.float32)
    way(A, B, zeros, C)
    # Sums of k positive terms in any order differ from each other by less than k roundings.
    np.testing.assert_allclose(C, A.astype(np.float64) @ B, rtol=k * np.finfo(np.float32).eps)
    benchmark.group = shape
    benchmark(way, A, B, zeros, C)
    if not benchmark.disabled:
        benchmark.extra_info["gflops"] = 2 * m * n * k / benchmark.stats.stats.min / 1e9
