"""scikit-learn's estimators and ours from one random_state: parameters, loss curves, stopping and predictions."""

import re
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine, make_classification, make_multilabel_classification
from sklearn.neural_network import _multilayer_perceptron as stock
from tasks import assert_same_model

from briskmlp import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TOLERANCE = 1e-9  # norm-wise, after 20 epochs in float64
N, D = 130, 7


def make_task(task):
    """Return (scikit-learn's class, ours, X, y) of a small task, or of sparse rows of that density."""
    rng = np.random.default_rng(3)
    if not isinstance(task, str):
        X = sparse.random_array((N, 40), density=task, rng=rng, format="csr")
        return stock.MLPClassifier, MLPClassifier, X, rng.integers(0, 3, N)
    if task in ("binary", "multiclass"):
        n_classes = 2 if task == "binary" else 4
        X, y = make_classification(N, D, n_informative=5, n_classes=n_classes, flip_y=0.1, random_state=5)
        return stock.MLPClassifier, MLPClassifier, X, np.array([3, 7, 2, 9])[y]
    if task == "multilabel":
        X, y = make_multilabel_classification(N, D, n_classes=3, random_state=5)
        return stock.MLPClassifier, MLPClassifier, X - X.mean(axis=0), y
    X = rng.standard_normal((N, D))
    y = np.sin(X @ rng.standard_normal((D, 3))) + 0.1 * rng.standard_normal((N, 3))
    y = {"regression": y[:, 0], "multioutput": y, "poisson": rng.poisson(np.exp(y[:, 0])).astype(float)}[task]
    return stock.MLPRegressor, MLPRegressor, X, y


TASKS = ("binary", "multiclass", "multilabel", "regression", "multioutput", "poisson")
SOLVERS = {
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "plain": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.02, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.02},
    "invscaling": {"solver": "sgd", "learning_rate_init": 0.05, "learning_rate": "invscaling", "power_t": 0.4},
    "adaptive": {"solver": "sgd", "learning_rate_init": 0.02, "learning_rate": "adaptive"},
    "lbfgs": {"solver": "lbfgs"},
}
COMMON = {
    "hidden_layer_sizes": (9, 5),
    "batch_size": 32,  # does not divide N: the last batch is short
    "alpha": 0.01,
    "max_iter": 20,
    "tol": 3e-3,
    "n_iter_no_change": 3,
    "random_state": 11,
}


def both(task, use=lambda estimator, X, y: estimator.fit(X, y), **parameters):
    """Return scikit-learn's and our estimator, both used in the same way, and X."""
    theirs, ours, X, y = make_task(task)
    parameters = {**COMMON, **parameters} | ({"loss": "poisson"} if task == "poisson" else {})
    pair = theirs(**parameters), ours(**parameters)
    for estimator in pair:
        use(estimator, X, y)
    return *pair, X


def weighted(lowest):
    """Return a use of an estimator: to fit it with random weights from this to 3."""
    weight = np.random.default_rng(1).uniform(lowest, 3, N)
    return lambda estimator, X, y: estimator.fit(X, y, weight)


def assert_close(theirs, ours, tolerance=TOLERANCE):
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)


def assert_same(theirs, ours, X, tolerance=TOLERANCE):
    """Compare all that fitting leaves."""
    fitted = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
    assert fitted == {name for name in vars(ours) if name.endswith("_") and not name.startswith("_")}
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert_same_model(ours, theirs, tolerance)
    assert_close(theirs.loss_, ours.loss_, tolerance)
    if theirs.solver != "lbfgs":
        assert_close(theirs.loss_curve_, ours.loss_curve_, tolerance)
        assert ours._no_improvement_count == theirs._no_improvement_count
        assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate, rel=1e-15)
        if theirs.early_stopping:
            assert_close(theirs.validation_scores_, ours.validation_scores_, tolerance)
    if hasattr(theirs, "classes_"):
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        assert_close(theirs.predict_proba(X), ours.predict_proba(X), tolerance)
    else:
        assert_close(theirs.predict(X), ours.predict(X), tolerance)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_same_as_scikit_learn(solver, task):
    """Each pair of (solver, task), (solver, activation) and (task, activation) occurs."""
    activation = ["identity", "logistic", "tanh", "relu"][([*SOLVERS].index(solver) + TASKS.index(task)) % 4]
    for early_stopping in (False, True)[: 1 if solver == "lbfgs" else 2]:
        assert_same(*both(task, activation=activation, early_stopping=early_stopping, **SOLVERS[solver]))


