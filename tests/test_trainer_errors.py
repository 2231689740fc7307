"""Bad input gets one error that names the argument, what came and what is accepted, before anything has changed."""

import pickle

import numpy as np
import pytest
from tasks import data, everything, make

from briskmlp import SGD, Adam, EarlyStopping, Trainer

CONSTRUCTOR = [  # arguments of a [3, 5, 2] Trainer, the error, its message; more in the tests of what checks them
    ({"layers": [3]}, ValueError, "layers has 1 widths, but needs at least 2"),
    ({"hidden": "rleu"}, ValueError, "hidden is 'rleu', but must be one of 'sigmoid', .* did you mean 'relu'"),
    ({"output": "sofmax"}, ValueError, "output is 'sofmax', .* did you mean 'softmax'"),
    ({"loss": "crossentropy"}, ValueError, "loss is 'crossentropy', .* did you mean 'cross_entropy'"),
    ({"loss": None}, TypeError, "loss is None"),
    ({"loss": "cross_entropy", "output": "tanh"}, ValueError, "cannot be trained with output 'tanh'; the valid pairs"),
    ({"bias": "neurons"}, ValueError, "bias is 'neurons', .* did you mean 'neuron'"),
    ({"optimizer": "adam"}, TypeError, r"optimizer must be one of SGD, .*Adam, .* such as SGD.* got 'adam'"),
    ({"optimizer": SGD}, TypeError, "optimizer must be one of .* got <class"),
    ({"batch_size": 0}, ValueError, "batch_size is 0, but must be >= 1"),
    ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
    ({"batch_size": 2**70}, ValueError, "batch_size is 1180591620717411303424"),
    ({"l2": -0.1}, ValueError, "l2 is -0.1, but must be >= 0"),
    ({"l2": float("nan")}, ValueError, "l2 is nan"),
    ({"l2": "0.1"}, TypeError, "l2 must be a number, got '0.1'"),
    ({"l2": float("inf")}, ValueError, "^l2 is inf, but "),
    ({"l2": 10**400}, ValueError, "^l2 is 10000.*, but "),
    ({"clip_norm": 10**400}, ValueError, "^clip_norm is 10000.*, but "),
    ({"dropout": 1.0}, ValueError, "dropout is 1.0, but must be >= 0 and < 1"),
    ({"dropout": float("nan")}, ValueError, "dropout is nan"),
    ({"dropout": "0.5"}, TypeError, "dropout must be a number, got '0.5'"),
    ({"dropout": np.array("a")}, TypeError, "dropout must be a number"),
    ({"dropout": b"ab"}, TypeError, "dropout must be a number, got b'ab'"),
    ({"dropout": None}, TypeError, "dropout must be a number, got None"),
    ({"dropout": [0.1, 0.2]}, ValueError, "dropout has 2 values, but the network has 1 hidden layer"),
    ({"dropout": [1.5]}, ValueError, r"dropout\[0\] is 1.5, but must be >= 0 and < 1"),
    ({"dropout": [True]}, TypeError, r"dropout\[0\] must be a number, got True"),
    ({"clip_norm": 0}, ValueError, "clip_norm is 0, but must be > 0"),
    ({"clip_norm": float("inf")}, ValueError, "clip_norm is inf"),
    ({"clip_norm": "1"}, TypeError, "clip_norm must be a number, got '1'"),
    ({"dtype": "float16"}, ValueError, "dtype is 'float16', but must be one of 'float32', 'float64'"),
    ({"dtype": int}, ValueError, "dtype is 'int64'"),
    ({"dtype": None}, TypeError, "dtype is None"),
    ({"dtype": "nonsense"}, ValueError, "dtype is 'nonsense'"),
    ({"precision": "bfloat16", "dtype": "float64"}, ValueError, "precision='bfloat16' needs dtype='float32'"),
    ({"precision": "higest"}, ValueError, "precision is 'higest', .* did you mean 'highest'"),
    ({"shuffle": 1}, TypeError, "shuffle must be True or False, got 1"),
    ({"seed": -1}, ValueError, "seed is -1, but must be >= 0 and <= 18446744073709551615"),
    ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
    ({"seed": "zero"}, TypeError, "seed must be an integer, got 'zero'"),
    ({"threads": 0}, ValueError, "threads is 0, but must be >= 1"),
    ({"threads": 1.5}, TypeError, "threads must be an integer, got 1.5"),
    ({"backend": "Numba"}, ValueError, "backend is 'Numba', .* did you mean 'numba'"),
    ({"backend": None}, TypeError, "backend is None"),
    ({"initializer": "golrot"}, ValueError, "initializer is 'golrot', .* did you mean 'glorot'"),
    ({"initializer": np.zeros(3)}, ValueError, "initializer has 3 numbers, but the network has 32 parameters"),
    ({"initializer": 5}, TypeError, "initializer must be one of 'glorot', 'he', a flat array"),
    ({"initializer": lambda: 0}, TypeError, "initializer must be"),
    ({"initializer": [([[0.0]], [0.0], 1)] * 2}, ValueError, r"of lengths \[3\], but each must be a pair"),
    ({"initializer": [([[0.0], [0.0, 1.0]], [0.0])] * 2}, ValueError, r"initializer's W\[0\] is ragged"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), CONSTRUCTOR)
