"""The activations A = f(Z), and delta = dA * f'(Z) with f' computed from A."""

from __future__ import annotations

import numpy as np

from briskmlp.network import FloatArray
from briskmlp.plan import EXP, LEAKY_RELU, RELU, SIGMOID, SOFTMAX, TANH, Plan


def activate(plan: Plan, Z: FloatArray, activation: int) -> FloatArray:
    """Return f(Z)."""
    if activation == SIGMOID:  # never overflows: exp of a negative number only
        e = np.exp(-np.abs(Z))
        return np.asarray(np.where(Z < 0, e, 1) / (1 + e))
    if activation == TANH:
        return np.tanh(Z)
    if activation == RELU:
        return np.maximum(Z, 0)
    if activation == LEAKY_RELU:
        return np.asarray(np.where(Z > 0, Z, plan.slope * Z))
    if activation == EXP:
        return np.exp(Z)
    if activation == SOFTMAX:
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    return Z


def through(plan: Plan, dA: FloatArray, A: FloatArray, activation: int) -> FloatArray:
    """Return delta = dA * f'(Z), for every activation but exp, whose loss gives delta itself."""
    if activation == SIGMOID:
        return dA * (A * (1 - A))
    if activation == TANH:
        return dA * (1 - A * A)
    if activation == RELU:
        return dA * (A > 0)
    if activation == LEAKY_RELU:
        return np.asarray(np.where(A > 0, dA, plan.slope * dA))
    if activation == SOFTMAX:  # the Jacobian product
        return np.asarray(A * (dA - (dA * A).sum(axis=1, keepdims=True)))
    return dA
