"""The Numba backend: the contract's functions around the kernels, each compiled for a dtype at its first use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, types, typeof

from briskmlp.backends.contract import Position, Rows
from briskmlp.backends.numba import epoch
from briskmlp.backends.numba._options import compile_once
from briskmlp.backends.numba.layout import Work, make_work
from briskmlp.network import FloatArray
from briskmlp.plan import Floats, Ints, Plan

NAME = "numba"
_compiled: set[tuple[Any, ...]] = set()


def unavailable() -> str | None:
    """Return why this backend cannot run here, or None."""
    return None


def unsupported(plan: Plan, dtype: np.dtype[Any]) -> str | None:
    """Return why this backend cannot run this plan, or None."""
    return None


def workspace(plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool = True) -> Work:
    """Allocate what calls over ``n`` rows need; compile the kernels that are missing for the dtype."""
    work = make_work(plan, dtype, n, training=training)
    for kernel in ("train",) if training else ():
        _compile(kernel, plan, work, dtype)
    return work


def forward(plan: Plan, params: FloatArray, X: FloatArray, rows: Rows, out: FloatArray, work: Work) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    _compile("forward", plan, work, params.dtype)
    epoch.forward(plan, work, params, X, rows, out)


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
    _compile("gradient", plan, work, params.dtype)
    nothing = np.empty(0, dtype=params.dtype)
    targets = _targets(Y, params.dtype)
    return float(
        epoch.gradient(
            plan,
            work,
            params,
            X,
            *targets,
            nothing if weight is None else weight,
            rows,
            scale,
            nothing if grad is None else grad,
        )
    )


def update(plan: Plan, params: FloatArray, grad: FloatArray, state: FloatArray, step: int, rate: float) -> None:
    """Move ``params`` by one step of the plan's rule; ``step`` counts from 1."""
    _compile("update", plan, None, params.dtype)
    epoch.update(plan, params, grad, state, step, rate)


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
) -> tuple[int, int] | None:
    """Make at most ``max_steps`` steps from ``position``: gather, forward, backward, update."""
    finite = epoch.train(
        plan,
        work,
        params,
        state,
        X,
        *_targets(Y, params.dtype),
        np.empty(0, dtype=params.dtype) if weight is None else weight,
        np.empty(0, dtype=np.int64) if order is None else order,
        order is not None,
        position.counts,
        position.sums,
        rates,
        max_steps,
        losses,
    )
    return None if finite else (position.epoch, position.batch)


def _targets(Y: Any, dtype: np.dtype[Any]) -> tuple[FloatArray, Ints]:
    """Return dense targets (n, n_out) and labels (n,), of which one is empty."""
    if Y.ndim == 1:
        return np.empty((0, 0), dtype=dtype), Y
    return Y, np.empty(0, dtype=np.int64)


def _compile(kernel: str, plan: Plan, work: Work | None, dtype: np.dtype[Any]) -> None:
    """Compile a kernel's one signature for a dtype; user data may be read-only, X may have any row stride."""
    if (kernel, dtype) in _compiled:
        return
    number = from_dtype(dtype)

    def array(element: Any, ndim: int, layout: str = "C", *, readonly: bool = False) -> Any:
        return types.Array(element, ndim, layout, readonly=readonly)

    X, Y = array(number, 2, "A", readonly=True), array(number, 2, readonly=True)
    labels, weight = array(types.int64, 1, readonly=True), array(number, 1, readonly=True)
    rows, flat, state = array(types.int64, 1, readonly=True), array(number, 1), array(number, 2)
    floats, ints, f8, i8 = array(types.float64, 1), array(types.int64, 1), types.float64, types.int64
    data = (X, Y, labels, weight, rows)
    arguments = {
        "forward": (flat, X, rows, array(number, 2)),
        "gradient": (flat, *data, f8, flat),
        "update": (flat, flat, state, i8, f8),
        "train": (flat, state, *data, types.boolean, ints, floats, floats, i8, floats),
    }[kernel]
    context = (typeof(plan),) if work is None else (typeof(plan), typeof(work))
    compile_once(getattr(epoch, kernel), (*context, *arguments))
    _compiled.add((kernel, dtype))