def test_the_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        Trainer(**{"layers": [3, 5, 2], "backend": "auto", **arguments})


def spoiled(array, row, value, column=None):
    array = np.array(array, dtype=np.float64)
    array[row if column is None else (row, column)] = value
    return array


X, Y, _ = data("mse", 10)
LABELS, BINARY = np.arange(10) % 4, np.arange(10) % 2
ONES = np.ones(10)
FIT = [  # task, what differs from a good fit, the error, its message
    ("mse", {"epochs": -1}, ValueError, "epochs is -1, but must be >= 0"),
    ("mse", {"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
    ("mse", {"epochs": True}, TypeError, "epochs must be an integer, got True"),
    ("mse", {"X": spoiled(X, 5, np.nan, 2)}, ValueError, "X has nan at row 5, column 2; values must be finite"),
    ("mse", {"X": X[:, :2]}, ValueError, "X has 2 columns, but the network's first layer has 3 neurons"),
    ("mse", {"X": X[:9]}, ValueError, "Y has 10 rows, but X has 9"),
    ("mse", {"X": None}, TypeError, "X is None"),
    ("mse", {"Y": None}, TypeError, "Y is None"),
    ("mse", {"Y": Y[:, :1]}, ValueError, "Y has 1 column .*, but the network's last layer has 2 neurons"),
    ("mse", {"Y": spoiled(Y, 7, np.inf, 1)}, ValueError, "Y has inf at row 7, column 1"),
    ("mse", {"Y": BINARY}, ValueError, 'class labels need loss="cross_entropy"'),
    ("softmax", {"Y": spoiled(LABELS, 3, 4).astype(int)}, ValueError, "Y has label 4 at row 3; labels must be 0 to 3"),
    ("softmax", {"Y": LABELS * 1.0}, ValueError, "class labels need an integer dtype"),
    ("softmax", {"Y": np.ones((10, 4))}, ValueError, "Y sums to 4 at row 0; each row must sum to 1"),
    ("softmax", {"metrics": "mae"}, ValueError, "metric 'mae' needs dense targets"),
    ("binary", {"Y": BINARY + 1}, ValueError, "Y has 2.0 at row 1, column 0; targets of this loss must be from 0 to 1"),
    ("mse", {"sample_weight": -ONES}, ValueError, "sample_weight has -1.0 at row 0; weights must be 0 or more"),
    ("mse", {"sample_weight": ONES * 0}, ValueError, "sample_weight sums to 0; accepted: a positive, finite sum"),
    ("mse", {"sample_weight": ONES[:9]}, ValueError, "sample_weight has 9 rows, but X has 10"),
    ("mse", {"sample_weight": "balanced"}, TypeError, "sample_weight is a str"),
    ("mse", {"validation_data": (X,)}, TypeError, r"validation_data must be \(X, Y\) or .* got a tuple of 1"),
    ("mse", {"validation_data": X}, TypeError, "validation_data must be .* got a ndarray"),
    ("mse", {"validation_data": (X[:, :2], Y)}, ValueError, "validation X has 2 columns"),
    ("mse", {"validation_data": (X, Y[:5])}, ValueError, "^validation Y has 5 rows, but validation X has 10$"),
    ("mse", {"validation_data": (X, Y, -ONES)}, ValueError, "validation sample_weight has -1.0 at row 0"),
    ("mse", {"metrics": ["acuracy"]}, ValueError, "metrics is 'acuracy', .* did you mean 'accuracy'"),
    ("mse", {"metrics": None}, TypeError, "metrics must be a name or a sequence of names"),
    ("mse", {"callbacks": EarlyStopping()}, TypeError, "callbacks must be a list of objects"),
    ("mse", {"callbacks": [EarlyStopping]}, TypeError, r"callbacks\[0\] is a class, not an object of it"),
    ("mse", {"callbacks": [EarlyStopping("loss"), print]}, TypeError, r"callbacks\[1\] has no hook"),
    ("mse", {"callbacks": [EarlyStopping()]}, ValueError, "monitor is 'val_loss', .* pass validation_data to fit"),
    ("mse", {"progress": "yes"}, TypeError, "progress must be True, False or None, got 'yes'"),
]


@pytest.fixture(scope="module")
def trainers():
    """One Trainer per task, with state that an error could spoil."""
    made = {}
    for task, targets in (("mse", Y), ("softmax", LABELS), ("binary", BINARY)):
        trainer = make(task, backend="numpy", optimizer=Adam(), batch_size=4)
        trainer.fit(X, targets, epochs=2)
        made[task] = trainer, targets
    return made


@pytest.mark.parametrize(("task", "arguments", "error", "message"), FIT)
def test_fit_refuses_before_anything_has_changed(trainers, task, arguments, error, message):
    trainer, targets = trainers[task]
    before, kept = everything(trainer), pickle.dumps(trainer)
    arguments = {"X": X, "Y": targets, "epochs": 1, **arguments}
    with pytest.raises(error, match=message):
        trainer.fit(arguments.pop("X"), arguments.pop("Y"), **arguments)
    assert everything(trainer) == before
    assert pickle.dumps(trainer) == kept


@pytest.mark.parametrize("member", ["evaluate", "loss_and_gradient", "partial_fit"])
def test_the_other_members_refuse_the_same(trainers, member):
    trainer, targets = trainers["softmax"]
    call, before = getattr(trainer, member), everything(trainer)
    with pytest.raises(ValueError, match="X has nan at row 5, column 2"):
        call(spoiled(X, 5, np.nan, 2), targets)
    with pytest.raises(ValueError, match="Y has label 4 at row 0"):
        call(X, targets + 4)
    with pytest.raises(ValueError, match="sample_weight sums to 0"):
        call(X, targets, ONES * 0)
    with pytest.raises(TypeError, match="X has dtype complex128"):
        call(X * 1j, targets)
    assert everything(trainer) == before


@pytest.mark.parametrize("bad", [spoiled(X, 5, np.nan, 2), X[:, :1], X[:0], X * 1j, None, "abc", X[0]])
def test_predict_refuses(trainers, bad):
    out = np.full((10, 2), 7.0, dtype="f4")
    with pytest.raises((ValueError, TypeError), match=r"^X "):
        trainers["mse"][0].predict(bad, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize(("rate", "error"), [(float("nan"), ValueError), (-1.0, ValueError), ("0.1", TypeError)])
def test_a_bad_rate_of_a_schedule_is_refused_between_epochs(rate, error):
    rates = [0.1, 0.1, rate, 0.1]
    optimizer = SGD(lambda epoch: rates[epoch])
    trainer, twin = (make("mse", backend="numpy", optimizer=optimizer, batch_size=4) for _ in range(2))
    twin.fit(X, Y, epochs=2)
    with pytest.raises(error, match="learning_rate"):
        trainer.fit(X, Y, epochs=4, callbacks=[EarlyStopping("loss", patience=9)])  # epoch by epoch
    assert everything(trainer) == everything(twin)
    rates[2] = 0.1
    assert len(trainer.fit(X, Y, epochs=2)) == 2


@pytest.mark.parametrize("name", [
    "network", "loss", "optimizer", "l2", "dropout", "clip_norm", "dtype", "precision", "shuffle", "seed", "threads",
])  # fmt: skip
def test_what_the_plan_was_made_of_cannot_be_assigned(name):
    trainer = Trainer([2, 1], backend="numpy")
    before = getattr(trainer, name)
    with pytest.raises(AttributeError, match=f"{name} cannot be changed"):
        setattr(trainer, name, before)
    assert getattr(trainer, name) == before


def test_a_state_that_overflows_is_divergence(backend_name):
    """Adam's v overflows in float32 long before any weight does, and would stop all learning."""
    trainer = Trainer([1, 1], output="identity", optimizer=Adam(1e-3), seed=0, backend=backend_name)
    before = trainer.parameters.copy()
    with pytest.raises(FloatingPointError, match="diverged"):
        trainer.fit([1e12], [1e13], epochs=3)
    np.testing.assert_array_equal(trainer.parameters, before)


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (-5, ValueError), (2.5, TypeError), ("a", TypeError)])
def test_a_new_batch_size_is_checked(value, kind):
    trainer = Trainer([2, 1], batch_size=4, backend="numpy")
    with pytest.raises(kind, match=r"^batch_size "):
        trainer.batch_size = value
    assert trainer.batch_size == 4


def test_labels_for_sigmoid_outputs_are_told_what_they_need():
    trainer = Trainer([1, 3], output="sigmoid", loss="cross_entropy", backend="numpy")
    with pytest.raises(ValueError, match=r'class labels need output="softmax"$'):
        trainer.fit([1.0, 2.0, 3.0], [0, 1, 2], epochs=1)


def test_counts_are_not_negative():
    trainer = Trainer([1, 2], loss="poisson", backend="numpy")
    X, counts = [1.0, 2.0], np.array([[0, 3], [1, -2]])
    message = r"Y has -2\.0 at row 1, column 1; targets of this loss must be 0 or more$"
    for call in (trainer.partial_fit, trainer.evaluate):
        with pytest.raises(ValueError, match="^" + message):
            call(X, counts)
    with pytest.raises(ValueError, match="^validation " + message):
        trainer.fit(X, abs(counts), epochs=1, validation_data=(X, counts))
    trainer.fit(X, abs(counts), epochs=1)
