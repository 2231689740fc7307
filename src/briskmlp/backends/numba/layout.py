"""Where everything lies in a workspace: padded parameters, activations and deltas in one flat buffer.

Every width is padded to a multiple of a Vec (and all but the last of the product's ROWS), so that no kernel has a
ragged edge. Pads hold zeros, and stay zero: activations and deltas are masked, so that no gradient reaches a padded
weight. Rows are taken in chunks of a fixed size, whose activations stay in cache; a normalisation over batches takes a
whole batch as one chunk.

Kernels read a Plan as NumPy records: one JOB, one LAYER for each layer of weights, and one NORM for each place of a
normalisation. ``at`` fields count numbers from the start of the buffer, ``W``, ``b``, ``gamma`` and ``beta`` from the
start of the padded parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import CACHE_LINE, LARGEST_CHUNK, aligned_zeros
from briskmlp.backends.numba.product import ROWS
from briskmlp.backends.numba.vector import lanes
from briskmlp.network import FloatArray
from briskmlp.operations.activations import BY_CODE
from briskmlp.operations.rules import MAX_HYPER
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, Ints, Plan, whole_batches

# Products of this many multiply-adds and more go to BLAS, which blocks for the caches and has threads. Below, the
# register tiles of product.py are faster: on one core of a Zen 5 they run at 210-235 GFLOP/s up to 128 × 784 × 256,
# where OpenBLAS runs at 115 on one and 217 on two (bench/bench_product.py).
BLAS_FROM = 2**26
SMALL_CHUNK = 128  # rows: the activations of a small network stay in L2


def _record(**fields: str) -> np.dtype[Any]:
    """Return a record type: the words of each field name one number of the type that is its name."""
    kinds: dict[str, Any] = {"hyper": (np.float64, (MAX_HYPER,))}
    return np.dtype([(name, kinds.get(kind, kind)) for kind, names in fields.items() for name in names.split()])


JOB = _record(
    # bias … seed, loss_scale … hyper: as in the Plan. n_parameters: of the layout that W and b refer to. dense: nothing
    # is padded. call_…: addresses of machine code.
    int64="call_loss call_move bias report_rows divisor batch_size rule n_slots n_scalars decoupled shuffle seed chunk "
    "n_parameters dense at_params at_grad at_state at_row at_zeros at_product",
    float64="loss_scale report_scale huber clip_probability clip_norm clip_epsilon",
    hyper="hyper",
)
LAYER = _record(
    # call_f, call_backward: addresses of machine code. n_in, n_out: true widths; rows, columns: padded. dense_W,
    # dense_b, n_b: in the dense parameters; b_size: padded. at_A (chunk, rows), at_Z and at_D (chunk, columns): the
    # layer's input, output, and delta. at_product, at_f: where the product is written, and where f is applied; both are
    # at_Z without a normalisation. at_S (chunk, columns): f'(Z) where training saves it, else -1; at_dropped: that, if
    # dropout multiplies it, else -1; at_saved: at_S, or f(Z), which f' follows from. has_dX: whether the delta below is
    # wanted; at_turned: W.T (columns, rows) for that, where products do not go to BLAS. dropped: of 65536 units of the
    # output; kept: what backward divides dA by before f', 1 where f'(Z) is saved. p, q: the parameters of f.
    int64="call_f call_backward n_in n_out rows columns dense_W dense_b n_b W b b_size "
    "at_A at_Z at_D at_product at_f at_S at_dropped at_saved has_dX at_turned blas dropped",
    float64="rate_W rate_b decay_W decay_b l2 kept p q",
)

NORM = _record(
    # code: 0 where there is none. call_…: addresses of machine code. n, columns: true and padded width. statistics:
    # where the running means are in the statistics; variances follow them. at_N, at_Y: input and output (chunk,
    # columns); at_D: the delta. at_mean, at_scale: of each column or row. at_sums: (2, columns).
    int64="code call_forward call_backward after fixed n columns gamma beta dense_gamma dense_beta statistics "
    "at_N at_Y at_D at_mean at_scale at_sums",
    float64="momentum eps rate_gamma rate_beta decay_gamma decay_beta",
)


class Work(NamedTuple):
    """A workspace of one plan."""

    plan: Plan
    job: Any  # (1,) JOB
    layers: Any  # (L,) LAYER, whose l2 a call without the penalty sets to 0
    norms: Any  # (L+1,) NORM
    l2: Any  # (L,) the plan's
    buffer: FloatArray
    order: Ints  # (n,) the order of the epoch in progress
    order_epoch: Ints  # (1,) the epoch it belongs to; -1 for none
    record: Ints | None  # of a profiled training: see recording.py


def make_work(plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool, record: Ints | None = None) -> Work:
    """Lay out and allocate a workspace for calls over ``n`` rows."""
    *inner, n_out = plan.layers.tolist()
    # The last width is never a product's m. Its loss works row by row in whole Vecs, which must leave no pad unwritten.
    widths = [rounded_up(width, max(lanes(dtype), ROWS)) for width in inner] + [rounded_up(n_out, lanes(dtype))]
    job, layers, norms = describe(plan, widths)
    rows = min(n, plan.batch_size) if training and plan.batch_size else n
    layers["blas"] = min(rows, LARGEST_CHUNK) * layers["rows"] * layers["columns"] >= BLAS_FROM
    any_blas = bool(layers["blas"].any())
    if any_blas:
        import scipy.linalg.cython_blas  # noqa: F401 - now, so that its threads can be limited before a kernel calls it
    most = LARGEST_CHUNK if any_blas else SMALL_CHUNK
    chunk = rounded_up(rows if training and whole_batches(plan) else min(rows, most), ROWS)
    weights, widest = layers["rows"] * layers["columns"], max(widths)

    end = 0

    def take(size: int) -> int:  # each part on a cache line
        nonlocal end
        start, end = end, rounded_up(end + size, CACHE_LINE // dtype.itemsize)
        return start

    n_padded = int(job["n_parameters"][0])
    job["chunk"] = chunk
    job["at_params"] = take(n_padded)
    job["at_grad"] = take(n_padded * training)
    job["at_state"] = take(n_padded * plan.n_slots * training)
    job["at_row"] = take(widest)
    job["at_zeros"] = take(widest)
    job["at_product"] = take(max(int(weights.max()), chunk * widest) * any_blas)
    activations = [take(chunk * width) for width in widths]
    layers["at_A"], layers["at_Z"] = activations[:-1], activations[1:]
    layers["at_product"] = layers["at_f"] = layers["at_Z"]
    delta = [take(chunk * widest) for _ in range(2)]
    for place in np.flatnonzero(norms["code"]).tolist():
        _place_norm(norms[place], activations[place], delta[(place - 1) % 2], chunk, take)
        if place > 0:
            layer, before = layers[place - 1], int(norms[place]["at_N"])
            layer["at_product"] = before
            layer["at_f"] = before if norms[place]["after"] else layer["at_Z"]
    layers["at_saved"] = layers["at_f"]
    layers["has_dX"] = np.arange(len(layers)) > 0
    layers[0]["has_dX"] = norms[0]["code"] != 0
    for l, layer in enumerate(layers):
        layer["at_D"] = delta[l % 2]
        after = bool(norms[l + 1]["after"])  # then dropout leaves f(Z) as it is, and f' needs to know nothing of it
        if after:
            layer["kept"] = 1.0
        if training and saves_slope(int(plan.activations[l]), 0 if after else int(layer["dropped"])):
            layer["at_S"] = layer["at_saved"] = take(chunk * widths[l + 1])
            layer["at_dropped"] = -1 if after else layer["at_S"]
            layer["kept"] = 1.0
        layer["at_turned"] = take(int(weights[l]) * (training and layer["has_dX"] and not layer["blas"]))
    order, l2 = np.empty(n if training else 0, dtype=np.int64), plan.l2[: 2 * len(layers) : 2]
    return Work(plan, job, layers, norms, l2, aligned_zeros(end, dtype), order, np.array([-1]), record)


def _place_norm(norm: Any, output: int, delta: int, chunk: int, take: Callable[[int], int]) -> None:
    """Allocate what a normalisation needs beside its output and delta."""
    columns = int(norm["columns"])
    norm["at_Y"], norm["at_D"] = output, delta
    norm["at_N"] = take(chunk * columns)
    norm["at_mean"], norm["at_scale"] = take(max(chunk, columns)), take(max(chunk, columns))
    norm["at_sums"] = take(2 * columns)


def saves_slope(code: int, dropped: int) -> bool:
    """Return whether training saves f'(Z): where it does not follow from A, or from what dropout leaves of A."""
    saves = BY_CODE[code].saves
    return saves == "slope" or (saves == "exact_A" and dropped > 0)


