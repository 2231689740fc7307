"""The products of a plan's precision, and what bfloat16 is: see the contract."""

from __future__ import annotations

import numpy as np

from briskmlp.network import FloatArray
from briskmlp.plan import BFLOAT16, HIGHEST, Plan

SMALLEST = np.float32(2.0**-126)  # that is normal


def product(plan: Plan, A: FloatArray, B: FloatArray) -> FloatArray:
    """Return A @ B as the plan's precision has it."""
    if plan.precision == HIGHEST:
        return np.asarray(A @ B)
    A1, B1 = bfloat16(A), bfloat16(B)
    if plan.precision == BFLOAT16:
        return np.asarray(A1 @ B1)
    A2, B2 = bfloat16(A - A1), bfloat16(B - B1)
    return np.asarray(A1 @ B1 + (A1 @ B2 + A2 @ B1))


def stored(plan: Plan, A: FloatArray) -> FloatArray:
    """Return an activation or delta as it is kept for the products that will read it."""
    return bfloat16(A) if plan.precision == BFLOAT16 else A


def bfloat16(x: FloatArray) -> FloatArray:
    """Return float32 numbers rounded to 8 significant bits: to nearest, ties to even.

    From 3.396e38 on they become infinite, and below the smallest normal number 0. Infinities and NaN stay.
    """
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    half = (bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) & np.uint32(0xFFFF0000)
    rounded = np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), half.view(np.float32))
    return np.asarray(np.where(np.isfinite(x), rounded, x))
