"""The pictures: what is drawn is what was recorded, computed or learned."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import oracle
import pytest
from sklearn.neural_network import MLPClassifier as StockClassifier
from tasks import data, described, everything, make

from briskmlp import SGD, History, MLPClassifier, MLPRegressor, Trainer
from briskmlp.plotting import (
    DescentDisplay,
    LossCurveDisplay,
    WeightImagesDisplay,
    plot_confusion_matrix,
)

mpl.use("Agg")  # draws without a screen
plt = pytest.importorskip("matplotlib.pyplot")

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0, 1.0, 0.0])
TWO = ((0, 0, 0), (1, 1, 0))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def small(**arguments):
    return Trainer([2, 3, 1], **{"seed": 1, "dtype": "float64", "backend": "numpy", "batch_size": 2, **arguments})


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
    assert second.lines_["loss"].get_marker() != ""  # a line of one point would not be seen


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


def test_one_epoch_is_a_point():
    history = small().fit(*XOR, epochs=1)
    assert LossCurveDisplay.from_history(history).lines_["loss"].get_marker() == "o"


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
    with pytest.raises(TypeError, match="history must be what Trainer.fit returns, a History, got list"):
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


# --- descent ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_the_path_is_gradient_descent_of_two_weights(momentum, l2):
    trainer = small(optimizer=SGD(0.7, momentum=momentum), l2=l2, hidden="tanh", dropout=0.5)  # batches and dropout: no
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=TWO, epochs=15, start=(-1.0, 2.0), n_points=2)
    weights, biases, activations, loss = described(trainer)
    weights[0][0, 0], weights[1][1, 0] = -1.0, 2.0
    path, losses, v = [(-1.0, 2.0)], [], np.zeros(2)
    for _ in range(16):
        E, dW, _ = oracle.gradient(weights, biases, activations, loss, *XOR, l2=l2)
        losses.append(E)
        v = momentum * v + [dW[0][0, 0], dW[1][1, 0]]
        weights[0][0, 0] -= 0.7 * v[0]
        weights[1][1, 0] -= 0.7 * v[1]
        path.append((weights[0][0, 0], weights[1][1, 0]))
    # 15 steps of some 100 operations, each within 2**-53
    np.testing.assert_allclose(display.path, path[:16], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(display.losses, losses, rtol=1e-12)
    assert np.array_equal(display.path_.get_xydata(), display.path)


@pytest.mark.parametrize("task", ["mse", "softmax", "binary"])
def test_the_surface_is_the_loss(task):
    X, Y, _ = data(task, 7)
    trainer = make(task, backend="numpy", dtype="float64")
    limits = (-2.0, 1.0), (0.0, 3.0)
    weights = ((0, 2, 1), (0, 0, 4))
    display = DescentDisplay.from_trainer(trainer, X, Y, weights=weights, epochs=1, limits=limits, n_points=4)
    assert display.x.tolist() == [-2, -1, 0, 1]
    assert display.y.tolist() == [0, 1, 2, 3]
    W, b, activations, loss = described(trainer)
    for row, column in np.ndindex(4, 4):
        W[0][2, 1], W[0][0, 4] = display.x[column], display.y[row]
        trainer.weights[0][2, 1], trainer.weights[0][0, 4] = display.x[column], display.y[row]
        assert display.surface[row, column] == trainer.evaluate(X, Y)
        E = oracle.loss_sum(W, b, activations, loss, X, Y) / 7
        assert display.surface[row, column] == pytest.approx(E, rel=1e-13)  # some 100 operations within 2**-53
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("weights[0][2, 1]", "weights[0][0, 4]")


def test_contours_are_where_the_loss_has_their_level():
    initial = [(np.array([[2.0], [1.0]]), np.zeros(1))]
    trainer = Trainer([2, 1], hidden="identity", optimizer=SGD(0.1), initializer=initial, dtype="float64")
    X, Y = np.diag([1.0, 2.0]), np.zeros(2)  # E = (w1² + 4 w2²) / 2
    limits = (-2.0, 2.0), (-1.0, 1.0)
    display = DescentDisplay.from_trainer(
        trainer, X, Y, weights=((0, 0, 0), (0, 1, 0)), epochs=3, limits=limits, n_points=41
    )
    levels = display.contours_.levels
    assert len(levels) == 16
    assert levels[[0, -1]].tolist() == [display.surface.min(), display.surface.max()] == [0.0, 4.0]
    np.testing.assert_allclose(np.diff(np.sqrt(levels)), 2 / 15, rtol=1e-12)  # so a bowl's are evenly spaced
    compared = 0
    for level, path in enumerate(display.contours_.get_paths()):
        inside = path.vertices[(np.abs(path.vertices) < [1.999, 0.999]).all(axis=1)]
        E = (inside[:, 0] ** 2 + 4 * inside[:, 1] ** 2) / 2
        error = np.abs(E[:, None] - levels[None, level : level + 2]).min(axis=1)
        # interpolated linearly along edges of the grid: h²/8 max |E''|, of either weight
        assert error.max(initial=0) <= max(0.1**2 / 8 * 1, 0.05**2 / 8 * 4) * (1 + 1e-9)
        compared += len(inside)
    assert compared > 500


def test_the_trainer_is_left_alone():
    trainer = small(optimizer=SGD(0.5, momentum=0.9))
    trainer.fit(*XOR, epochs=3)
    before = everything(trainer)
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=TWO, epochs=5, n_points=3)
    assert everything(trainer) == before
    assert display.path[0].tolist() == [trainer.weights[0][0, 0], trainer.weights[1][1, 0]]  # where it is
    trainer.parameters[...] = 0
    assert display.path[0].any()


def test_limits_hold_the_path_and_the_weights_that_the_trainer_has():
    trainer = small()
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=TWO, epochs=4, start=(9.0, -9.0), n_points=3)
    points = np.vstack([display.path, [trainer.weights[0][0, 0], trainer.weights[1][1, 0]]])
    low, high = [display.x[0], display.y[0]], [display.x[-1], display.y[-1]]
    assert (points > low).all()
    assert (points < high).all()


def test_a_flat_surface_and_losses_beyond_all_numbers():
    trainer = small(initializer=np.zeros(13))
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=((0, 0, 0), (0, 1, 0)), epochs=2, n_points=3)
    assert np.ptp(display.surface) == 0
    display.figure_.draw_without_rendering()
    counts = Trainer([2, 1], loss="poisson", seed=0, dtype="float64", backend="numpy", optimizer=SGD(0.01))
    limits = (0.0, 2000.0), (0.0, 2000.0)
    display = DescentDisplay.from_trainer(
        counts, *XOR, weights=((0, 0, 0), (0, 1, 0)), epochs=1, limits=limits, n_points=5
    )
    assert not np.isfinite(display.surface).all()
    display.figure_.draw_without_rendering()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": 5}, r"weights is 5, but must be two weights: \(\(layer, i, j\), \(layer, i, j\)\)"),
        ({"weights": (TWO[0], TWO[0])}, r"weights has \(0, 0, 0\) twice"),
        ({"weights": (TWO[0], (2, 0, 0))}, "the layer of weights is 2, but must be >= 0 and <= 1"),
        ({"weights": (TWO[0], (1, 3, 0))}, "the i of weights, in layer 1, is 3, but must be >= 0 and <= 2"),
        ({"weights": (TWO[0], (1, 0, 1))}, "the j of weights, in layer 1, is 1, but must be >= 0 and <= 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"n_points": 1}, "n_points is 1"),
        ({"start": (1.0,)}, r"start is \(1.0,\), but must be two numbers"),
        ({"start": (1.0, np.nan)}, "start is nan, but must be finite"),
        ({"limits": (0, 1)}, r"limits is \(0, 1\), but must be \(\(low, high\), \(low, high\)\)"),
        ({"limits": ((0, 1), (1, 1))}, r"limits has \(1.0, 1.0\), but the first must be below the second"),
    ],
)
def test_errors_of_descent(wrong, message):
    with pytest.raises(ValueError, match=message):
        DescentDisplay.from_trainer(small(), *XOR, **{"weights": TWO, "epochs": 1, **wrong})
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
        DescentDisplay.from_trainer(trainer, *XOR, weights=TWO, epochs=1, n_points=2),
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


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    trainer = small()
    history = trainer.fit(*XOR, epochs=1)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # as if it were not installed
    for draw in (
        lambda: LossCurveDisplay.from_history(history),
        lambda: DescentDisplay.from_trainer(trainer, *XOR, weights=TWO, epochs=10**9),  # before the work
        lambda: WeightImagesDisplay.from_trainer(trainer, (1, 2)),
        lambda: plot_confusion_matrix(trainer, *XOR),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"this needs Matplotlib: pip install 'briskmlp\[plot\]'"):
            draw()


def test_importing_it_loads_neither_matplotlib_nor_scikit_learn():
    code = "import sys, briskmlp.plotting; assert not {'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
