"""The Plan: all that a kernel needs to know of a network and its training, as plain numbers and arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from briskmlp.network import Network
from briskmlp.operations import Floats as Floats  # noqa: PLC0414 - its users' path
from briskmlp.operations import Ints as Ints  # noqa: PLC0414
from briskmlp.operations import activations, layers, losses, rules
from briskmlp.operations.activations import MAX_PARAMETERS, chosen
from briskmlp.operations.layers import BIASES
from briskmlp.operations.losses import HUBER_THRESHOLD as HUBER_THRESHOLD  # noqa: PLC0414
from briskmlp.operations.losses import check_loss
from briskmlp.operations.rules import Optimizer

# those codes that other modules name; each is a position in its table
SIGMOID, SOFTMAX, SOFTPLUS = (activations.CODES[name] for name in ("sigmoid", "softmax", "softplus"))
RULE_SGD = rules.CODES["sgd"]
MSE, CROSS_ENTROPY, POISSON, ABSOLUTE_ERROR, HUBER = range(len(losses.LOSSES))
BATCH_NORM, LAYER_NORM = (layers.CODES[name] for name in layers.NORMS)
BIAS_NEURON, BIAS_LAYER, BIAS_NONE = range(len(BIASES))
DIVISOR_WEIGHT, DIVISOR_ROWS, DIVISOR_NOTHING = range(3)
PRECISIONS = ("highest", "high", "bfloat16")
HIGHEST, HIGH, BFLOAT16 = range(len(PRECISIONS))


class Plan(NamedTuple):
    """A network and its training, lowered.

    Arrays have one entry per layer (L), or per tensor (T), W1 b1 W2 b2 … and then γ and β of each normalisation, or per
    place of a normalisation (L+1): before the first layer, and in each layer.
    """

    layers: Ints  # (L+1,) widths
    activations: Ints  # (L,) codes of the table
    activation_parameters: Floats  # (L, 2) in the table's order, 0 where there is none
    offsets: Ints  # (T,) where each tensor starts in the flat parameters
    sizes: Ints  # (T,) how many numbers it has
    bias: int  # BIAS_NEURON …
    n_parameters: int
    n_statistics: int  # numbers that training changes although no gradient moves them
    loss: int  # MSE … HUBER
    batch_size: int
    rule: int  # code of the table
    n_slots: int  # numbers of optimizer state per parameter
    n_scalars: int  # numbers of optimizer state beside
    hyper: Floats  # (8,) the rule's hyperparameters, in the table's order
    decoupled: int  # as in AdamW: decay the weights, not the gradient
    rate_scale: Floats  # (T,) multiplies the learning rate
    decay: Floats  # (T,) the optimizer's weight decay
    l2: Floats  # (T,) the loss has l2/2 · Σ W² / n
    trained: Ints  # (T,) 1; 0 is refused so far
    dropout: Floats  # (L,) the rate after each layer; 0 after the last
    norms: Ints  # (L+1,) codes of the table of layers; 0 for none
    norm_after: Ints  # (L+1,) 1: after the activation; 0: before it
    norm_momentum: Floats  # (L+1,) the share of a batch in the new running statistics
    norm_eps: Floats  # (L+1,) is added to the variance
    norm_tensors: Ints  # (L+1,) which of the T tensors is γ; the next is β; -1 for none
    norm_statistics: Ints  # (L+1,) where running means start in the statistics; variances follow them; -1 for none
    norm_fixed: Ints  # (L+1,) 1: training over batches, too, normalises by the running statistics, and moves none
    clip_norm: float  # largest norm of a step's gradient; inf for any
    precision: int  # HIGHEST …: what products read, see backends/contract.py
    shuffle: int
    seed: int  # key of the sample order, as a signed 64-bit number
    huber: float = HUBER_THRESHOLD  # where huber's parabola ends
    divisor: int = DIVISOR_WEIGHT  # of a batch's gradient, a sum over its rows: Σ weight, their number, or 1
    loss_scale: float = 1.0  # multiplies the loss: 1 here, 1/2 in scikit-learn's squared error, 1/n_out in PyTorch's
    report_scale: float = 1.0  # multiplies the loss once more where it is reported, not its gradient nor the l2 term
    report_rows: int = 0  # 1: an epoch's loss is its batches' mean by their rows, as in scikit-learn; 0: by weight
    clip_probability: float = 0.0  # p > 0: cross-entropy is reported of A in p … 1 - p, as in scikit-learn; 0: of Z
    clip_epsilon: float = 0.0  # added to the norm of a gradient that may be clipped: 0 here, 1e-6 in PyTorch


def make_plan(
    network: Network,
    *,
    loss: str,
    optimizer: Optimizer,
    batch_size: int,
    l2: float = 0.0,
    shuffle: bool = False,
    seed: int,
    precision: str = "highest",
    dropout: Sequence[float] = (),
    clip_norm: float = math.inf,
) -> Plan:
    """Lower a network and its training to a Plan; ``dropout`` has one rate per hidden layer, or is empty."""
    check_loss(loss, network.output)
    n_layers, tensors = network.n_layers, network.tensors
    choices = [chosen(text) for text in network.activations]
    parameters = np.zeros((n_layers, MAX_PARAMETERS))
    for layer, choice in enumerate(choices):
        parameters[layer, : len(choice.values)] = choice.values
    return Plan(
        layers=np.array(network.layers, dtype=np.int64),
        activations=np.array([activations.CODES[choice.row.name] for choice in choices], dtype=np.int64),
        activation_parameters=parameters,
        offsets=np.array([tensor.offset for tensor in tensors], dtype=np.int64),
        sizes=np.array([tensor.size for tensor in tensors], dtype=np.int64),
        bias=BIASES.index(network.bias),
        n_parameters=network.n_parameters,
        n_statistics=network.n_statistics,
        loss=losses.CODES[loss],
        batch_size=batch_size,
        **optimizer.lowered().plan_fields(),
        rate_scale=np.ones(len(tensors)),
        decay=np.full(len(tensors), float(getattr(optimizer, "weight_decay", 0.0))),
        l2=np.array([l2 if tensor.kind == "weight" else 0.0 for tensor in tensors]),  # biases are not penalised
        trained=np.ones(len(tensors), dtype=np.int64),
        dropout=np.array([*(dropout or [0.0] * (n_layers - 1)), 0.0]),
        **_norm_fields(network),
        clip_norm=float(clip_norm),
        precision=PRECISIONS.index(precision),
        shuffle=int(shuffle),
        seed=seed - 2**64 if seed >= 2**63 else seed,
    )


def _norm_fields(network: Network) -> dict[str, Any]:
    n_places = network.n_layers + 1
    fields: dict[str, Any] = {
        "norms": np.zeros(n_places, dtype=np.int64),
        "norm_after": np.zeros(n_places, dtype=np.int64),
        "norm_momentum": np.zeros(n_places),
        "norm_eps": np.zeros(n_places),
        "norm_tensors": np.full(n_places, -1, dtype=np.int64),
        "norm_statistics": np.full(n_places, -1, dtype=np.int64),
        "norm_fixed": np.zeros(n_places, dtype=np.int64),
    }
    for norm in network.norms:
        fields["norms"][norm.place] = layers.CODES[norm.row.name]
        fields["norm_after"][norm.place] = norm.position == "after"
        fields["norm_momentum"][norm.place] = norm.values.get("momentum", 0.0)
        fields["norm_eps"][norm.place] = norm.values["eps"]
    for index, tensor in enumerate(network.tensors):
        if tensor.kind == "gamma":
            fields["norm_tensors"][tensor.layer + 1] = index
    for tensor in network.statistics:
        if tensor.kind == "running_mean":
            fields["norm_statistics"][tensor.layer + 1] = tensor.offset
    return fields


def whole_batches(plan: Plan) -> bool:
    """Return whether training normalises over batches, so that all rows of one must be computed together."""
    return bool(((plan.norms == BATCH_NORM) & (plan.norm_fixed == 0)).any())
