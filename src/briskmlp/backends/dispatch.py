"""The choice of a backend: explicit argument, then the environment, then the fastest that can run the plan.

And what ``Trainer.explain`` tells of it: the reasons, the arithmetic, the schedule of training as a table.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, NamedTuple, cast

import numpy as np

from briskmlp._messages import check_choice, count
from briskmlp.backends import native
from briskmlp.backends.contract import LARGEST_CHUNK, Backend
from briskmlp.plan import BFLOAT16, HIGH, HIGHEST, PRECISIONS, Plan

# Fastest first at training steps, for every shape: bench/bench_training.py finds none where a later one trains faster.
PREFERENCE = ("native", "numba", "numpy")
CHOICES = ("auto", *PREFERENCE)


class Choice(NamedTuple):
    """The backend that was chosen, why, and with which instruction set, if it has a choice of them."""

    backend: Backend
    why: str
    isa: str | None


def choose(plan: Plan, dtype: np.dtype[Any], requested: str) -> Choice:
    """Return the backend for a plan in float32 or float64.

    A choice other than ``"auto"`` is taken or refused by a ValueError, never replaced. ``BRISKMLP_BACKEND`` counts as a
    request when this is ``"auto"``, and so does ``BRISKMLP_ISA``, for the native backend.
    """
    check_choice("backend", requested, CHOICES)
    if not plan.trained.all():
        raise NotImplementedError("plan.trained has a 0: no backend leaves tensors untrained yet; accepted: 1 for all")
    if plan.precision != HIGHEST and dtype != np.float32:
        raise ValueError(f"precision={PRECISIONS[plan.precision]!r} needs dtype='float32', but dtype is {dtype.name!r}")
    source = f"backend={requested!r}"
    if requested == "auto" and os.environ.get("BRISKMLP_BACKEND"):
        requested = check_choice("BRISKMLP_BACKEND", os.environ["BRISKMLP_BACKEND"], CHOICES)
        source = f"BRISKMLP_BACKEND={requested}"
    isa = os.environ.get("BRISKMLP_ISA")
    if isa and source.startswith("BRISKMLP_BACKEND") and requested not in ("auto", "native"):
        raise ValueError(f"{source} and BRISKMLP_ISA={isa} contradict each other: only 'native' has a choice of ISAs")
    if isa and requested in ("auto", "native"):
        check_choice("BRISKMLP_ISA", isa, native.ISAS)
        requested, source = "native", f"BRISKMLP_ISA={isa}"
    names, why, refusal = [requested], f"asked for by {source}", f"{source} cannot be honoured"
    if requested == "auto":
        names, why, refusal = list(PREFERENCE), "the fastest that can run this plan", "no backend can run this plan"
    for name in names:
        if (obstacle := _obstacle(name, plan, dtype)) is None:
            backend = _module(name)
            return Choice(backend, why, backend.isa(plan.precision))
    raise ValueError(f"{refusal}: {obstacle}")


def reasons(choice: Choice, plan: Plan, dtype: np.dtype[Any]) -> dict[str, str]:
    """Return for each backend, fastest first, why it was chosen or why not."""
    chosen = choice.backend.NAME
    return {
        name: choice.why if name == chosen else _obstacle(name, plan, dtype) or f"not needed: {chosen} was chosen"
        for name in PREFERENCE
    }


def arithmetic(choice: Choice, plan: Plan) -> str | None:
    """Return how the plan's precision is computed, where that is not simply in its dtype."""
    precision = PRECISIONS[plan.precision]
    if choice.isa == "amx":
        parts = {HIGHEST: "three bfloat16 parts of", HIGH: "two bfloat16 parts of", BFLOAT16: "one bfloat16 of"}
        return f"{precision}, by amx's products of tiles: {parts[plan.precision]} each number"
    if plan.precision == HIGHEST:
        return None
    if choice.isa in native.UNITS:
        speed = "up to twice as fast as" if plan.precision == BFLOAT16 else "slower than"
        tiles = "; BRISKMLP_ISA=amx takes tiles, which may be faster" if "amx" in native.isas() else ""
        return f"{precision}, by {choice.isa}'s products of bfloat16 numbers: {speed} highest{tiles}"
    if choice.backend.NAME != native.NAME:
        why = f"{choice.backend.NAME} computes in float32"
    elif "avx512_bf16" in native.isas():
        why = f"{choice.isa} was asked for, avx512_bf16 can run here"
    else:
        why = "this machine has no AVX-512 BF16"
    return f"{precision}, emulated in float32 and no faster than highest: {why}"


def schedule(choice: Choice, plan: Plan, dtype: np.dtype[Any], threads: int) -> list[str]:
    """Return how a batch is divided among at most so many threads, and where they wait for each other."""
    if choice.backend.NAME != native.NAME:
        return [f"schedule: {choice.backend.NAME} decides it in each call, and shows none"]
    batch = plan.batch_size or LARGEST_CHUNK
    threads, rows, shards, layers = native.schedule(plan, dtype, batch, threads=threads, isa=choice.isa)
    head = f"schedule: {count(threads, 'thread')}; a batch of {batch} rows in chunks of at most {rows}"
    if shards > 1:
        barriers = "" if threads == 1 else "; barriers before and after the sum of their gradients"
        return [f"{head}, in {shards} shards, each computed by one thread{barriers}"]
    if threads == 1:
        return [f"{head}; no layer is divided"]
    table = [("layer", "forward", "dX", "dW", "barriers")]
    for i, layer in enumerate(layers):
        barriers = "before forward, " if layer.wait else ""
        barriers += "after loss, " if i + 1 == len(layers) else ""
        barriers += "after dW" if i == 0 else "after dX"
        table.append((str(i + 1), layer.forward, layer.dX or "-", layer.dW, barriers))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows_of_table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return [head, *(f"  {row.rstrip()}" for row in rows_of_table)]


def backends() -> dict[str, str | None]:
    """Return for each backend, fastest first, None if it can run here, else the reason why not."""
    return {name: _unavailable(name) for name in PREFERENCE}


def _obstacle(name: str, plan: Plan, dtype: np.dtype[Any]) -> str | None:
    return _unavailable(name) or _module(name).unsupported(plan, dtype)


def _unavailable(name: str) -> str | None:
    try:
        return _module(name).unavailable()
    except ImportError as error:
        return f"it cannot be imported: {error}"


def _module(name: str) -> Backend:
    return cast(Backend, importlib.import_module(f"briskmlp.backends.{name}"))
