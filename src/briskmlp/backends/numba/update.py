"""The update rules, element by element; g is the gradient plus ``decay · w`` unless the decay is decoupled.

SGD        w -= lr g
momentum   v = μ v + g                             w -= lr v, or lr (g + μ v) with Nesterov
Adam       m += (1-β1)(g - m), v = β2 v + (1-β2) g²   w -= lr/(1-β1^t) m / (sqrt(v)/sqrt(1-β2^t) + ε)
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
        momentum(P, G, S, at, size, number(P, lr), number(P, job.momentum), job.nesterov)
    elif job.rule == RULE_ADAM:
        correction1, correction2 = 1.0 - job.beta1**step, 1.0 - job.beta2**step
        adam(
            P, G, S, at, m, v, size, number(P, lr / correction1), number(P, np.sqrt(correction2)),
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
