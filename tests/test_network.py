"""The architecture: offsets and views of the flat parameters, the summary, and what is refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from briskmlp import CELU, ELU, Hardtanh, LeakyReLU, Softplus
from briskmlp.network import BIASES, Network
from briskmlp.operations.activations import chosen


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.sampled_from(BIASES))
def test_views_cover_the_flat_buffer_once_and_in_order(layers, bias):
    network = Network(layers, bias=bias)
    flat = np.arange(network.n_parameters, dtype=float)
    pairs = list(zip(network.weights(flat), network.biases(flat), strict=True))
    np.testing.assert_array_equal(np.concatenate([part.ravel() for pair in pairs for part in pair]), flat)
    for (W, b), n_in, n_out in zip(pairs, layers[:-1], layers[1:], strict=True):
        assert W.shape == (n_in, n_out)
        assert b.shape == ({"neuron": n_out, "layer": 1, "none": 0}[bias],)
        assert np.shares_memory(W, flat)
        W[...] = -1
        b[...] = -1
    assert (flat == -1).all()


def test_activations_one_name_or_one_per_layer():
    assert Network([2, 3, 4, 1], "relu").activations == ("relu", "relu", "sigmoid")
    assert Network([2, 3, 4, 1], ["relu", "tanh"], "softmax").activations == ("relu", "tanh", "softmax")
    assert Network([2, 1], output="identity").activations == ("identity",)


@pytest.mark.parametrize(("given", "text"), [
    (LeakyReLU(), "leaky_relu"), (LeakyReLU(0.2), "leaky_relu(0.2)"), ("leaky_relu(0.01)", "leaky_relu"),
    ("leaky_relu ( 0.2 )", "leaky_relu(0.2)"), ("elu()", "elu"), (ELU(alpha=2), "elu(2.0)"), ("celu(0.5)", "celu(0.5)"),
    (CELU(0.5), "celu(0.5)"), (Softplus(2), "softplus(2.0, 20.0)"), ("softplus(threshold=30)", "softplus(1.0, 30.0)"),
    (Hardtanh(0, 6), "hardtanh(0.0, 6.0)"), ("hardtanh(max_val=6, min_val=-2)", "hardtanh(-2.0, 6.0)"),
])  # fmt: skip
def test_activations_with_parameters(given, text):
    """A name, an object and a text for the same are the same, in lists, too; the text reads back as itself."""
    for network in (Network([2, 3, 1], given, given), Network([2, 3, 1], [given], text)):
        assert network.activations == (text, text)
    assert chosen(text) == chosen(Network([2, 3, 1], text).hidden[0])
    assert len(chosen(text).values) == len(chosen(text).row.parameters)


PARAMETERS = [
    (LeakyReLU, {"negative_slope": -0.1}, "negative_slope is -0.1, but must be >= 0"),
    (ELU, {"alpha": -1}, "alpha is -1, but must be >= 0"),
    (CELU, {"alpha": 0}, "alpha is 0, but must be > 0"),
    (Softplus, {"beta": 0}, "beta is 0, but must be > 0"),
    (Softplus, {"threshold": 1}, "threshold is 1, but must be >= 16"),
    (Hardtanh, {"min_val": 1}, "max_val is 1.0, but must be > 1"),
    (Hardtanh, {"max_val": float("inf")}, "max_val is inf, but must be finite and > -1"),
]


@pytest.mark.parametrize(("cls", "arguments", "message"), PARAMETERS)
def test_parameters_from_which_no_slope_follows_are_refused(cls, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(**arguments)
    with pytest.raises(TypeError, match="must be a number"):
        cls(**dict.fromkeys(arguments, "x"))


@pytest.mark.parametrize("bias", BIASES)
def test_tensors(bias):
    """PyTorch's names, and offsets that follow each other; nothing has statistics yet."""
    network = Network([3, 4, 2], bias=bias)
    sizes = {"neuron": (4, 2), "layer": (1, 1), "none": (0, 0)}[bias]
    expected = [("0.weight", (3, 4)), ("0.bias", sizes[:1]), ("2.weight", (4, 2)), ("2.bias", sizes[1:])]
    assert [(tensor.name, tensor.shape) for tensor in network.tensors] == expected
    assert [tensor.layer for tensor in network.tensors] == [0, 0, 1, 1]
    ends = np.cumsum([tensor.size for tensor in network.tensors]).tolist()
    assert [tensor.offset for tensor in network.tensors] == [0, *ends[:-1]]
    assert (network.statistics, network.n_statistics) == ((), 0)


def test_it_is_a_value():
    assert Network([2, 3]) == Network((2, np.int64(3)))
    assert hash(Network([2, 3])) == hash(Network([2, 3]))
    assert Network([2, 3]) != Network([2, 3], bias="none")
    assert (Network([5, 4, 3]).n_in, Network([5, 4, 3]).n_out, Network([5, 4, 3]).n_layers) == (5, 3, 2)


