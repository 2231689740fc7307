"""Initial parameters: their range and spread, given arrays, and what is refused before anything is written."""

import re

import numpy as np
import pytest

from briskmlp.initializers import check_initializer, initialize
from briskmlp.network import Network
from briskmlp.operations.activations import ACTIVATIONS


def weights(network, initializer=None, seed=0, dtype="float64"):
    parameters = np.full(network.n_parameters, np.nan, dtype)
    initialize(network, initializer, seed, parameters)
    assert all((b == 0).all() for b in network.biases(parameters))
    return network.weights(parameters)


@pytest.mark.parametrize(("activation", "initializer", "bound"), [
    ("sigmoid", None, 4 * np.sqrt(6 / 500)),
    ("tanh", None, np.sqrt(6 / 500)),
    ("identity", None, np.sqrt(6 / 500)),
    ("softmax", None, np.sqrt(6 / 500)),
    *((name, None, np.sqrt(6 / 300)) for name in ("relu", "leaky_relu", "elu", "celu", "softplus", "relu6")),
    *((name, None, np.sqrt(6 / 300)) for name in ("gelu", "gelu_tanh", "silu", "mish", "hardswish", "elu(2.0)")),
    *((name, None, np.sqrt(6 / 500)) for name in ("softsign", "hardtanh", "log_sigmoid")),
    ("selu", None, np.sqrt(3 / 300)),
    ("exp", None, np.sqrt(6 / 500)),
    *((name, "glorot", np.sqrt(6 / 500)) for name in ACTIVATIONS if name != "sigmoid"),
    ("tanh", "he", np.sqrt(6 / 300)),
])  # fmt: skip
def test_weights_are_uniform_within_the_bound(activation, initializer, bound):
    (W,) = weights(Network([300, 200], output=activation), initializer)
    assert np.abs(W).max() <= bound
    assert np.abs(W).max() > 0.999 * bound
    # Mean and variance of 60000 numbers, within five standard deviations.
    assert abs(W.mean()) < 5 * bound / np.sqrt(3 * W.size)
    assert W.var() == pytest.approx(bound**2 / 3, rel=5 * np.sqrt(0.8 / W.size))


def test_layers_seeds_and_dtypes():
    first, second = weights(Network([20, 20, 20]))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, weights(Network([20, 20, 20]), seed=1)[0])
    np.testing.assert_array_equal(first, weights(Network([20, 20]))[0])  # a layer's do not depend on the others
    np.testing.assert_array_equal(weights(Network([20, 20]), dtype="float32")[0], first.astype("float32"))


@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
def test_given_arrays_are_taken(bias):
    network = Network([2, 3, 1], bias=bias)
    flat = np.arange(network.n_parameters, dtype=float)
    for given in (flat, list(zip(network.weights(flat), network.biases(flat), strict=True)), flat.astype("int16")):
        parameters = np.full(network.n_parameters, np.nan, "float32")
        initialize(network, given, 0, parameters)
        np.testing.assert_array_equal(parameters, flat)


GOOD = ([[1.0], [2.0]], [3.0])
REFUSED = [
    (np.zeros(4), ValueError, "initializer has 4 numbers, but the network has 3 parameters"),
    (np.array([1.0, np.nan, 2.0]), ValueError, "initializer has values that are not finite as float32"),
    (np.array([1.0, 1e39, 2.0]), ValueError, "initializer has values that are not finite as float32"),
    (np.array([1j, 2, 3]), TypeError, "initializer has dtype complex128, but must hold real numbers"),
    ([GOOD, GOOD], ValueError, "initializer has 2 (W, b) pairs, but the network has 1 layers"),
    ([([[1.0, 2.0]], [3.0])], ValueError, "initializer's W[0] has shape (1, 2), but needs (2, 1)"),
    ([([[1.0], [2.0]], [3.0, 4.0])], ValueError, "initializer's b[0] has shape (2,), but needs (1,)"),
    ([([[1.0], ["x"]], [3.0])], TypeError, "initializer's W[0] has dtype"),
    ([([[1.0], [np.inf]], [3.0])], ValueError, "initializer's W[0] has values that are not finite"),
]


@pytest.mark.parametrize(("given", "error", "message"), REFUSED)
def test_bad_arrays_are_refused_before_anything_is_written(given, error, message):
    parameters = np.full(3, 7.0, "float32")
    with pytest.raises(error, match=re.escape(message)):
        initialize(Network([2, 1]), given, 0, parameters)
    assert (parameters == 7).all()


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match=r"initializer is 'glorott'.*did you mean 'glorot'"):
        check_initializer("glorott")
    check_initializer("he")
    check_initializer(None)
