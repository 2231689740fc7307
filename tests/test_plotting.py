"""The pictures of losses, weights and predictions: what is drawn is what was recorded, learned or counted."""

import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier as StockClassifier
from tasks import TWO_WEIGHTS, XOR, run_script, small

from briskmlp import History, MLPClassifier, MLPRegressor, Trainer
from briskmlp.plotting import DescentDisplay, LossCurveDisplay, WeightImagesDisplay, plot_confusion_matrix

# --- losses -----------------------------------------------------------------------------------------------------------


def test_loss_curves_are_the_history():
    trainer = small()
    history = trainer.fit(*XOR, epochs=4, validation_data=XOR)
    display = LossCurveDisplay.from_history(history)
    assert list(display.lines_) == ["loss", "val_loss"]
    for name, line in display.lines_.items():
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
        assert line.get_ydata().tolist() == history[name]
    assert [line.get_linestyle() for line in display.lines_.values()] == ["-", "--"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["training", "validation"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "loss")
    assert display.figure_ is display.ax_.figure


def test_a_second_fit_goes_on_where_the_first_one_ended():
    trainer = small()
    first = LossCurveDisplay.from_history(trainer.fit(*XOR, epochs=3))
    second = LossCurveDisplay.from_history(trainer.fit(*XOR, epochs=1), ax=first.ax_)
    assert second.ax_ is first.ax_
    assert second.lines_["loss"].get_xdata().tolist() == [4]
    assert second.lines_["loss"].get_marker() == "o"  # a line of one point would not be seen


def test_runs_on_one_axes_differ_in_colour_and_marker_and_have_their_names():
    history = small().fit(*XOR, epochs=20, validation_data=XOR)
    ax, looks = plt.subplots()[1], set()
    for label in "abc":
        lines = LossCurveDisplay.from_history(history, ax=ax, label=label).lines_
        assert lines["loss"].get_color() == lines["val_loss"].get_color()
        looks |= {(lines["loss"].get_color(), lines["loss"].get_marker())}
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 3
    assert ax.get_legend().get_texts()[3].get_text() == "b, validation"
    assert LossCurveDisplay.from_history(history, color="red").lines_["loss"].get_color() == "red"


def test_other_records_can_be_drawn():
    history = small(loss="cross_entropy").fit(*XOR, epochs=3, metrics=["accuracy"])
    display = LossCurveDisplay.from_history(history, names=["accuracy"])
    assert display.lines_["accuracy"].get_ydata().tolist() == history["accuracy"]
    assert display.ax_.get_ylabel() == "accuracy"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("cls", [MLPClassifier, StockClassifier])
def test_loss_curves_of_estimators(cls):
    X, y = np.repeat(XOR[0], 10, axis=0), np.repeat(XOR[1], 10)
    estimator = cls(hidden_layer_sizes=(4,), max_iter=5, random_state=0, early_stopping=True).fit(X, y)
    display = LossCurveDisplay.from_estimator(estimator)
    assert display.lines_["loss"].get_ydata().tolist() == estimator.loss_curve_
    display = LossCurveDisplay.from_estimator(estimator, names=["val_score"])
    assert display.lines_["val_score"].get_ydata().tolist() == estimator.validation_scores_
    with pytest.raises(ValueError, match="names has 'val_loss', but this estimator has recorded loss, val_score"):
        LossCurveDisplay.from_estimator(estimator, names=["val_loss"])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_validation_losses_of_our_estimators():
    regressor = MLPRegressor(hidden_layer_sizes=(3,), max_iter=4, random_state=0).fit(*XOR, validation_data=XOR)
    lines = LossCurveDisplay.from_estimator(regressor).lines_
    assert lines["val_loss"].get_ydata().tolist() == regressor.validation_loss_curve_


def test_errors_of_loss_curves():
    with pytest.raises(TypeError, match=r"history must be what Trainer.fit returns, a History, got list"):
        LossCurveDisplay.from_history([0.5])
    with pytest.raises(ValueError, match="history has no epochs"):
        LossCurveDisplay.from_history(History())
    with pytest.raises(KeyError, match="history has no 'val_loss', only epoch, loss"):
        LossCurveDisplay.from_history(small().fit(*XOR, epochs=1), names=["val_loss"])
    with pytest.raises(TypeError, match="estimator must be an MLPClassifier or MLPRegressor, got Trainer"):
        LossCurveDisplay.from_estimator(small())
    with pytest.raises(ValueError, match="estimator is not fitted: call fit of this MLPRegressor first"):
        LossCurveDisplay.from_estimator(MLPRegressor())
    fitted = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", max_iter=500, tol=1e-2, random_state=0).fit(*XOR)
    with pytest.raises(ValueError, match="no loss_curve_, as solver='lbfgs' records no epochs"):
        LossCurveDisplay.from_estimator(fitted)
    with pytest.raises(ValueError, match=r"curves\['loss'\] has shape \(2,\), but epochs has \(3,\)"):
        LossCurveDisplay({"loss": [1.0, 2.0]}, [1, 2, 3])
    assert plt.get_fignums() == []


# --- weight images ----------------------------------------------------------------------------------------------------


def test_each_neuron_has_its_image():
    trainer = Trainer([6, 5, 2], seed=0, backend="numpy")
    display = WeightImagesDisplay.from_trainer(trainer, shape=(2, 3), columns=2)
    shown = display.image_.get_array()
    assert shown.shape == (3 * 2 + 2, 2 * 3 + 1)  # three rows of two images, gaps between them
    for neuron in range(5):
        row, column = divmod(neuron, 2)
        image = shown[3 * row : 3 * row + 2, 4 * column : 4 * column + 3]
        assert np.array_equal(image, trainer.weights[0][:, neuron].reshape(2, 3))
        assert not np.ma.is_masked(image)
    assert shown.mask[2].all()
    assert shown.mask[:, 3].all()
    assert shown.mask[6:, 4:].all()  # where a sixth would be
    largest = np.abs(trainer.weights[0]).max()
    assert display.image_.get_clim() == pytest.approx((-largest, largest))
    trainer.parameters[...] = 0
    assert display.images.any()


def test_only_some_of_many_neurons_are_drawn():
    trainer = Trainer([4, 9, 1], seed=0, backend="numpy")
    display = WeightImagesDisplay.from_trainer(trainer, (2, 2), max_images=4, vmax=0.01, colorbar=False)
    assert display.images.shape == (9, 2, 2)
    assert display.image_.get_array().shape == (5, 5)
    assert display.ax_.get_title() == "weights into 4 of 9 neurons of the first layer"
    assert display.image_.get_clim() == (-0.01, 0.01)
    assert display.colorbar_ is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weight_images_of_estimators():
    regressor = MLPRegressor(hidden_layer_sizes=(3,), max_iter=2, random_state=0).fit(*XOR)
    display = WeightImagesDisplay.from_estimator(regressor, (1, 2))
    assert np.array_equal(display.images[:, 0], regressor.coefs_[0].T)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((3, 3),), ValueError, r"shape is \(3, 3\), which has 9 pixels, but the network's input has 6"),
        (((6,),), ValueError, r"shape is \(6,\), but must be \(height, width\)"),
        (((1.5, 4),), TypeError, r"shape\[0\] must be an integer, got 1.5"),
        (((2, 3), 0), ValueError, "max_images is 0"),
    ],
)
def test_errors_of_weight_images(arguments, error, message):
    shape, *rest = arguments
    with pytest.raises(error, match=message):
        WeightImagesDisplay.from_trainer(Trainer([6, 2]), shape, **dict(zip(["max_images"], rest, strict=False)))
    assert plt.get_fignums() == []


