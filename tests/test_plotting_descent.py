"""The path of gradient descent on the error surface: the numbers are the oracle's, the contours where they belong."""

import matplotlib.pyplot as plt
import numpy as np
import oracle
import pytest
from tasks import TWO_WEIGHTS, XOR, data, described, everything, make, small

from briskmlp import SGD, Trainer
from briskmlp.plotting import DescentDisplay


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_the_path_is_gradient_descent_of_two_weights(momentum, l2):
    trainer = small(optimizer=SGD(0.7, momentum=momentum), l2=l2, hidden="tanh", dropout=0.5)  # batches and dropout: no
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=TWO_WEIGHTS, epochs=15, start=(-1.0, 2.0), n_points=2)
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
    limits = (-2.0, 2.0), (-1.5, 1.5)
    options = {"weights": ((0, 0, 0), (0, 1, 0)), "epochs": 3, "limits": limits, "n_points": 41}
    display = DescentDisplay.from_trainer(trainer, X, Y, **options)
    levels = display.contours_.levels
    assert len(levels) == 16
    assert levels[[0, -1]].tolist() == [display.surface.min(), display.surface.max()] == [0.0, 6.5]
    np.testing.assert_allclose(np.diff(np.sqrt(levels)), np.sqrt(6.5) / 15, rtol=1e-12)  # so a bowl's are evenly spaced
    compared = 0
    for level, path in enumerate(display.contours_.get_paths()):
        inside = path.vertices[(np.abs(path.vertices) < [1.999, 1.499]).all(axis=1)]
        E = (inside[:, 0] ** 2 + 4 * inside[:, 1] ** 2) / 2
        error = np.abs(E[:, None] - levels[None, level : level + 2]).min(axis=1)
        # interpolated linearly along edges of the grid: h²/8 max |E''|, of either weight
        assert error.max(initial=0) <= max(0.1**2 / 8 * 1, 0.075**2 / 8 * 4) * (1 + 1e-9)
        compared += len(inside)
    assert compared > 500


def test_the_trainer_is_left_alone():
    trainer = small(optimizer=SGD(0.5, momentum=0.9))
    trainer.fit(*XOR, epochs=3)
    before = everything(trainer)
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=TWO_WEIGHTS, epochs=5, n_points=3)
    assert everything(trainer) == before
    assert display.path[0].tolist() == [trainer.weights[0][0, 0], trainer.weights[1][1, 0]]  # where it is
    trainer.parameters[...] = 0
    assert display.path[0].any()


def test_limits_hold_the_path_and_the_weights_that_the_trainer_has():
    trainer = small()
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=TWO_WEIGHTS, epochs=4, start=(9.0, -9.0), n_points=3)
    points = np.vstack([display.path, [trainer.weights[0][0, 0], trainer.weights[1][1, 0]]])
    low, high = [display.x[0], display.y[0]], [display.x[-1], display.y[-1]]
    assert (points > low).all()
    assert (points < high).all()


def test_a_flat_surface_and_losses_beyond_all_numbers():
    trainer = small(initializer=np.zeros(13))
    weights = (0, 0, 0), (0, 1, 0)
    display = DescentDisplay.from_trainer(trainer, *XOR, weights=weights, epochs=2, n_points=3)
    assert np.ptp(display.surface) == 0
    display.figure_.draw_without_rendering()
    counts = Trainer([2, 1], loss="poisson", seed=0, dtype="float64", backend="numpy", optimizer=SGD(0.01))
    limits = (0.0, 2000.0), (0.0, 2000.0)
    display = DescentDisplay.from_trainer(counts, *XOR, weights=weights, epochs=1, limits=limits, n_points=5)
    assert not np.isfinite(display.surface).all()
    display.figure_.draw_without_rendering()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": 5}, r"weights is 5, but must be two weights: \(\(layer, i, j\), \(layer, i, j\)\)"),
        ({"weights": (TWO_WEIGHTS[0], TWO_WEIGHTS[0])}, r"weights has \(0, 0, 0\) twice"),
        ({"weights": (TWO_WEIGHTS[0], (2, 0, 0))}, "the layer of weights is 2, but must be >= 0 and <= 1"),
        ({"weights": (TWO_WEIGHTS[0], (1, 3, 0))}, "the i of weights, in layer 1, is 3, but must be >= 0 and <= 2"),
        ({"weights": (TWO_WEIGHTS[0], (1, 0, 1))}, "the j of weights, in layer 1, is 1, but must be >= 0 and <= 0"),
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
        DescentDisplay.from_trainer(small(), *XOR, **{"weights": TWO_WEIGHTS, "epochs": 1, **wrong})
    assert plt.get_fignums() == []
