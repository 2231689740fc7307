"""The update rules, element by element, in the order of ``operations.rules``; their equations are stated there.

A rule is a function of one tensor: ``size`` elements from ``at`` in P, G and each slot of S, whose slots are ``n``
elements apart. g in G includes the weight decay, unless that is decoupled. ``h`` holds the rule's hyperparameters, in
the order of its row. ``step`` counts from 1; ``lr`` is the tensor's learning rate. Loops this plain are vectorised by
LLVM, and give the same bits on dense parameters as on padded ones: where g is 0, as in padding, no rule moves w.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import inline, jit, switch
from briskmlp.backends.numba.vector import number


@jit
def update_layer(job: Any, layer: Any, P: Any, G: Any, S: Any, scalars: Any, n: int, step: int, rate: float) -> None:
    """Move W and b of one layer by one step."""
    size = layer.rows * layer.columns
    update_tensor(job, P, G, S, scalars, layer.W, size, n, step, rate * layer.rate_W, layer.decay_W)
    update_tensor(job, P, G, S, scalars, layer.b, layer.b_size, n, step, rate * layer.rate_b, layer.decay_b)


@jit
def update_tensor(
    job: Any, P: Any, G: Any, S: Any, scalars: Any, at: int, size: int, n: int, step: int, lr: float, decay: float
) -> None:
    """Move one tensor by one step, which counts from 1; G is used up."""
    if job.decoupled:
        shrink(P, at, size, lr * decay)
    elif decay != 0.0:
        d = number(P, decay)
        for i in range(at, at + size):
            G[i] += d * P[i]
    move(job.rule, P, G, S, at, size, n, step, lr, job.hyper, scalars)


@jit
def shrink(P: Any, at: int, size: int, share: float) -> None:
    """Write w = w - share w: in float32 1 - share would lose what a small share has of digits."""
    if share != 0.0:
        for i in range(at, at + size):
            P[i] -= number(P, share) * P[i]


@jit
def sgd(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w against the gradient."""
    rate = number(P, lr)
    for i in range(at, at + size):
        P[i] -= rate * G[i]


