"""The rows of the tables: f and f' against the oracle where they are hard, in both dtypes, and what rows say."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import oracle
import pytest
from build import TEXTS

from briskmlp import Trainer
from briskmlp.operations.activations import ACTIVATIONS, HIDDEN, chosen
from briskmlp.operations.losses import LOSSES
from briskmlp.operations.rules import RULES, Time

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


@pytest.mark.parametrize("text", [*TEXTS, "exp"])
def test_kinks_are_where_the_slope_jumps(text):
    choice = chosen(text)
    for z in np.concatenate([NEAR, [-1.5, 1.5]]):
        below, above = (oracle.slope(text, x, oracle.activate(text, x)) * 1.0 for x in (z - 1e-9, z + 1e-9))
        assert (abs(above - below) > 1e-6 * max(1, abs(above))) == (z in choice.row.kinks(*choice.values)), z


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_which_activations_are_homogeneous(name):
    """Doubling is exact, so that no rounding hides f(2z) = 2 f(z)."""
    Z, f = NEAR[:, None], chosen(name).f
    assert np.array_equal(f(2 * Z), 2 * f(Z)) == ACTIVATIONS[name].homogeneous


def test_softmax_is_smooth_and_reaches_its_bounds():
    row = ACTIVATIONS["softmax"]
    A = row.f(np.array([[-200.0, 0.0, 200.0]]))
    assert (A.min(), A.max(), row.kinks()) == (pytest.approx(0), 1, ())
    assert row.range() == (0, 1)


def test_rows_are_complete():
    """What a row says of other libraries is held to these elsewhere; here, that it says something."""
    for name, row in ACTIVATIONS.items():
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
        assert len(row.slots) <= 3
        assert len(row.initial_scalars) == len(row.scalars)


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
def test_its_onnx_nodes_compute_it(tmp_path, text):
    """In a file of one layer whose W is 1; onnxruntime computes in float32."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    choice, loss = chosen(text), "poisson" if text == "exp" else "mse"
    trainer = Trainer([3, 3], output=text, loss=loss, bias="none", initializer=np.eye(3).ravel(), backend="numpy")
    trainer.to_onnx(tmp_path / "f.onnx")
    Z = np.linspace(-8, 8, 90, dtype="float32").reshape(30, 3)
    session = onnxruntime.InferenceSession(tmp_path / "f.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": Z})[0], choice.f(Z.astype(float)), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_tables_agree():
    """What C's rows say of names, places and state is what Python's say, in the same order; Numba's are as many."""

    def rows(kind, *cells):
        shown = " ".join(f"#{cell}" for cell in cells)
        source = f'#define {kind}({", ".join([*cells, "..."])}) row {shown}\n#include "operations.def"\n'
        command = ["cc", "-E", "-P", "-I", Path(__file__).parents[1] / "kernels", "-"]
        text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
        return [tuple(re.findall(r"\w+", row)) for row in text.split("row")[1:]]

    places = {True: "ANYWHERE", False: "OUTPUT"}
    passes = ("identity", "softmax")
    saves = {name: "nothing" if name in passes else row.saves for name, row in ACTIVATIONS.items()}
    expected = [(name.upper(), places[row.hidden], saves[name].upper()) for name, row in ACTIVATIONS.items()]
    assert rows("ACTIVATION", "name", "where", "saves") == expected
    assert rows("RULE", "name", "slots", "scalars") == [
        (k.upper(), str(len(r.slots)), str(len(r.scalars))) for k, r in RULES.items()
    ]
    assert [name for (name,) in rows("LOSS", "name")] == [name.upper() for name in LOSSES]
    pairs = {(name.upper(), output.upper()) for name, row in LOSSES.items() for output in row.outputs}
    of_errors = {(loss, name.upper()) for loss in ("MSE", "ABSOLUTE_ERROR", "HUBER") for name in HIDDEN}
    assert pairs == of_errors | {*rows("PAIR", "loss", "output")}
    numba = pytest.importorskip("briskmlp.backends.numba.activations")
    assert [len(row) == 1 for row in numba.ROWS] == [row.saves == "slope" for row in ACTIVATIONS.values()]
    assert len(importlib.import_module("briskmlp.backends.numba.update").RULES) == len(RULES)


@pytest.mark.parametrize("row", RULES.values(), ids=list(RULES))
def test_whether_a_step_depends_on_its_number(row):
    moved = []
    for step in (1, 40):
        w, slots = np.ones(3), np.full((len(row.slots), 3), 0.25)
        row.step(w, np.array([-1.0, 0.5, 2.0]), slots, Time(0.1, step, np.array([0.5])), *[0.5] * len(row.hyper))
        moved.append(w.tolist())
    assert (moved[0] != moved[1]) == row.counts_steps
