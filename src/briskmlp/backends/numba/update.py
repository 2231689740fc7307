"""The update rules, element by element; g is the gradient plus ``decay · w`` unless the decay is decoupled.

SGD        w -= lr g
momentum   v = μ v + g                             w -= lr v, or lr (g + μ v) with Nesterov
           v = μ v - lr g, if rated                w += v, or μ v - lr g with Nesterov
Adam       m += (1-β1)(g - m), v = β2 v + (1-β2) g²   w -= lr/(1-β1^t) m / (sqrt(v)/sqrt(1-β2^t) + ε)
           with a raw ε, sqrt(v) + ε comes before the correction by sqrt(1-β2^t)
RMSprop    v = β2 v + (1-β2) g²                    w -= lr g / (sqrt(v) + ε)

A tensor is ``size`` numbers from ``at`` in P, G and each slot of S; the slots are ``n`` numbers apart. Loops this plain
are vectorised by LLVM, and give the same bits on dense parameters as on padded ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import jit
from briskmlp.backends.numba.vector import number
from briskmlp.plan import RULE_ADAM, RULE_MOMENTUM, RULE_SGD


@jit
def update_layer(job: Any, layer: Any, P: Any, G: Any, S: Any, n: int, step: int, rate: float) -> None:
    """Move W and b of one layer by one step."""
    size = layer.rows * layer.columns
    update_tensor(job, P, G, S, layer.W, size, n, step, rate * layer.rate_W, layer.decay_W)
    update_tensor(job, P, G, S, layer.b, layer.b_size, n, step, rate * layer.rate_b, layer.decay_b)


@jit
def update_tensor(
    job: Any, P: Any, G: Any, S: Any, at: int, size: int, n: int, step: int, lr: float, decay: float
) -> None:
    """Move one tensor by one step, which counts from 1; G is used up."""
    m, v = at, at + n
    if job.decoupled:
        shrink(P, at, size, lr * decay)
    elif decay != 0.0:
        d = number(P, decay)
        for i in range(at, at + size):
            G[i] += d * P[i]
    if job.rule == RULE_SGD:
        rate = number(P, lr)
        for i in range(at, at + size):
            P[i] -= rate * G[i]
    elif job.rule == RULE_MOMENTUM:
        mu, rate = number(P, job.momentum), number(P, lr)
        if job.lr_in_velocity:
            rated_momentum(P, G, S, at, size, rate, mu, job.nesterov)
        else:
            momentum(P, G, S, at, size, rate, mu, job.nesterov)
    elif job.rule == RULE_ADAM:
        lr, root = lr / (1.0 - job.beta1**step), np.sqrt(1.0 - job.beta2**step)
        if job.epsilon_hat:
            lr, root = lr * root, 1.0
        adam(
            P, G, S, at, m, v, size, number(P, lr), number(P, root),
            number(P, 1.0 - job.beta1), number(P, job.beta2), number(P, 1.0 - job.beta2), number(P, job.epsilon),
        )  # fmt: skip
    else:
        alpha, rest = number(P, job.beta2), number(P, 1.0 - job.beta2)
        rmsprop(P, G, S, at, size, number(P, lr), alpha, rest, number(P, job.epsilon))


@jit
def shrink(P: Any, at: int, size: int, share: float) -> None:
    """Write w = w - share w: in float32 1 - share would lose what a small share has of digits."""
    if share != 0.0:
        for i in range(at, at + size):
            P[i] -= number(P, share) * P[i]


@jit
def momentum(P: Any, G: Any, S: Any, at: int, size: int, lr: float, mu: float, nesterov: int) -> None:
    """Move w along its velocity."""
    for i in range(at, at + size):
        S[i] = mu * S[i] + G[i]
    if nesterov:
        for i in range(at, at + size):
            P[i] -= lr * (G[i] + mu * S[i])
    else:
        for i in range(at, at + size):
            P[i] -= lr * S[i]


@jit
def rated_momentum(P: Any, G: Any, S: Any, at: int, size: int, lr: float, mu: float, nesterov: int) -> None:
    """Move w by a velocity that holds the learning rates of its steps."""
    for i in range(at, at + size):
        S[i] = mu * S[i] - lr * G[i]
    if nesterov:
        for i in range(at, at + size):
            P[i] += mu * S[i] - lr * G[i]
    else:
        for i in range(at, at + size):
            P[i] += S[i]


@jit
def adam(
    P: Any, G: Any, S: Any, at: int, m: int, v: int, size: int,
    lr: float, root: float, rest1: float, beta2: float, rest2: float, epsilon: float,
) -> None:  # fmt: skip
    """Move w by Adam's step; lr is corrected for the first moment, ``root`` corrects the second."""
    for i in range(size):
        g = G[at + i]
        S[m + i] += rest1 * (g - S[m + i])
        S[v + i] = beta2 * S[v + i] + rest2 * (g * g)
        P[at + i] -= lr * S[m + i] / (np.sqrt(S[v + i]) / root + epsilon)


@jit
def rmsprop(P: Any, G: Any, S: Any, at: int, size: int, lr: float, alpha: float, rest: float, epsilon: float) -> None:
    """Move w by RMSprop's step."""
    for i in range(at, at + size):
        g = G[i]
        S[i] = alpha * S[i] + rest * (g * g)
        P[i] -= lr * g / (np.sqrt(S[i]) + epsilon)


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