# --- confusion matrix -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_out", [1, 4])
def test_the_confusion_matrix_counts(n_out):
    trainer = Trainer([3, 5, n_out], loss="cross_entropy", seed=0, backend="numpy")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)), rng.integers(max(n_out, 2), size=50)
    A = trainer.predict(X)
    predicted = A[:, 0] >= 0.5 if n_out == 1 else A.argmax(axis=1)
    counts = np.zeros((max(n_out, 2), max(n_out, 2)), dtype=int)
    np.add.at(counts, (y, predicted.astype(int)), 1)
    display = plot_confusion_matrix(trainer, X, y)
    assert np.array_equal(display.confusion_matrix, counts)
    dense = y[:, None] if n_out == 1 else np.eye(n_out)[y]
    ax = plt.subplots()[1]
    display = plot_confusion_matrix(trainer, X, dense, ax=ax, normalize="all")
    np.testing.assert_allclose(display.confusion_matrix, counts / 50)
    assert display.ax_ is ax


def test_errors_of_the_confusion_matrix():
    trainer = Trainer([2, 2])
    with pytest.raises(ValueError, match="Y has 2, but the classes are 0…1"):
        plot_confusion_matrix(trainer, XOR[0], [0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"Y has shape \(3,\), but must have \(4,\) or \(4, 2\)"):
        plot_confusion_matrix(trainer, XOR[0], [0, 1, 1])
    with pytest.raises(TypeError, match="trainer must be a Trainer, got MLPClassifier"):
        plot_confusion_matrix(MLPClassifier(), *XOR)
    assert plt.get_fignums() == []


# --- Matplotlib -------------------------------------------------------------------------------------------------------


def test_displays_draw_again_elsewhere_and_return_themselves():
    trainer = small()
    displays = [
        LossCurveDisplay.from_history(trainer.fit(*XOR, epochs=2)),
        DescentDisplay.from_trainer(trainer, *XOR, weights=TWO_WEIGHTS, epochs=1, n_points=2),
        WeightImagesDisplay.from_trainer(trainer, (1, 2)),
    ]
    for display in displays:
        ax = plt.subplots()[1]
        first = display.ax_
        assert display.plot(ax) is display
        assert display.ax_ is ax is not first
        assert display.figure_ is ax.figure
        with pytest.raises(TypeError, match="ax must be an Axes of Matplotlib, got str"):
            display.plot("ax")


@pytest.mark.parametrize("names", ["loss", []])
def test_names_are_a_sequence_of_names(names):
    message = f"names is {names!r}, but must be a sequence"
    with pytest.raises(ValueError, match=re.escape(message)):
        LossCurveDisplay.from_history(small().fit(*XOR, epochs=1), names=names)
    with pytest.raises(ValueError, match=re.escape(message)):
        LossCurveDisplay.from_estimator(MLPClassifier(), names=names)


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    trainer = small()
    history = trainer.fit(*XOR, epochs=1)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # as if it were not installed
    for draw in (
        lambda: LossCurveDisplay.from_history(history),
        lambda: DescentDisplay.from_trainer(trainer, *XOR, weights=TWO_WEIGHTS, epochs=10**9),  # before the work
        lambda: WeightImagesDisplay.from_trainer(trainer, (1, 2)),
        lambda: plot_confusion_matrix(trainer, *XOR),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"this needs Matplotlib: pip install 'briskmlp\[plot\]'"):
            draw()


def test_importing_it_loads_neither_matplotlib_nor_scikit_learn():
    run_script("import sys, briskmlp.plotting; assert not {'matplotlib', 'sklearn'} & set(sys.modules)")
