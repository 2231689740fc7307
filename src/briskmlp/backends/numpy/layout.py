"""The workspace, and what a Plan's numbers stand for: tensors in a flat buffer, and rows of the tables.

Also which floating-point warnings are silenced.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from briskmlp.backends.recording import Laps
from briskmlp.network import FloatArray
from briskmlp.operations.activations import BY_CODE, Choice
from briskmlp.plan import Ints, Plan

quiet = np.errstate(over="ignore", under="ignore", invalid="ignore")  # the loss reports what is not finite


class Workspace(NamedTuple):
    """A plan, the activation of each layer, a gradient, the order of an epoch, and what records laps."""

    plan: Plan
    f: list[Choice]
    grad: FloatArray
    order: dict[int, Ints]
    laps: Laps


def parts(plan: Plan) -> list[slice]:
    """Return where each tensor lies in a flat buffer: W1 b1 W2 b2 …, and γ and β of normalisations."""
    stops = (plan.offsets + plan.sizes).tolist()
    return [slice(start, stop) for start, stop in zip(plan.offsets.tolist(), stops, strict=True)]


def tensors(plan: Plan, flat: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return views of the weights (n_in, n_out) and biases in a flat buffer."""
    views = [flat[part] for part in parts(plan)[: 2 * len(plan.activations)]]
    return [W.reshape(n_in, -1) for W, n_in in zip(views[::2], plan.layers[:-1], strict=True)], views[1::2]


def affine(plan: Plan, place: int, flat: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return views of γ and β of the normalisation at a place in a flat buffer."""
    gamma = int(plan.norm_tensors[place])
    both = [flat[part] for part in parts(plan)[gamma : gamma + 2]]
    return both[0], both[1]


def choices(plan: Plan) -> list[Choice]:
    """Return the activation of each layer."""
    rows, values = [BY_CODE[code] for code in plan.activations], plan.activation_parameters.tolist()
    return [Choice(row, tuple(each[: len(row.parameters)])) for row, each in zip(rows, values, strict=True)]