@jit
def momentum(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w along its velocity, which begins as the first gradient, without dampening."""
    mu, rest, rate = number(P, h[0]), number(P, 1.0 if step == 1 else 1.0 - h[1]), number(P, lr)
    for i in range(at, at + size):
        S[i] = mu * S[i] + rest * G[i]
    if h[2] != 0.0:  # Nesterov
        for i in range(at, at + size):
            P[i] -= rate * (G[i] + mu * S[i])
    else:
        for i in range(at, at + size):
            P[i] -= rate * S[i]


@jit
def velocity(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by a velocity that holds the learning rates of its steps."""
    mu, rate = number(P, h[0]), number(P, lr)
    for i in range(at, at + size):
        S[i] = mu * S[i] - rate * G[i]
    if h[1] != 0.0:  # Nesterov
        for i in range(at, at + size):
            P[i] += mu * S[i] - rate * G[i]
    else:
        for i in range(at, at + size):
            P[i] += S[i]


@inline
def moments(S: Any, m: int, v: int, g: Any, rest1: Any, beta2: Any, rest2: Any) -> None:
    """Move Adam's running means of g and g²."""
    S[m] += rest1 * (g - S[m])
    S[v] = beta2 * S[v] + rest2 * (g * g)


@jit
def adam(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by Adam's step; with epsilon_hat, ε is added before the second moment is corrected."""
    lr, root = lr / (1.0 - h[0] ** step), np.sqrt(1.0 - h[1] ** step)
    if h[3] != 0.0:
        lr, root = lr * root, 1.0
    rate, correction, epsilon = number(P, lr), number(P, root), number(P, h[2])
    rest1, beta2, rest2 = number(P, 1.0 - h[0]), number(P, h[1]), number(P, 1.0 - h[1])
    for i in range(at, at + size):
        moments(S, i, i + n, G[i], rest1, beta2, rest2)
        P[i] -= rate * S[i] / (np.sqrt(S[i + n]) / correction + epsilon)


@jit
def amsgrad(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by Adam's step with the largest second moment so far."""
    rate, correction = number(P, lr / (1.0 - h[0] ** step)), number(P, np.sqrt(1.0 - h[1] ** step))
    rest1, beta2, rest2, epsilon = number(P, 1.0 - h[0]), number(P, h[1]), number(P, 1.0 - h[1]), number(P, h[2])
    for i in range(at, at + size):
        moments(S, i, i + n, G[i], rest1, beta2, rest2)
        v, largest = S[i + n], S[i + 2 * n]
        S[i + 2 * n] = v if not v <= largest else largest  # NaN stays
        P[i] -= rate * S[i] / (np.sqrt(S[i + 2 * n]) / correction + epsilon)


@jit
def decayed(h: Any, step: int) -> Any:
    """Return NAdam's μ of a step."""
    return h[0] * (1.0 - 0.5 * 0.96 ** (step * h[3]))


@jit
def nadam(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by Adam's step with Nesterov's momentum; ``scalars[0]`` is the product of μ up to this step."""
    mu, following = decayed(h, step), decayed(h, step + 1)
    by_g = number(P, lr * (1.0 - mu) / (1.0 - scalars[0]))
    by_m = number(P, lr * following / (1.0 - scalars[0] * following))
    rest1, beta2, rest2, epsilon = number(P, 1.0 - h[0]), number(P, h[1]), number(P, 1.0 - h[1]), number(P, h[2])
    correction = number(P, np.sqrt(1.0 - h[1] ** step))
    for i in range(at, at + size):
        moments(S, i, i + n, G[i], rest1, beta2, rest2)
        P[i] -= (by_g * G[i] + by_m * S[i]) / (np.sqrt(S[i + n]) / correction + epsilon)


@jit
def radam(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by Adam's step, rectified while the second moment is known well enough, else along the first alone."""
    power = h[1] ** step
    longest = 2.0 / (1.0 - h[1]) - 1.0
    length = longest - 2.0 * step * power / (1.0 - power)
    rate = lr / (1.0 - h[0] ** step)
    rest1, beta2, rest2, epsilon = number(P, 1.0 - h[0]), number(P, h[1]), number(P, 1.0 - h[1]), number(P, h[2])
    if length > 5.0:
        rectified = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        by = number(P, rate * np.sqrt((1.0 - power) * rectified))
        for i in range(at, at + size):
            moments(S, i, i + n, G[i], rest1, beta2, rest2)
            P[i] -= by * S[i] / (np.sqrt(S[i + n]) + epsilon)
    else:
        by = number(P, rate)
        for i in range(at, at + size):
            moments(S, i, i + n, G[i], rest1, beta2, rest2)
            P[i] -= by * S[i]


@jit
def adamax(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by Adam's step with a decaying maximum of |g| for the second moment."""
    rate, rest1, beta2 = number(P, lr / (1.0 - h[0] ** step)), number(P, 1.0 - h[0]), number(P, h[1])
    epsilon = number(P, h[2])
    for i in range(at, at + size):
        S[i] += rest1 * (G[i] - S[i])
        before, size_of_g = beta2 * S[i + n], abs(G[i]) + epsilon
        S[i + n] = size_of_g if not size_of_g <= before else before  # NaN stays
        P[i] -= rate * S[i] / S[i + n]


@jit
def adagrad(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by the gradient over the root of the sum of its squares."""
    rate, epsilon = number(P, lr / (1.0 + (step - 1) * h[0])), number(P, h[1])
    for i in range(at, at + size):
        S[i] += G[i] * G[i]
        P[i] -= rate * G[i] / (np.sqrt(S[i]) + epsilon)


@jit
def adadelta(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by the gradient, scaled by the ratio of the steps' running size to the gradient's."""
    rate, rho, rest, epsilon = number(P, lr), number(P, h[0]), number(P, 1.0 - h[0]), number(P, h[1])
    for i in range(at, at + size):
        S[i] = rho * S[i] + rest * (G[i] * G[i])
        delta = np.sqrt(S[i + n] + epsilon) / np.sqrt(S[i] + epsilon) * G[i]
        S[i + n] = rho * S[i + n] + rest * (delta * delta)
        P[i] -= rate * delta


@jit
def rmsprop(P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any) -> None:
    """Move w by the gradient over the root of the running mean of its squares."""
    rate, alpha, rest, epsilon = number(P, lr), number(P, h[0]), number(P, 1.0 - h[0]), number(P, h[1])
    for i in range(at, at + size):
        g = G[i]
        S[i] = alpha * S[i] + rest * (g * g)
        P[i] -= rate * g / (np.sqrt(S[i]) + epsilon)


@jit
def rmsprop_momentum(
    P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any
) -> None:
    """Move w along the velocity of RMSprop's steps."""
    rate, alpha, rest, epsilon = number(P, lr), number(P, h[0]), number(P, 1.0 - h[0]), number(P, h[1])
    mu = number(P, h[2])
    for i in range(at, at + size):
        g = G[i]
        S[i] = alpha * S[i] + rest * (g * g)
        S[i + n] = mu * S[i + n] + g / (np.sqrt(S[i]) + epsilon)
        P[i] -= rate * S[i + n]


@inline
def variance(square: Any, mean: Any) -> Any:
    """Return what rounding may take below 0; NaN stays."""
    v = square - mean * mean
    return v * 0.0 if v < 0.0 else v


@jit
def rmsprop_centered(
    P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any
) -> None:
    """Move w by the gradient over the root of its running variance."""
    rate, alpha, rest, epsilon = number(P, lr), number(P, h[0]), number(P, 1.0 - h[0]), number(P, h[1])
    for i in range(at, at + size):
        g = G[i]
        S[i] = alpha * S[i] + rest * (g * g)
        S[i + n] += rest * (g - S[i + n])
        P[i] -= rate * g / (np.sqrt(variance(S[i], S[i + n])) + epsilon)


@jit
def rmsprop_centered_momentum(
    P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, h: Any, scalars: Any
) -> None:
    """Move w along the velocity of the centered RMSprop's steps."""
    rate, alpha, rest, epsilon = number(P, lr), number(P, h[0]), number(P, 1.0 - h[0]), number(P, h[1])
    mu = number(P, h[2])
    for i in range(at, at + size):
        g = G[i]
        S[i] = alpha * S[i] + rest * (g * g)
        S[i + 2 * n] += rest * (g - S[i + 2 * n])
        S[i + n] = mu * S[i + n] + g / (np.sqrt(variance(S[i], S[i + 2 * n])) + epsilon)
        P[i] -= rate * S[i + n]


# By their codes, as in operations.rules.
RULES = (
    sgd, momentum, velocity, adam, amsgrad, nadam, radam, adamax, adagrad, adadelta,
    rmsprop, rmsprop_momentum, rmsprop_centered, rmsprop_centered_momentum,
)  # fmt: skip
move = switch(RULES)


@jit
def advance(job: Any, step: int, scalars: Any) -> None:
    """Bring a rule's scalars to this step: NAdam's product of μ."""
    if job.n_scalars > 0:
        scalars[0] *= decayed(job.hyper, step)


@jit
def clip(G: Any, size: int, limit: float) -> None:
    """Multiply a gradient whose norm is larger than ``limit`` so that it is ``limit``, or NaN, if it overflows."""
    s0 = s1 = s2 = s3 = 0.0  # four sums: one alone would wait for each addition
    for i in range(0, size - 3, 4):
        g0, g1, g2, g3 = np.float64(G[i]), np.float64(G[i + 1]), np.float64(G[i + 2]), np.float64(G[i + 3])
        s0, s1, s2, s3 = s0 + g0 * g0, s1 + g1 * g1, s2 + g2 * g2, s3 + g3 * g3
    for i in range(size - size % 4, size):
        s0 += np.float64(G[i]) * np.float64(G[i])
    norm = np.sqrt((s0 + s1) + (s2 + s3))
    if norm > limit:
        factor = number(G, limit / norm if norm < np.inf else np.nan)
        for i in range(size):
            G[i] *= factor
