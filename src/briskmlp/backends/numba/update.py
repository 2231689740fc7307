"""The update rules, element by element, in the order of ``operations.rules``; their equations are stated there.

A rule is a function of one tensor's elements in P, in G and in the first slot of S, and of what a Tensor says of it. g
in G includes the weight decay, unless that is decoupled. Loops this plain are vectorised by LLVM, and give the same
bits on dense parameters as on padded ones: where g is 0, as in padding, no rule moves w.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from briskmlp.backends.numba._options import choose, inline, jit, operation
from briskmlp.backends.numba.layout import JOB
from briskmlp.backends.numba.vector import number, offset


class Tensor(NamedTuple):
    """What a rule needs to know of a tensor and of the step."""

    size: int  # elements
    n: int  # elements from one slot of S to the next
    step: int  # counts from 1
    lr: float  # the tensor's learning rate
    h: Any  # the rule's hyperparameters, in the order of its row
    scalars: Any  # the rule's own, at this step


@jit
def update_layer(job: Any, layer: Any, P: Any, G: Any, S: Any, scalars: Any, n: int, step: int, rate: float) -> None:
    """Move W and b of one layer by one step, which counts from 1; G is used up."""
    W, size, lr = layer.W, layer.rows * layer.columns, rate * layer.rate_W
    call_move(job.call_move, offset(P, W), offset(G, W), offset(S, W), job, scalars, size, n, step, lr, layer.decay_W)
    b, size, lr = layer.b, layer.b_size, rate * layer.rate_b
    call_move(job.call_move, offset(P, b), offset(G, b), offset(S, b), job, scalars, size, n, step, lr, layer.decay_b)


@jit
def update_norm(job: Any, norm: Any, P: Any, G: Any, S: Any, scalars: Any, n: int, step: int, rate: float) -> None:
    """Move γ and β of one normalisation by one step; G is used up."""
    at, size, lr, decay = norm.gamma, norm.columns, rate * norm.rate_gamma, norm.decay_gamma
    call_move(job.call_move, offset(P, at), offset(G, at), offset(S, at), job, scalars, size, n, step, lr, decay)
    at, lr, decay = norm.beta, rate * norm.rate_beta, norm.decay_beta
    call_move(job.call_move, offset(P, at), offset(G, at), offset(S, at), job, scalars, size, n, step, lr, decay)


@jit
def shrink(P: Any, size: int, share: float) -> None:
    """Write w = w - share w: in float32 1 - share would lose what a small share has of digits."""
    if share != 0.0:
        for i in range(size):
            P[i] -= number(P, share) * P[i]


def sgd(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w against the gradient."""
    rate = number(P, t.lr)
    for i in range(t.size):
        P[i] -= rate * G[i]