@pytest.mark.parametrize("solver", ["adam", "nesterov", "plain"])
@pytest.mark.parametrize("task", ["multiclass", "multioutput", "poisson"])
def test_every_backend_is_the_same_as_scikit_learn(backend_name, monkeypatch, solver, task):
    monkeypatch.setenv("BRISKMLP_BACKEND", backend_name)
    theirs, ours, X = both(task, **SOLVERS[solver])
    assert backend_name == ours._model.session.choice.backend.NAME
    assert_same(theirs, ours, X)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("parameters", [SOLVERS["nesterov"], SOLVERS["lbfgs"], {"early_stopping": True}], ids=str)
def test_sample_weight(parameters, task):
    assert_same(*both(task, weighted(0.1), **{"learning_rate_init": 0.01, **parameters}))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_saturated_probabilities(load, solver):
    """Features of hundreds, unscaled: probabilities are 0 and 1 to the last bit, where scikit-learn clips them."""
    X, y = load(return_X_y=True)
    fitted = (cls(solver=solver, max_iter=20, random_state=0).fit(X, y) for cls in (stock.MLPClassifier, MLPClassifier))
    assert_same(*fitted, X)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_negative_weights_are_left_to_scikit_learn(solver):
    assert_same(*both("regression", weighted(-0.2), solver=solver))


@pytest.mark.parametrize(
    "parameters",
    [
        {"shuffle": False},
        {"batch_size": "auto"},
        {"batch_size": 1, "max_iter": 3},
        {"hidden_layer_sizes": 4},
        {"hidden_layer_sizes": []},
        {"hidden_layer_sizes": (3, 4, 5, 6)},
        {"alpha": 0.0, "n_iter_no_change": np.inf},
        {"beta_1": 0.0, "beta_2": 0.9, "epsilon": 1e-3},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
    ],
    ids=str,
)
def test_parameters(parameters):
    assert_same(*both("multiclass", **parameters))


def test_a_random_state_that_goes_on():
    def use(estimator, X, y):
        estimator.set_params(random_state=np.random.RandomState(4)).fit(X, y).partial_fit(X, y)

    *pair, X = both("multiclass", use)
    assert_same(*pair, X)
    assert pair[0].random_state.randint(2**31) == pair[1].random_state.randint(2**31)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize(
    "parameters",
    [SOLVERS["adam"], SOLVERS["adaptive"], {"early_stopping": True}, {"batch_size": 1000}, {"max_iter": 2}],
    ids=str,
)
def test_messages(capsys, parameters, verbose):
    said = []

    def use(estimator, X, y):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(X, y)
        said.append((capsys.readouterr().out, [(w.category, str(w.message), w.filename) for w in caught]))

    assert_same(*both("binary", use, **{"max_iter": 60, "tol": 0.05, "verbose": verbose, **parameters}))
    assert said[0] == said[1]
    assert bool(said[0][0]) == verbose
    assert bool(said[0][1]) == ("batch_size" in parameters or "max_iter" in parameters)


@pytest.mark.parametrize("ours", [MLPClassifier, MLPRegressor])
def test_warnings_are_scikit_learn_s_to_filters_by_module(ours):
    def interrupt(estimator, epoch, logs):
        raise KeyboardInterrupt

    _, _, X, y = make_task("binary")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="sklearn")
        ours(max_iter=2, batch_size=1000).fit(X, y)  # clips, and does not converge
        ours(callbacks=interrupt).fit(X, y)


# --- more than one fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["adam", "nesterov", "invscaling"])
def test_partial_fit(solver, task):
    def use(estimator, X, y):
        labels = [0, 1, 2] if task == "multilabel" else np.unique(y)
        classes = {"classes": labels} if hasattr(estimator, "predict_proba") else {}
        for rows in (slice(0, 90), slice(90, 130), slice(0, 130), slice(20, 70)):
            estimator.partial_fit(X[rows], y[rows], **classes)

    assert_same(*both(task, use, **SOLVERS[solver]))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "adaptive", "lbfgs"])
