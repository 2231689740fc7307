"""ONNX files give in onnxruntime what the network predicts, to float32 rounding."""

import csv

import numpy as np
import oracle
import pytest

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnx
import onnxruntime
from build import build
from rounding import bounds
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import _multilayer_perceptron as stock

from briskmlp import Network, Trainer, cli, estimators
from briskmlp.convert.onnx import to_onnx
from briskmlp.storage import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# every hidden activation, and every (loss, output)
HIDDEN = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
OUTPUTS = [("mse", name) for name in (*HIDDEN, "softmax")]
OUTPUTS += [("cross_entropy", "sigmoid"), ("cross_entropy", "softmax"), ("poisson", "exp"), ("huber", "identity")]


@pytest.fixture
def run(tmp_path):
    """run(model, X, …): the outputs of the file of a model, by name; X is rows, or inputs by name."""

    def outputs(model, X, **arguments):
        path = tmp_path / "model.onnx"
        to_onnx(model, path, **arguments)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        feed = X if isinstance(X, dict) else {"X": np.asarray(X, dtype=np.float32)}
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, feed), strict=True))

    return outputs


def trainer_of(case, loss, **arguments):
    network = case.network
    return Trainer(
        network.layers, hidden=network.hidden, output=network.output, bias=network.bias, loss=loss,
        initializer=case.params, dtype=case.dtype, backend="numpy", **arguments,
    )  # fmt: skip


def assert_rounding(A, case):
    """A is what float32 may make of the case's last activations.

    onnxruntime's own functions promise an absolute error: 10 u beside the numbers up to 1 that they return.
    """
    weights, biases = case.tensors(case.params)
    expected = oracle.forward(weights, biases, case.network.activations, case.X)[-1]
    assert A.dtype == np.float32
    assert A.shape == expected.shape
    u = np.finfo(np.float32).eps / 2
    # of what a hidden layer gets wrong absolutely, each neuron passes on as much as its weights' sum
    reach = np.prod([max(1.0, np.abs(W).sum(axis=0).max()) for W in weights[1:]])
    scale = np.maximum(1, np.abs(expected)) if case.network.output == "exp" else 1
    assert (np.abs(A - expected) <= bounds(case)[0] + 10 * u * (1 + 2 * reach) * scale).all()


@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_activations(run, hidden, bias):
    case = build([5, 9, 7, 3], n=40, hidden=hidden, output="identity", loss="mse", bias=bias, dtype="float32")
    assert_rounding(run(trainer_of(case, "mse"), case.X)["prediction"], case)


@pytest.mark.parametrize(
    ("loss", "output", "n_out"), [(*pair, n) for n in (1, 4) for pair in OUTPUTS if (pair[1], n) != ("softmax", 1)]
)
def test_outputs(run, loss, output, n_out):
    case = build([5, 9, n_out], n=40, hidden="tanh", output=output, loss=loss, dtype="float32")
    outputs = run(trainer_of(case, loss), case.X)
    if loss != "cross_entropy":
        assert list(outputs) == ["prediction"]
        assert_rounding(outputs["prediction"], case)
        return
    assert list(outputs) == ["label", "probabilities"]
    label, A = outputs["label"], outputs["probabilities"]
    if n_out == 1:
        assert A.shape == (40, 2)
        np.testing.assert_array_equal(A[:, 0], 1 - A[:, 1])
        A = A[:, 1:]
        np.testing.assert_array_equal(label, A[:, 0] > 0.5)
    else:
        np.testing.assert_array_equal(label, A > 0.5 if output == "sigmoid" else A.argmax(axis=1))
    assert_rounding(A, case)
    assert label.dtype == np.int64


@pytest.mark.parametrize(
    ("n_out", "classes"), [(3, ["a", "bé", "c d"]), (3, [7, -1, 30]), (1, ["no", "yes"]), (1, [1, 2])]
)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_classes_of_a_trainer(run, n_out, classes, loss):
    trainer = Trainer([4, 6, n_out], loss=loss, seed=3)
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    outputs, A = run(trainer, X, classes=classes), trainer.predict(X)
    index = A.argmax(axis=1) if n_out > 1 else (A[:, 0] > 0.5).astype(int)
    assert outputs["label"].tolist() == [classes[i] for i in index]
    np.testing.assert_allclose(outputs["probabilities"][:, -n_out:], A, atol=1e-6)  # some 10 u of numbers up to 1