def momentum(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w along its velocity, which begins as the first gradient, without dampening."""
    mu, rest, rate = number(P, t.h[0]), number(P, 1.0 if t.step == 1 else 1.0 - t.h[1]), number(P, t.lr)
    nesterov = t.h[2] != 0.0
    for i in range(t.size):
        S[i] = mu * S[i] + rest * G[i]
        P[i] -= rate * (G[i] + mu * S[i] if nesterov else S[i])


def velocity(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by a velocity that holds the learning rates of its steps."""
    mu, rate, nesterov = number(P, t.h[0]), number(P, t.lr), t.h[1] != 0.0
    for i in range(t.size):
        S[i] = mu * S[i] - rate * G[i]
        P[i] += mu * S[i] - rate * G[i] if nesterov else S[i]


@inline
def moments(S: Any, m: int, v: int, g: Any, rest1: Any, beta2: Any, rest2: Any) -> None:
    """Move Adam's running means of g and g²."""
    S[m] += rest1 * (g - S[m])
    S[v] = beta2 * S[v] + rest2 * (g * g)


@jit
def betas(P: Any, h: Any) -> Any:
    """Return 1 - β1, β2, 1 - β2 and ε."""
    return number(P, 1.0 - h[0]), number(P, h[1]), number(P, 1.0 - h[1]), number(P, h[2])


def adam(*, amsgrad: bool) -> Callable[..., None]:
    """Return the rule that moves w by Adam's step, perhaps with the largest second moment so far, in the third slot.

    With epsilon_hat, ε is added before the second moment is corrected.
    """

    def rule(P: Any, G: Any, S: Any, t: Tensor) -> None:
        lr, root = t.lr / (1.0 - t.h[0] ** t.step), np.sqrt(1.0 - t.h[1] ** t.step)
        if t.h[3] != 0.0:
            lr, root = lr * root, 1.0
        rate, correction = number(P, lr), number(P, root)
        rest1, beta2, rest2, epsilon = betas(P, t.h)
        for i in range(t.size):
            moments(S, i, i + t.n, G[i], rest1, beta2, rest2)
            v = S[i + t.n]
            if amsgrad:
                largest = S[i + 2 * t.n]
                v = S[i + 2 * t.n] = v if not v <= largest else largest  # NaN stays
            P[i] -= rate * S[i] / (np.sqrt(v) / correction + epsilon)

    return rule


@jit
def decayed(h: Any, step: int) -> Any:
    """Return NAdam's μ of a step."""
    return h[0] * (1.0 - 0.5 * 0.96 ** (step * h[3]))


def nadam(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by Adam's step with Nesterov's momentum; ``scalars[0]`` is the product of μ up to this step."""
    mu, following, product = decayed(t.h, t.step), decayed(t.h, t.step + 1), t.scalars[0]
    by_g = number(P, t.lr * (1.0 - mu) / (1.0 - product))
    by_m = number(P, t.lr * following / (1.0 - product * following))
    rest1, beta2, rest2, epsilon = betas(P, t.h)
    correction = number(P, np.sqrt(1.0 - t.h[1] ** t.step))
    for i in range(t.size):
        moments(S, i, i + t.n, G[i], rest1, beta2, rest2)
        P[i] -= (by_g * G[i] + by_m * S[i]) / (np.sqrt(S[i + t.n]) / correction + epsilon)


def radam(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by Adam's step, rectified while the second moment is known well enough, else along the first alone."""
    power = t.h[1] ** t.step
    longest = 2.0 / (1.0 - t.h[1]) - 1.0
    length = longest - 2.0 * t.step * power / (1.0 - power)
    rate = t.lr / (1.0 - t.h[0] ** t.step)
    rest1, beta2, rest2, epsilon = betas(P, t.h)
    known = length > 5.0
    if known:
        rectified = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        rate *= np.sqrt((1.0 - power) * rectified)
    by = number(P, rate)
    for i in range(t.size):
        moments(S, i, i + t.n, G[i], rest1, beta2, rest2)
        P[i] -= by * S[i] / (np.sqrt(S[i + t.n]) + epsilon) if known else by * S[i]


def adamax(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by Adam's step with a decaying maximum of |g| for the second moment."""
    rate = number(P, t.lr / (1.0 - t.h[0] ** t.step))
    rest1, beta2, _, epsilon = betas(P, t.h)
    for i in range(t.size):
        S[i] += rest1 * (G[i] - S[i])
        before, size_of_g = beta2 * S[i + t.n], abs(G[i]) + epsilon
        S[i + t.n] = size_of_g if not size_of_g <= before else before  # NaN stays
        P[i] -= rate * S[i] / S[i + t.n]


def adagrad(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by the gradient over the root of the sum of its squares."""
    rate, epsilon = number(P, t.lr / (1.0 + (t.step - 1) * t.h[0])), number(P, t.h[1])
    for i in range(t.size):
        S[i] += G[i] * G[i]
        P[i] -= rate * G[i] / (np.sqrt(S[i]) + epsilon)


def adadelta(P: Any, G: Any, S: Any, t: Tensor) -> None:
    """Move w by the gradient, scaled by the ratio of the steps' running size to the gradient's."""
    rate, rho, rest, epsilon = number(P, t.lr), number(P, t.h[0]), number(P, 1.0 - t.h[0]), number(P, t.h[1])
    for i in range(t.size):
        S[i] = rho * S[i] + rest * (G[i] * G[i])
        delta = np.sqrt(S[i + t.n] + epsilon) / np.sqrt(S[i] + epsilon) * G[i]
        S[i + t.n] = rho * S[i + t.n] + rest * (delta * delta)
        P[i] -= rate * delta


@inline
def variance(square: Any, mean: Any) -> Any:
    """Return what rounding may take below 0; NaN stays."""
    v = square - mean * mean
    return v * 0.0 if v < 0.0 else v


def rmsprop(*, along_velocity: bool, centered: bool) -> Callable[..., None]:
    """Return a rule that moves w by the gradient over the root of the running mean of its squares, or variance.

    ``along_velocity``: w moves along the velocity of such steps, which is in the second slot.
    """
    mean = 1 + along_velocity  # its slot

    def rule(P: Any, G: Any, S: Any, t: Tensor) -> None:
        rate, alpha, rest, epsilon = number(P, t.lr), number(P, t.h[0]), number(P, 1.0 - t.h[0]), number(P, t.h[1])
        mu = number(P, t.h[2])
        for i in range(t.size):
            g = G[i]
            square = S[i] = alpha * S[i] + rest * (g * g)
            if centered:
                S[i + mean * t.n] += rest * (g - S[i + mean * t.n])
                square = variance(square, S[i + mean * t.n])
            if along_velocity:
                S[i + t.n] = mu * S[i + t.n] + g / (np.sqrt(square) + epsilon)
                P[i] -= rate * S[i + t.n]
            else:
                P[i] -= rate * g / (np.sqrt(square) + epsilon)

    return rule


# By their codes, as in operations.rules.
RULES = (
    sgd,
    momentum,
    velocity,
    adam(amsgrad=False),
    adam(amsgrad=True),
    nadam,
    radam,
    adamax,
    adagrad,
    adadelta,
    rmsprop(along_velocity=False, centered=False),
    rmsprop(along_velocity=True, centered=False),
    rmsprop(along_velocity=False, centered=True),
    rmsprop(along_velocity=True, centered=True),
)
rule_of = choose(RULES.__getitem__)


def _move_types(number: Any) -> tuple[Any, ...]:
    numbers, scalars = types.CPointer(number), types.Array(types.float64, 1, "C")
    return numbers, numbers, from_dtype(JOB), scalars, *(types.int64,) * 3, types.float64, types.float64


@operation(types.void, _move_types)
def move(
    rule: int, P: Any, G: Any, S: Any, job: Any, scalars: Any, size: int, n: int, step: int, lr: float, decay: float
) -> None:
    """Move one tensor by one step of a rule."""
    if job.decoupled:
        shrink(P, size, lr * decay)
    elif decay != 0.0:
        d = number(P, decay)
        for i in range(size):
            G[i] += d * P[i]
    rule_of(rule, P, G, S, Tensor(size, n, step, lr, job.hyper, scalars))


call_move = move.call


@jit
def advance(job: Any, step: int, scalars: Any) -> None:
    """Bring a rule's scalars to this step: NAdam's product of μ."""
    if job.n_scalars > 0:
        scalars[0] *= decayed(job.hyper, step)


@jit
def clip(G: Any, size: int, limit: float, epsilon: float) -> None:
    """Multiply a gradient whose norm + ε is larger than ``limit`` by their quotient, or by NaN, if it overflows."""
    s0 = s1 = s2 = s3 = 0.0  # four sums: one alone would wait for each addition
    for i in range(0, size - 3, 4):
        g0, g1, g2, g3 = np.float64(G[i]), np.float64(G[i + 1]), np.float64(G[i + 2]), np.float64(G[i + 3])
        s0, s1, s2, s3 = s0 + g0 * g0, s1 + g1 * g1, s2 + g2 * g2, s3 + g3 * g3
    for i in range(size - size % 4, size):
        s0 += np.float64(G[i]) * np.float64(G[i])
    norm = np.sqrt((s0 + s1) + (s2 + s3)) + epsilon
    if norm > limit:
        factor = number(G, limit / norm if norm < np.inf else np.nan)
        for i in range(size):
            G[i] *= factor
