"""The network diagram: every line is a weight, with its width, colour and dashes, and all texts can be read."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.neural_network import MLPRegressor as StockRegressor

from briskmlp import MLPClassifier, Network, Trainer
from briskmlp.plotting import NetworkDisplay

SOLID = (0, None)  # what collections make of "-"


def network(layers, *, bias="neuron", seed=0, **arguments):
    trainer = Trainer(layers, bias=bias, seed=seed, backend="numpy", **arguments)
    trainer.parameters[...] = np.random.default_rng(seed).normal(size=len(trainer.parameters))
    return trainer


def lines_of(display, layer):
    """Return {(source, target): (width, RGB, dashed)}; the source "B" is the bias node."""
    at = {tuple(np.round(node.center, 6)): key for key, node in display.nodes_.items()}
    for bias_layer, square in display.bias_nodes_.items():
        at[tuple(np.round(square.get_center(), 6))] = bias_layer, "B"
    edges, found = display.edges_[layer], {}
    looks = edges.get_linewidths(), edges.get_colors(), edges.get_linestyles()
    for segment, width, color, style in zip(edges.get_segments(), *looks, strict=True):
        (from_layer, source), (to_layer, target) = (at[tuple(np.round(end, 6))] for end in segment)
        assert (from_layer, to_layer) == (layer, layer + 1)
        assert (source, target) not in found
        found[source, target] = width, tuple(color[:3]), style != SOLID
    return found


@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
def test_every_weight_is_a_line(bias):
    trainer = network([2, 3, 4, 1], bias=bias)
    display = NetworkDisplay.from_trainer(trainer)
    assert len(display.nodes_) == 2 + 3 + 4 + 1
    assert len(display.bias_nodes_) == (3 if bias == "layer" else 0)
    assert (display.colorbar_ is not None) == (bias == "neuron")
    positive, negative = {to_rgb("#0072B2")}, {to_rgb("#D55E00")}
    for layer, (W, b) in enumerate(zip(trainer.weights, trainer.biases, strict=True)):
        lines = lines_of(display, layer)
        weights = {(i, j): W[i, j] for i, j in np.ndindex(W.shape)}
        if bias == "layer":
            weights |= {("B", j): b[0] for j in range(W.shape[1])}
        assert lines.keys() == weights.keys()
        largest = max(abs(w) for w in weights.values())
        for key, w in weights.items():
            width, color, dashed = lines[key]
            assert width == pytest.approx(3.0 * abs(w) / largest)
            assert {color} == (negative if w < 0 else positive)
            assert dashed == (w < 0)
        widths = display.edges_[layer].get_linewidths()
        assert list(widths) == sorted(widths)  # the wide ones on top


def test_the_shade_of_a_neuron_is_its_bias():
    trainer = network([1, 5, 2])
    trainer.biases[0][...] = [-2.0, -1.0, 0.0, 1.0, 2.0]
    trainer.biases[1][...] = 0.0
    nodes = NetworkDisplay.from_trainer(trainer).nodes_
    red, _, blue = np.array([nodes[1, neuron].get_facecolor()[:3] for neuron in range(5)]).T
    assert (np.diff(blue - red) > 0).all()
    assert (blue - red)[2] == pytest.approx(0, abs=0.01)  # white, in steps of 1/256
    assert [nodes[1, neuron].get_linestyle() == "-" for neuron in range(5)] == [False, False, True, True, True]
    assert nodes[0, 0].get_facecolor()[:3] == (1, 1, 1)


def test_wide_layers_are_elided():
    trainer = network([784, 12, 13, 3])
    nodes = NetworkDisplay.from_trainer(trainer).nodes_
    drawn = [[neuron for layer, neuron in nodes if layer == wanted] for wanted in range(4)]
    assert drawn == [
        [0, 1, 2, 3, 4, 5, 779, 780, 781, 782, 783],
        list(range(12)),
        [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12],
        [0, 1, 2],
    ]
    display = NetworkDisplay.from_trainer(trainer, max_neurons=3)
    assert [neuron for layer, neuron in display.nodes_ if layer == 2] == [0, 12]
    assert lines_of(display, 1).keys() == set(itertools.product([0, 11], [0, 12]))
    largest = np.abs(trainer.weights[1][np.ix_([0, 11], [0, 12])]).max()
    assert max(width for width, *_ in lines_of(display, 1).values()) == pytest.approx(3.0)
    assert f"widest line: {largest:.3g}" in " ".join(text.get_text() for text in display.ax_.texts)


def test_parameters_are_those_of_the_moment():
    trainer = network([2, 2])
    display = NetworkDisplay.from_trainer(trainer)
    kept = display.parameters.copy()
    trainer.parameters[...] = 0
    assert np.array_equal(display.parameters, kept)


def test_no_weights_no_lines():
    trainer = network([2, 2, 1])
    trainer.parameters[...] = 0
    display = NetworkDisplay.from_trainer(trainer)
    assert [width for edges in display.edges_ for width in edges.get_linewidths()] == [0] * 6
    display.figure_.draw_without_rendering()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators():
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 3
    classifier = MLPClassifier(hidden_layer_sizes=(4, 2), activation=["tanh", "logistic"], max_iter=2, random_state=0)
    display = NetworkDisplay.from_estimator(classifier.fit(X, y))
    assert display.network == Network([3, 4, 2, 3], ["tanh", "sigmoid"], "softmax")
    for W, coef in zip(display.network.weights(display.parameters), classifier.coefs_, strict=True):
        assert np.array_equal(W, coef)
    for b, intercept in zip(display.network.biases(display.parameters), classifier.intercepts_, strict=True):
        assert np.array_equal(b, intercept)
    stock = StockRegressor(hidden_layer_sizes=(2,), max_iter=2, random_state=0).fit(X, y)
    assert NetworkDisplay.from_estimator(stock).network == Network([3, 2, 1], "relu", "identity")


def texts_of(display):
    return [text for text in display.ax_.texts if text.get_text()]


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("shape", range(4))
def test_texts_are_inside_and_do_not_overlap(shape, size):
    """Each shape with each size, each of which has both kinds of bias."""
    layers = [[1, 1], [30, 6, 1], [784, 300, 100, 10], [2, 1, 2, 1, 2, 1]][shape]
    figsize, bias = [None, (4.0, 3.0), (12.0, 4.0), (3.0, 8.0)][size], ["neuron", "layer"][(shape + size) % 2]
    names = {"input_labels": [f"measurement {i}" for i in range(layers[0])], "output_labels": ["class"] * layers[-1]}
    ax = None if figsize is None else plt.subplots(figsize=figsize, layout="constrained")[1]
    display = NetworkDisplay.from_trainer(network(layers, bias=bias), ax=ax, **names)
    figure, ax = display.figure_, display.ax_
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts_of(display)]
    legend = ax.get_legend().get_window_extent()
    whole = figure.bbox.padded(1)  # a pixel
    for box in [*boxes, legend]:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
    for one, other in itertools.combinations([*boxes, legend], 2):
        assert not one.padded(-0.5).overlaps(other)
    for node, box in itertools.product(display.nodes_.values(), [legend]):
        assert not node.get_window_extent().overlaps(box)
    if display.colorbar_ is not None:
        bar = display.colorbar_.ax.get_tightbbox()
        assert bar.x1 <= whole.x1
        assert not bar.overlaps(legend)


def test_names():
    trainer = network([2, 2, 1, 1], bias="layer")
    display = NetworkDisplay.from_trainer(trainer, input_labels=["a", "b"], output_labels=["c"])
    texts = [text.get_text() for text in texts_of(display)]
    assert {"a", "b", "c", "$x_{2}$", "$h^{(1)}_{2}$", "$h^{(2)}_{1}$", "$o_{1}$", "$B_{1}$", "$B_{3}$"} <= set(texts)
    assert "hidden layer 2\n1 neuron\nsigmoid\nwidest line: " in "".join(texts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_neurons": 2}, "max_neurons is 2, but must be >= 3"),
        ({"max_linewidth": -1.0}, "max_linewidth is -1.0, but must be >= 0"),
        ({"input_labels": ["a"]}, "input_labels has 1 names, but the network has 2 of these"),
        ({"output_labels": "abc"}, "output_labels has 3 names, but the network has 1 of these"),
    ],
)
def test_errors_name_the_argument(wrong, message):
    with pytest.raises(ValueError, match=message):
        NetworkDisplay.from_trainer(network([2, 1]), **wrong)
    assert plt.get_fignums() == []


def test_errors_of_what_is_drawn():
    with pytest.raises(TypeError, match="trainer must be a Trainer, got MLPClassifier"):
        NetworkDisplay.from_trainer(MLPClassifier())
    with pytest.raises(ValueError, match="estimator is not fitted"):
        NetworkDisplay.from_estimator(MLPClassifier())
    with pytest.raises(ValueError, match=r"parameters has shape \(4,\), but this network's have shape \(3,\)"):
        NetworkDisplay(Network([2, 1]), np.zeros(4))
    with pytest.raises(ValueError, match="parameters has numbers that are not finite"):
        NetworkDisplay(Network([2, 1]), np.full(3, np.nan))
