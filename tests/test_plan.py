"""The lowering of a network and its training to plain numbers, and what a loss accepts."""

import re

import numpy as np
import pytest

from briskmlp import plan as p
from briskmlp.losses import OUTPUTS, check_loss, default_output, target_rules
from briskmlp.network import ACTIVATIONS, BIASES, Network
from briskmlp.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop


def lower(network=None, **changes):
    arguments = {"loss": "mse", "optimizer": SGD(0.1), "batch_size": 8, "l2": 0.0, "shuffle": True, "seed": 0}
    return p.make_plan(network or Network([3, 4, 2]), **{**arguments, **changes})


@pytest.mark.parametrize("bias", BIASES)
def test_layers_and_offsets(bias):
    network = Network([3, 4, 2], "relu", "identity", bias)
    plan = lower(network)
    flat = np.arange(network.n_parameters)
    for l, (W, b) in enumerate(zip(network.weights(flat), network.biases(flat), strict=True)):
        assert plan.weight_offsets[l] == W[0, 0]
        assert plan.bias_offsets[l] == W[-1, -1] + 1 == (b[0] if b.size else W[-1, -1] + 1)
    assert plan.layers.tolist() == [3, 4, 2]
    assert [ACTIVATIONS[i] for i in plan.activations] == ["relu", "identity"]
    assert BIASES[plan.bias] == bias
    assert plan.n_parameters == network.n_parameters


@pytest.mark.parametrize(("optimizer", "expected"), [
    (SGD(0.1, weight_decay=0.5), {"rule": p.RULE_SGD, "n_slots": 0, "decoupled": 0, "decay": 0.5}),
    (SGD(0.1, momentum=0.9), {"rule": p.RULE_MOMENTUM, "n_slots": 1, "momentum": 0.9, "nesterov": 0}),
    (SGD(0.1, momentum=0.9, nesterov=True), {"rule": p.RULE_MOMENTUM, "nesterov": 1}),
    (Adam(beta1=0.5, beta2=0.6, epsilon=1e-3),
     {"rule": p.RULE_ADAM, "n_slots": 2, "beta1": 0.5, "beta2": 0.6, "epsilon": 1e-3, "decoupled": 0, "decay": 0}),
    (AdamW(), {"rule": p.RULE_ADAM, "decoupled": 1, "decay": 0.01}),
    (RMSprop(alpha=0.7), {"rule": p.RULE_RMSPROP, "n_slots": 1, "beta2": 0.7}),
])  # fmt: skip
def test_rules(optimizer, expected):
    plan = lower(optimizer=optimizer)
    for name, value in expected.items():
        assert np.unique(getattr(plan, name)).tolist() == [value], name


def test_l2_is_for_weights_alone():
    assert lower(l2=0.5).l2.tolist() == [0.5, 0, 0.5, 0]


def test_seeds_are_kept_as_signed_numbers():
    for seed in (0, 2**63 - 1, 2**63, 2**64 - 1):
        assert lower(seed=seed).seed % 2**64 == seed
        np.int64(lower(seed=seed).seed)


def test_places_for_what_is_to_come_are_neutral():
    plan = lower()
    assert (plan.loss_scale, plan.clip_norm, plan.precision) == (1.0, np.inf, 0)
    assert plan.rate_scale.tolist() == [1.0] * 4
    assert plan.dropout.tolist() == [0.0] * 2
    assert (plan.report_scale, plan.report_rows, plan.lr_in_velocity, plan.epsilon_hat) == (1.0, 0, 0, 0)
    assert (plan.slope, plan.huber) == (0.01, 1.0)  # PyTorch's defaults


def test_dropout_and_clipping():
    plan = lower(Network([3, 4, 5, 2]), dropout=(0.25, 0.5), clip_norm=2)
    assert plan.dropout.tolist() == [0.25, 0.5, 0]
    assert plan.dropout.dtype == np.float64
    assert plan.clip_norm == 2.0
    assert lower(Network([3, 2]), dropout=()).dropout.tolist() == [0]


def test_numbers_of_activations_and_losses_are_those_of_the_kernels():
    for number, name in enumerate(("sigmoid", "tanh", "relu", "identity", "softmax", "leaky_relu", "exp")):
        assert ACTIVATIONS[number] == name
        assert getattr(p, name.upper()) == number
    for number, name in enumerate(("mse", "cross_entropy", "poisson", "absolute_error", "huber")):
        assert list(OUTPUTS)[number] == name
        assert getattr(p, name.upper()) == number


def test_an_optimizer_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="optimizer must be one of briskmlp's SGD, Adam, AdamW, RMSprop, got"):
        lower(optimizer=Optimizer(0.1))


# --- losses ----------------------------------------------------------------------------------------------------------


def test_pairs_that_have_no_gradient_are_refused_with_those_that_have():
    for loss, outputs in OUTPUTS.items():
        for output in ACTIVATIONS:
            if output in outputs:
                check_loss(loss, output)
                assert lower(Network([3, 2], output=output), loss=loss).loss == list(OUTPUTS).index(loss)
            else:
                with pytest.raises(ValueError, match=re.escape(f"{output!r}; the valid pairs are: mse with sigmoid")):
                    lower(Network([3, 2], output=output), loss=loss)
    with pytest.raises(ValueError, match=r"loss is 'cross-entropy'.*did you mean 'cross_entropy'"):
        check_loss("cross-entropy", "softmax")


@pytest.mark.parametrize(("loss", "hidden", "n_out", "output"), [
    ("mse", "relu", 3, "relu"), ("mse", "sigmoid", 1, "sigmoid"),
    ("cross_entropy", "relu", 2, "softmax"), ("cross_entropy", "tanh", 1, "sigmoid"),
    ("poisson", "relu", 3, "exp"), ("absolute_error", "relu", 3, "relu"), ("huber", "leaky_relu", 1, "leaky_relu"),
])  # fmt: skip
def test_default_outputs(loss, hidden, n_out, output):
    assert default_output(loss, hidden, n_out) == output


def test_targets():
    for loss in ("mse", "absolute_error", "huber"):
        assert target_rules(loss, Network([2, 3])) == (None, None)
    assert target_rules("poisson", Network([2, 3], output="exp")) == (None, "counts")
    assert target_rules("cross_entropy", Network([2, 3], output="softmax")) == (3, "rows")
    assert target_rules("cross_entropy", Network([2, 1])) == (2, "each")
    assert target_rules("cross_entropy", Network([2, 3])) == (None, "each")
