"""What the estimators have beyond scikit-learn's."""

import itertools
import pickle
import re
import warnings

import numpy as np
import oracle
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import _multilayer_perceptron as stock
from sklearn.utils.class_weight import compute_sample_weight
from tasks import assert_same_model

from briskmlp import ELU, LeakyReLU, MLPClassifier, MLPRegressor, from_sklearn
from briskmlp.backends import dispatch, threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
T = np.sin(X[:, :2] @ np.array([[1.0, 2.0], [0.5, -1.0]]))  # targets of regressions
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 0}


def outputs(estimator, X, activations):
    """Return the last weighted sums, from the equations."""
    A = X
    for W, b, activation in zip(estimator.coefs_, estimator.intercepts_, [*activations, "identity"], strict=True):
        A = oracle.activate({"logistic": "sigmoid"}.get(activation, activation), A @ W + b)
    return A


def loss_and_gradient(estimator, Y, theta):
    return estimator._loss_grad_lbfgs(theta, X, Y, None, [X], [], [], [])


# --- activations and losses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activations", [["relu", "tanh"], ("logistic", "identity"), ["leaky_relu", "relu"]])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_activation_per_layer(activations, solver):
    regressor = MLPRegressor(**SMALL, activation=activations, solver=solver).fit(X, T)
    np.testing.assert_allclose(regressor.predict(X), outputs(regressor, X, activations), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_list_of_one_activation_is_that_activation(solver):
    fits = [MLPClassifier(**SMALL, solver=solver, activation=a).fit(X, y) for a in ("tanh", ["tanh", "tanh"])]
    assert_same_model(*fits)


LOSSES = {
    "absolute_error": lambda e: np.abs(e).sum(axis=1).mean(),
    "huber": lambda e: np.where(np.abs(e) <= 1, e**2 / 2, np.abs(e) - 0.5).sum(axis=1).mean(),
    "squared_error": lambda e: (e**2 / 2).mean(axis=1).mean(),  # scikit-learn's report is the mean over outputs
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["tanh", ["leaky_relu", "tanh"]])
def test_loss_and_its_gradient(loss, activation):
    regressor = MLPRegressor(**SMALL, activation=activation, loss=loss, solver="lbfgs", alpha=0.0).fit(X, T)
    hidden = [activation] * 2 if isinstance(activation, str) else activation
    theta = np.concatenate([own.ravel() for own in regressor.coefs_ + regressor.intercepts_])
    Y = 3 * T + 0.7  # no error is 0, where the absolute value has no derivative, and some are above 1
    E, gradient = loss_and_gradient(regressor, Y, theta)
    assert pytest.approx(LOSSES[loss](outputs(regressor, X, hidden) - Y), rel=1e-12) == E
    (slope,) = oracle.central_difference(lambda: loss_and_gradient(regressor, Y, theta)[0], [theta])
    scale = 2.0 if loss == "squared_error" else 1.0  # its gradient is of the sum over the two outputs
    # central differences: rounding 1e-16 E / 1e-6, and steps over a kink, each at most 1e-6 of one row in 150
    np.testing.assert_allclose(scale * slope, gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_robust_losses_withstand_outliers(solver):
    x = np.random.default_rng(0).uniform(-1, 1, (300, 1))
    truth = 2 * x[:, 0] + 0.5
    spoilt = truth + 50.0 * (np.arange(300) % 10 == 0)
    parameters = {"solver": solver, "max_iter": 400, "learning_rate_init": 0.01, "random_state": 0}
    absolute, huber, squared = (
        np.abs(MLPRegressor(loss, (8,), **parameters).fit(x, spoilt).predict(x) - truth).mean()
        for loss in ("absolute_error", "huber", "squared_error")
    )
    assert max(absolute, huber) < 0.5 < squared


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_what_scikit_learn_lacks_takes_very_sparse_rows_too(solver):
    rows = sparse.random_array((60, 100), density=0.01, rng=np.random.default_rng(0), format="csc")
    classes = np.arange(60) % 3
    parameters = {**SMALL, "activation": "leaky_relu", "solver": solver}
    given = MLPClassifier(**parameters).fit(rows, classes)
    dense = MLPClassifier(**parameters).fit(rows.toarray(), classes)
    assert_same_model(given, dense, 1e-12)
    np.testing.assert_allclose(given.predict_proba(rows), dense.predict_proba(rows.toarray()), rtol=1e-9)


@pytest.mark.parametrize(
    "given", [ELU(0.3), ["elu(alpha=0.3)", "tanh()"], [LeakyReLU(0.2), "gelu"], "logistic()"], ids=str
)
def test_activations_with_parameters(given, tmp_path):
    """As objects and as text; and what is made of the estimator knows them."""
    from briskmlp.plotting import NetworkDisplay

    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40.0)
    sizes = (4,) * (len(given) if isinstance(given, list) else 1)
    estimator = clone(MLPRegressor(hidden_layer_sizes=sizes, activation=given, max_iter=3)).fit(X, y)
    estimator.to_onnx(tmp_path / "model.onnx")
    NetworkDisplay.from_estimator(estimator)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict(X), estimator.predict(X))


