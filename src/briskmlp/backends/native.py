"""The native backend: the contract's functions as calls of the C extension, which this module alone imports."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import (
    LOSS_NOT_FINITE,
    WEIGHTS_NOT_FINITE,
    Divergence,
    Examples,
    Rows,
    State,
    Steps,
    Workspace,
    refuse_unfilled,
)
from briskmlp.backends.recording import words
from briskmlp.network import FloatArray
from briskmlp.plan import HIGHEST, Plan

NAME = "native"
RESTORES = True
USES_BLAS = False
ISAS = ("portable", "avx2", "avx512", "avx512_bf16", "amx")
UNITS = ("avx512_bf16", "amx")  # multiply bfloat16, for float32 plans
ROUNDING = ("avx512_bf16",)  # of these, such as have no kernels for the highest precision


# --- what can run ----------------------------------------------------------------------------------------------------


@cache
def _load() -> tuple[Any, str | None]:
    """Return the extension, or None and why it is not usable."""
    try:
        import briskmlp._native as _native  # noqa: PLR0402 - with "from", a missing extension fails as a broken one does
    except ModuleNotFoundError:
        return None, (
            "this installation is pure Python: no working C compiler was found when it was built; "
            "install with the environment variable BRISKMLP_REQUIRE_NATIVE=1 to see the compiler's own message"
        )
    except ImportError as error:
        return None, f"the C extension is installed, but failed to load: {error}"
    if "threadpoolctl" in sys.modules:
        _show_to_threadpoolctl()
    return _native, None


def isas() -> tuple[str, ...]:
    """Return the instruction sets that can run on this processor and operating system.

    Returns
    -------
    tuple of str
        Some of ``"portable"``, ``"avx2"``, ``"avx512"``, ``"avx512_bf16"``, ``"amx"``, each of which includes those
        before it; empty without the C extension.

    Examples
    --------
    >>> from briskmlp.backends import native
    >>> native.isas()[:1] == (("portable",) if native.reason() is None else ())
    True
    """
    extension = _load()[0]
    return () if extension is None else tuple(extension.isas())


def reason() -> str | None:
    """Return why the C extension is not usable.

    Returns
    -------
    str or None
        None if it is usable; otherwise that it was not built, or, if it was built, the loader's message.

    Examples
    --------
    >>> from briskmlp.backends import native
    >>> native.reason() is None or native.isas() == ()
    True
    """
    return _load()[1]


def isa(precision: int = HIGHEST) -> str:
    """Return the instruction set that new trainers take: ``BRISKMLP_ISA`` if it is set, else the best."""
    asked = os.environ.get("BRISKMLP_ISA")
    best: str = _load()[0].best_isa(precision)
    return asked or best


_isa = isa  # where an argument has this name


def unavailable() -> str | None:
    """Return why this backend cannot run here, or why not with the instruction set asked for, or None."""
    asked = os.environ.get("BRISKMLP_ISA")
    if reason() is not None or not asked:
        return reason()
    if asked not in isas():
        return f"{asked} cannot run on this processor; what can run here is {', '.join(isas())}"
    if asked == "amx" and not _load()[0].permits_tiles():
        return (
            "the operating system refuses the tiles of amx to this process, as it does if a signal stack is too small"
        )
    return None


def unsupported(plan: Plan, dtype: np.dtype[Any]) -> str | None:
    """Return why this backend cannot run this plan, or None."""
    if plan.norms.any():
        return "it has no kernels for normalisation yet, which numpy has"
    chosen = isa(plan.precision)
    if plan.precision == HIGHEST and chosen in ROUNDING:
        return f"{chosen} multiplies bfloat16 alone, for precision='bfloat16' or 'high', not 'highest'"
    if dtype != np.float32 and chosen in UNITS:
        return f"{chosen} splits float32 numbers into bfloat16, but dtype is {dtype.name!r}"
    return None


@cache
def _show_to_threadpoolctl() -> None:
    """Let ``threadpoolctl.threadpool_info`` list the kernels' threads, and ``threadpool_limits`` bound them."""
    import threadpoolctl  # here, because importing briskmlp shall not load it

    class Controller(threadpoolctl.LibController):  # type: ignore[misc] # it ships no types
        user_api = internal_api = "briskmlp"
        filename_prefixes = ("_native",)
        check_symbols = ("brisk_get_num_threads", "brisk_set_num_threads")

        def get_num_threads(self) -> int:
            return min(int(self.dynlib.brisk_get_num_threads()), os.cpu_count() or 1)

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.brisk_set_num_threads(num_threads)

        def get_version(self) -> str:  # asked of other packages' _native libraries too, before symbols are looked for
            return str(_load()[0].version)

    threadpoolctl.register(Controller)


