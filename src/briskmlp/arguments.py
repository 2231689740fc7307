"""Checks of a Trainer's arguments that take more than a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from briskmlp._messages import check_choice, check_fraction

DTYPES = ("float32", "float64")


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype that is trained in."""
    try:
        name = None if dtype is None else np.dtype(dtype).name  # NumPy reads None as float64
    except TypeError:
        name = dtype
    return np.dtype(check_choice("dtype", name, DTYPES))


def check_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Return a rate for each hidden layer."""
    if isinstance(dropout, (str, bytes)) or not isinstance(dropout, (Sequence, np.ndarray)) or np.ndim(dropout) == 0:
        return (check_fraction("dropout", dropout),) * n_hidden
    if len(dropout) != n_hidden:
        raise ValueError(f"dropout has {len(dropout)} rates, but the network has {n_hidden} hidden layers")
    return tuple(check_fraction(f"dropout[{layer}]", rate) for layer, rate in enumerate(dropout))
