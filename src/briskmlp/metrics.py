"""The metrics that training can record beside the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from briskmlp._messages import check_choice
from briskmlp.network import FloatArray

Metric = Callable[[FloatArray, Any, FloatArray | None], float]


def accuracy(A: FloatArray, Y: Any, weight: FloatArray | None = None) -> float:
    """Return the weighted share of examples whose class is predicted correctly.

    Parameters
    ----------
    A : ndarray, shape (n, n_out)
        The network's outputs.
    Y : ndarray
        Dense targets (n, n_out), or int64 labels (n,).
    weight : ndarray, shape (n,), optional
        Not negative, with a positive sum.

    Returns
    -------
    float
        In [0, 1]. The class is that of the largest output, the first if there are several; of a single output
        it is whether that is at least 0.5.

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
    """Return the mean absolute error ``|A - Y|`` over all outputs, each example with its weight.

    Parameters
    ----------
    A, Y : ndarray, shape (n, n_out)
        The network's outputs, and dense targets.
    weight : ndarray, shape (n,), optional
        Not negative, with a positive sum.

    Raises
    ------
    ValueError
        If ``Y`` is labels, from which outputs have no distance.

    Examples
    --------
    >>> mae(np.array([[1.0], [2.0]]), np.array([[0.0], [2.0]]))
    0.5
    """
    _refuse_labels("mae", labels=Y.ndim == 1)
    return float(np.average(np.abs(A - Y).mean(axis=1, dtype=np.float64), weights=weight))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mae": mae}


def check_metrics(names: str | Sequence[str], *, labels: bool = False) -> tuple[str, ...]:
    """Return the names of metrics as a tuple without repetitions.

    Parameters
    ----------
    names : str or sequence of str
        Keys of ``METRICS``.
    labels : bool
        Whether the targets are integer labels, which some metrics refuse.

    Raises
    ------
    ValueError, TypeError
        For an unknown name, with the nearest valid one, or a metric that has no meaning for labels.

    Examples
    --------
    >>> check_metrics("accuracy")
    ('accuracy',)
    """
    if not isinstance(names, str) and not hasattr(names, "__iter__"):
        raise TypeError(f"metrics must be a name or a sequence of names such as ['accuracy'], got {names!r}")
    unique = dict.fromkeys(
        check_choice("metrics", name, tuple(METRICS)) for name in ([names] if isinstance(names, str) else names)
    )
    if "mae" in unique:
        _refuse_labels("mae", labels=labels)
    return tuple(unique)


def _refuse_labels(name: str, *, labels: bool) -> None:
    if labels:
        raise ValueError(f"metric {name!r} needs dense targets (n, n_out), but Y is labels; use 'accuracy'")