REFUSED = [
    (([3],), {}, ValueError, "layers has 1 widths, but needs at least 2"),
    (([],), {}, ValueError, "layers has 0 widths"),
    (([3, 0],), {}, ValueError, "layers[1] is 0, but must be >= 1"),
    (([3, -2, 1],), {}, ValueError, "layers[1] is -2"),
    (([3, 2.0],), {}, TypeError, "layers[1] must be an integer, got 2.0"),
    (([True, 2],), {}, TypeError, "layers[0] must be an integer, got True"),
    (("34",), {}, TypeError, "layers must be a sequence of widths"),
    ((5,), {}, TypeError, "layers must be a sequence of widths"),
    (([3, 2, 1], "relut"), {}, ValueError, "hidden is 'relut'"),
    (([3, 2, 1], "relut"), {}, ValueError, "did you mean 'relu'?"),
    (([3, 2, 1], "softmax"), {}, ValueError, "hidden is 'softmax'"),
    (([3, 2, 1], ["relu", "relu"]), {}, ValueError, "hidden has 2 values, but the network has 1 hidden layer"),
    (([3, 2, 1], ["rely"]), {}, ValueError, "did you mean 'relu'?"),
    (([3, 1],), {"output": "Softmax"}, ValueError, "did you mean 'softmax'?"),
    (([3, 1],), {"output": None}, TypeError, "output is None, but must be one of"),
    (([3, 1],), {"bias": "neurons"}, ValueError, "did you mean 'neuron'?"),
    (([3, 1],), {"bias": True}, TypeError, "bias is True, but must be one of 'neuron', 'layer', 'none'"),
    (([3, 2, 1], "exp"), {}, ValueError, "hidden is 'exp', but must be one of"),
    (([3, 2, 1], None), {}, TypeError, "hidden is None, but must be one of"),
    (([3, 2, 1], [3]), {}, TypeError, "hidden[0] is 3"),
    (([1, 10**5000],), {}, ValueError, "layers[1] is above 2**63 - 1"),
    (([2**32, 2**32],), {}, ValueError, "parameters, more than can be counted"),
    (({3, 4},), {}, TypeError, "layers must be a seq"),
    (([3, 2, 1], "qqqq"), {}, ValueError, "hidden is 'qqqq', but must be one of 'sigmoid', 'tanh', 'relu', 'identity"),
    (([3, 2, 1], "softmax(1)"), {}, ValueError, "hidden is 'softmax'"),
    (([3, 2, 1], "tanh(1)"), {}, ValueError, "hidden is 'tanh(1)', but tanh has no parameters"),
    (([3, 2, 1], "elu(1, 2)"), {}, ValueError, "hidden is 'elu(1, 2)', but elu takes alpha=1.0"),
    (([3, 2, 1], "elu(beta=2)"), {}, ValueError, "hidden is 'elu(beta=2)', but elu takes alpha=1.0"),
    (([3, 2, 1], "elu(x)"), {}, ValueError, "hidden is 'elu(x)', but elu takes alpha=1.0"),
    (([3, 2, 1], "elu(alpha=1, alpha=2)"), {}, ValueError, "but elu takes alpha=1.0"),
    (([3, 2, 1], "elu(-1)"), {}, ValueError, "hidden is 'elu(-1)': alpha is -1.0, but must be >= 0"),
    (([3, 2, 1], "leaky_relu(nan)"), {}, ValueError, "': negative_slope is nan, but must be finite and >= 0"),
    (([3, 1],), {"output": "hardtanh(2)"}, ValueError, "output is 'hardtanh(2)': max_val is 1.0"),
]


@pytest.mark.parametrize(("args", "keywords", "error", "message"), REFUSED)
def test_bad_arguments_are_refused_by_name(args, keywords, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Network(*args, **keywords)


def test_a_hint_only_where_something_is_near():
    with pytest.raises(ValueError, match=r"'hardswish'$"):
        Network([3, 2, 1], "qqqq")


def test_summary_counts_parameters_and_memory():
    text = Network([784, 100, 10], "relu", "softmax").summary()
    assert re.search(r"1 +784 -> 100 +relu +78,500\n", text)
    assert re.search(r"2 +100 -> 10 +softmax +1,010\n", text)
    assert text.endswith("total: 79,510 parameters, 310.6 KiB as float32")
    assert Network([784, 100, 10]).summary("float64").endswith("621.2 KiB as float64")
    assert Network([2, 3, 1], bias="layer").summary().endswith("total: 11 parameters, 44 bytes as float32")
    assert Network([2, 3, 1], bias="none").n_parameters == 9
