"""What a Plan's numbers stand for: tensors in a flat buffer, and rows of the tables.

Also which floating-point warnings are none of NumPy's business.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from briskmlp.network import FloatArray
from briskmlp.operations.activations import BY_CODE, Choice
from briskmlp.plan import Plan

quiet = np.errstate(over="ignore", under="ignore", invalid="ignore")  # the loss reports what is not finite


def parts(plan: Plan) -> list[slice]:
    """Return where each tensor W1 b1 W2 b2 … lies in a flat buffer."""
    stops = (plan.offsets + plan.sizes).tolist()
    return [slice(start, stop) for start, stop in zip(plan.offsets.tolist(), stops, strict=True)]


def tensors(plan: Plan, flat: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return views of the weights (n_in, n_out) and biases in a flat buffer."""
    views = [flat[part] for part in parts(plan)]
    return [W.reshape(n_in, -1) for W, n_in in zip(views[::2], plan.layers[:-1], strict=True)], views[1::2]


def choices(plan: Plan) -> list[Choice]:
    """Return the activation of each layer."""
    return _choices(plan.activations.tobytes(), plan.activation_parameters.tobytes())


@lru_cache
def _choices(codes: bytes, parameters: bytes) -> list[Choice]:
    rows = [BY_CODE[code] for code in np.frombuffer(codes, np.int64)]
    values = np.frombuffer(parameters).reshape(len(rows), -1).tolist()
    return [Choice(row, tuple(each[: len(row.parameters)])) for row, each in zip(rows, values, strict=True)]
