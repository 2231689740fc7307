"""Normalisation of one chunk of rows, which over a batch is all of it.

forward     N̂ = (N - m) s        Y = γ N̂ + β        m, v: mean and variance of N's columns or rows    s = 1 / √(v + ε)
backward    dγ = Σ_rows d N̂      dβ = Σ_rows d      dN = s (g - mean(g) - N̂ mean(g N̂))                  g = γ d

N and Y are (m, columns) and lie apart, as backward computes N̂ from N again: that reads what a copy of N̂ would, and
writes nothing. Over a batch two passes take the mean and the variance, and a third writes Y, each in blocks of rows
that stay in cache. The squares are of differences from the mean, or large means would take the variance's digits; what
rounding left of these differences' own mean corrects both (Chan, Golub & LeVeque 1983, the corrected two-pass
algorithm). Sums of more rows than a block are added up block by block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, types

from briskmlp.backends.numba._options import choose, jit, operation
from briskmlp.backends.numba.layout import NORM, SMALL_CHUNK
from briskmlp.backends.numba.vector import first, fma, load, number, splat, store, total, width
from briskmlp.plan import BATCH_NORM, LAYER_NORM


@jit
def normalise_over_batch(B: Any, P: Any, T: Any, norm: Any, m: int, by_batch: bool, moves: bool) -> None:
    """Write Y; by the batch's own mean and variance, by which it may move the running ones in T, or by these."""
    n, columns, N, Y, mean, scale = norm.n, norm.columns, norm.at_N, norm.at_Y, norm.at_mean, norm.at_scale
    running, lanes = norm.statistics, width(B)
    if norm.fixed != 0 or not by_batch:
        for j in range(n):
            B[mean + j] = T[running + j]
            B[scale + j] = number(B, 1.0 / np.sqrt(np.float64(T[running + n + j]) + norm.eps))
    else:
        take_means(B, norm, m)
        take_variances(B, norm, m)
        share, unbiased = number(B, norm.momentum), np.float64(m) / np.float64(max(m - 1, 1))
        for j in range(n):
            variance = max(np.float64(B[scale + j]), 0.0)
            if moves:
                T[running + j] += share * (B[mean + j] - T[running + j])
                T[running + n + j] += share * (number(B, variance * unbiased) - T[running + n + j])
            B[scale + j] = number(B, 1.0 / np.sqrt(variance + norm.eps))
    for start in range(0, m, SMALL_CHUNK):
        stop = min(start + SMALL_CHUNK, m)
        for j in range(0, columns, lanes):
            centre, factor = load(B, mean + j), load(B, scale + j) * load(P, norm.gamma + j)
            shift = load(P, norm.beta + j)
            for i in range(start, stop):
                y = fma(load(B, N + i * columns + j) - centre, factor, shift)
                store(B, Y + i * columns + j, first(y, n - j, 0.0))


@jit
def take_means(B: Any, norm: Any, m: int) -> None:
    """Write the mean of each column."""
    share = splat(B, 1.0 / m)
    for j in range(0, norm.columns, width(B)):
        sums = splat(B, 0.0)
        for start in range(0, m, SMALL_CHUNK):
            block = splat(B, 0.0)
            for i in range(start, min(start + SMALL_CHUNK, m)):
                block = block + load(B, norm.at_N + i * norm.columns + j)
            sums = sums + block
        store(B, norm.at_mean + j, sums * share)


@jit
def take_variances(B: Any, norm: Any, m: int) -> None:
    """Write the biased variance of each column to where its scale will be, and correct the means."""
    share = splat(B, 1.0 / m)
    for j in range(0, norm.columns, width(B)):
        squares, rest, centre = splat(B, 0.0), splat(B, 0.0), load(B, norm.at_mean + j)
        for start in range(0, m, SMALL_CHUNK):
            block, left = splat(B, 0.0), splat(B, 0.0)
            for i in range(start, min(start + SMALL_CHUNK, m)):
                difference = load(B, norm.at_N + i * norm.columns + j) - centre
                block = fma(difference, difference, block)
                left = left + difference
            squares, rest = squares + block, rest + left
        correction = rest * share
        store(B, norm.at_mean + j, centre + correction)
        store(B, norm.at_scale + j, squares * share - correction * correction)


@jit
def normalise_over_layer(B: Any, P: Any, T: Any, norm: Any, m: int, by_batch: bool, moves: bool) -> None:
    """Write Y, each row by its own mean and variance."""
    n, columns, N, Y, lanes = norm.n, norm.columns, norm.at_N, norm.at_Y, width(B)
    for i in range(m):
        sums, squares, rest = splat(B, 0.0), splat(B, 0.0), splat(B, 0.0)
        for j in range(0, columns, lanes):
            sums = sums + first(load(B, N + j), n - j, 0.0)
        centre = splat(B, np.float64(total(sums)) / n)
        for j in range(0, columns, lanes):
            difference = first(load(B, N + j) - centre, n - j, 0.0)
            squares, rest = fma(difference, difference, squares), rest + difference
        correction = np.float64(total(rest)) / n
        variance = max(np.float64(total(squares)) / n - correction * correction, 0.0)
        B[norm.at_mean + i] = number(B, np.float64(total(sums)) / n + correction)
        B[norm.at_scale + i] = number(B, 1.0 / np.sqrt(variance + norm.eps))
        centre, factor = splat(B, B[norm.at_mean + i]), splat(B, B[norm.at_scale + i])
        for j in range(0, columns, lanes):
            hat = (load(B, N + j) - centre) * factor
            y = fma(hat, load(P, norm.gamma + j), load(P, norm.beta + j))
            store(B, Y + j, first(y, n - j, 0.0))
        N, Y = N + columns, Y + columns


