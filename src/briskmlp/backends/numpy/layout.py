"""The workspace, where each tensor lies in a flat buffer, and which floating-point warnings are silenced."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from briskmlp.backends.recording import Laps
from briskmlp.network import FloatArray
from briskmlp.plan import Ints, Plan

quiet = np.errstate(over="ignore", under="ignore", invalid="ignore")  # the loss reports what is not finite


class Workspace(NamedTuple):
    """A plan, a gradient, the order of an epoch, and what records laps."""

    plan: Plan
    grad: FloatArray
    order: dict[int, Ints]
    laps: Laps


def parts(plan: Plan) -> list[slice]:
    """Return where each tensor W1 b1 W2 b2 … lies in a flat buffer."""
    starts = [*np.stack([plan.weight_offsets, plan.bias_offsets], axis=1).ravel().tolist(), plan.n_parameters]
    return [slice(start, stop) for start, stop in pairwise(starts)]


def tensors(plan: Plan, flat: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return views of the weights (n_in, n_out) and biases in a flat buffer."""
    views = [flat[part] for part in parts(plan)]
    return [W.reshape(n_in, -1) for W, n_in in zip(views[::2], plan.layers[:-1], strict=True)], views[1::2]
