"""The backward pass of one chunk of rows.

delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])           delta[L] is losses.py's
dW[l] = A[l-1].T @ delta[l]                             db[l] = delta[l].sum(axis=0)

``backward_layer`` adds dW and db to G, which has the layout of the padded parameters. For plain gradient descent G is
the parameters themselves, and delta is multiplied by -lr first: the gradient never lies in memory. The delta of the
layer below is taken before that, so before W moves. Two delta Bs are used in turn.
"""

from __future__ import annotations

from typing import Any

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.activations import pull_back
from briskmlp.backends.numba.forward import add, blas, fill, up
from briskmlp.backends.numba.layout import SMALL_CHUNK
from briskmlp.backends.numba.losses import scale_row
from briskmlp.backends.numba.norm import call_back
from briskmlp.backends.numba.product import ROWS, product
from briskmlp.backends.numba.random import where_kept
from briskmlp.backends.numba.recording import lap
from briskmlp.backends.numba.update import shrink
from briskmlp.backends.numba.vector import load, number, offset, splat, store, total, width
from briskmlp.backends.recording import DW, DW_UPDATE, DX
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, BIAS_NONE

call_pull_back = pull_back.call


@jit
def backward_layer(
    job: Any, layers: Any, norms: Any, l: int, B: Any, P: Any, G: Any, m: int, rate: float, scale: float, dropped: bool,
    record: Any,
) -> None:  # fmt: skip
    """Write the delta of the layer below layer l, unless that is 0; add dW and db to G, and dγ and dβ below.

    With a rate other than 0, G is the parameters: make the step of plain gradient descent, decay and l2 included.
    ``dropped``: the forward pass dropped units.
    """
    layer = layers[l]
    n_in, n_out, A, D, W, b = layer.rows, layer.columns, layer.at_A, layer.at_D, layer.W, layer.b
    if layer.has_dX:
        norm, rows = norms[l], up(m, ROWS)
        d = layers[l - 1].at_D if l > 0 else norm.at_D
        if layer.blas:
            blas(B, D, m, n_out, False, P, W, n_in, n_out, True, B, d)
        else:
            product(B, D, n_out, 1, B, layer.at_turned, n_in, B, job.at_zeros, 0, B, d, n_in, rows, n_in, layer.n_out)
        if norm.after != 0:
            if dropped and layers[l - 1].dropped > 0:
                scale_row(B, d, d, m * n_in, 65536.0 / (65536.0 - layers[l - 1].dropped))
                drop_delta(B, d, A, m * n_in)
            call_back(norm.call_backward, B, P, G, norm, d, m, rate)
        if l > 0:
            below = layers[l - 1]
            size, kept = m * n_in, below.kept if dropped else 1.0
            call_pull_back(below.call_backward, B, d, below.at_saved, size, kept, below.p, below.q)
            if kept < 1.0:
                drop_delta(B, d, A, size)
        if norm.code != 0 and norm.after == 0:
            call_back(norm.call_backward, B, P, G, norm, d, m, rate)
        lap(record, l, DX)
    if rate == 0.0:
        add_bias(job.bias, G, b, B, D, m, n_out, 1.0, job.at_row)
    else:
        shrink(offset(G, W), n_in * n_out, rate * layer.rate_W * (layer.decay_W + layer.l2 * scale))
        shrink(offset(G, b), layer.b_size, rate * layer.rate_b * layer.decay_b)
        add_bias(job.bias, G, b, B, D, m, n_out, -rate * layer.rate_b, job.at_row)
        scale_row(B, D, D, m * n_out, -rate * layer.rate_W)
    if layer.blas:
        blas(B, A, m, n_in, True, B, D, m, n_out, False, B, job.at_product)
        add(G, W, n_out, B, job.at_product, G, W, n_in, n_out)
    else:
        product(B, A, 1, n_in, B, D, n_out, G, W, n_out, G, W, n_out, n_in, n_out, m)
    lap(record, l, DW if rate == 0.0 else DW_UPDATE)


@jit
def drop_delta(B: Any, d: int, a: int, size: int) -> None:
    """Write 0 in place of the delta of what was dropped."""
    zero = splat(B, 0.0)
    for i in range(0, size, width(B)):
        store(B, d + i, where_kept(load(B, a + i), load(B, d + i), zero))


@jit
def add_bias(bias: int, G: Any, b: int, B: Any, d: int, m: int, n: int, factor: float, row: int) -> None:
    """Add factor · Σ_rows delta to the biases; to the one bias that a layer shares, the sum over neurons too."""
    if bias == BIAS_NONE:
        return
    lanes = width(B)
    if m <= SMALL_CHUNK:  # the rows are in cache: sum columns in a register
        for j in range(0, n, lanes):
            column = splat(B, 0.0)
            for i in range(m):
                column = column + load(B, d + i * n + j)
            store(B, row + j, column)
    else:  # stream through the rows once
        fill(B, row, n, 0.0)
        for i in range(m):
            for j in range(0, n, lanes):
                store(B, row + j, load(B, row + j) + load(B, d + i * n + j))
    shared = splat(B, 0.0)
    for j in range(0, n, lanes):
        column = load(B, row + j)
        shared = shared + column
        if bias == BIAS_NEURON:
            store(G, b + j, load(G, b + j) + column * splat(B, factor))
    if bias == BIAS_LAYER:
        G[b] += total(shared) * number(B, factor)


@jit
def transpose(P: Any, w: int, B: Any, t: int, n_in: int, n_out: int) -> None:
    """Write W.T, (n_out, n_in), to the workspace."""
    for i in range(n_in):
        for j in range(n_out):
            B[t + j * n_in + i] = P[w + i * n_out + j]