@jit
def back_over_batch(B: Any, P: Any, G: Any, norm: Any, d: int, m: int, rate: float) -> None:
    """Write dN in place of d, and add dγ and dβ."""
    columns, N = norm.columns, norm.at_N
    share = splat(B, 0.0 if norm.fixed != 0 else 1.0 / m)
    for j in range(0, columns, width(B)):
        centre, scale = load(B, norm.at_mean + j), load(B, norm.at_scale + j)
        d_gamma, d_beta, factor = splat(B, 0.0), splat(B, 0.0), scale * load(P, norm.gamma + j)
        for start in range(0, m, SMALL_CHUNK):
            along, block = splat(B, 0.0), splat(B, 0.0)
            for i in range(start, min(start + SMALL_CHUNK, m)):
                delta = load(B, d + i * columns + j)
                along = fma(delta, (load(B, N + i * columns + j) - centre) * scale, along)
                block = block + delta
            d_gamma, d_beta = d_gamma + along, d_beta + block
        along, mean = d_gamma * share, d_beta * share
        for i in range(m):
            hat = (load(B, N + i * columns + j) - centre) * scale
            store(B, d + i * columns + j, factor * (load(B, d + i * columns + j) - mean - hat * along))
        add_affine(G, norm, j, d_gamma, d_beta, rate)


@jit
def back_over_layer(B: Any, P: Any, G: Any, norm: Any, d: int, m: int, rate: float) -> None:
    """Write dN in place of d, and add dγ and dβ."""
    n, columns, N, lanes = norm.n, norm.columns, norm.at_N, width(B)
    for j in range(0, 2 * columns, lanes):
        store(B, norm.at_sums + j, splat(B, 0.0))
    for i in range(m):
        centre, scale = splat(B, B[norm.at_mean + i]), splat(B, B[norm.at_scale + i])
        along, sums = splat(B, 0.0), splat(B, 0.0)
        for j in range(0, columns, lanes):
            delta, hat = load(B, d + j), (load(B, N + j) - centre) * scale
            g = delta * load(P, norm.gamma + j)  # 0 in pads
            along, sums = fma(g, hat, along), sums + g
            at = norm.at_sums + j
            store(B, at, fma(delta, hat, load(B, at)))
            store(B, at + columns, load(B, at + columns) + delta)
        of_along, mean = splat(B, np.float64(total(along)) / n), splat(B, np.float64(total(sums)) / n)
        for j in range(0, columns, lanes):
            hat = (load(B, N + j) - centre) * scale
            g = load(B, d + j) * load(P, norm.gamma + j)
            store(B, d + j, first(scale * (g - mean - hat * of_along), n - j, 0.0))
        d, N = d + columns, N + columns
    for j in range(0, columns, lanes):
        at = norm.at_sums + j
        add_affine(G, norm, j, load(B, at), load(B, at + columns), rate)


@jit
def add_affine(G: Any, norm: Any, j: int, d_gamma: Any, d_beta: Any, rate: float) -> None:
    """Add dγ and dβ of one Vec to G; or, with a rate other than 0, make the step of gradient descent in it."""
    gamma, beta, by_gamma, by_beta = load(G, norm.gamma + j), load(G, norm.beta + j), 1.0, 1.0
    if rate != 0.0:
        by_gamma, by_beta = -rate * norm.rate_gamma, -rate * norm.rate_beta
        gamma = gamma + splat(G, by_gamma * norm.decay_gamma) * gamma
        beta = beta + splat(G, by_beta * norm.decay_beta) * beta
    store(G, norm.gamma + j, gamma + d_gamma * splat(G, by_gamma))
    store(G, norm.beta + j, beta + d_beta * splat(G, by_beta))


over_what = choose({BATCH_NORM: normalise_over_batch, LAYER_NORM: normalise_over_layer}.__getitem__)
back_over_what = choose({BATCH_NORM: back_over_batch, LAYER_NORM: back_over_layer}.__getitem__)


def _forward_types(number: Any) -> tuple[Any, ...]:
    numbers = types.CPointer(number)
    return numbers, numbers, from_dtype(NORM), types.int64, types.boolean, types.boolean


def _backward_types(number: Any) -> tuple[Any, ...]:
    numbers = types.CPointer(number)
    return numbers, numbers, from_dtype(NORM), types.int64, types.int64, types.float64


@operation(types.void, _forward_types)
def normalise(code: int, B: Any, P: Any, T: Any, norm: Any, m: int, by_batch: bool, moves: bool) -> None:
    """Normalise m rows of N to Y."""
    over_what(code, B, P, T, norm, m, by_batch, moves)


@operation(types.void, _backward_types)
def back(code: int, B: Any, P: Any, G: Any, norm: Any, d: int, m: int, rate: float) -> None:
    """Write the gradient by N in place of that by Y at d, and add dγ and dβ to G; a rate is as in add_affine."""
    back_over_what(code, B, P, G, norm, d, m, rate)


call_normalise, call_back = normalise.call, back.call
