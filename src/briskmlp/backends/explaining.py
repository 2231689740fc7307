"""The schedule of training as a table, for ``Trainer.explain``."""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends import native
from briskmlp.backends.contract import LARGEST_CHUNK
from briskmlp.backends.dispatch import Choice
from briskmlp.plan import Plan


def schedule_lines(choice: Choice, plan: Plan, dtype: np.dtype[Any], threads: int) -> list[str]:
    """Return how a batch is divided among at most so many threads, and where they wait for each other."""
    if choice.backend.NAME != native.NAME:
        return [f"schedule: {choice.backend.NAME} decides it in each call, and shows none"]
    batch = plan.batch_size or LARGEST_CHUNK
    threads, rows, shards, layers = native.schedule(plan, dtype, batch, threads=threads, isa=choice.isa)
    head = f"schedule: {threads} thread{'s'[: threads > 1]}; a batch of {batch} rows in chunks of at most {rows}"
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
