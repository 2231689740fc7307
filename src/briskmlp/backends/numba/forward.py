"""The forward pass of one chunk of rows.

Z[l] = A[l-1] @ W[l] + b[l]        A[l] = f(Z[l])        l = 1…L

A[0] is gathered from the user's rows. All A[l] are (chunk, widths[l]) in the workspace, of which the first m rows are
in use and the pads are zero. Loops: layers, then the product's tiles; the activation passes over Z while it is in
cache and writes A in its place. The last layer's Z is left to the loss where ``last`` is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import inline, jit
from briskmlp.backends.numba.activations import exp, sigmoid, tanh
from briskmlp.backends.numba.product import ROWS, product
from briskmlp.backends.numba.vector import first, largest, load, load_row, splat, store, total, where_less, width
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, RELU, SIGMOID, SOFTMAX, TANH


@inline
def forward_chunk(plan: Any, work: Any, P: Any, X: Any, rows: Any, last: int) -> None:
    """Compute A[0]…A[L] for ``X[rows]``; leave Z[L] in place of A[L] unless ``last``."""
    buffer, m, n_layers = work.buffer, rows.size, plan.activations.size
    gather(X, rows, buffer, work.activations[0], work.widths[0])
    for l in range(n_layers):
        n_in, n_out, A, Z = work.widths[l], work.widths[l + 1], work.activations[l], work.activations[l + 1]
        W, b = work.weights[l], work.biases[l]
        init, bias = P, b
        if plan.bias != BIAS_NEURON:
            init, bias = buffer, work.row
            fill(buffer, work.row, n_out, P[b] if plan.bias == BIAS_LAYER else 0.0)
        if work.blas[l]:
            blas(buffer, A, m, n_in, False, P, W, n_in, n_out, False, buffer, work.product)
            add(init, bias, 0, buffer, work.product, buffer, Z, m, n_out)
        else:
            product(buffer, A, n_in, 1, P, W, n_out, init, bias, 0, buffer, Z, n_out, up(m), n_out, plan.layers[l])
        if last or l < n_layers - 1:
            activate(plan.activations[l], buffer, Z, m, n_out, plan.layers[l + 1])


@jit
def gather(X: Any, rows: Any, A: Any, a: int, n_padded: int) -> None:
    """Copy ``X[rows]`` to the workspace, one row after the other; the pads are zero already."""
    lanes, n = width(A), X.shape[1]
    whole = n - n % lanes
    for i in range(rows.size):
        row, start = rows[i], a + i * n_padded
        for j in range(0, whole, lanes):
            store(A, start + j, load_row(X, row, j))
        for j in range(whole, n):
            A[start + j] = X[row, j]


@jit
def fill(A: Any, a: int, n: int, value: Any) -> None:
    """Write one value to a row."""
    for j in range(0, n, width(A)):
        store(A, a + j, splat(A, value))


@jit
def up(m: int) -> int:
    """Return m rounded up to whole tiles; the rows beyond m are never read."""
    return (m + ROWS - 1) // ROWS * ROWS


@jit
def blas(
    A: Any, a: int, a_rows: int, a_columns: int, a_turned: bool,
    B: Any, b: int, b_rows: int, b_columns: int, b_turned: bool, C: Any, c: int,
) -> None:  # fmt: skip
    """Write C = A @ B by BLAS; a turned operand is the transpose of what lies there, (rows, columns)."""
    left = A[a : a + a_rows * a_columns].reshape(a_rows, a_columns)
    right = B[b : b + b_rows * b_columns].reshape(b_rows, b_columns)
    m = a_columns if a_turned else a_rows
    n = b_rows if b_turned else b_columns
    out = C[c : c + m * n].reshape(m, n)
    if a_turned:
        np.dot(left.T, right, out)
    elif b_turned:
        np.dot(left, right.T, out)
    else:
        np.dot(left, right, out)


@jit
def add(init: Any, z: int, z_i: int, S: Any, s: int, C: Any, c: int, m: int, n: int) -> None:
    """Write C = init + S, (m, n); init's rows are ``z_i`` apart: 0 for one row of biases."""
    for i in range(m):
        for j in range(0, n, width(C)):
            store(C, c + i * n + j, load(init, z + i * z_i + j) + load(S, s + i * n + j))


@jit
def activate(activation: int, A: Any, a: int, m: int, n_padded: int, n: int) -> None:
    """Write f(Z) in place of Z; zeros where a row is padded."""
    lanes = width(A)
    if activation == SOFTMAX:
        for i in range(m):
            softmax_row(A, a + i * n_padded, n)
        return
    zero = splat(A, 0.0)
    for i in range(m):
        for j in range(0, n_padded, lanes):
            at = a + i * n_padded + j
            x = load(A, at)
            if activation == SIGMOID:
                x = sigmoid(x)
            elif activation == TANH:
                x = tanh(x)
            elif activation == RELU:
                x = where_less(x, zero, zero, x)
            store(A, at, first(x, n - j, 0.0))


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