def test_warm_start(solver, early_stopping):
    def use(estimator, X, y):
        for _ in range(4):
            estimator.fit(X, y)

    assert_same(*both("regression", use, **SOLVERS[solver], early_stopping=early_stopping, warm_start=True, max_iter=6))


@pytest.mark.parametrize(
    ("task", "parameters", "use"),
    [
        ("multiclass", {}, lambda e, X, y: e.fit(X, y).partial_fit(X, y).partial_fit(X[:50], y[:50])),
        ("multiclass", {}, lambda e, X, y: e.fit(X, y).partial_fit(X, y).fit(X, y)),
        # which scikit-learn lets pass
        ("regression", {"solver": "lbfgs"}, lambda e, X, y: e.partial_fit(X[:60], y[:60]).partial_fit(X[60:], y[60:])),
    ],
    ids=["partial after whole", "whole after partial", "partial lbfgs"],
)
def test_partial_fit_among_others(task, parameters, use):
    assert_same(*both(task, use, **parameters))


@pytest.mark.parametrize(
    ("solver", "sizes"), [("lbfgs", (9, 6)), ("lbfgs", (9,)), ("lbfgs", (9, 5, 5)), ("adam", (9,)), ("sgd", (9, 5, 5))]
)
@pytest.mark.parametrize("density", [0.01, 1.0])
def test_warm_start_refuses_other_layers(solver, sizes, density):
    rng = np.random.default_rng(0)
    X, y = sparse.random_array((N, 40), density=density, rng=rng, format="csr"), rng.standard_normal(N)
    estimator = MLPRegressor(**COMMON, solver=solver, warm_start=True).fit(X, y)
    asked = re.escape(str([40, *sizes, 1]))
    with pytest.raises(ValueError, match=rf"coefs_ are those of layers \[40, 9, 5, 1\], but .* ask for {asked}"):
        estimator.set_params(hidden_layer_sizes=sizes).fit(X, y)
    assert estimator.set_params(warm_start=False).fit(X, y).n_layers_ == len(sizes) + 2


def test_assigned_parameters_are_taken():
    predictions = []

    def use(estimator, X, y):
        estimator.fit(X, y)
        estimator.coefs_ = [np.round(coef, 1) for coef in estimator.coefs_]
        predictions.append(estimator.predict(X))
        estimator.intercepts_[0] = np.full(9, 0.25)  # a single one, in the list
        estimator.coefs_[1][:, 2] = 0.5  # in place
        estimator.partial_fit(X, y)

    assert_same(*both("binary", use))
    np.testing.assert_array_equal(*predictions)


def test_a_second_fit_leaves_the_arrays_of_the_first():
    _, ours, X, y = make_task("regression")
    estimator = ours(**COMMON).fit(X, y)
    first = estimator.coefs_[0]
    before = first.copy()
    estimator.set_params(random_state=1).fit(X, y)
    second = estimator.set_params(solver="lbfgs", warm_start=True).fit(X, y).coefs_[0]
    kept = second.copy()
    estimator.fit(X, y)
    np.testing.assert_array_equal(second, kept)
    np.testing.assert_array_equal(first, before)
    assert estimator.coefs_[0] is not first


def test_divergence_ends_as_in_scikit_learn():
    theirs, ours, X, y = make_task("regression")
    diverging, messages = {"solver": "sgd", "learning_rate_init": 100.0, "momentum": 0.0, "activation": "identity"}, []
    for cls in (theirs, ours):
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite") as caught:
            cls(**diverging, random_state=0).fit(X, y)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_divergence_with_early_stopping_keeps_the_best_as_in_scikit_learn():
    with np.errstate(all="ignore"):
        theirs, ours, _ = both(
            "regression", solver="sgd", learning_rate_init=5.0, momentum=0.0, activation="identity", early_stopping=True
        )
    assert np.isnan(theirs.validation_scores_[-1])
    finite = np.isfinite(theirs.loss_curve_)
    np.testing.assert_array_equal(np.isfinite(ours.loss_curve_), finite)
    np.testing.assert_array_equal(np.isnan(ours.validation_scores_), np.isnan(theirs.validation_scores_))
    assert_same_model(ours, theirs, TOLERANCE)


