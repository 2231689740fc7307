"""The Numba backend: the contract's functions around the kernels, each compiled for a dtype at its first use."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import from_dtype, types

from briskmlp.backends.contract import Divergence, Examples, Rows, State, Steps, no_reason, refuse_unfilled
from briskmlp.backends.contract import estimate_memory as memory
from briskmlp.backends.numba import epoch, losses
from briskmlp.backends.numba._options import call, compile_once
from briskmlp.backends.numba.activations import ROWS, SLOPE, activate, activate_with_slope, pull_back
from briskmlp.backends.numba.forward import softmax
from briskmlp.backends.numba.layout import JOB, LAYER, NORM, Work, describe, make_work
from briskmlp.backends.numba.norm import back, normalise
from briskmlp.backends.numba.recording import MISSING
from briskmlp.backends.numba.update import move
from briskmlp.backends.recording import words
from briskmlp.network import FloatArray
from briskmlp.operations.activations import BY_CODE
from briskmlp.plan import HIGHEST, PRECISIONS, SOFTMAX, Ints, Plan

__all__ = ["forward", "gradient", "memory", "ticks", "train", "update"]

NAME = "numba"
RESTORES = False
USES_BLAS = True  # SciPy's, for large layers
isa = unavailable = no_reason  # the instruction set is LLVM's choice
_compiled: set[tuple[Any, ...]] = set()


def unsupported(plan: Plan, dtype: np.dtype[Any]) -> str | None:
    """Return why this backend cannot run this plan, or None."""
    if plan.precision != HIGHEST:
        return f"it has no precision {PRECISIONS[plan.precision]!r}, which native and numpy have"
    return None


def workspace(plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool = True, record: Any = None, **_: Any) -> Work:
    """Allocate what calls over ``n`` rows need; compile the kernels that are missing for the dtype."""
    if training:
        _compile("train", dtype, recorded=record is not None)
    work = make_work(plan, dtype, n, training=training, record=None if record is None else words(record[:1]))
    for code, layer in zip(plan.activations.tolist(), work.layers, strict=True):
        write = softmax if code == SOFTMAX else activate_with_slope if layer["at_S"] >= 0 else activate
        layer["call_f"] = write.address(code, dtype)
    for code, norm in zip(plan.norms.tolist(), work.norms, strict=True):
        if code:
            norm["call_forward"], norm["call_backward"] = normalise.address(code, dtype), back.address(code, dtype)
    if training:
        work.job["call_move"] = move.address(plan.rule, dtype)
        _link_losses(work, dtype)
    return work


def _link_losses(work: Work, dtype: np.dtype[Any]) -> None:
    """Note the addresses of the kernels of the loss and of its way back."""
    codes = work.plan.activations.tolist()
    for code, layer in zip(codes, work.layers, strict=True):
        from_slope = layer["at_S"] >= 0 or BY_CODE[code].saves == "slope"  # not there where only the loss is wanted
        if ROWS[code][-1] is not None:
            layer["call_backward"] = pull_back.address(SLOPE if from_slope else code, dtype)
    work.job["call_loss"] = losses.address(work.plan.loss, codes[-1], dtype)


def ticks() -> int:
    """Return the time by the clock of records."""
    if MISSING is not None:
        raise RuntimeError(MISSING)
    return time.monotonic_ns()


def forward(work: Work, state: State, X: FloatArray, rows: Rows, out: FloatArray) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    _compile("forward", out.dtype)
    statistics = _statistics(work, state)
    call(epoch.forward, work.job, work.layers, work.norms, work.buffer, state.parameters, statistics, X, rows, out)


def gradient(
    work: Work,
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
    params = state.parameters
    _compile("gradient", params.dtype)
    if not work.job["call_loss"]:
        _link_losses(work, params.dtype)
    work.layers["l2"] = work.l2 if with_penalty else 0.0
    X, Y, labels, weight = _data(examples, params.dtype)
    grad = np.empty(0, dtype=params.dtype) if grad is None else grad
    loss = call(
        epoch.gradient, work.job, work.layers, work.norms, work.buffer, params, _statistics(work, state),
        X, Y, labels, weight, rows, scale, grad,
    )  # fmt: skip
    return float(loss)


def update(plan: Plan, state: State, grad: FloatArray, rate: float) -> None:
    """Move the parameters by one step of the plan's rule, and count it."""
    params, position = state.parameters, state.position
    _compile("update", params.dtype)
    job, layers, norms = describe(plan, plan.layers.tolist())
    job["call_move"] = move.address(plan.rule, params.dtype)
    position.counts[2] += 1
    call(epoch.update, job, layers, norms, params, grad.copy(), state.slots, state.scalars, position.step, rate)


