"""The update rules, and the clipping of a gradient before them."""

from __future__ import annotations

import numpy as np

from briskmlp.backends.contract import State
from briskmlp.backends.numpy.layout import parts, quiet
from briskmlp.network import FloatArray
from briskmlp.plan import RULE_ADAM, RULE_MOMENTUM, RULE_SGD, Plan


@quiet
def clip(grad: FloatArray, largest: float) -> None:
    """Scale ``grad`` so that its norm is at most ``largest``; make it NaN, which is seen, if the norm overflows."""
    norm = float(np.sqrt(np.square(grad, dtype=np.float64).sum()))
    if np.isinf(norm):
        grad.fill(np.nan)
    elif norm > largest:
        grad *= largest / norm


@quiet
def update(plan: Plan, state: State, grad: FloatArray, rate: float) -> None:
    """Move the parameters by one step of the plan's rule, and count it."""
    state.position.counts[2] += 1
    params, slots, step = state.parameters, state.slots, state.position.step
    for tensor, part in enumerate(parts(plan)):
        lr = float(rate * plan.rate_scale[tensor])  # NumPy's own float64 would make float32 arithmetic float64
        _move(plan, params[part], grad[part], slots[:, part], step, lr, float(plan.decay[tensor]))


def _move(plan: Plan, w: FloatArray, g: FloatArray, state: FloatArray, step: int, lr: float, decay: float) -> None:
    if decay and plan.decoupled:
        w -= lr * decay * w
    elif decay:
        g = g + decay * w
    if plan.rule == RULE_SGD:
        w -= lr * g
    elif plan.rule == RULE_MOMENTUM and plan.lr_in_velocity:
        v = state[0]
        v[...] = plan.momentum * v - lr * g
        w += plan.momentum * v - lr * g if plan.nesterov else v
    elif plan.rule == RULE_MOMENTUM:
        v = state[0]
        v[...] = plan.momentum * v + g
        w -= lr * (g + plan.momentum * v if plan.nesterov else v)
    elif plan.rule == RULE_ADAM:
        m, v = state
        m += (1 - plan.beta1) * (g - m)
        v[...] = plan.beta2 * v + (1 - plan.beta2) * (g * g)
        correction1, correction2 = 1 - plan.beta1**step, (1 - plan.beta2**step) ** 0.5
        if plan.epsilon_hat:
            w -= lr * correction2 / correction1 * m / (np.sqrt(v) + plan.epsilon)
        else:
            w -= lr / correction1 * m / (np.sqrt(v) / correction2 + plan.epsilon)
    else:
        v = state[0]
        v[...] = plan.beta2 * v + (1 - plan.beta2) * (g * g)
        w -= lr * g / (np.sqrt(v) + plan.epsilon)
