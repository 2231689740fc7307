"""The Numba backend: the contract's functions around the kernels, each compiled for a dtype at its first use."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import from_dtype, types

from briskmlp.backends.contract import Divergence, Position, Rows, estimate_memory
from briskmlp.backends.numba import epoch
from briskmlp.backends.numba._options import call, compile_once
from briskmlp.backends.numba.layout import JOB, LAYER, Work, describe, make_work
from briskmlp.backends.numba.recording import MISSING
from briskmlp.backends.recording import words
from briskmlp.network import FloatArray
from briskmlp.plan import HIGHEST, PRECISIONS, Floats, Ints, Plan

NAME = "numba"
RESTORES = False
USES_BLAS = True  # SciPy's, for large layers
_compiled: set[tuple[Any, ...]] = set()


def isa(precision: int = HIGHEST) -> str | None:
    """Return None: the instruction set is LLVM's choice."""
    return None


def unavailable() -> str | None:
    """Return why this backend cannot run here, or None."""
    return None


def unsupported(plan: Plan, dtype: np.dtype[Any]) -> str | None:
    """Return why this backend cannot run this plan, or None."""
    if plan.precision != HIGHEST:
        return f"it has no precision {PRECISIONS[plan.precision]!r}, which native and numpy have"
    return plan.beyond_kernels()


def workspace(
    plan: Plan,
    dtype: np.dtype[Any],
    n: int,
    *,
    training: bool = True,
    threads: int = 1,
    isa: str | None = None,
    record: Any = None,
) -> Work:
    """Allocate what calls over ``n`` rows need; compile the kernels that are missing for the dtype."""
    if training:
        _compile("train", dtype, recorded=record is not None)
    return make_work(plan, dtype, n, training=training, record=None if record is None else words(record[:1]))


def ticks() -> int:
    """Return the time by the clock of records."""
    if MISSING is not None:
        raise RuntimeError(MISSING)
    return time.monotonic_ns()


def memory(plan: Plan, dtype: np.dtype[Any], n: int, *, threads: int = 1, isa: str | None = None) -> int:
    """Return about how many bytes a workspace for training takes."""
    return estimate_memory(plan, dtype)


def forward(plan: Plan, params: FloatArray, X: FloatArray, rows: Rows, out: FloatArray, work: Work) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    _compile("forward", params.dtype)
    call(epoch.forward, work.job, work.layers, work.buffer, params, X, rows, out)


def gradient(
    plan: Plan,
    params: FloatArray,
    X: FloatArray,
    Y: Any,
    weight: FloatArray | None,
    rows: Rows,
    scale: float,
    grad: FloatArray | None,
    work: Work,
) -> float:
    """Add ``scale`` times the un-normalised gradient of these rows to ``grad``; return their un-normalised loss."""
    _compile("gradient", params.dtype)
    work.layers["l2"] = plan.l2[::2]
    nothing = np.empty(0, dtype=params.dtype)
    targets = _targets(Y, weight, params.dtype)
    grad = nothing if grad is None else grad
    return float(call(epoch.gradient, work.job, work.layers, work.buffer, params, X, *targets, rows, scale, grad))


def update(plan: Plan, params: FloatArray, grad: FloatArray, state: FloatArray, step: int, rate: float) -> None:
    """Move ``params`` by one step of the plan's rule; ``step`` counts from 1."""
    _compile("update", params.dtype)
    job, layers = describe(plan, plan.layers.tolist())
    call(epoch.update, job, layers, params, grad.copy(), state, step, rate)


def train(
    plan: Plan,
    params: FloatArray,
    state: FloatArray,
    X: FloatArray,
    Y: Any,
    weight: FloatArray | None,
    order: Ints | None,
    position: Position,
    rates: Floats,
    max_steps: int,
    losses: Floats,
    work: Work,
) -> Divergence | None:
    """Make at most ``max_steps`` steps from ``position``: gather, forward, backward, update."""
    work.layers["l2"] = plan.l2[::2]
    finite = call(
        epoch.train,
        *work,
        params,
        state,
        X,
        *_targets(Y, weight, params.dtype),
        work.order if order is None else order,
        order is not None,
        position.counts,
        position.sums,
        rates,
        max_steps,
        losses,
    )
    return None if finite else Divergence(position.epoch, position.batch)


_NO_LABELS = np.array([-1])


def _targets(Y: Any, weight: FloatArray | None, dtype: np.dtype[Any]) -> tuple[FloatArray, Ints, FloatArray]:
    """Return dense targets (n, n_out), labels (n,) and weights (n,) as kernels take them where one is not given."""
    nothing = np.empty(0, dtype=dtype)
    weight = nothing if weight is None else weight
    return (nothing[:, None], Y, weight) if Y.ndim == 1 else (Y, _NO_LABELS, weight)


def _compile(kernel: str, dtype: np.dtype[Any], *, recorded: bool = False) -> None:
    """Compile a kernel's one signature for a dtype; user data may be read-only, X may have any row stride."""
    if (kernel, dtype, recorded) in _compiled:
        return

    def array(element: Any, ndim: int = 1, layout: str = "C", *, readonly: bool = False) -> Any:
        return types.Array(element, ndim, layout, readonly=readonly)

    number, floats, ints = from_dtype(dtype), array(types.float64), array(types.int64)
    records = array(from_dtype(JOB)), array(from_dtype(LAYER))
    flat, indices = array(number), array(types.int64, readonly=True)
    X, Y = array(number, 2, "A", readonly=True), array(number, 2, readonly=True)
    data = X, Y, indices, array(number, readonly=True)  # X, Y, labels, weight
    arguments = {
        "forward": (flat, flat, X, indices, array(number, 2)),
        "gradient": (flat, flat, *data, indices, types.float64, flat),
        "update": (flat, flat, array(number, 2), types.int64, types.float64),
        "train": (
            *(flat, ints, ints, ints if recorded else types.none, flat, array(number, 2)),
            *(*data, indices, types.boolean),
            *(ints, floats, floats, types.int64, floats),
        ),
    }[kernel]
    compile_once(getattr(epoch, kernel), (*records, *arguments))
    _compiled.add((kernel, dtype, recorded))