# --- other inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix])
@pytest.mark.parametrize("density", [0.01, 0.3])  # below and above where dense kernels take over
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse(container, density, solver):
    theirs, ours, X, y = make_task(density)
    X = container(X)
    for early_stopping in (False, True)[: 1 if solver == "lbfgs" else 2]:
        parameters = {**COMMON, "solver": solver, "early_stopping": early_stopping}
        assert_same(theirs(**parameters).fit(X, y), ours(**parameters).fit(X, y), X)


@pytest.mark.parametrize("solver", ["adam", "nesterov", "lbfgs"])
@pytest.mark.parametrize("data", ["binary", "multiclass", "regression", 0.01, 0.3])  # tasks, and densities as above
def test_float32(solver, data):
    theirs, ours, X, y = make_task(data)
    X = X.astype(np.float32)
    most = {"max_iter": 10} if solver == "lbfgs" else {}  # five more make a difference some ten times as large
    theirs, ours = (cls(**{**COMMON, **SOLVERS[solver], **most}, activation="tanh").fit(X, y) for cls in (theirs, ours))
    assert [coef.dtype for coef in ours.coefs_] == [coef.dtype for coef in theirs.coefs_]
    # A step rounds each number to 2**-24 of itself, in another order of summation; some 100 steps carry that along.
    assert_same_model(ours, theirs, 1e-4)
    assert_close(theirs.loss_, ours.loss_, 1e-4)
    if solver != "lbfgs":
        assert_close(theirs.loss_curve_, ours.loss_curve_, 1e-4)
    predict = "predict_proba" if hasattr(ours, "predict_proba") else "predict"
    a, b = (getattr(estimator, predict)(X) for estimator in (theirs, ours))
    assert a.dtype == b.dtype
    assert_close(a, b, 1e-4)


@pytest.mark.parametrize("density", [0.01, 0.3])
def test_a_batch_without_weight_is_skipped(density):
    """Half of the batches have weight 0: scikit-learn, which cannot take them, trains on the others alone."""
    rng = np.random.default_rng(2)
    X = sparse.random_array((128, 40), density=density, rng=rng, format="csr")
    y, weight = rng.standard_normal(128), np.repeat([1.0, 0.0, 0.0, 2.0], 32)
    parameters = {**COMMON, "shuffle": False, "n_iter_no_change": 100}
    kept = weight > 0
    with pytest.raises(ZeroDivisionError):
        stock.MLPRegressor(**parameters).fit(X, y, weight)
    theirs = stock.MLPRegressor(**parameters).fit(X[kept], y[kept], weight[kept])
    ours = MLPRegressor(**parameters).fit(X, y, weight)
    assert_same_model(ours, theirs, TOLERANCE)
    assert_close(theirs.loss_curve_, ours.loss_curve_)


@pytest.mark.parametrize("fitted", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.float16, np.int64, np.longdouble])
def test_predictions_have_scikit_learn_s_dtype(fitted, given):
    theirs, ours, X, y = make_task("regression")
    pair = [cls(**COMMON).fit(X.astype(fitted), y) for cls in (theirs, ours)]
    pair[1].coefs_, pair[1].intercepts_ = pair[0].coefs_, pair[0].intercepts_
    a, b = (estimator.predict((3 * X).astype(given)) for estimator in pair)
    assert a.dtype == b.dtype
    rtol, atol = (1e-4, 1e-6) if a.dtype == np.float32 else (1e-12, 0)
    np.testing.assert_allclose(b, a, rtol=rtol, atol=atol)


def test_layouts():
    theirs, ours, X, y = make_task("multiclass")
    expected = theirs(**COMMON).fit(X, y)
    wide = np.zeros((N, 2 * D))
    wide[:, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(X), wide[:, ::2], X[::-1].copy()[::-1], read_only, X.tolist()):
        assert_same(expected, ours(**COMMON).fit(same, y), same)