# --- class_weight -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("class_weight", "labels"),
    [
        *(("balanced", np.array(names)[y]) for names in (["p", "q", "r"], ["p", "q", "q"])),
        *(({"p": 3.0, "q": 0.5}, np.array(names)[y]) for names in (["p", "q", "r"], ["p", "q", "q"])),
        ([{0: 1.0, 1: 2.0}, {0: 3.0, 1: 1.0}], np.stack([y > 0, y > 1], axis=1).astype(int)),
    ],
)
def test_class_weight_is_a_sample_weight(solver, class_weight, labels):
    given = np.random.default_rng(0).uniform(0.5, 2, len(y))
    weighted = MLPClassifier(**SMALL, solver=solver, class_weight=class_weight).fit(X, labels, given)
    weight = given * compute_sample_weight(class_weight, labels)
    assert_same_model(weighted, stock.MLPClassifier(**SMALL, solver=solver).fit(X, labels, weight), 1e-9)


def test_class_weight_in_partial_fit():
    parts = [slice(60, 90), slice(90, 150), slice(0, 60)]  # none has all classes
    for weights, slices in (({0: 1.0, 1: 2.0, 2: 3.0}, [slice(None)]), ({0: 2.0}, parts)):
        a, b = MLPClassifier(**SMALL, class_weight=weights), stock.MLPClassifier(**SMALL)
        for rows in slices:
            a.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
            b.partial_fit(X[rows], y[rows], [weights.get(label, 1.0) for label in y[rows]], classes=[0, 1, 2])
        assert_same_model(a, b, 1e-9)
    with pytest.raises(ValueError, match="class_weight='balanced' needs all of y at once"):
        MLPClassifier(**SMALL, class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


# --- dropout and clipping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.3, [0.3, 0.0]])
def test_dropout_follows_from_random_state_alone(dropout):
    fits = [MLPClassifier(**SMALL, dropout=dropout, n_threads=n).fit(X, y) for n in (1, 2)]
    assert_same_model(*fits)
    for changed in ({}, {"random_state": 1, "dropout": dropout}):
        other = MLPClassifier(**{**SMALL, **changed}).fit(X, y)
        assert not np.array_equal(other.coefs_[0], fits[0].coefs_[0])


def test_dropout_of_each_epoch_is_new():
    one = {**SMALL, "max_iter": 1, "shuffle": False, "learning_rate_init": 1e-300, "n_iter_no_change": 1000}
    losses = MLPClassifier(**{**one, "max_iter": 4}, dropout=0.5).fit(X, y).loss_curve_
    assert len(set(losses)) == 4
    pieces = MLPClassifier(**one, dropout=0.5).fit(X, y)
    for _ in range(3):
        pieces.partial_fit(X, y)
    assert len(set(pieces.loss_curve_)) == 4


def test_dropped_units_learn_nothing_and_do_not_show_in_predictions():
    rate = 1 - 2**-16  # hardly any unit is kept
    classifier = MLPClassifier(**SMALL, alpha=0.0, dropout=[0.0, rate]).fit(X, y)
    initial = stock.MLPClassifier(**{**SMALL, "learning_rate_init": 1e-300, "alpha": 0.0}).fit(X, y)
    np.testing.assert_array_equal(classifier.coefs_[0], initial.coefs_[0])
    assert classifier.predict_proba(X).std(axis=0).min() > 0


def test_clip_norm():
    parameters = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "max_iter": 1, "batch_size": 150}

    def flat(cls, **more):
        model = cls(**{**SMALL, **parameters, **more}).fit(X, T)
        return np.concatenate([part.ravel() for part in model.coefs_ + model.intercepts_])

    start = flat(stock.MLPRegressor, learning_rate_init=1e-300)
    free, clipped, loose = (flat(MLPRegressor, clip_norm=c) for c in (None, 1e-3, 1e6))
    np.testing.assert_array_equal(loose, free)
    steps = clipped - start, free - start
    assert np.linalg.norm(steps[0]) == pytest.approx(0.1 * 1e-3, rel=1e-9)
    np.testing.assert_allclose(steps[0] * np.linalg.norm(steps[1]), steps[1] * np.linalg.norm(steps[0]), atol=1e-12)


