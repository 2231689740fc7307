"""The forward pass: Z[l] = A[l-1] @ W[l] + b[l], A[l] = f(Z[l]); normalisation before or after f, and dropout."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import LARGEST_CHUNK, Rows, State
from briskmlp.backends.numpy.layout import Workspace, quiet, tensors
from briskmlp.backends.numpy.norm import normalise
from briskmlp.backends.numpy.products import product, stored
from briskmlp.backends.recording import FORWARD
from briskmlp.network import FloatArray
from briskmlp.operations.layers import Standardised
from briskmlp.plan import BFLOAT16, Ints, Plan
from briskmlp.random import dropout_numbers

NUMBERS = 2**16  # so many different ones there are of 16 bits


class Places(NamedTuple):
    """An epoch, and where in it examples come: what their dropout depends on."""

    epoch: int
    places: Ints


class Dropout(NamedTuple):
    """Which units of a layer's A are kept, (n_batch, n_out), and what these are multiplied by."""

    kept: np.ndarray[Any, np.dtype[np.bool_]]
    scale: float


@quiet
def forward(work: Workspace, state: State, X: FloatArray, rows: Rows, out: FloatArray) -> None:
    """Write the last activations of ``X[rows]`` to ``out``."""
    for start in range(0, len(rows), LARGEST_CHUNK):
        chunk = slice(start, start + LARGEST_CHUNK)
        out[chunk] = activations(work, state, X[rows[chunk]], draw_dropouts(work.plan, None)).A[-1]


class Forward(NamedTuple):
    """What backward reads."""

    A: list[FloatArray]  # A[0]…A[L], normalised, before dropout
    dropouts: list[Dropout | None]  # of each
    norms: list[Standardised | None]  # of each
    # for l = 1…L what f'(Z[l]) follows from: itself, if it is saved, or f(Z[l]) before a normalisation; None for A[l]
    slopes: list[FloatArray | None]
    Z: FloatArray  # the last, which some losses need; this and the others are normalised where that comes before f

    def saved(self, l: int) -> FloatArray:
        """Return what f' of layer l, counted from 1, follows from."""
        slope = self.slopes[l - 1]
        return self.A[l] if slope is None else slope


def activations(
    work: Workspace,
    state: State,
    A: FloatArray,
    dropouts: list[Dropout | None],
    *,
    slopes: bool = False,
    by_batch: bool = False,
) -> Forward:
    """Run all layers; ``slopes`` of those that save them, too. ``by_batch``: with the batch's own mean and variance."""
    plan, results, saved, Z = work.plan, [], [], A
    norms: list[Standardised | None] = [None] * len(plan.layers)

    def normalised(place: int, N: FloatArray) -> FloatArray:
        N, norms[place] = normalise(plan, place, N, state, by_batch=by_batch)
        return N

    if plan.norms[0]:
        A = normalised(0, A)
    for l, (W, b, f) in enumerate(zip(*tensors(plan, state.parameters), work.f, strict=True)):
        results.append(_kept(plan, A, dropouts[l]))
        Z = product(plan, dropped(results[l], dropouts[l]), W)
        if len(b):
            Z += b
        if plan.norms[l + 1] and not plan.norm_after[l + 1]:
            Z = normalised(l + 1, Z)
        A = f.f(Z)
        slope = f.slope(Z) if slopes else None
        if plan.norm_after[l + 1]:
            slope = A if slope is None else slope
            A = normalised(l + 1, A)
        saved.append(slope)
        work.laps.lap(l, FORWARD)
    return Forward([*results, A], dropouts, norms, saved, Z)


def _kept(plan: Plan, A: FloatArray, dropout: Dropout | None) -> FloatArray:
    """Return an A that products will read as it is kept: where units are dropped, it is rounded after that."""
    if dropout is None or plan.precision != BFLOAT16:
        return stored(plan, A)
    scale = A.dtype.type(dropout.scale)
    return np.asarray(stored(plan, scale * A) / scale)  # times scale it rounds to the same number again


def dropped(A: FloatArray, dropout: Dropout | None) -> FloatArray:
    """Return A after dropout, 0 where units are dropped; or a gradient with respect to that as one by A."""
    return A if dropout is None else np.asarray(np.where(dropout.kept, dropout.scale * A, 0), dtype=A.dtype)


def draw_dropouts(plan: Plan, places: Places | None) -> list[Dropout | None]:
    """Return the dropout of A[0]…A[L]; none where ``places`` is None, as when nothing is trained."""
    dropouts: list[Dropout | None] = [None] * len(plan.layers)
    for layer, rate in enumerate(plan.dropout.tolist()):
        threshold = min(max(round(rate * NUMBERS), 0), NUMBERS - 1)
        if places is None or threshold == 0:
            continue
        n_units = int(plan.layers[layer + 1])
        numbers = dropout_numbers(plan.seed % 2**64, places.epoch, places.places, layer, n_units)
        dropouts[layer + 1] = Dropout(numbers >= threshold, NUMBERS / (NUMBERS - threshold))
    return dropouts
