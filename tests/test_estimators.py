"""The estimators among scikit-learn's tools: copies, searches, pipelines, data frames, scikit-learn's own models."""

import copy
import io
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import sklearn.neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neural_network import _multilayer_perceptron as stock
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import assert_same_model

from briskmlp import MLPClassifier, MLPRegressor, Trainer, from_sklearn, patch_sklearn, to_sklearn, unpatch_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = load_iris(return_X_y=True)
PAIRS = [(stock.MLPClassifier, MLPClassifier), (stock.MLPRegressor, MLPRegressor)]
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0}


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_is_scikit_learn_s_class_with_more_parameters(theirs, ours):
    assert issubclass(ours, theirs)
    parameters = theirs().get_params()
    assert parameters.items() <= ours().get_params().items()
    assert repr(ours(alpha=0.5)) == repr(theirs(alpha=0.5))
    positional = [4] if theirs is stock.MLPClassifier else ["poisson", 4]
    assert ours(*positional, "tanh").get_params().items() >= theirs(*positional, "tanh").get_params().items()


@pytest.mark.parametrize("ours", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_copies_predict_and_resume(ours, solver):
    estimator = ours(**SMALL, solver=solver).fit(X, y)
    flat, own = estimator._model.session.parameters, estimator.coefs_ + estimator.intercepts_
    assert all(np.shares_memory(part, flat) for part in own)
    assert sum(part.size for part in own) == flat.size
    before = estimator.predict(X)
    # copy.copy shares the lists, as scikit-learn's does, and so comes last
    copies = [copied(estimator) for copied in (through_pickle, through_joblib, copy.deepcopy, copy.copy)]
    for twin in copies:
        np.testing.assert_array_equal(twin.predict(X), before)
    if solver == "lbfgs":
        return
    for twin in copies:
        np.testing.assert_array_equal(estimator.predict(X), before)
        twin.partial_fit(X, y)
    estimator = ours(**SMALL, solver=solver).fit(X, y).partial_fit(X, y)
    for twin in copies:
        assert_same_model(twin, estimator)


@pytest.mark.parametrize("copied", [through_pickle, copy.deepcopy, to_sklearn], ids=lambda f: f.__name__)
def test_a_copy_made_in_a_callback_knows_nothing_of_the_fit_in_progress(copied):
    copies = []

    def keep(estimator, epoch, logs):
        copies.append(copied(estimator.set_params(callbacks=None)))

    estimator = MLPClassifier(**{**SMALL, "max_iter": 1}, callbacks=keep).fit(X, y, validation_data=(X, y))
    assert not any(name in vars(copies[0]) for name in ("_model", "_validation_data", "_batch"))
    kept = list(copies[0].validation_loss_curve_)
    assert_same_model(copies[0].partial_fit(X, y), estimator.partial_fit(X, y), 1e-9)
    assert copies[0].validation_loss_curve_ == kept


def test_a_callback_may_fit_its_estimator():
    def refit(estimator, epoch, logs):
        estimator.set_params(callbacks=None).fit(X, y)

    assert MLPClassifier(**SMALL, callbacks=refit).fit(X, y, validation_data=(X, y)).predict(X).shape == y.shape


def test_threads_that_predict_with_a_loaded_model_agree():
    estimator = MLPClassifier(**SMALL).fit(X, y)
    expected = estimator.predict_proba(X).tobytes()
    for _ in range(5):
        loaded = through_pickle(estimator)
        with ThreadPoolExecutor(8) as pool:
            assert {found.tobytes() for found in pool.map(loaded.predict_proba, [X] * 32)} == {expected}


def test_clone_has_nothing_learned():
    extras = {"dropout": [0.1], "callbacks": [print]}
    twin = clone(MLPClassifier(**SMALL, **extras).fit(X, y))
    assert twin.get_params() == MLPClassifier(**SMALL).get_params() | extras
    assert not any(name.startswith("_") or name.endswith("_") for name in vars(twin))


def test_warm_start_after_early_stopping_and_pickle():
    parameters = {**SMALL, "early_stopping": True, "warm_start": True}
    pair = [cls(**parameters).fit(X, y) for cls in (stock.MLPClassifier, MLPClassifier)]
    pair = [through_pickle(estimator).fit(X, y) for estimator in pair]
    assert_same_model(*pair, 1e-9)


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_grid_search(backend):
    grid = {"alpha": [1e-4, 10.0], "solver": ["adam", "sgd"]}
    with joblib.parallel_backend(backend, n_jobs=2):
        theirs, ours = (
            GridSearchCV(cls(**SMALL, learning_rate_init=0.01), grid, cv=2).fit(X, y)
            for cls in (stock.MLPClassifier, MLPClassifier)
        )
    np.testing.assert_allclose(theirs.cv_results_["mean_test_score"], ours.cv_results_["mean_test_score"])
    assert theirs.best_params_ == ours.best_params_


def test_pipeline():
    pipelines = (make_pipeline(StandardScaler(), cls(**SMALL)) for cls in (stock.MLPClassifier, MLPClassifier))
    np.testing.assert_array_equal(*(cross_val_predict(pipeline, X, y, cv=3) for pipeline in pipelines))


@pytest.mark.parametrize(
    ("tool", "method"), [(CalibratedClassifierCV, "predict_proba"), (OneVsOneClassifier, "decision_function")]
)
def test_tools_that_prefer_a_decision_function_give_scikit_learn_s_results(tool, method):
    theirs, ours, with_logits = (
        getattr(tool(estimator).fit(X, y), method)(X)
        for estimator in (stock.MLPClassifier(**SMALL), MLPClassifier(**SMALL), MLPClassifier(**SMALL, logits=True))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    assert np.abs(with_logits - theirs).max() > 1e-3


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = MLPClassifier(**SMALL).set_fit_request(sample_weight=True, validation_data=False)
        estimator.set_score_request(sample_weight=True)
        GridSearchCV(estimator, {"alpha": [0.1]}, cv=2).fit(X, y, sample_weight=np.ones(len(y)))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_data_frames(library, theirs, ours):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({name: X[:, j] for j, name in enumerate("abcd")})
    expected = theirs(**SMALL, early_stopping=True).fit(frame, frames.Series(y))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="X does not have valid feature names")
        estimator = ours(**SMALL, early_stopping=True).fit(frame, frames.Series(y))
        np.testing.assert_allclose(estimator.predict(frame), expected.predict(frame), rtol=1e-9)
    if library == "polars" and not hasattr(expected, "feature_names_in_"):
        return  # older versions of scikit-learn take no names from it
    assert list(estimator.feature_names_in_) == list("abcd")
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        estimator.predict(X)


# --- what predict refuses, as scikit-learn does -----------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_predict_refuses_what_scikit_learn_refuses(theirs, ours):
    fitted = [cls(**SMALL).fit(X, y) for cls in (theirs, ours)]
    for bad in (
        np.full((1, 4), np.nan),
        np.array([[1.0, 2.0, np.inf, -np.inf]]),
        np.full((2, 4), np.inf, dtype=np.float32),
        np.ones((3, 5)),
        np.ones(4),
        np.ones((0, 4)),
        np.ones((1, 4), dtype=complex),
        [["a", "b", "c", "d"]],
    ):
        messages = []
        for estimator in fitted:
            with pytest.raises(ValueError, match=r".") as caught:
                estimator.predict(bad)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    huge = np.full((2, 4), 1e308)  # whose sum overflows
    assert fitted[1].predict(huge).shape == (2,)


def test_unfitted():
    for method in ("predict", "predict_proba", "decision_function", "predict_log_proba"):
        with pytest.raises(sklearn.exceptions.NotFittedError, match="not fitted yet"):
            getattr(MLPClassifier(logits=True), method)(X)


def test_presets_without_fit_predict():
    theirs = stock.MLPClassifier(**SMALL).fit(X, y)
    ours = MLPClassifier()
    for name, value in vars(theirs).items():
        if name.endswith("_") or name == "_label_binarizer":
            setattr(ours, name, value)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    del ours.n_features_in_
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", ["tanh"], ["leaky_relu"]], ids=str)
def test_an_activation_set_after_fit_is_that_of_predictions(activation):
    estimator = MLPClassifier(**SMALL).fit(X, y)
    before = estimator.predict_proba(X)
    parameters = estimator.coefs_[0]
    np.testing.assert_array_equal(
        estimator.set_params(activation=activation).predict_proba(X), through_pickle(estimator).predict_proba(X)
    )
    if "tanh" in activation:
        theirs = to_sklearn(estimator.set_params(activation="tanh"))
        np.testing.assert_allclose(estimator.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    assert np.abs(estimator.predict_proba(X) - before).max() > 1e-3
    assert estimator.coefs_[0] is parameters
    np.testing.assert_array_equal(estimator.set_params(activation="relu").predict_proba(X), before)


def test_threads_set_after_fit_are_those_of_predictions():
    estimator = MLPClassifier(**SMALL).fit(X, y)
    before = estimator.predict_proba(X)
    np.testing.assert_array_equal(estimator.set_params(n_threads=1).predict_proba(X), before)
    assert estimator._model.session.threads == 1


@pytest.mark.parametrize("target", [y, y > 1, y * 0, np.eye(3, dtype=int)[y], np.array(["u", "v", "w"])[y]])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_predicted_classes(target):
    theirs, ours = (cls(**SMALL).fit(X, target) for cls in (stock.MLPClassifier, MLPClassifier))
    predicted = ours.predict(X)
    np.testing.assert_array_equal(predicted, theirs.predict(X))
    assert predicted.dtype == theirs.predict(X).dtype


# --- from scikit-learn and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_scikit_learn_s_models_are_continued(theirs, ours, solver):
    fitted = theirs(**SMALL, solver=solver).fit(X, y)
    adopted = from_sklearn(fitted)
    assert type(adopted) is ours
    assert_same_model(adopted, fitted)
    np.testing.assert_allclose(adopted.predict(X), fitted.predict(X), rtol=1e-12)
    before = [coef.copy() for coef in fitted.coefs_]
    adopted.partial_fit(X, y)
    for own, kept in zip(fitted.coefs_, before, strict=True):
        np.testing.assert_array_equal(own, kept)
    assert_same_model(adopted, fitted.partial_fit(X, y), 1e-9)

    returned = to_sklearn(adopted)
    assert type(returned) is theirs
    assert vars(returned).keys() == vars(fitted).keys()
    assert_same_model(returned.partial_fit(X, y), adopted.partial_fit(X, y), 1e-9)


def test_unfitted_models_are_taken_too():
    assert from_sklearn(stock.MLPRegressor(alpha=0.5)).get_params()["alpha"] == 0.5
    assert to_sklearn(MLPRegressor(alpha=0.5, dropout=0.5)).get_params() == stock.MLPRegressor(alpha=0.5).get_params()


def test_what_scikit_learn_lacks_need_not_be_copied():
    lock = threading.Lock()
    estimator = MLPClassifier(**SMALL, callbacks=lambda *_: lock.locked()).fit(X, y)
    estimator.callbacks.lock = lock
    estimator.callbacks = [estimator.callbacks, lock.locked]  # a method of what cannot be copied
    np.testing.assert_array_equal(to_sklearn(estimator).predict(X), estimator.predict(X))


def test_conversions_refuse_what_they_cannot_convert():
    with pytest.raises(TypeError, match="must be an MLPClassifier or MLPRegressor, got Trainer"):
        from_sklearn(Trainer([1, 1]))
    with pytest.raises(TypeError, match="got MLPClassifier"):
        to_sklearn(stock.MLPClassifier())
    with pytest.raises(ValueError, match="no activation 'leaky_relu'"):
        to_sklearn(MLPClassifier(activation="leaky_relu"))
    with pytest.raises(ValueError, match="no loss 'huber'"):
        to_sklearn(MLPRegressor(loss="huber"))


# --- patching ---------------------------------------------------------------------------------------------------------


def test_patch_and_unpatch():
    module = sklearn.neural_network
    assert module.MLPClassifier is stock.MLPClassifier
    try:
        patch_sklearn()
        patch_sklearn()
        assert (module.MLPClassifier, module.MLPRegressor) == (MLPClassifier, MLPRegressor)
        through_pickle(stock.MLPClassifier())
    finally:
        unpatch_sklearn()
    assert (module.MLPClassifier, module.MLPRegressor) == (stock.MLPClassifier, stock.MLPRegressor)


SCRIPT = """
import sys
import neighbour
from sklearn.neural_network import MLPClassifier
print(__name__, sys.argv[1:], MLPClassifier.__module__, neighbour.NUMBER)
"""


def test_patched_script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "neighbour.py").write_text("NUMBER = 7")
    for named, folder in ((["-m", "script"], tmp_path), ([str(tmp_path / "script.py")], None)):
        command = [sys.executable, "-m", "briskmlp.patch", *named, "-v", "x"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout == "__main__ ['-v', 'x'] briskmlp.estimators.classifier 7\n"
    done = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:6]) == (2, "usage:")