@pytest.mark.parametrize(("output", "n_out"), [("sigmoid", 1), ("sigmoid", 3), ("softmax", 3)])
def test_the_file_is_what_it_says(tmp_path, n_out, output):
    to_onnx(Trainer([4, 6, n_out], output=output, loss="cross_entropy", seed=0), str(tmp_path / "model.onnx"))
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    if output == "softmax":
        assert [node.op_type for node in graph.node] == ["Gemm", "Sigmoid", "Gemm", "Softmax", "ArgMax", "Gather"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_every_constant_of_a_table_without_texts_is_used(tmp_path):
    column, network = {"categories": None, "mean": 1.0, "scale": 2.0}, Network([2, 1])
    table = {"features": [{"name": name, **column} for name in "ab"], "target": column}
    checkpoint.write(tmp_path / "model", network, np.zeros(3), {"table": table})
    to_onnx(tmp_path / "model", tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_the_tie_of_shared_biases_is_lost(tmp_path):
    trainer = Trainer([2, 3, 1], bias="layer", initializer=np.arange(11.0))
    to_onnx(trainer, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    arrays = [onnx.numpy_helper.to_array(constant) for constant in graph.initializer]
    assert [array.shape for array in arrays] == [(2, 3), (3,), (3, 1), (1,)]
    np.testing.assert_array_equal(arrays[1], trainer.biases[0].repeat(3))


@pytest.mark.parametrize("n", [1, 7])
def test_any_number_of_rows_from_any_file(run, tmp_path, n):
    trainer = Trainer([4, 6, 2], seed=0, dtype="float64")
    trainer.save(tmp_path / "model.safetensors")
    X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "model.safetensors", X)["prediction"], trainer.predict(X), atol=1e-6)


def test_the_method_of_a_trainer(tmp_path):
    trainer = Trainer([2, 3, 1], loss="cross_entropy", seed=0)
    trainer.to_onnx(tmp_path / "one.onnx", classes=["no", "yes"])
    to_onnx(trainer, tmp_path / "other.onnx", classes=["no", "yes"])
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


# --- estimators ------------------------------------------------------------------------------------------------------


both = pytest.mark.parametrize("module", [stock, estimators], ids=["scikit-learn", "briskmlp"])


def classification(labels, n_classes=3):
    X, y = make_classification(60, 5, n_informative=4, n_redundant=0, n_classes=n_classes, random_state=0)
    return X.astype(np.float32), np.asarray(labels)[y]


LABELS = {
    "ints": [5, -2, 9],
    "strings": ["eins", "zwei", "drei"],
    "floats": [0.0, -1.0, 2.0],
    "two ints": [3, 8],
    "two strings": ["nein", "ja"],
    "bools": [False, True],
}


@both
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_classifiers(run, module, labels, activation):
    X, y = classification(labels, len(labels))
    estimator = module.MLPClassifier((8, 6), activation, max_iter=5, random_state=0).fit(X, y)
    outputs = run(estimator, X)
    expected = estimator.predict_proba(X)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=2e-6)  # some 20 u of numbers up to 1
    clear = np.abs(expected - np.sort(expected)[:, -2:-1]).max(axis=1) > 1e-5  # else rounding decides
    assert clear.any()
    assert (outputs["label"] == estimator.predict(X))[clear].all()
    assert type(outputs["label"].tolist()[0]) is type(labels[0])


@both
def test_multilabel_classifiers(run, module):
    X, Y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    estimator = module.MLPClassifier((8,), "tanh", max_iter=20, random_state=0).fit(X / 10, Y)
    outputs = run(estimator, X / 10)
    np.testing.assert_allclose(outputs["probabilities"], estimator.predict_proba(X / 10), atol=2e-6)
    np.testing.assert_array_equal(outputs["label"], estimator.predict(X / 10))


@both
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_regressors(run, module, n_targets, loss):
    X, Y = make_regression(60, 5, n_targets=n_targets, random_state=0)
    Y = np.exp(Y / 200) if loss == "poisson" else Y / 100
    estimator = module.MLPRegressor(loss, (8,), "identity", max_iter=10, random_state=0).fit(X, Y)
    X = X.astype(np.float32)
    prediction = run(estimator, X)["prediction"]
    assert prediction.shape == estimator.predict(X).shape
    np.testing.assert_allclose(prediction, estimator.predict(X), rtol=1e-5, atol=2e-6)


def test_an_activation_for_each_layer(run):
    X, y = classification([0, 1], 2)
    estimator = estimators.MLPClassifier((8, 6), ["leaky_relu", "tanh"], max_iter=5, random_state=0).fit(X, y)
    np.testing.assert_allclose(run(estimator, X)["probabilities"], estimator.predict_proba(X), atol=2e-6)


