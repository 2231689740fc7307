"""Normalisation: γ N̂ + β, where N̂ is N with mean 0 and variance 1, over a batch or over a layer's neurons.

Its equations are in ``operations/layers.py``. Means and variances of a batch are of all its rows, so these are computed
at once, not in chunks.
"""

from __future__ import annotations

import numpy as np

from briskmlp.backends.contract import State, statistics_at
from briskmlp.backends.numpy.layout import affine
from briskmlp.network import FloatArray
from briskmlp.operations.layers import BY_CODE, Standardised, standardise, standardise_by, through_norm
from briskmlp.plan import BATCH_NORM, Plan


def normalise(
    plan: Plan, place: int, N: FloatArray, state: State, *, by_batch: bool
) -> tuple[FloatArray, Standardised]:
    """Return γ N̂ + β, and what backward needs; not ``by_batch`` takes the running mean and variance of batches."""
    code, eps = int(plan.norms[place]), float(plan.norm_eps[place])
    if code == BATCH_NORM and (plan.norm_fixed[place] or not by_batch):
        by = standardise_by(N, *statistics_at(plan, place, state.statistics), eps)
    else:
        by = standardise(N, BY_CODE[code].axis, eps)
    gamma, beta = affine(plan, place, state.parameters)
    return gamma * by.N + beta, by


def move_statistics(plan: Plan, place: int, by: Standardised, state: State) -> None:
    """Move the running mean and variance towards those of a batch, if this normalisation has them."""
    if plan.norms[place] != BATCH_NORM or plan.norm_fixed[place]:
        return
    share, n = float(plan.norm_momentum[place]), len(by.N)
    unbiased = by.variance * (n / max(n - 1, 1))
    for running, of_batch in zip(statistics_at(plan, place, state.statistics), (by.mean, unbiased), strict=True):
        running += share * (of_batch.ravel() - running)


def norm_backward(
    plan: Plan, place: int, d: FloatArray, by: Standardised, params: FloatArray, grad: FloatArray
) -> FloatArray:
    """Add dγ and dβ, of the gradient with respect to γ N̂ + β; return that with respect to N."""
    gamma, _ = affine(plan, place, params)
    d_gamma, d_beta = affine(plan, place, grad)
    d_gamma += (d * by.N).sum(axis=0)
    d_beta += d.sum(axis=0)
    g = np.asarray(d * gamma)
    code = int(plan.norms[place])
    if code == BATCH_NORM and plan.norm_fixed[place]:
        return g * by.scale
    return through_norm(g, by, BY_CODE[code].axis)