def train(work: Work, state: State, examples: Examples, steps: Steps) -> Divergence | None:
    """Make steps from the state's position: gather, forward, backward, update."""
    refuse_unfilled(examples)
    position, given = state.position, steps.order is not None
    order = steps.order if given else work.order
    work.layers["l2"] = work.l2
    work.job["hyper"] = work.plan.hyper  # a call with others may have ended here
    X, Y, labels, weight = _data(examples, state.parameters.dtype)
    per_step = _NOT_PER_STEP if steps.per_step is None else steps.per_step
    finite = call(
        epoch.train, work.job, work.layers, work.norms, work.buffer, work.order_epoch, work.record,
        state.parameters, state.slots, state.scalars, _statistics(work, state), X, Y, labels, weight, order, given,
        position.counts, position.sums, steps.rates, per_step, steps.max_steps, steps.losses,
    )  # fmt: skip
    return None if finite else Divergence(position.epoch, position.batch)


_NO_LABELS = np.array([-1])
_NOT_PER_STEP = np.empty((0, 0))


def _statistics(work: Work, state: State) -> FloatArray:
    """Return running statistics, of the network's dtype also where there are none."""
    return state.statistics if work.plan.n_statistics else np.empty(0, dtype=state.parameters.dtype)


def _data(examples: Examples, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray, Ints, FloatArray]:
    """Return X, targets (n, n_out), labels (n,) and weights (n,), as kernels take them where one is not given."""
    X, Y, weight, _ = examples
    nothing = np.empty(0, dtype=dtype)
    weight = nothing if weight is None else weight
    return (X, nothing[:, None], Y, weight) if Y.ndim == 1 else (X, Y, _NO_LABELS, weight)


def _compile(kernel: str, dtype: np.dtype[Any], *, recorded: bool = False) -> None:
    """Compile a kernel's one signature for a dtype; user data may be read-only, X may have any row stride."""
    if (kernel, dtype, recorded) in _compiled:
        return

    def array(element: Any, ndim: int = 1, layout: str = "C", *, readonly: bool = False) -> Any:
        return types.Array(element, ndim, layout, readonly=readonly)

    number, floats, ints = from_dtype(dtype), array(types.float64), array(types.int64)
    job, layers, norms = array(from_dtype(JOB)), array(from_dtype(LAYER)), array(from_dtype(NORM))
    flat, slots, indices = array(number), array(number, 2), array(types.int64, readonly=True)
    X, Y, weight = array(number, 2, "A", readonly=True), array(number, 2, readonly=True), array(number, readonly=True)
    record = ints if recorded else types.none
    signature = {
        "forward": (job, layers, norms, flat, flat, flat, X, indices, array(number, 2)),
        "gradient": (job, layers, norms, flat, flat, flat, X, Y, indices, weight, indices, types.float64, flat),
        "update": (job, layers, norms, flat, flat, slots, floats, types.int64, types.float64),
        "train": (
            job, layers, norms, flat, ints, record, flat, slots, floats, flat, X, Y, indices, weight, indices,
            types.boolean,
            ints, floats, floats, array(types.float64, 2), types.int64, floats,
        ),
    }[kernel]  # fmt: skip
    compile_once(getattr(epoch, kernel), signature)
    _compiled.add((kernel, dtype, recorded))
