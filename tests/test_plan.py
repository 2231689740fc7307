"""The lowering of a network and its training to plain numbers, and what a loss accepts."""

import re

import numpy as np
import pytest
from build import OPTIMIZERS

from briskmlp import plan as p
from briskmlp.losses import check_loss, default_output, target_rules
from briskmlp.network import BIASES, Network
from briskmlp.operations.activations import ACTIVATIONS
from briskmlp.operations.losses import LOSSES
from briskmlp.operations.rules import RULES, SGD, Optimizer


def lower(network=None, **changes):
    arguments = {"loss": "mse", "optimizer": SGD(0.1), "batch_size": 8, "l2": 0.0, "shuffle": True, "seed": 0}
    return p.make_plan(network or Network([3, 4, 2]), **{**arguments, **changes})


@pytest.mark.parametrize("bias", BIASES)
def test_layers_and_offsets(bias):
    network = Network([3, 4, 2], "relu", "identity", bias)
    plan = lower(network)
    flat = np.arange(network.n_parameters)
    for l, (W, b) in enumerate(zip(network.weights(flat), network.biases(flat), strict=True)):
        assert plan.offsets[2 * l] == W[0, 0]
        assert plan.offsets[2 * l + 1] == W[-1, -1] + 1 == (b[0] if b.size else W[-1, -1] + 1)
        assert plan.sizes[2 * l : 2 * l + 2].tolist() == [W.size, b.size]
    assert plan.layers.tolist() == [3, 4, 2]
    assert [list(ACTIVATIONS)[i] for i in plan.activations] == ["relu", "identity"]
    assert BIASES[plan.bias] == bias
    assert plan.n_parameters == network.n_parameters


# name: code, slots, hyperparameters of the optimizers in build.py that are it
ADAMS = "beta1", "beta2", "epsilon"
EXPECTED = {
    "sgd": (0, (), ()),
    "momentum": (1, ("momentum_buffer",), ("momentum", "dampening", "nesterov")),
    "velocity": (2, ("velocity",), ("momentum", "nesterov")),
    "adam": (3, ("exp_avg", "exp_avg_sq"), (*ADAMS, "epsilon_hat")),
    "amsgrad": (4, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), ADAMS),
    "nadam": (5, ("exp_avg", "exp_avg_sq"), (*ADAMS, "momentum_decay")),
    "radam": (6, ("exp_avg", "exp_avg_sq"), ADAMS),
    "adamax": (7, ("exp_avg", "exp_inf"), ADAMS),
    "adagrad": (8, ("sum",), ("lr_decay", "epsilon", "initial_accumulator_value")),
    "adadelta": (9, ("square_avg", "acc_delta"), ("rho", "epsilon")),
    "rmsprop": (10, ("square_avg",), ("alpha", "epsilon")),
    "rmsprop_momentum": (11, ("square_avg", "momentum_buffer"), ("alpha", "epsilon", "momentum")),
    "rmsprop_centered": (12, ("square_avg", "grad_avg"), ("alpha", "epsilon")),
    "rmsprop_centered_momentum": (
        13, ("square_avg", "momentum_buffer", "grad_avg"), ("alpha", "epsilon", "momentum"),
    ),
}  # fmt: skip


def test_rules_are_those_of_the_kernels():
    assert {row.name: (code, row.slots, row.hyper) for code, row in enumerate(RULES.values())} == EXPECTED
    assert [(name, row.scalars) for name, row in RULES.items() if row.scalars] == [("nadam", ("mu_product",))]


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_an_optimizer_is_lowered_with_its_hyperparameters(optimizer):
    plan = lower(optimizer=optimizer)
    row = list(RULES.values())[plan.rule]
    assert (plan.n_slots, plan.n_scalars) == (len(row.slots), len(row.scalars))
    assert optimizer.n_slots == plan.n_slots
    values = [float(getattr(optimizer, name, 0)) for name in row.hyper]
    assert plan.hyper.tolist() == values + [0] * (8 - len(values))
    assert plan.decay.tolist() == [optimizer.weight_decay] * 4
    assert plan.decoupled == (type(optimizer).__name__ == "AdamW" or getattr(optimizer, "decoupled_weight_decay", 0))


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
    assert (plan.report_scale, plan.report_rows, plan.n_statistics) == (1.0, 0, 0)
    assert plan.huber == 1.0  # PyTorch's default
    assert plan.trained.tolist() == [1] * 4


def test_parameters_of_activations():
    plan = lower(Network([3, 4, 4, 2], ["leaky_relu", "tanh"], "hardtanh(-2, 0.5)"))
    assert plan.activation_parameters.tolist() == [[0.01, 0], [0, 0], [-2, 0.5]]


def test_dropout_and_clipping():
    plan = lower(Network([3, 4, 5, 2]), dropout=(0.25, 0.5), clip_norm=2)
    assert plan.dropout.tolist() == [0.25, 0.5, 0]
    assert plan.dropout.dtype == np.float64
    assert plan.clip_norm == 2.0
    assert lower(Network([3, 2]), dropout=()).dropout.tolist() == [0]


def test_numbers_of_activations_and_losses_are_those_of_the_kernels():
    names = "sigmoid tanh relu identity softmax leaky_relu exp elu selu celu softplus softsign hardtanh relu6"
    names += " log_sigmoid gelu gelu_tanh silu mish hardswish"
    assert list(ACTIVATIONS) == names.split()
    assert [name for name, row in ACTIVATIONS.items() if row.saves == "slope"] == list(ACTIVATIONS)[15:]
    assert list(LOSSES) == ["mse", "cross_entropy", "poisson", "absolute_error", "huber"]


def test_an_optimizer_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"optimizer must be one of briskmlp's SGD, Adadelta, .*, RMSprop, got"):
        lower(optimizer=Optimizer(0.1))


# --- losses ----------------------------------------------------------------------------------------------------------


def test_pairs_that_have_no_gradient_are_refused_with_those_that_have():
    any_hidden = set(ACTIVATIONS) - {"softmax", "exp"}
    valid = {"mse": any_hidden | {"softmax"}, "cross_entropy": {"softmax", "sigmoid"}, "poisson": {"exp", "softplus"}}
    for loss in LOSSES:
        for output in ACTIVATIONS:
            if output in valid.get(loss, any_hidden):
                check_loss(loss, output)
                assert lower(Network([3, 2], output=output), loss=loss).loss == list(LOSSES).index(loss)
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