def test_estimators_write_themselves(tmp_path):
    X, y = classification([0, 1], 2)
    estimator = estimators.MLPClassifier((4,), max_iter=5, random_state=0)
    with pytest.raises(NotFittedError):
        estimator.to_onnx(tmp_path / "model.onnx")
    estimator.fit(X, y).to_onnx(tmp_path / "one.onnx")
    to_onnx(estimator, tmp_path / "other.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


# --- models of the command line --------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table, trains on it, and returns the model's path and the columns."""
    rng = np.random.default_rng(0)
    columns = {
        "length": rng.normal(1000, 5, 80),
        "a colour": rng.choice(["red", "grün", "blue"], 80),
        "label": rng.normal(0, 0.1, 80),
        "shape": rng.choice(["round", "flat"], 80),
    }
    size = columns["length"] - 1000 + 3 * (columns["shape"] == "flat")
    columns["kind"] = np.where(size > 1, "big", np.where(size < -2, "small", "middle"))
    columns["size"] = 5000 + size

    def train(target, other):
        path, model = tmp_path / "table.csv", tmp_path / "model.safetensors"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
        arguments = ["--target", target, "--ignore", other, "--epochs", "5", "--seed", "1", "--out", str(model)]
        assert cli.main(["train", str(path), *arguments]) == 0
        answer = tmp_path / "predictions.csv"
        assert cli.main(["predict", str(model), str(path), "--out", str(answer)]) == 0
        with answer.open(encoding="utf-8") as file:
            predictions = list(csv.DictReader(file))
        features = {name: column[:, None] for name, column in columns.items() if name not in ("kind", "size")}
        return model, {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in features.items()}, predictions

    return train


def test_a_classifier_of_the_command_line(run, table):
    model, columns, predictions = table("kind", "size")
    outputs = run(model, columns)
    assert list(outputs) == ["label_", "probabilities"]  # a column is called label
    assert outputs["label_"].tolist() == [row["prediction"] for row in predictions]
    for j, name in enumerate(["big", "middle", "small"]):
        expected = [float(row[f"probability_{name}"]) for row in predictions]
        np.testing.assert_allclose(outputs["probabilities"][:, j], expected, atol=2e-6)


def test_a_regressor_of_the_command_line(run, table):
    model, columns, predictions = table("size", "kind")
    prediction = run(model, columns)["prediction"]
    assert prediction.dtype == np.float64
    # float32 rounding of the standardised target, times its scale of some 6; predict rounds, too
    np.testing.assert_allclose(prediction, [float(row["prediction"]) for row in predictions], rtol=0, atol=2e-5)


def test_an_unknown_text_is_zeros(run, table):
    model, columns, _ = table("size", "kind")
    columns["a colour"][:] = "violet"
    unknown = run(model, columns)["prediction"]
    stored = checkpoint.read(model)
    stored.network.weights(stored.parameters)[0][1:4] = 0  # length, blue, grün, red: those after the first
    checkpoint.write(model, stored.network, stored.parameters, stored.config)
    columns["a colour"][:] = "red"
    np.testing.assert_array_equal(run(model, columns)["prediction"], unknown)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors(tmp_path, monkeypatch):
    path, trainer = tmp_path / "model.onnx", Trainer([2, 3], seed=0)
    fitted = stock.MLPClassifier((3,), max_iter=2).fit(*classification([0, 1], 2))
    different = "accepted: 3 different ones"
    for model, classes, message in (
        ([], None, "model is a list; accepted: a Trainer, MLPClassifier"),
        (trainer, ["a"], rf"classes are \['a'\]; {different}"),
        (trainer, ["a", "a", "b"], different),
        (trainer, [(1,), None, "a"], "accepted: all integers, numbers, bools or strings"),
        *((trainer, [0, 1, n], "classes are .*accepted: .*integers") for n in (2**63, np.uint64(2**63), -(2**63) - 1)),
        (stock.MLPClassifier(), None, "MLPClassifier that is not fitted"),
        (fitted, [0, 1], "an MLPClassifier has its own"),
        (Trainer([1, 1], initializer=np.array([1e40, 0]), dtype="float64"), None, "beyond float32"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            to_onnx(model, path, classes=classes)
    monkeypatch.setattr("briskmlp.convert.onnx.LARGEST", 10)
    with pytest.raises(ValueError, match="at most 2 GiB"):
        to_onnx(trainer, path)
    assert not path.exists()


def test_a_damaged_table(tmp_path, table):
    model, _, _ = table("size", "kind")
    stored = checkpoint.read(model)
    for damage, message in (({"features": 3}, "is damaged"), ({"features": []}, "do not fit its network")):
        config = {**stored.config, "table": {**stored.config["table"], **damage}}
        checkpoint.write(model, stored.network, stored.parameters, config)
        with pytest.raises(ValueError, match=message):
            to_onnx(model, tmp_path / "model.onnx")
