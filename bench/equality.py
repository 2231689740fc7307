"""Do two contenders compute the same thing? The question to settle before asking which is faster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from contender import Contender
from rivals import NumPy
from workloads import Array, Workload

EPOCHS = 3


@dataclass(frozen=True)
class Reference:
    """Weights and last loss of a float64 NumPy run of EPOCHS epochs without shuffling."""

    workload: Workload
    weights: list[Array]
    loss: float
    travel: float  # how far the fastest weight moved

    def tolerances(self, dtype: str, operand_roundoff: float = 0.0) -> tuple[float, float]:
        """Absolute tolerance of a weight and relative tolerance of the loss, from the rounding of `dtype`.

        With unit roundoff u, every one of the S updates rounds a weight by at most u·max|W|, and its dW, a sum of
        up to k products, is wrong by about √k·u of its size; over the run the dW add up to `travel`. The loss
        sums n·n_out squares, and its mean S values. The factor 4 is for the few ulp of a library's sigmoid. Where
        products read operands that are rounded to w, each layer that a number passes adds about w of its size; Adam
        divides a gradient by its size, so that where one nearly cancels, its weight may go the other way.
        """
        u = np.finfo(dtype).eps / 2
        updates = EPOCHS * self.workload.steps
        longest = max(self.workload.batch, *self.workload.layers)
        largest = max(float(np.abs(W).max()) for W in self.weights)
        of_operands = 4 * operand_roundoff * (len(self.workload.layers) - 1)
        turned = 2 if of_operands and self.workload.optimizer == "adam" else of_operands
        of_weights = 4 * u * (updates * largest + np.sqrt(longest) * self.travel) + turned * self.travel
        of_loss = 4 * u * (updates + np.sqrt(self.workload.batch * self.workload.layers[-1])) + of_operands
        return float(of_weights), float(of_loss)


@cache
def reference(workload: Workload) -> Reference:
    """Train `workload.for_check()` in float64 NumPy."""
    workload = workload.for_check()
    X, Y = workload.dataset()
    weights, biases = workload.initial_parameters()
    run = NumPy(workload, X, Y, weights, biases, "float64", threads=1)
    loss = run.run(EPOCHS)
    travel = max(float(np.abs(W - start).max()) for W, start in zip(run.weights(), weights, strict=True))
    return Reference(workload, run.weights(), loss, travel)


def check_equal(kind: type[Contender], expected: Reference, dtype: str, threads: int) -> None:
    """Raise AssertionError unless `kind`, trained the same way, ends at the expected weights and loss."""
    workload = expected.workload
    if not kind.same_work(workload):
        return
    X, Y = workload.dataset()
    weights, biases = workload.initial_parameters()
    contender = kind(workload, X, Y, weights, biases, dtype, threads)
    loss = contender.run(EPOCHS)
    of_weights, of_loss = expected.tolerances(dtype, kind.operand_roundoff)
    for layer, (W, right) in enumerate(zip(contender.weights(), expected.weights, strict=True)):
        error = float(np.abs(W - right).max())
        if not error <= of_weights:  # catches NaN too
            raise AssertionError(
                f"{kind.__name__} on {workload.name}: weights[{layer}] differ by {error:.2g} from float64 NumPy, "
                f"allowed are {of_weights:.2g}"
            )
    error = abs(loss - expected.loss) / expected.loss
    if not error <= of_loss:
        raise AssertionError(
            f"{kind.__name__} on {workload.name}: the loss differs by {error:.2g} of itself, allowed are {of_loss:.2g}"
        )