def describe(plan: Plan, widths: list[int]) -> tuple[Any, Any, Any]:
    """Return the records of a plan whose parameters are laid out with these widths."""
    job, layers = np.zeros(1, JOB), np.zeros(len(plan.activations), LAYER)
    for name in JOB.names or ():
        if hasattr(Plan, name):
            job[name] = getattr(plan, name)
    layers["n_in"], layers["n_out"] = plan.layers[:-1], plan.layers[1:]
    layers["rows"], layers["columns"] = widths[:-1], widths[1:]
    layers["p"], layers["q"] = plan.activation_parameters.T
    layers["at_S"] = layers["at_dropped"] = -1
    weights, biases = (slice(first, 2 * len(layers), 2) for first in (0, 1))
    layers["dense_W"], layers["dense_b"] = plan.offsets[weights], plan.offsets[biases]
    layers["n_b"] = _biases(plan.bias, layers["n_out"])
    layers["b_size"] = _biases(plan.bias, layers["columns"])
    layers["rate_W"], layers["rate_b"] = plan.rate_scale[weights], plan.rate_scale[biases]
    layers["decay_W"], layers["decay_b"] = plan.decay[weights], plan.decay[biases]
    layers["l2"] = plan.l2[weights]
    layers["dropped"] = np.clip(np.rint(plan.dropout * 65536), 0, 65535)
    layers["kept"] = 1.0 - layers["dropped"] / 65536
    sizes = layers["rows"] * layers["columns"]
    ends = np.cumsum(sizes + layers["b_size"])
    layers["b"] = ends - layers["b_size"]
    layers["W"] = layers["b"] - sizes
    norms, end = _describe_norms(plan, widths, int(ends[-1]))
    job["n_parameters"] = end
    job["dense"] = end == plan.n_parameters
    return job, layers, norms


def _describe_norms(plan: Plan, widths: list[int], end: int) -> tuple[Any, int]:
    """Return the records of a plan's normalisations, whose tensors come after ``end``, and where these end."""
    norms = np.zeros(len(plan.norms), NORM)
    norms["code"], norms["after"], norms["fixed"] = plan.norms, plan.norm_after, plan.norm_fixed
    norms["momentum"], norms["eps"], norms["statistics"] = plan.norm_momentum, plan.norm_eps, plan.norm_statistics
    norms["n"], norms["columns"] = plan.layers, widths
    for norm, tensor in zip(norms, plan.norm_tensors.tolist(), strict=True):
        if not norm["code"]:
            continue
        for index, kind in ((tensor, "gamma"), (tensor + 1, "beta")):
            norm[f"dense_{kind}"] = plan.offsets[index]
            norm[f"rate_{kind}"], norm[f"decay_{kind}"] = plan.rate_scale[index], plan.decay[index]
            norm[kind], end = end, end + int(norm["columns"])
    return norms, end


def _biases(bias: int, columns: Ints) -> Any:
    return columns if bias == BIAS_NEURON else np.full_like(columns, bias == BIAS_LAYER)


def rounded_up(n: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-n // multiple) * multiple
