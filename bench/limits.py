"""What this machine can do at best: the measure for "one step must cost about its arithmetic".

Run `python bench/limits.py` to see it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np

# One loop iteration: `chains` independent a = a·x + y on whole vectors. A chain waits for its last result (4 or 5
# cycles), so at least 2 FMA units × 5 chains are needed; x = 1/2, y = 1 keep a at 2, away from denormals.
_IR = """
declare {vec} @llvm.fma.{mangled}({vec}, {vec}, {vec})

define void @chains(ptr %out, i64 %n) {{
entry:
  %x0 = insertelement {vec} undef, {scalar} 0.5, i32 0
  %x = shufflevector {vec} %x0, {vec} undef, <{lanes} x i32> zeroinitializer
  %y = fadd {vec} %x, %x
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{fmas}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
{sums}
  %first = extractelement {vec} %s{chains}, i32 0
  store {scalar} %first, ptr %out
  ret void
}}
"""


@functools.cache
def _chains(dtype: str) -> tuple[object, Callable[[int, int], None], int]:
    """The engine that owns the code, the loop as a C function that releases the GIL, FLOPs per iteration."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    width = 64 if features.get("avx512f") else 32 if features.get("avx") else 16
    chains = 12 if width == 32 else 24  # of 16 or 32 registers
    lanes = width // np.dtype(dtype).itemsize
    scalar, short = {"float32": ("float", "f32"), "float64": ("double", "f64")}[dtype]
    vec = f"<{lanes} x {scalar}>"
    mangled = f"v{lanes}{short}"
    each = range(chains)
    ir = _IR.format(
        vec=vec,
        scalar=scalar,
        lanes=lanes,
        mangled=mangled,
        chains=chains,
        phis="\n".join(f"  %a{k} = phi {vec} [ %y, %entry ], [ %b{k}, %loop ]" for k in each),
        fmas="\n".join(f"  %b{k} = call {vec} @llvm.fma.{mangled}({vec} %a{k}, {vec} %x, {vec} %y)" for k in each),
        sums=f"  %s0 = fadd {vec} %b0, %b0\n" + "\n".join(f"  %s{k + 1} = fadd {vec} %s{k}, %b{k}" for k in each),
    )
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(ir), machine)
    engine.finalize_object()
    address = engine.get_function_address("chains")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)
    return engine, function, 2 * lanes * chains


def best_rate(work: Callable[[], object], flops: float, seconds: float) -> float:
    """GFLOP/s of the fastest of the calls that fit into `seconds`: a limit is what was reached undisturbed."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - start)
    return flops / best / 1e9


@functools.cache
def fma_limit(dtype: str = "float32", threads: int = 1, seconds: float = 0.3) -> float:
    """Measured GFLOP/s of fused multiply-adds that touch no memory, on `threads` threads at once."""
    _engine, function, flops = _chains(dtype)
    iterations = 400_000  # about 2 ms, against which starting threads is little

    def work() -> None:
        out = ctypes.c_double()
        function(ctypes.addressof(out), iterations)

    def together() -> None:
        others = [threading.Thread(target=work) for _ in range(threads - 1)]
        for other in others:
            other.start()
        work()
        for other in others:
            other.join()

    return best_rate(together, threads * iterations * flops, seconds)


def gemm_limit(dtype: str = "float32", threads: int = 1, n: int = 2048, seconds: float = 2.0) -> float:
    """GFLOP/s that NumPy's BLAS reaches on two n × n matrices: a lower bound of what a kernel can do."""
    from threadpoolctl import threadpool_limits

    A = np.random.default_rng(0).random((n, n)).astype(dtype)
    C = np.empty_like(A)
    with threadpool_limits(threads):
        return best_rate(lambda: np.dot(A, A, out=C), 2 * n**3, seconds)


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    print(f"{cpu_model()}, {os.cpu_count()} CPUs, LLVM calls it {llvm.get_host_cpu_name()}")
    for dtype in ("float32", "float64"):
        for threads in (1, 2):
            fma, gemm = fma_limit(dtype, threads), gemm_limit(dtype, threads)
            print(f"{dtype}, {threads} threads: FMA {fma:.0f} GFLOP/s, GEMM in NumPy's BLAS {gemm:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
