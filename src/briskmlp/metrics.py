"""The metrics that training can record beside the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from briskmlp._messages import check_choice
from briskmlp.network import FloatArray


def accuracy(A: FloatArray, Y: Any, weight: FloatArray | None = None) -> float:
    """Return the weighted share of examples whose class is predicted correctly, from outputs A (n, n_out).

    The class is that of the largest output, the first if there are several; of a single output it is whether that is at
    least 0.5. Y is dense (n, n_out), or int64 labels (n,); a weight (n,) is not negative, with a positive sum.

    Examples
    --------
    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    if A.shape[1] == 1:
        hits = (A[:, 0] >= 0.5) == (Y.reshape(-1) >= 0.5)
    else:
        hits = A.argmax(axis=1) == (Y if Y.ndim == 1 else Y.argmax(axis=1))
    return float(np.average(hits, weights=weight))


def mae(A: FloatArray, Y: Any, weight: FloatArray | None = None) -> float:
    """Return the mean absolute error ``|A - Y|`` over all outputs, each example with its weight; of dense Y alone.

    Examples
    --------
    >>> mae(np.array([[1.0], [2.0]]), np.array([[0.0], [2.0]]))
    0.5
    """
    check_metrics("mae", labels=Y.ndim == 1)
    return float(np.average(np.abs(A - Y).mean(axis=1, dtype=np.float64), weights=weight))


METRICS: dict[str, Callable[[FloatArray, Any, FloatArray | None], float]] = {"accuracy": accuracy, "mae": mae}


def check_metrics(names: str | Sequence[str], *, labels: bool = False) -> tuple[str, ...]:
    """Return the names of metrics, keys of ``METRICS``, without repetitions; some refuse integer labels as targets.

    Examples
    --------
    >>> check_metrics("accuracy")
    ('accuracy',)
    """
    if not isinstance(names, str) and not hasattr(names, "__iter__"):
        raise TypeError(f"metrics must be a name or a sequence of names such as ['accuracy'], got {names!r}")
    several = [names] if isinstance(names, str) else names
    unique = tuple(dict.fromkeys(check_choice("metrics", name, tuple(METRICS)) for name in several))
    if labels and "mae" in unique:
        raise ValueError("metric 'mae' needs dense targets (n, n_out), but Y is labels; use 'accuracy'")
    return unique
