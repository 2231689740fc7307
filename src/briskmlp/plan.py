"""The Plan: all that a kernel needs to know of a network and its training, as plain numbers and arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from briskmlp.losses import LOSSES, check_loss
from briskmlp.network import ACTIVATIONS, Network
from briskmlp.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

SIGMOID, TANH, RELU, IDENTITY, SOFTMAX, LEAKY_RELU, EXP = range(len(ACTIVATIONS))
MSE, CROSS_ENTROPY, POISSON, ABSOLUTE_ERROR, HUBER = range(len(LOSSES))
BIAS_NEURON, BIAS_LAYER, BIAS_NONE = range(3)
DIVISOR_WEIGHT, DIVISOR_ROWS, DIVISOR_NOTHING = range(3)
RULE_SGD, RULE_MOMENTUM, RULE_ADAM, RULE_RMSPROP = range(4)
LEAK, HUBER_THRESHOLD = 0.01, 1.0  # PyTorch's defaults
PRECISIONS = ("highest", "high", "bfloat16")
HIGHEST, HIGH, BFLOAT16 = range(len(PRECISIONS))

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Plan(NamedTuple):
    """A network and its training, lowered. Arrays have one entry per layer (L), or per tensor W1 b1 W2 b2 … (2L)."""

    layers: Ints  # (L+1,) widths
    activations: Ints  # (L,) SIGMOID … EXP
    slope: float  # of leaky relu below 0
    weight_offsets: Ints  # (L,) where W[l] starts in the flat parameters
    bias_offsets: Ints  # (L,) where b[l] starts
    bias: int  # BIAS_NEURON …
    n_parameters: int
    loss: int  # MSE … HUBER
    loss_scale: float  # multiplies the loss: 1 here, 1/2 in scikit-learn's squared error, 1/n_out in PyTorch's
    report_scale: float  # multiplies the loss once more where it is told, not its gradient nor the l2 term
    report_rows: int  # 1: an epoch's loss is the mean of its batches' by their rows, as in scikit-learn; 0: by weight
    huber: float  # where huber's parabola ends
    clip_probability: float  # p > 0: cross-entropy is told from A in p … 1 - p, as in scikit-learn; 0: exactly
    divisor: int  # DIVISOR_WEIGHT …: of a batch's gradient, a sum over its rows: Σ weight, their number, or 1
    batch_size: int
    rule: int  # RULE_SGD …
    n_slots: int  # numbers of optimizer state per parameter
    momentum: float
    nesterov: int
    lr_in_velocity: int  # 1: velocity holds the learning rate, v = momentum · v - lr · g, as in scikit-learn
    beta1: float
    beta2: float  # RMSprop's alpha
    epsilon: float
    epsilon_hat: int  # 1: epsilon is added before Adam's second correction, to √v itself, as in scikit-learn
    decoupled: int  # AdamW: decay the weights, not the gradient
    rate_scale: Floats  # (2L,) multiplies the learning rate
    decay: Floats  # (2L,) the optimizer's weight decay
    l2: Floats  # (2L,) the loss has l2/2 · Σ W² / n
    dropout: Floats  # (L,) the rate after each layer; 0 after the last
    clip_norm: float  # largest norm of a step's gradient; inf for any
    precision: int  # HIGHEST …: what products read, see backends/contract.py
    shuffle: int
    seed: int  # key of the sample order, as a signed 64-bit number


def make_plan(
    network: Network,
    *,
    loss: str,
    optimizer: Optimizer,
    batch_size: int,
    l2: float,
    shuffle: bool,
    seed: int,
    precision: str = "highest",
    dropout: Sequence[float] = (),
    clip_norm: float = math.inf,
) -> Plan:
    """Lower a network and its training to a Plan; ``dropout`` has one rate per hidden layer, or is empty."""
    check_loss(loss, network.output)
    n_layers = network.n_layers
    offsets = np.array(network.offsets, dtype=np.int64).reshape(n_layers, 2)
    l2_per_tensor = np.zeros(2 * n_layers)
    l2_per_tensor[::2] = l2  # biases are not penalised
    weight_decay = getattr(optimizer, "weight_decay", 0.0)
    return Plan(
        layers=np.array(network.layers, dtype=np.int64),
        activations=np.array([ACTIVATIONS.index(name) for name in network.activations], dtype=np.int64),
        weight_offsets=np.ascontiguousarray(offsets[:, 0]),
        bias_offsets=np.ascontiguousarray(offsets[:, 1]),
        bias={"neuron": BIAS_NEURON, "layer": BIAS_LAYER, "none": BIAS_NONE}[network.bias],
        n_parameters=network.n_parameters,
        slope=LEAK,
        loss=LOSSES.index(loss),
        loss_scale=1.0,
        report_scale=1.0,
        report_rows=0,
        huber=HUBER_THRESHOLD,
        clip_probability=0.0,
        divisor=DIVISOR_WEIGHT,
        batch_size=batch_size,
        **_rule(optimizer),
        rate_scale=np.ones(2 * n_layers),
        decay=np.full(2 * n_layers, float(weight_decay)),
        l2=l2_per_tensor,
        dropout=np.array([*(dropout or [0.0] * (n_layers - 1)), 0.0]),
        clip_norm=float(clip_norm),
        precision=PRECISIONS.index(precision),
        shuffle=int(shuffle),
        seed=seed - 2**64 if seed >= 2**63 else seed,
    )


def _rule(optimizer: Optimizer) -> dict[str, Any]:
    """Return the Plan's fields of an update rule."""
    fields: dict[str, Any] = {
        "n_slots": optimizer.n_slots,
        "momentum": 0.0,
        "nesterov": 0,
        "lr_in_velocity": 0,
        "beta1": 0.0,
        "beta2": 0.0,
        "epsilon": 0.0,
        "epsilon_hat": 0,
        "decoupled": int(isinstance(optimizer, AdamW)),
    }
    match optimizer:
        case SGD(momentum=0.0):
            fields["rule"] = RULE_SGD
        case SGD():
            fields.update(rule=RULE_MOMENTUM, momentum=float(optimizer.momentum), nesterov=int(optimizer.nesterov))
        case Adam():
            fields.update(
                rule=RULE_ADAM,
                beta1=float(optimizer.beta1),
                beta2=float(optimizer.beta2),
                epsilon=float(optimizer.epsilon),
            )
        case RMSprop():
            fields.update(rule=RULE_RMSPROP, beta2=float(optimizer.alpha), epsilon=float(optimizer.epsilon))
        case _:
            names = "SGD, Adam, AdamW, RMSprop"
            raise TypeError(f"optimizer must be one of briskmlp's {names}, got {optimizer!r}")
    return fields