# --- the contract ----------------------------------------------------------------------------------------------------


def workspace(
    plan: Plan,
    dtype: np.dtype[Any],
    n: int,
    *,
    training: bool = True,
    threads: int = 1,
    isa: str | None = None,
    record: Any = None,
) -> Workspace:
    """Allocate what calls over ``n`` rows need, for as many of the threads as the shape deserves."""
    _show_to_threadpoolctl()
    record = None if record is None else words(record)
    return _load()[0].workspace(plan, dtype.itemsize, isa or _isa(plan.precision), n, training, threads, record)


def ticks() -> int:
    """Return the time by the clock of records."""
    return int(_load()[0].ticks())


def limits(dtype: np.dtype[Any], isa: str, threads: int) -> tuple[int, float, float, float]:
    """Measure what this machine can do at best, in about half a second.

    Returns
    -------
    threads : int
        Those that were free to measure with, at most those asked for.
    flops, read, triad : float
        FLOP/s of multiply-adds, and bytes/s of reading and of STREAM's triad, by all of them together.
    """
    best: tuple[int, float, float, float] = _load()[0].limits(dtype.itemsize, isa, threads)
    return best


def memory(plan: Plan, dtype: np.dtype[Any], n: int, *, threads: int = 1, isa: str | None = None) -> int:
    """Return how many bytes a workspace for training takes."""
    return int(_load()[0].workspace_size(plan, dtype.itemsize, isa or _isa(plan.precision), n, True, threads))


class LayerSchedule(NamedTuple):
    """What threads divide of a layer's products, the lowest having no dX, and whether they wait before its forward."""

    forward: str
    dX: str | None
    dW: str
    wait: bool


class Schedule(NamedTuple):
    """How training divides a batch: among so many threads, in chunks of so many rows, of so many shards."""

    threads: int
    rows: int
    shards: int
    layers: tuple[LayerSchedule, ...]


def schedule(plan: Plan, dtype: np.dtype[Any], n: int, *, threads: int = 1, isa: str | None = None) -> Schedule:
    """Return the schedule of a workspace for training."""
    work = workspace(plan, dtype, n, threads=threads, isa=isa)
    _, used, _, rows, shards, layers = _load()[0].describe(work)
    return Schedule(used, rows, shards, tuple(LayerSchedule(*layer) for layer in layers))


def forward(work: Workspace, state: State, X: FloatArray, rows: Rows, out: FloatArray) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    _load()[0].forward(work, state.parameters, X, rows, out)


def gradient(
    work: Workspace,
    state: State,
    examples: Examples,
    rows: Rows,
    scale: float,
    grad: FloatArray | None = None,
    dX: FloatArray | None = None,
    *,
    with_penalty: bool = True,
) -> float:
    """Add ``scale`` times the un-normalised gradient of these rows to ``grad``; return their un-normalised loss."""
    refuse_unfilled(examples, dX=dX)
    return float(_load()[0].gradient(work, state.parameters, examples[:3], rows, scale, with_penalty, grad))


def update(plan: Plan, state: State, grad: FloatArray, rate: float) -> None:
    """Move the parameters by one step of the plan's rule, and count it."""
    moved, step = (state.parameters, state.slots, state.scalars), state.position.step + 1
    _load()[0].update(plan, grad.itemsize, isa(plan.precision), moved, grad, step, rate)
    state.position.counts[2] = step


def train(work: Workspace, state: State, examples: Examples, steps: Steps) -> Divergence | None:
    """Make steps from the state's position: gather, forward, backward, update."""
    refuse_unfilled(examples)
    position = state.position
    moved = state.parameters, state.slots, position.counts, position.sums, state.scalars
    diverged = _load()[0].train(work, moved, examples[:3], steps)
    if diverged is None:
        return None
    epoch, batch, weights = diverged
    return Divergence(epoch, batch, WEIGHTS_NOT_FINITE if weights else LOSS_NOT_FINITE)
