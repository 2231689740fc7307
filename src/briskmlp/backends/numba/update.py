"""The update rules, element by element; g is the gradient plus ``decay · w`` unless the decay is decoupled.

SGD        w -= lr g
momentum   v = μ v + g                             w -= lr v, or lr (g + μ v) with Nesterov
Adam       m += (1-β1)(g - m), v = β2 v + (1-β2) g²   w -= lr/(1-β1^t) m / (sqrt(v)/sqrt(1-β2^t) + ε)
RMSprop    v = β2 v + (1-β2) g²                    w -= lr g / (sqrt(v) + ε)

w, g and each row of the state are flat and of one length; a tensor is a slice. Loops this plain are vectorised by
LLVM, and give the same bits on dense parameters as on padded ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp.backends.numba._options import jit
from briskmlp.plan import RULE_ADAM, RULE_MOMENTUM, RULE_SGD


@jit
def update_tensor(plan: Any, tensor: int, w: Any, g: Any, state: Any, start: int, step: int, rate: float) -> None:
    """Move one tensor by one step; ``state`` is (n_slots, all), of which the tensor's part begins at ``start``."""
    to = w.dtype.type
    stop = start + w.size
    lr, decay = rate * plan.rate_scale[tensor], plan.decay[tensor]
    if decay != 0.0 and plan.decoupled:
        shrink(w, to(1.0 - lr * decay))
    elif decay != 0.0:
        for i in range(w.size):
            g[i] += to(decay) * w[i]
    if plan.rule == RULE_SGD:
        for i in range(w.size):
            w[i] -= to(lr) * g[i]
    elif plan.rule == RULE_MOMENTUM:
        momentum(w, g, state[0, start:stop], to(lr), to(plan.momentum), plan.nesterov)
    elif plan.rule == RULE_ADAM:
        correction1, correction2 = 1.0 - plan.beta1**step, 1.0 - plan.beta2**step
        adam(
            w, g, state[0, start:stop], state[1, start:stop], to(lr / correction1), to(np.sqrt(correction2)),
            to(1.0 - plan.beta1), to(plan.beta2), to(1.0 - plan.beta2), to(plan.epsilon),
        )  # fmt: skip
    else:
        rmsprop(w, g, state[0, start:stop], to(lr), to(plan.beta2), to(1.0 - plan.beta2), to(plan.epsilon))


@jit
def shrink(w: Any, factor: float) -> None:
    """Write w = factor w."""
    for i in range(w.size):
        w[i] *= factor


@jit
def momentum(w: Any, g: Any, v: Any, lr: float, mu: float, nesterov: int) -> None:
    """Move w along its velocity."""
    for i in range(w.size):
        v[i] = mu * v[i] + g[i]
    if nesterov:
        for i in range(w.size):
            w[i] -= lr * (g[i] + mu * v[i])
    else:
        for i in range(w.size):
            w[i] -= lr * v[i]


@jit
def adam(
    w: Any, g: Any, m: Any, v: Any, lr: float, root: float, rest1: float, beta2: float, rest2: float, epsilon: float
) -> None:
    """Move w by Adam's step; lr is corrected for the first moment, ``root`` corrects the second."""
    for i in range(w.size):
        m[i] += rest1 * (g[i] - m[i])
        v[i] = beta2 * v[i] + rest2 * (g[i] * g[i])
        w[i] -= lr * m[i] / (np.sqrt(v[i]) / root + epsilon)


@jit
def rmsprop(w: Any, g: Any, v: Any, lr: float, alpha: float, rest: float, epsilon: float) -> None:
    """Move w by RMSprop's step."""
    for i in range(w.size):
        v[i] = alpha * v[i] + rest * (g[i] * g[i])
        w[i] -= lr * g[i] / (np.sqrt(v[i]) + epsilon)