@pytest.mark.parametrize(("backend", "held"), [("native", [1, 1, 1]), ("numpy", [0, 0, 0])])
def test_lbfgs_holds_blas_and_lets_it_go(monkeypatch, backend, held):
    """Between evaluations, where threads of BLAS would spin; not if those are the backend's. An interrupt ends it."""
    if (reason := dispatch.backends()[backend]) is not None:
        pytest.skip(reason)
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    monkeypatch.setenv("BRISKMLP_BACKEND", backend)
    holders, own = [], MLPClassifier._loss_grad_lbfgs

    def loss_and_gradient(*arguments):
        holders.append(threads._blas.holders)
        if len(holders) == 3:
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(MLPClassifier, "_loss_grad_lbfgs", loss_and_gradient)
    with pytest.raises(KeyboardInterrupt):
        MLPClassifier(**SMALL, solver="lbfgs").fit(X, y)
    assert (holders, threads._blas.holders) == (held, 0)


def test_divergence_that_scikit_learn_cannot_compute():
    regressor = MLPRegressor(**SMALL, solver="sgd", activation="leaky_relu", learning_rate_init=1e6, momentum=0.0)
    with pytest.raises(ValueError, match="training diverged"):
        regressor.fit(X, 1e6 * T)


# --- initial weights, dtype, threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_initial_weights(solver):
    drawn = stock.MLPClassifier(**{**SMALL, "random_state": 5, "learning_rate_init": 1e-300, "max_iter": 1}).fit(X, y)
    given = MLPClassifier(
        **SMALL, solver=solver, initial_coefs=drawn.coefs_, initial_intercepts=drawn.intercepts_, shuffle=False
    ).fit(X, y)
    expected = stock.MLPClassifier(**{**SMALL, "random_state": 5}, solver=solver, shuffle=False).fit(X, y)
    assert_same_model(given, expected, 1e-9)
    assert not np.shares_memory(given.coefs_[0], drawn.coefs_[0])


def test_dtype():
    single = MLPClassifier(**SMALL, dtype="float32").fit(X, y)
    assert {own.dtype for own in single.coefs_ + single.intercepts_} == {np.dtype("float32")}
    assert single.predict_proba(X).dtype == np.float32
    assert_same_model(single, MLPClassifier(**SMALL).fit(X.astype(np.float32), y))
    double = MLPClassifier(**SMALL, dtype="float64").fit(X.astype(np.float32), y)
    assert double.coefs_[0].dtype == np.float64
    with pytest.raises(ValueError, match="X contains infinity"):
        MLPClassifier(**SMALL, dtype="float32").fit(X * 1e300, y)
    for rows in (np.full((1, 4), 1e300), sparse.csr_array(np.full((1, 4), 1e300)), [[1e300] * 4]):
        with pytest.raises(ValueError, match="X contains infinity"):
            single.predict_proba(rows)


def test_threads_change_nothing():
    fits = [MLPClassifier(**{**SMALL, "hidden_layer_sizes": (256,)}, n_threads=n).fit(X, y) for n in (1, 2)]
    assert_same_model(*fits)


