"""The tables of operations: activations, losses, update rules, layers. Everything else reads them.

A code of the kernels is a position in a table, the same in Python, C and Numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
