"""The loss E of each row, and delta[L] = ∂E/∂Z[L]: the equations are in ``operations/losses.py``."""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numpy.forward import Forward
from briskmlp.backends.numpy.layout import choices
from briskmlp.network import FloatArray
from briskmlp.operations.losses import BY_CODE, Output
from briskmlp.plan import Plan


def loss_and_delta(plan: Plan, forward: Forward, Y: Any, weight: FloatArray | None) -> tuple[float, FloatArray]:
    """Return Σ w·E and its gradient with respect to the last Z, both un-normalised."""
    A, saved = forward.A[-1], forward.saved(len(plan.activations))
    output = Output(choices(plan)[-1], forward.Z, A, saved, plan.huber, plan.clip_probability)
    losses, delta = BY_CODE[plan.loss].reference(output, Y)
    if weight is not None:
        losses, delta = losses * weight, delta * weight[:, None]
    return plan.loss_scale * float(losses.sum()), np.asarray(plan.loss_scale * delta, dtype=A.dtype)
