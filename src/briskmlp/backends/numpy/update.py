"""The update, whose rules are in ``operations/rules.py``, and the clipping of a gradient before them."""

from __future__ import annotations

import numpy as np

from briskmlp.backends.contract import State
from briskmlp.backends.numpy.layout import parts, quiet
from briskmlp.network import FloatArray
from briskmlp.operations.rules import BY_CODE, Time
from briskmlp.plan import Plan


@quiet
def clip(grad: FloatArray, largest: float, epsilon: float) -> None:
    """Scale ``grad`` so that its norm is at most ``largest``; make it NaN, which is seen, if the norm overflows.

    ``epsilon`` is added to the norm first, as PyTorch does.
    """
    norm = float(np.sqrt(np.square(grad, dtype=np.float64).sum())) + epsilon
    if np.isinf(norm):
        grad.fill(np.nan)
    elif norm > largest:
        grad *= largest / norm


@quiet
def update(plan: Plan, state: State, grad: FloatArray, rate: float) -> None:
    """Move the parameters by one step of the plan's rule, and count it."""
    state.position.counts[2] += 1
    params, step, rule = state.parameters, state.position.step, BY_CODE[plan.rule]
    hyper = tuple(plan.hyper[: len(rule.hyper)].tolist())
    if rule.advance is not None:
        rule.advance(state.scalars, step, *hyper)
    for tensor, part in enumerate(parts(plan)):
        lr = float(rate * plan.rate_scale[tensor])  # NumPy's own float64 would make float32 arithmetic float64
        w, g, decay = params[part], grad[part], float(plan.decay[tensor])
        if decay and plan.decoupled:
            w -= lr * decay * w
        elif decay:
            g = g + decay * w
        rule.step(w, g, state.slots[:, part], Time(lr, step, state.scalars), *hyper)
