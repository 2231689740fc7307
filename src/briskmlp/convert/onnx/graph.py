"""An ONNX graph from a `Model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from briskmlp.convert.onnx.model import Model, Normalisation
from briskmlp.network import FloatArray
from briskmlp.operations.activations import chosen
from briskmlp.operations.layers import LAYERS

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8  # of the same time, 2022: what runtimes of today read
N = "N"  # the number of rows, free


def build(model: Model) -> Any:
    """Return an onnx.ModelProto."""
    graph = Graph()
    A = graph.add_input("X", (N, len(model.weights[0]))) if model.columns is None else _prepare(graph, model.columns)
    if 0 in model.norms:
        A = _normalise(graph, model.norms[0], A)
    layers = zip(model.weights, model.biases, model.activations, strict=True)
    for place, (W, b, activation) in enumerate(layers, start=1):
        tensors = [graph.constant("W", _float32(W))]
        if b.size:
            tensors.append(graph.constant("b", np.broadcast_to(_float32(b), W.shape[1:])))
        A, norm = graph.add("Gemm", A, *tensors), model.norms.get(place)
        if norm is not None and not norm.after:
            A = _normalise(graph, norm, A)
        A = _activate(graph, activation, A)
        if norm is not None and norm.after:
            A = _normalise(graph, norm, A)
    finish = _finish_values if model.classes is None and not model.multilabel else _finish_classifier
    finish(graph, model, A, model.weights[-1].shape[1])
    return graph.proto()


class Graph:
    """A graph being built; it names what is between inputs and outputs."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: dict[str, Any] = {}
        self.outputs: list[Any] = []
        self.domains = {"": OPSET}

    def add_input(self, name: str, shape: tuple[Any, ...], dtype: int = TensorProto.FLOAT) -> str:
        """Add an input; return its name."""
        if not name:
            raise ValueError("a column has no name, but inputs of ONNX need one")
        self.inputs[name] = helper.make_tensor_value_info(name, dtype, shape)
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = self._new(operator.lower())
        self.nodes.append(helper.make_node(operator, inputs, [name], name, domain=domain, **attributes))
        self.domains.setdefault(domain, ML_OPSET)
        return name

    def constant(self, name: str, array: Any) -> str:
        """Add an array; return its name, which begins with ``name``."""
        name = self._new(name)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def squeeze(self, value: str) -> str:
        """Add a node that makes (N,) of (N, 1); return the name of its output."""
        return self.add("Squeeze", value, self.constant("axis", np.array([1], np.int64)))

    def add_output(self, name: str, value: str, shape: tuple[Any, ...], dtype: int) -> None:
        """Make a node's output one of the graph's, under this name, or with underscores where a column has it."""
        while name in self.inputs:
            name += "_"
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if other == value else other for other in names]
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def _new(self, name: str) -> str:
        name = f"{name}_{len(self.nodes) + len(self.constants)}"
        while name in self.inputs:
            name += "_"
        return name

    def proto(self) -> Any:
        """Return the onnx.ModelProto."""
        graph = helper.make_graph(self.nodes, "briskmlp", list(self.inputs.values()), self.outputs, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        return helper.make_model(graph, producer_name="briskmlp", opset_imports=opsets, ir_version=IR_VERSION)


def _prepare(graph: Graph, columns: Mapping[str, Any]) -> str:
    """Add an input for each column, and the nodes that compute the network's inputs, in float64 as training did."""
    for feature in columns["features"]:
        dtype = TensorProto.DOUBLE if feature["categories"] is None else TensorProto.STRING
        graph.add_input(feature["name"], (N, 1), dtype)
    parts = []
    for feature in columns["features"]:
        name, categories = feature["name"], feature["categories"]
        if categories is None:
            centred = graph.add("Sub", name, graph.constant("mean", np.float64(feature["mean"])))
            scaled = graph.add("Div", centred, graph.constant("scale", np.float64(feature["scale"])))
            parts.append(graph.add("Cast", scaled, to=TensorProto.FLOAT))
        else:
            encoder: dict[str, Any] = {"domain": "ai.onnx.ml", "cats_strings": list(categories), "zeros": 1}
            parts.append(graph.squeeze(graph.add("OneHotEncoder", name, **encoder)))
    return graph.add("Concat", *parts, axis=1)


def _normalise(graph: Graph, norm: Normalisation, A: str) -> str:
    """Add the node of a normalisation; return its name."""
    named: dict[str, FloatArray] = {"gamma": norm.gamma, "beta": norm.beta}
    if norm.statistics is not None:
        named |= {"mean": norm.statistics.mean, "variance": norm.statistics.variance}
    tensors = [graph.constant(name, _float32(array)) for name, array in named.items()]
    return graph.add(LAYERS[norm.kind].onnx, A, *tensors, epsilon=norm.eps)


def _activate(graph: Graph, activation: str, Z: str) -> str:
    """Add the nodes of an activation; return the name of the last."""
    row, values = chosen(activation)
    parameters = dict(zip(row.parameters, values, strict=True))
    made: list[str] = []

    def name(value: str | float) -> str:
        if isinstance(value, int):
            return made[value]
        if value == "Z":
            return Z
        return graph.constant("c", np.float32(parameters[value] if isinstance(value, str) else value))

    for node in row.onnx:
        attributes = {key: parameters.get(value, value) for key, value in node.attributes.items()}
        made.append(graph.add(node.operator, *map(name, node.inputs), **attributes))
    return made[-1] if made else Z


def _above_half(graph: Graph, A: str) -> str:
    return graph.add("Greater", A, graph.constant("half", np.float32(0.5)))


def _finish_classifier(graph: Graph, model: Model, A: str, n_out: int) -> None:
    """Add the classes and their probabilities."""
    if model.multilabel:
        label = graph.add("Cast", _above_half(graph, A), to=TensorProto.INT64)
        graph.add_output("label", label, (N, n_out), TensorProto.INT64)
    else:
        if n_out < len(model.classes):
            index = graph.add("Cast", graph.squeeze(_above_half(graph, A)), to=TensorProto.INT64)
            A = graph.add("Concat", graph.add("Sub", graph.constant("one", np.float32(1)), A), A, axis=1)
        else:
            index = graph.add("ArgMax", A, axis=1, keepdims=0)
        classes = _classes(model.classes)
        label = graph.add("Gather", graph.constant("classes", classes), index)
        graph.add_output("label", label, (N,), helper.np_dtype_to_tensor_dtype(classes.dtype))
    graph.add_output("probabilities", A, (N, n_out if model.multilabel else len(model.classes)), TensorProto.FLOAT)


def _finish_values(graph: Graph, model: Model, A: str, n_out: int) -> None:
    """Add the prediction, in a table in the target's own units."""
    dtype = TensorProto.FLOAT
    if model.columns is not None:
        target, dtype = model.columns["target"], TensorProto.DOUBLE
        A = graph.add("Cast", A, to=dtype)
        A = graph.add("Mul", A, graph.constant("scale", np.float64(target["scale"])))
        A = graph.add("Add", A, graph.constant("mean", np.float64(target["mean"])))
    flat = model.flat and n_out == 1
    graph.add_output("prediction", graph.squeeze(A) if flat else A, (N,) if flat else (N, n_out), dtype)


def _classes(classes: Any) -> Any:
    """Return the classes as an array of int64, float64, bool or text."""
    names = list(classes)
    if all(isinstance(name, str) for name in names):
        return np.array(names, dtype=object)
    for kinds, dtype in (("b", np.bool_), ("iu", np.int64), ("iuf", np.float64)):
        if all(np.ndim(name) == 0 and np.asarray(name).dtype.kind in kinds for name in names):
            if dtype is np.int64 and any(not -(2**63) <= int(name) < 2**63 for name in names):
                raise ValueError(f"classes are {names}; accepted: integers from -2**63 to 2**63 - 1, or strings")
            return np.array(names, dtype=dtype)
    raise TypeError(f"classes are {names}; accepted: all integers, numbers, bools or strings")


def _float32(array: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        numbers = np.asarray(array, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("model has NaN or numbers beyond float32, which is what an ONNX file is written in")
    return numbers
