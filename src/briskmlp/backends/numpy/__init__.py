"""The NumPy backend: the equations line by line. Every other backend is held to it, and it runs where none can.

For layers l = 1…L, with A[0] = X[rows] of shape (n_batch, n_in) and f the layer's activation:

    forward    Z[l] = A[l-1] @ W[l] + b[l]             A[l] = f(Z[l])
    backward   delta[L] = ∂E/∂Z[L]                     delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
               dW[l] = A[l-1].T @ delta[l]             db[l] = delta[l].sum(axis=0)
    update     W[l] -= lr * dW[l]                      and the other rules

f' follows from A, or from a slope that forward saves, so no Z is kept. Lists here count from 0: ``weights[l]`` is
W[l+1]. Read ``operations/``, and here ``products.py``, ``forward.py``, ``backward.py``, ``update.py``, ``epoch.py``.
"""

from __future__ import annotations

from time import monotonic_ns as ticks
from typing import Any

import numpy as np

from briskmlp.backends.contract import estimate_memory as memory
from briskmlp.backends.contract import no_reason
from briskmlp.backends.numpy.backward import gradient
from briskmlp.backends.numpy.epoch import train
from briskmlp.backends.numpy.forward import forward
from briskmlp.backends.numpy.layout import Workspace, choices
from briskmlp.backends.numpy.update import update
from briskmlp.backends.recording import Laps, words
from briskmlp.plan import Plan

__all__ = ["forward", "gradient", "memory", "ticks", "train", "update"]

NAME = "numpy"
RESTORES = False
USES_BLAS = True
isa = unavailable = unsupported = no_reason


def workspace(
    plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool = True, record: Any = None, **_: Any
) -> Workspace:
    """Allocate the gradient; NumPy allocates the rest as it goes, and chooses its instruction set."""
    laps = Laps(None if record is None else words(record[:1]), ticks)
    return Workspace(plan, choices(plan), np.empty(plan.n_parameters if training else 0, dtype=dtype), {}, laps)
