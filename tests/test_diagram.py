"""The Mermaid diagrams: nodes, arrows, labels, and what is left out of wide layers."""

import re

import numpy as np
import pytest

from briskmlp.diagram import MAX_DRAWN
from briskmlp.network import Network

NODE = r'([A-Za-z]\w*)(?:\(\("([^"]*)"\)\)|\["([^"]*)"\])?'
ARROW = re.compile(rf'^{NODE} (-->|-\.->)(?:\|"([^"]*)"\|)? {NODE}$')


def parse(text):
    """Return {node: label} and {(source, target): (arrow, label)}; every line must be understood."""
    nodes, arrows, titles = {}, {}, []
    first, *lines = text.split("\n")
    assert first == "graph LR"
    for line in map(str.strip, lines):
        if match := re.match(r'^subgraph layer\d+\["([^"]+)"\]$', line):
            titles.append(match[1])
        elif match := ARROW.match(line):
            source, source_circle, source_box, arrow, label, target, target_circle, target_box = match.groups()
            for node, found in ((source, source_circle or source_box), (target, target_circle or target_box)):
                nodes[node] = found or nodes.get(node)
            assert (source, target) not in arrows
            arrows[source, target] = arrow, label
            # Mermaid renders a label that looks like a Markdown list as an error
            assert label is None or not re.match(r"[-+*] |\d+\. ", label)
        elif line != "end":
            match = re.fullmatch(NODE, line)
            assert match, line
            assert match[1] not in nodes
            nodes[match[1]] = match[2] or match[3]
    assert "end" not in nodes
    return nodes, arrows, titles


def textbook():
    network = Network([2, 2, 2], bias="layer")
    parameters = np.zeros(network.n_parameters)
    W1, W2 = network.weights(parameters)
    W1[...] = [[0.15, 0.25], [0.20, 0.30]]
    W2[...] = [[0.40, 0.50], [0.45, 0.55]]
    for b, value in zip(network.biases(parameters), (0.35, 0.60), strict=True):
        b[...] = value
    return network, parameters


def test_textbook_network():
    network, parameters = textbook()
    nodes, arrows, titles = parse(network.to_mermaid(parameters=parameters))
    assert list(nodes) == ["x1", "x2", "h1", "h2", "o1", "o2", "B1", "B2"]
    assert all(node == label for node, label in nodes.items())
    assert {pair: label for pair, (_, label) in arrows.items()} == {
        ("x1", "h1"): "0.15", ("x2", "h1"): "0.2", ("x1", "h2"): "0.25", ("x2", "h2"): "0.3",
        ("h1", "o1"): "0.4", ("h2", "o1"): "0.45", ("h1", "o2"): "0.5", ("h2", "o2"): "0.55",
        ("B1", "h1"): "0.35", ("B1", "h2"): "0.35", ("B2", "o1"): "0.6", ("B2", "o2"): "0.6",
    }  # fmt: skip
    hidden, output = ("hidden layer 1: 2 neurons, sigmoid", "output layer: 2 neurons, sigmoid")
    assert titles == ["input layer: 2 neurons", hidden, output]
    _, unlabelled, _ = parse(network.to_mermaid())
    assert unlabelled == dict.fromkeys(arrows, ("-->", None))


def test_biases():
    parameters = np.array([1.0, 2.0, 3.0, 4e-7], dtype=np.float32)
    _, arrows, _ = parse(Network([1, 2], output="softmax").to_mermaid(parameters=parameters))
    assert (arrows["B1", "o1"], arrows["B1", "o2"]) == (("-->", "3"), ("-->", "4e-07"))
    for kind in ("network", "neuron"):
        assert "B1" not in parse(Network([2, 3, 1], bias="none").to_mermaid(kind))[0]


def test_wide_layers_are_elided():
    network = Network([784, MAX_DRAWN, MAX_DRAWN + 1, 10], hidden=["relu", "tanh"])
    parameters = np.arange(network.n_parameters, dtype=np.float64)
    nodes, arrows, titles = parse(network.to_mermaid(parameters=parameters))
    assert list(nodes)[:5] == ["x1", "x2", "x3", "x_rest", "x784"]
    assert nodes["x_rest"] == "⋮"
    assert f"h1_{MAX_DRAWN}" in nodes
    assert "h1_rest" not in nodes
    assert {"h2_3", "h2_rest", f"h2_{MAX_DRAWN + 1}", "o_rest", "o10"} <= set(nodes)
    assert "h2_4" not in nodes
    assert titles[0] == "input layer: 784 neurons"
    assert titles[2] == f"hidden layer 2: {MAX_DRAWN + 1} neurons, tanh"
    assert arrows["x_rest", "h1_1"] == arrows["B3", "o_rest"] == ("-.->", None)
    assert arrows["x784", "h1_2"] == ("-->", f"{network.weights(parameters)[0][783, 1]:.4g}")
    assert arrows["B1", "h1_2"] == ("-->", f"{network.biases(parameters)[0][1]:.4g}")


def test_neuron():
    network, parameters = textbook()
    nodes, arrows, titles = parse(network.to_mermaid("neuron", parameters))
    assert nodes == {"x1": "x1", "x2": "x2", "B1": "B1", "sum": "Σ", "f": "sigmoid(z)", "a": "a"}
    assert [label for _, label in arrows.values()] == ["× 0.15", "× 0.2", "0.35", "z", None]
    assert titles == []
    _, arrows, _ = parse(Network([100, 2]).to_mermaid("neuron"))
    assert [label for _, label in arrows.values()] == ["× w1", "× w2", "× w3", None, "× w100", "b", "z", None]


def test_errors_name_the_argument():
    network = Network([2, 1])
    with pytest.raises(ValueError, match=r"parameters has shape \(4,\), but this network's have shape \(3,\)"):
        network.to_mermaid(parameters=np.zeros(4))
    with pytest.raises(ValueError, match=r"kind is 'neurons'.*did you mean 'neuron'"):
        network.to_mermaid("neurons")
