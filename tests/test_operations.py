"""The rows of the tables: f and f' against the oracle where they are hard, in both dtypes, and what rows say."""

import math

import numpy as np
import oracle
import pytest
from build import TEXTS

from briskmlp.operations.activations import ACTIVATIONS, chosen
from briskmlp.operations.losses import LOSSES
from briskmlp.operations.rules import RULES

NEAR = np.array([-6.0, -3, -1, -0.5, 0, 0.5, 1, 3, 6, 15, 20])
HARD = np.concatenate([NEAR, NEAR - 1e-3, NEAR + 1e-3, np.linspace(-12, 12, 200), [-1e4, -200, -90, -40, 40, 88, 1e4]])
HARD = np.concatenate([HARD, [-0.0, 1e-30, -1e-30]])


@pytest.mark.parametrize("text", [*TEXTS, "exp"])
def test_f_and_its_slope_where_they_are_hard(dtype, text):
    """The tails keep their relative precision: arguments of exponentials are at most 2 Z², and round."""
    choice, Z = chosen(text), HARD.astype(dtype)
    Z = np.minimum(Z, 80) if text == "exp" else Z
    A = choice.f(Z)
    assert A.dtype == dtype
    eps, tiny = np.finfo(dtype).eps, float(np.finfo(dtype).tiny)
    wide = Z.astype(float)
    with np.errstate(under="ignore"):
        expected = oracle.activate(text, wide)
    rounds = 10 + 2 * np.minimum(np.minimum(wide, 0) ** 2, 400) + (np.abs(wide) if text == "exp" else 0)
    assert (np.abs(A - expected) <= rounds * eps * np.abs(expected) + 2 * tiny).all()
    low, high = choice.row.range(*choice.values)
    assert low <= A.min() <= (-50 if low == -np.inf else low + 0.01)
    assert (50 if high == np.inf else high - 0.01) <= A.max() <= high
    with np.errstate(under="ignore"):
        slope = choice.through(np.ones_like(A), A if choice.slope(Z) is None else choice.slope(Z))
        expected = oracle.slope(text, wide, expected) * 1.0
    assert slope.dtype == dtype
    away = np.ones(len(Z), bool)
    for kink in choice.row.kinks(*choice.values):
        away &= np.abs(wide - kink) > 4 * eps * abs(kink)
    np.testing.assert_allclose(slope[away], expected[away], rtol=20 * eps * (80 if text == "exp" else 1), atol=60 * eps)


@pytest.mark.parametrize("text", TEXTS)
def test_kinks_are_where_the_slope_jumps(text):
    choice = chosen(text)
    for z in np.concatenate([NEAR, [-1.5, 1.5]]):
        below, above = (oracle.slope(text, x, oracle.activate(text, x)) * 1.0 for x in (z - 1e-9, z + 1e-9))
        assert (abs(above - below) > 1e-6) == (z in choice.row.kinks(*choice.values)), z


def test_rows_are_complete():
    """What a row says of other libraries is held to these elsewhere; here, that it says something."""
    for name, row in ACTIVATIONS.items():
        assert row.name == name
        assert row.saves in ("A", "exact_A", "slope")
        assert row.gain in ("glorot", "he", "lecun")
        assert len(row.parameters) <= 2
        assert row.torch.module or row.torch.functions
        assert row.onnx or name == "identity"
        if row.kind is not None:
            assert row.kind.activation == name
            assert str(row.kind()) == name
    for row in LOSSES.values():
        assert {row.default("tanh", 1), row.default("tanh", 3)} <= set(row.outputs)
    for row in RULES.values():
        assert len(row.hyper) <= 8
        assert len(row.slots) <= 3
        assert len(row.initial_scalars) == len(row.scalars)


def test_selus_constants_give_normal_numbers_mean_0_and_variance_1():
    """What they are for (Klambauer et al. 2017): E f(Z) = 0 and E f(Z)² = 1 for standard normal Z."""
    Z = np.linspace(-12, 12, 240001)
    density = np.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi) * (Z[1] - Z[0])
    A = chosen("selu").f(Z)
    assert (A * density).sum() == pytest.approx(0, abs=1e-8)
    assert (A**2 * density).sum() == pytest.approx(1, abs=1e-8)


@pytest.mark.torch
@pytest.mark.parametrize("text", [*TEXTS, "softmax", "exp"])
def test_torch_has_it_under_the_names_that_rows_say(text):
    """Its module takes parameters by our names, its functions in our order."""
    torch = pytest.importorskip("torch")
    (row, values), Z = chosen(text), np.linspace(-8, 8, 90).reshape(30, 3)
    options = row.torch.options | ({"dim": 1} if text == "softmax" else {})
    functions = [getattr(torch.nn.functional, name, None) or getattr(torch, name) for name in row.torch.functions]
    found = [function(torch.tensor(Z), *values, **options) for function in functions]
    if row.torch.module is not None:
        parameters = dict(zip(row.parameters, values, strict=True))
        found.append(getattr(torch.nn, row.torch.module)(**parameters, **options)(torch.tensor(Z)))
    for each in found:
        np.testing.assert_allclose(each.numpy(), row.f(Z, *values), rtol=1e-10, atol=1e-14)


def test_scikit_learn_has_it_under_the_name_that_rows_say():
    functions = pytest.importorskip("sklearn.neural_network._base").ACTIVATIONS
    assert sorted(row.sklearn for row in ACTIVATIONS.values() if row.sklearn) == sorted({*functions} - {"exp"})
    for row in ACTIVATIONS.values():
        if row.sklearn:
            Z = np.linspace(-8, 8, 90).reshape(30, 3)
            expected = row.f(Z)
            functions[row.sklearn](Z)  # in place
            np.testing.assert_allclose(expected, Z, rtol=1e-12)


@pytest.mark.parametrize("text", [*TEXTS, "softmax", "exp"])
def test_its_onnx_nodes_compute_it(text):
    """As ONNX's own evaluator does it, in opset 17."""
    onnx, reference = pytest.importorskip("onnx"), pytest.importorskip("onnx.reference")
    row, values = chosen(text)
    parameters, Z = dict(zip(row.parameters, values, strict=True)), np.linspace(-8, 8, 90).reshape(30, 3)
    nodes, constants = [], {}
    for i, node in enumerate(row.onnx):
        inputs = []
        for given in node.inputs:
            if isinstance(given, float) or given in parameters:
                inputs.append(f"c{len(constants)}")
                constants[inputs[-1]] = np.array(parameters.get(given, given))
            else:
                inputs.append(given if given == "Z" else f"n{given}")
        attributes = {key: parameters.get(value, value) for key, value in node.attributes.items()}
        nodes.append(onnx.helper.make_node(node.operator, inputs, [f"n{i}"], **attributes))
    if not nodes:
        assert text == "identity"
        return
    graph = onnx.helper.make_graph(
        nodes, "f", [onnx.helper.make_tensor_value_info("Z", onnx.TensorProto.DOUBLE, [None, 3])],
        [onnx.helper.make_tensor_value_info(f"n{len(nodes) - 1}", onnx.TensorProto.DOUBLE, [None, 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    (found,) = reference.ReferenceEvaluator(model).run(None, {"Z": Z})
    # attributes are float32, and so is the evaluator's erf
    np.testing.assert_allclose(found, row.f(Z, *values), rtol=1e-6, atol=1e-7)
