"""The forward pass of one chunk of rows.

Z[l] = A[l-1] @ W[l] + b[l]        A[l] = f(Z[l])        l = 1…L, with normalisations before or after f

A[0] is gathered from the user's rows. All A[l] lie in the workspace, (chunk, padded width), of which the first m rows
are in use and the padding is zero. Loops: layers, then the product's tiles; the activation passes over Z while it is in
cache and writes A in its place. The last layer's Z is left to the loss unless ``last``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from briskmlp.backends.numba._options import inline, jit
from briskmlp.backends.numba.activations import activate, writes_f
from briskmlp.backends.numba.layout import rounded_up
from briskmlp.backends.numba.norm import call_normalise
from briskmlp.backends.numba.product import ROWS, product
from briskmlp.backends.numba.random import drop
from briskmlp.backends.numba.recording import lap
from briskmlp.backends.numba.vector import first, largest, load, offset, splat, store, total, width
from briskmlp.backends.numba.vector_math import exp
from briskmlp.backends.recording import FORWARD, GATHER
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON

call_activate, up = activate.call, jit(rounded_up)


@inline
def forward_chunk(
    job: Any, layers: Any, norms: Any, B: Any, P: Any, T: Any, data: Any, rows: Any, m: int, last: bool,
    by_batch: bool, epoch: int, place: int, record: Any,
) -> None:  # fmt: skip
    """Compute A[0]…A[L] for m rows of X, with which and its row stride data begins; Z[L] for A[L] unless ``last``.

    Normalisations over batches go by these rows' mean and variance if ``by_batch``, else by the running ones, T. In an
    epoch >= 0, these are moved, and units are dropped as its examples from ``place`` on want it; with -1, none.
    """
    norm, moves = norms[0], epoch >= 0
    x = layers[0].at_A if norm.code == 0 else norm.at_N
    gather(data[0], data[1], rows, m, B, x, layers[0].n_in, layers[0].rows)
    if norm.code != 0:
        call_normalise(norm.call_forward, B, P, T, norm, m, by_batch, moves)
    lap(record, 0, GATHER)
    for l in range(layers.size):
        layer, norm = layers[l], norms[l + 1]
        forward_layer(job, layer, B, P, m)
        if norm.code != 0 and norm.after == 0:
            call_normalise(norm.call_forward, B, P, T, norm, m, by_batch, moves)
        if last or l < layers.size - 1:
            activation(layer, B, m)
        if norm.code != 0 and norm.after != 0:
            call_normalise(norm.call_forward, B, P, T, norm, m, by_batch, moves)
        if epoch >= 0 and layer.dropped > 0:
            drop(job, layer, l, B, m, epoch, place)
        lap(record, l, FORWARD)


@jit
def gather(X: Any, step: int, rows: Any, m: int, A: Any, a: int, n: int, n_padded: int) -> None:
    """Copy rows of X to the workspace, one after the other; the padding is zero already."""
    lanes = width(A)
    whole = n - n % lanes
    for i in range(m):
        x = rows[i] * step
        for j in range(0, whole, lanes):
            store(A, a + j, load(X, x + j))
        for j in range(whole, n):
            A[a + j] = X[x + j]
        a += n_padded


@jit
def forward_layer(job: Any, layer: Any, B: Any, P: Any, m: int) -> None:
    """Write Z = A @ W + b of one layer, (m, columns)."""
    n_in, n_out, A, Z, W = layer.rows, layer.columns, layer.at_A, layer.at_product, layer.W
    init, b = P, layer.b
    if job.bias != BIAS_NEURON:
        init, b = B, job.at_row
        fill(B, b, n_out, P[layer.b] if job.bias == BIAS_LAYER else 0.0)
    if layer.blas:
        blas(B, A, m, n_in, False, P, W, n_in, n_out, False, B, job.at_product)
        add(init, b, 0, B, job.at_product, B, Z, m, n_out)
    else:
        product(B, A, n_in, 1, P, W, n_out, init, b, 0, B, Z, n_out, up(m, ROWS), n_out, layer.n_in)


@jit
def fill(A: Any, a: int, n: int, value: Any) -> None:
    """Write one value to a row."""
    for j in range(0, n, width(A)):
        store(A, a + j, splat(A, value))


@jit
def blas(
    A: Any, a: int, a_rows: int, a_columns: int, a_transposed: bool,
    B: Any, b: int, b_rows: int, b_columns: int, b_transposed: bool, C: Any, c: int,
) -> None:  # fmt: skip
    """Write C = A @ B by BLAS; a transposed operand is stored as (rows, columns) before the transpose."""
    left = carray(offset(A, a), (a_rows, a_columns))
    right = carray(offset(B, b), (b_rows, b_columns))
    if a_transposed:
        np.dot(left.T, right, carray(offset(C, c), (a_columns, b_columns)))
    elif b_transposed:
        np.dot(left, right.T, carray(offset(C, c), (a_rows, b_rows)))
    else:
        np.dot(left, right, carray(offset(C, c), (a_rows, b_columns)))


@jit
def add(init: Any, z: int, z_i: int, S: Any, s: int, C: Any, c: int, m: int, n: int) -> None:
    """Write C = init + S, (m, n); init's rows are ``z_i`` apart: 0 for one row of biases."""
    for i in range(m):
        for j in range(0, n, width(C)):
            store(C, c + i * n + j, load(init, z + i * z_i + j) + load(S, s + i * n + j))


@jit
def activation(layer: Any, A: Any, m: int) -> None:
    """Write f(Z) in place of Z, and f'(Z) to the saved slope if there is one; zeros where a row is padded."""
    call_activate(layer.call_f, A, layer.at_f, layer.at_S, m, layer.n_out, layer.columns, layer.p, layer.q)


@writes_f
def softmax(code: int, A: Any, a: int, s: int, m: int, n: int, n_padded: int, p: float, q: float) -> None:
    """Write softmax(Z) in place of Z, m rows."""
    for i in range(m):
        softmax_row(A, a + i * n_padded, n)


@jit
def softmax_row(A: Any, a: int, n: int) -> Any:
    """Write softmax(Z) in place of one row of Z; return max(Z) and log Σ e^(Z - max)."""
    lanes = width(A)
    highest = A[a]
    for j in range(0, n, lanes):
        highest = max(highest, largest(first(load(A, a + j), n - j, -np.inf)))
    sums = splat(A, 0.0)
    for j in range(0, n, lanes):
        e = first(exp(load(A, a + j) - splat(A, highest)), n - j, 0.0)
        store(A, a + j, e)
        sums = sums + e
    normaliser = total(sums)
    for j in range(0, n, lanes):
        store(A, a + j, load(A, a + j) / splat(A, normaliser))
    return np.float64(highest), np.log(np.float64(normaliser))
