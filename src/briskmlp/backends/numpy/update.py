"""The update, whose rules are in ``operations/rules.py``, and the clipping of a gradient before them."""

from __future__ import annotations

import numpy as np

from briskmlp.backends.numpy.layout import parts, quiet
from briskmlp.network import FloatArray
from briskmlp.operations.rules import BY_CODE
from briskmlp.plan import Floats, Plan


@quiet
def clip(grad: FloatArray, largest: float) -> None:
    """Scale ``grad`` so that its norm is at most ``largest``; make it NaN, which is seen, if the norm overflows."""
    norm = float(np.sqrt(np.square(grad, dtype=np.float64).sum()))
    if np.isinf(norm):
        grad.fill(np.nan)
    elif norm > largest:
        grad *= largest / norm


@quiet
def update(
    plan: Plan,
    params: FloatArray,
    grad: FloatArray,
    state: FloatArray,
    step: int,
    rate: float,
    scalars: Floats | None = None,
) -> None:
    """Move ``params`` by one step of the plan's rule; ``step`` counts from 1.

    Without ``scalars``, which it moves, they are what they are after so many steps.
    """
    rule = BY_CODE[plan.rule]
    hyper, first = tuple(plan.hyper[: len(rule.hyper)].tolist()), step
    if scalars is None:
        scalars, first = np.array(rule.initial_scalars), 1
    if rule.advance is not None:
        for each in range(first, step + 1):
            rule.advance(scalars, hyper, each)
    for tensor, part in enumerate(parts(plan)):
        lr = float(rate * plan.rate_scale[tensor])  # NumPy's own float64 would make float32 arithmetic float64
        w, g, decay = params[part], grad[part], float(plan.decay[tensor])
        if decay and plan.decoupled:
            w -= lr * decay * w
        elif decay:
            g = g + decay * w
        rule.step(w, g, state[:, part], scalars, hyper, lr, step)