# --- decision_function ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_decision_function(solver, activation):
    parameters = {**SMALL, "solver": solver, "activation": activation, "logits": True}
    classifier = MLPClassifier(**parameters).fit(X, y)
    Z = classifier.decision_function(X)
    np.testing.assert_allclose(Z, outputs(classifier, X, [activation] * 2), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(oracle.softmax(Z), classifier.predict_proba(X), rtol=1e-12)
    binary = MLPClassifier(**parameters).fit(X, y > 1)
    assert binary.decision_function(X).shape == (len(X),)
    np.testing.assert_array_equal(binary.decision_function(X) > 0, binary.predict(X))
    lists = MLPClassifier(**parameters).fit(X, np.eye(3, dtype=int)[y])
    np.testing.assert_array_equal(lists.decision_function(sparse.csr_array(X)) > 0, lists.predict(X) == 1)


# --- validation data --------------------------------------------------------------------------------------------------


def test_validation_loss_curve():
    train, held_out = np.arange(0, 150, 2), np.arange(1, 150, 2)
    plain = MLPClassifier(**SMALL).fit(X[train], y[train])
    watched = MLPClassifier(**SMALL).fit(X[train], y[train], validation_data=(X[held_out], y[held_out]))
    assert_same_model(watched, plain)
    assert len(watched.validation_loss_curve_) == watched.n_iter_
    p = watched.predict_proba(X[held_out])[np.arange(len(held_out)), y[held_out]]
    assert watched.validation_loss_curve_[-1] == pytest.approx(-np.log(p).mean(), rel=1e-12)
    weight = np.random.default_rng(0).uniform(0, 2, len(held_out))
    weighted = MLPClassifier(**SMALL).fit(X[train], y[train], validation_data=(X[held_out], y[held_out], weight))
    assert weighted.validation_loss_curve_[-1] == pytest.approx(-np.average(np.log(p), weights=weight), rel=1e-12)
    assert not hasattr(plain, "validation_loss_curve_")
    watched.fit(X, y, validation_data=(X, y))
    assert len(watched.validation_loss_curve_) == watched.n_iter_
    assert not hasattr(watched.fit(X, y), "validation_loss_curve_")


def test_validation_data_of_a_regressor():
    regressor = MLPRegressor(**SMALL).fit(X, T, validation_data=(X[:20], T[:20]))
    expected = 0.5 * ((regressor.predict(X[:20]) - T[:20]) ** 2).mean()
    assert regressor.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_validation_data_with_sparse_labels(early_stopping):
    labels, curves = np.eye(3, dtype=int)[y], []
    for given in (labels[::3], sparse.csr_array(labels[::3])):
        watched = MLPClassifier(**SMALL, early_stopping=early_stopping).fit(X, labels, validation_data=(X[::3], given))
        curves.append((watched.validation_loss_curve_, watched.validation_scores_))
    assert curves[0] == curves[1]


def test_validation_data_stops_early():
    watched = MLPClassifier(**SMALL, early_stopping=True).fit(X, y, validation_data=(X[::3], y[::3]))
    assert len(watched.validation_scores_) == watched.n_iter_
    assert watched.best_validation_score_ == watched.score(X[::3], y[::3])


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_functions_are_called_after_each_epoch_and_stop():
    seen = []

    def watch(estimator, epoch, logs):
        seen.append((epoch, logs["loss"], estimator.loss_curve_[-1], sorted(logs)))
        return "no"  # only True stops

    def stop(estimator, epoch, logs):
        return epoch == 3

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        estimator = MLPClassifier(**SMALL, callbacks=[watch, stop]).fit(X, y, validation_data=(X, y))
    assert estimator.n_iter_ == 3
    assert [epoch for epoch, *_ in seen] == [1, 2, 3]
    assert all(loss == last for _, loss, last, _ in seen)
    assert seen[0][3] == ["epoch", "learning_rate", "loss", "val_loss"]
    MLPClassifier(**SMALL, callbacks=watch, early_stopping=True).fit(X, y)
    assert seen[-1][3] == ["epoch", "learning_rate", "loss", "val_score"]


def test_an_interrupt_ends_training_as_in_scikit_learn():
    def interrupt(estimator, epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator = MLPClassifier(**SMALL, callbacks=interrupt).fit(X, y)
    assert estimator.n_iter_ == 2
    assert_same_model(estimator.set_params(callbacks=None).partial_fit(X, y), estimator)


def test_an_interrupt_within_an_epoch(ctrl_c):
    estimator = MLPClassifier(**{**SMALL, "batch_size": 5})
    with ctrl_c(3), pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator.fit(X, y)
    assert estimator._optimizer.t == estimator._model.session.position.step > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.partial_fit(X, y)
    assert len(estimator.loss_curve_) == 1


def test_scikit_learn_s_callbacks():
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    calls = []

    class Recorder:
        def setup(self, estimator, context):
            calls.append("setup")

        def on_fit_task_begin(self, estimator, context):
            calls.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, X=None):
            calls.append(f"end {context.task_name}")
            if context.task_name == "epoch":
                assert fitted_estimator.coefs_[0] is not estimator.coefs_[0]
                np.testing.assert_array_equal(fitted_estimator.predict(X), estimator.predict(X))
            return context.task_name == "epoch" and context.task_id == 1

        def teardown(self, estimator, context):
            calls.append("teardown")

    assert isinstance(Recorder(), callback.FitCallback)
    estimator = MLPClassifier(**SMALL).set_callbacks(Recorder()).fit(X, y)
    assert estimator.n_iter_ == 2
    assert calls == ["setup", "begin fit", *["begin epoch", "end epoch"] * 2, "end fit", "teardown"]
    calls.clear()
    estimator.set_params(solver="lbfgs").fit(X, y)
    assert calls == ["setup", "begin fit", "end fit", "teardown"]
    estimator.set_params(solver="adam").partial_fit(X, y)
    monitor = callback.ScoringMonitor(scoring="accuracy")
    estimator = MLPClassifier(**SMALL, learning_rate_init=0.05).set_callbacks(monitor).fit(X, y)
    scores = [record["accuracy"] for record in monitor.get_logs().data if record["task_name"] == "epoch"]
    assert len(scores) == estimator.n_iter_
    assert scores[-1] == estimator.score(X, y) > scores[0]


def test_progress(capsys):
    MLPClassifier(**SMALL, progress=True).fit(X, y)
    assert "5/5" in capsys.readouterr().err
    MLPClassifier(**SMALL).fit(X, y)
    assert capsys.readouterr().err == ""


def test_extras_survive_adoption():
    adopted = from_sklearn(stock.MLPClassifier(**SMALL).fit(X, y)).set_params(dropout=0.2, activation="leaky_relu")
    assert adopted.partial_fit(X, y).predict(X).shape == y.shape


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        ({"activation": ["relu"]}, {}, "activation has 1 value, but the network has 2 hidden layers"),
        *(
            ({"activation": ["relu", bad]}, {}, re.escape(f"activation[1] is {bad!r}, but must be one of"))
            for bad in ("rleu", "sigmoid", 1, ["relu"])
        ),
        ({"activation": "rleu"}, {}, "The 'activation' parameter of MLPClassifier must be"),
        ({"activation": "leaky_relu"}, {"sample_weight": -np.ones(len(y))}, "sample_weight must be 0 or more"),
        ({"dropout": [0.1, 0.2, 0.3]}, {}, "dropout has 3 values, but the network has 2 hidden layers"),
        ({"dropout": [0.1, 1.0]}, {}, r"dropout\[1\] is 1.0, but must be >= 0 and < 1"),
        ({"dropout": 1.0}, {}, "The 'dropout' parameter"),
        ({"n_threads": 0}, {}, "The 'n_threads' parameter"),
        (
            {"initial_coefs": [np.zeros((4, 6))]},
            {},
            r"initial_coefs has shapes \[\(4, 6\)\], but needs \[\(4, 6\), \(6, ",
        ),
        ({"callbacks": "print"}, {}, "The 'callbacks' parameter"),
        ({"callbacks": ["print"]}, {}, "callbacks must be a function"),
        ({}, {"validation_data": X}, "validation_data must be"),
        ({}, {"validation_data": (X,)}, "validation_data must be"),
        ({}, {"validation_data": (X[:, :3], y)}, "X has 3 features"),
        ({}, {"validation_data": (X, y + 1)}, r"validation_data has classes \[3\]"),
        ({}, {"validation_data": (X, np.eye(3)[y])}, "multilabel"),
        ({"solver": "lbfgs"}, {"validation_data": (X, y)}, "validation_data needs solver 'sgd' or 'adam'"),
        *(
            ({"solver": "lbfgs", name: value}, {}, f"{name} needs solver 'sgd' or 'adam'")
            for name, value in (("dropout", 0.1), ("clip_norm", 1.0), ("callbacks", print))
        ),
    ],
    ids=itertools.count(),
)
def test_errors(arguments, given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MLPClassifier(**{**SMALL, **arguments}).fit(X, y, **given)
