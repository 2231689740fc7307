"""The backward pass of one chunk of rows.

delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])           delta[L] is losses.py's
dW[l] = A[l-1].T @ delta[l]                             db[l] = delta[l].sum(axis=0)

``backward_layer`` adds dW and db to G, which has the layout of the padded parameters. For plain gradient descent G is
the parameters themselves, and delta is multiplied by -lr first: the gradient never lies in memory. The delta of the
layer below is taken before that, so before W moves. Two delta buffers are used in turn.
"""

from __future__ import annotations

from typing import Any

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.activations import backward
from briskmlp.backends.numba.dropout import where_kept
from briskmlp.backends.numba.forward import add, blas, fill, up
from briskmlp.backends.numba.layout import SMALL_CHUNK
from briskmlp.backends.numba.losses import scale_row
from briskmlp.backends.numba.product import product
from briskmlp.backends.numba.recording import lap
from briskmlp.backends.numba.update import shrink
from briskmlp.backends.numba.vector import load, number, splat, store, total, width
from briskmlp.backends.recording import DW, DW_UPDATE, DX
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, BIAS_NONE


@jit
def backward_layer(
    job: Any, layer: Any, l: int, buffer: Any, P: Any, G: Any, m: int, rate: float, scale: float, dropped: bool,
    record: Any,
) -> None:  # fmt: skip
    """Write the delta of the layer below layer l, unless that is 0; add dW and db to G.

    With a rate other than 0, G is the parameters: make the step of plain gradient descent, decay and l2 included.
    ``dropped``: the forward pass dropped units.
    """
    n_in, n_out, A, D, W, b = layer.rows, layer.columns, layer.at_A, layer.at_D, layer.W, layer.b
    if l > 0:
        below = layer.at_below
        if layer.blas:
            blas(buffer, D, m, n_out, False, P, W, n_in, n_out, True, buffer, below)
        else:
            product(
                buffer, D, n_out, 1, buffer, layer.at_turned, n_in, buffer, job.at_zeros, 0,
                buffer, below, n_in, up(m), n_in, layer.n_out,
            )  # fmt: skip
        if layer.below_S >= 0:
            multiply(buffer, below, layer.below_S, m * n_in)
        elif dropped and layer.below_kept < 1.0:
            backward_dropped(layer, buffer, below, A, m * n_in)
        else:
            backward_activation(layer, buffer, below, A, m * n_in)
        lap(record, l, DX)
    if rate == 0.0:
        add_bias(job.bias, G, b, buffer, D, m, n_out, 1.0, job.at_row)
    else:
        shrink(G, W, n_in * n_out, rate * layer.rate_W * (layer.decay_W + layer.l2 * scale))
        shrink(G, b, layer.b_size, rate * layer.rate_b * layer.decay_b)
        add_bias(job.bias, G, b, buffer, D, m, n_out, -rate * layer.rate_b, job.at_row)
        scale_row(buffer, D, D, m * n_out, -rate * layer.rate_W)
    if layer.blas:
        blas(buffer, A, m, n_in, True, buffer, D, m, n_out, False, buffer, job.at_product)
        add(G, W, n_out, buffer, job.at_product, G, W, n_in, n_out)
    else:
        product(buffer, A, 1, n_in, buffer, D, n_out, G, W, n_out, G, W, n_out, n_in, n_out, m)
    lap(record, l, DW if rate == 0.0 else DW_UPDATE)


@jit
def multiply(buffer: Any, d: int, s: int, size: int) -> None:
    """Write dA · f'(Z) in place of dA, where the slope f'(Z) was saved."""
    for i in range(0, size, width(buffer)):
        store(buffer, d + i, load(buffer, d + i) * load(buffer, s + i))


@jit
def backward_activation(layer: Any, buffer: Any, d: int, a: int, size: int) -> None:
    """Write dA · f'(Z) in place of dA, where f' follows from A."""
    f, p, q = layer.below_activation, layer.below_p, layer.below_q
    for i in range(0, size, width(buffer)):
        store(buffer, d + i, backward(f, load(buffer, d + i), load(buffer, a + i), p, q))


@jit
def backward_dropped(layer: Any, buffer: Any, d: int, a: int, size: int) -> None:
    """Write dA / share · f'(Z) in place of dA, or 0 where A was dropped; else A is f(Z) / share."""
    f, p, q, zero = layer.below_activation, layer.below_p, layer.below_q, splat(buffer, 0.0)
    kept, scale = splat(buffer, layer.below_kept), splat(buffer, 1.0 / layer.below_kept)
    for i in range(0, size, width(buffer)):
        A = load(buffer, a + i)
        delta = backward(f, load(buffer, d + i) * scale, A * kept, p, q)  # kept has 16 bits: no digit is lost
        store(buffer, d + i, where_kept(A, delta, zero))


@jit
def add_bias(bias: int, G: Any, b: int, buffer: Any, d: int, m: int, n: int, factor: float, row: int) -> None:
    """Add factor · Σ_rows delta to the biases; to the one bias that a layer shares, the sum over neurons too."""
    if bias == BIAS_NONE:
        return
    lanes = width(buffer)
    if m <= SMALL_CHUNK:  # the rows are in cache: sum columns in a register
        for j in range(0, n, lanes):
            column = splat(buffer, 0.0)
            for i in range(m):
                column = column + load(buffer, d + i * n + j)
            store(buffer, row + j, column)
    else:  # stream through the rows once
        fill(buffer, row, n, 0.0)
        for i in range(m):
            for j in range(0, n, lanes):
                store(buffer, row + j, load(buffer, row + j) + load(buffer, d + i * n + j))
    shared = splat(buffer, 0.0)
    for j in range(0, n, lanes):
        column = load(buffer, row + j)
        shared = shared + column
        if bias == BIAS_NEURON:
            store(G, b + j, load(G, b + j) + column * splat(buffer, factor))
    if bias == BIAS_LAYER:
        G[b] += total(shared) * number(buffer, factor)


@jit
def transpose(P: Any, w: int, buffer: Any, t: int, n_in: int, n_out: int) -> None:
    """Write W.T, (n_out, n_in), to the workspace."""
    for i in range(n_in):
        for j in range(n_out):
            buffer[t + j * n_in + i] = P[w + i * n_out + j]
