"""Where everything lies in a workspace: padded parameters, activations and deltas in one flat buffer.

Every width is padded to a multiple of a Vec (and all but the last of the product's ROWS), so that no kernel has a
ragged edge. Pads hold zeros, and stay zero: activations and deltas are masked, so that no gradient reaches a padded
weight. Rows are taken in chunks of a fixed size, whose activations stay in cache.

Kernels read a Plan as two NumPy records: one JOB, and one LAYER for each layer of weights. ``at`` fields count numbers
from the start of the buffer, ``W`` and ``b`` from the start of the padded parameters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import CACHE_LINE, LARGEST_CHUNK, aligned_zeros
from briskmlp.backends.numba.product import ROWS
from briskmlp.backends.numba.vector import lanes
from briskmlp.network import FloatArray
from briskmlp.operations.activations import BY_CODE
from briskmlp.operations.rules import MAX_HYPER
from briskmlp.plan import BIAS_LAYER, BIAS_NEURON, Ints, Plan

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
    # layer's input, output, and delta. at_S (chunk, columns): f'(Z) where training saves it, else -1; at_saved: that,
    # or A, which f' follows from. at_turned: W.T (columns, rows), for layers whose products do not go to BLAS. dropped:
    # of 65536 units of the output; kept: what backward divides dA by then, 1 where f'(Z) is saved. p, q: the parameters
    # of the activation.
    int64="call_f call_backward n_in n_out rows columns dense_W dense_b n_b W b b_size "
    "at_A at_Z at_D at_S at_saved at_turned blas dropped",
    float64="rate_W rate_b decay_W decay_b l2 kept p q",
)


class Work(NamedTuple):
    """A workspace of one plan."""

    plan: Plan
    job: Any  # (1,) JOB
    layers: Any  # (L,) LAYER, whose l2 a call without the penalty sets to 0
    l2: Any  # (L,) the plan's
    buffer: FloatArray
    order: Ints  # (n,) the order of the epoch in progress
    order_epoch: Ints  # (1,) the epoch it belongs to; -1 for none
    record: Ints | None  # of a profiled training: see recording.py


def make_work(plan: Plan, dtype: np.dtype[Any], n: int, *, training: bool, record: Ints | None = None) -> Work:
    """Lay out and allocate a workspace for calls over ``n`` rows."""
    *inner, n_out = plan.layers.tolist()
    # The last width is never a product's m. Its loss works row by row in whole Vecs, which must leave no pad unwritten.
    widths = [_up(width, max(lanes(dtype), ROWS)) for width in inner] + [_up(n_out, lanes(dtype))]
    job, layers = describe(plan, widths)
    rows = min(n, plan.batch_size) if training and plan.batch_size else n
    layers["blas"] = min(rows, LARGEST_CHUNK) * layers["rows"] * layers["columns"] >= BLAS_FROM
    any_blas = bool(layers["blas"].any())
    if any_blas:
        import scipy.linalg.cython_blas  # noqa: F401 - now, so that its threads can be limited before a kernel calls it
    chunk = _up(min(rows, LARGEST_CHUNK if any_blas else SMALL_CHUNK), ROWS)
    weights, widest = layers["rows"] * layers["columns"], max(widths)

    cursor = _Cursor(CACHE_LINE // dtype.itemsize)
    n_padded = int(job["n_parameters"][0])
    job["chunk"] = chunk
    job["at_params"] = cursor.take(n_padded)
    job["at_grad"] = cursor.take(n_padded * training)
    job["at_state"] = cursor.take(n_padded * plan.n_slots * training)
    job["at_row"] = cursor.take(widest)
    job["at_zeros"] = cursor.take(widest)
    job["at_product"] = cursor.take(max(int(weights.max()), chunk * widest) * any_blas)
    activations = [cursor.take(chunk * width) for width in widths]
    layers["at_A"], layers["at_Z"] = activations[:-1], activations[1:]
    delta = [cursor.take(chunk * widest) for _ in range(2)]
    layers["at_saved"] = layers["at_Z"]
    for l, layer in enumerate(layers):
        layer["at_D"] = delta[l % 2]
        if training and saves_slope(int(plan.activations[l]), int(layer["dropped"])):
            layer["at_S"] = layer["at_saved"] = cursor.take(chunk * widths[l + 1])
            layer["kept"] = 1.0
        layer["at_turned"] = cursor.take(int(weights[l]) * (training and l > 0 and not layer["blas"]))
    order = np.empty(n if training else 0, dtype=np.int64)
    return Work(plan, job, layers, plan.l2[::2], aligned_zeros(cursor.end, dtype), order, np.array([-1]), record)


def saves_slope(code: int, dropped: int) -> bool:
    """Return whether training saves f'(Z): where it does not follow from A, or from what dropout leaves of A."""
    saves = BY_CODE[code].saves
    return saves == "slope" or (saves == "exact_A" and dropped > 0)


def describe(plan: Plan, widths: list[int]) -> tuple[Any, Any]:
    """Return the records of a plan whose parameters are laid out with these widths."""
    job, layers = np.zeros(1, JOB), np.zeros(len(plan.activations), LAYER)
    for name in JOB.names or ():
        if hasattr(Plan, name):
            job[name] = getattr(plan, name)
    layers["n_in"], layers["n_out"] = plan.layers[:-1], plan.layers[1:]
    layers["rows"], layers["columns"] = widths[:-1], widths[1:]
    layers["p"], layers["q"] = plan.activation_parameters.T
    layers["at_S"] = -1
    layers["dense_W"], layers["dense_b"] = plan.offsets[::2], plan.offsets[1::2]
    layers["n_b"] = _biases(plan.bias, layers["n_out"])
    layers["b_size"] = _biases(plan.bias, layers["columns"])
    layers["rate_W"], layers["rate_b"] = plan.rate_scale[::2], plan.rate_scale[1::2]
    layers["decay_W"], layers["decay_b"] = plan.decay[::2], plan.decay[1::2]
    layers["l2"] = plan.l2[::2]
    layers["dropped"] = np.clip(np.rint(plan.dropout * 65536), 0, 65535)
    layers["kept"] = 1.0 - layers["dropped"] / 65536
    sizes = layers["rows"] * layers["columns"]
    ends = np.cumsum(sizes + layers["b_size"])
    layers["b"] = ends - layers["b_size"]
    layers["W"] = layers["b"] - sizes
    job["n_parameters"] = ends[-1]
    job["dense"] = ends[-1] == plan.n_parameters
    return job, layers


def _biases(bias: int, columns: Ints) -> Any:
    return columns if bias == BIAS_NEURON else np.full_like(columns, bias == BIAS_LAYER)


class _Cursor:
    """Hands out parts of a buffer, each on a cache line."""

    def __init__(self, line: int) -> None:
        self.end, self._line = 0, line

    def take(self, size: int) -> int:
        start = self.end
        self.end = _up(start + size, self._line)
        return start


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
