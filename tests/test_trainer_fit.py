"""What fit does: epochs, batches, losses, History, validation, metrics and callbacks, held to the oracle."""

import numpy as np
import oracle
import pytest
from build import oracle_optimizer
from tasks import assert_fits_as_oracle, data, described, make

from briskmlp import SGD, Adam, AdamW, Cosine, EarlyStopping, RMSprop, StepDecay, Trainer
from briskmlp.metrics import accuracy, mae

OPTIMIZERS = {  # with the rate of each epoch
    "sgd": (SGD(0.2), lambda epoch: 0.2),
    "nesterov": (SGD(0.2, momentum=0.9, nesterov=True, weight_decay=0.01), lambda epoch: 0.2),
    "adam": (Adam(StepDecay(0.02, every=1, factor=0.5)), lambda epoch: 0.02 * 0.5**epoch),
    "adamw": (AdamW(0.02, weight_decay=0.1), lambda epoch: 0.02),
    "rmsprop": (RMSprop(Cosine(0.02, epochs=4)), lambda epoch: 0.01 * (1 + np.cos(np.pi * epoch / 4))),
}


class Recorder:
    """A callback that keeps what it is told, and stops after ``last``."""

    def __init__(self, last=None):
        self.last, self.calls, self.records = last, [], []

    def on_fit_begin(self, trainer):
        self.calls.append(("begin", trainer.epoch))

    def on_epoch_end(self, trainer, record):
        self.calls.append(("epoch", trainer.epoch))
        self.records.append(record)
        return trainer.epoch == self.last

    def on_fit_end(self, trainer, history):
        self.calls.append(("end", trainer.epoch))
        self.history = history


# --- trajectories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("task", ["mse", "softmax", "binary"])
def test_fit_is_the_oracles_training_and_goes_on_where_it_stopped(backend_name, task, name):
    optimizer, rate = OPTIMIZERS[name]
    X, Y, weight = data(task, 23)
    arguments = {"optimizer": optimizer, "batch_size": 4, "l2": 0.2, "dtype": "float64"}  # the last batch has 3 rows
    trainer = make(task, backend=backend_name, **arguments)
    start = described(trainer)
    first = trainer.fit(X, Y, epochs=3, sample_weight=weight)
    assert trainer.epoch == 3
    second = trainer.fit(X, Y, epochs=2, sample_weight=weight)
    assert trainer.epoch == 5
    rates = [rate(epoch) for epoch in range(5)]
    training = *start, oracle_optimizer(optimizer), X, Y
    options = {"epochs": 5, "batch_size": 4, "learning_rates": rates, "seed": 3, "weight": weight, "l2": 0.2}
    weights, biases, losses = oracle.train(*training, **options)
    for ours, expected in zip(trainer.weights + trainer.biases, weights + biases, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(first.loss + second.loss, losses, rtol=1e-10)
    np.testing.assert_allclose(first["learning_rate"] + second["learning_rate"], rates, rtol=1e-14)
    assert first["epoch"] + second["epoch"] == [1, 2, 3, 4, 5]
    assert min(first.time + second.time) >= 0


@pytest.mark.parametrize("batch_size", [1, 7, 22, 23, 24, 1000, None])
def test_any_batch_size(backend_name, batch_size):
    trainer = make("mse", backend=backend_name, batch_size=batch_size, dtype="float64")
    assert_fits_as_oracle(trainer, *data("mse", 23)[:2], oracle.SGD(learning_rate=0.1))


def test_without_shuffle_rows_come_in_order(backend_name):
    trainer = make("mse", backend=backend_name, batch_size=4, dtype="float64", shuffle=False)
    assert_fits_as_oracle(trainer, *data("mse", 10)[:2], oracle.SGD(learning_rate=0.1))


def test_batches_of_weight_zero_are_skipped_and_are_no_step(backend_name):
    weight, optimizer = np.array([0, 0, 1, 2, 0, 0, 0, 0.5]), oracle.Adam(learning_rate=0.1)
    trainer = make("mse", backend=backend_name, batch_size=2, dtype="float64", shuffle=False, optimizer=Adam(0.1))
    assert_fits_as_oracle(trainer, *data("mse", 8)[:2], optimizer, epochs=3, weight=weight)
    assert optimizer.step == 6  # of 12 batches


def test_partial_fit_is_one_epoch(backend_name):
    X, Y, weight = data("mse", 9)
    ours, other = make("mse", backend=backend_name, batch_size=4), make("mse", backend=backend_name, batch_size=4)
    assert ours.partial_fit(X, Y, weight) is ours
    assert ours.partial_fit(X, Y).epoch == 2
    other.fit(X, Y, epochs=1, sample_weight=weight)
    other.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(ours.parameters, other.parameters)


# --- bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["mse", "softmax"])
def test_bits_depend_neither_on_the_run_nor_on_where_calls_are_cut(backend_name, dtype, task, monkeypatch):
    X, Y, weight = data(task, 50)

    def run(epochs, slice_seconds=None, callbacks=()):
        trainer = make(task, backend=backend_name, dtype=dtype, optimizer=Adam(), batch_size=8, l2=0.1)
        if slice_seconds is not None:
            monkeypatch.setattr("briskmlp.session.CALL_SECONDS", slice_seconds)
        fits = [trainer.fit(X, Y, epochs=e, sample_weight=weight, callbacks=callbacks) for e in epochs]
        return trainer.parameters.tobytes(), [loss for history in fits for loss in history.loss]

    expected = run([6])
    assert run([6]) == expected
    assert run([1, 2, 3]) == expected
    assert run([6], callbacks=[Recorder()]) == expected  # every epoch by itself
    assert run([6], slice_seconds=0.0) == expected  # every batch by itself
    assert run([6], slice_seconds=1e9) == expected  # as much as may be


# --- History, validation, metrics ------------------------------------------------------------------------------------


def test_history_holds_one_record_per_epoch():
    X, Y, _ = data("mse", 9)
    history = make("mse", backend="numpy").fit(X, Y, epochs=3)
    assert len(history) == len(list(history)) == 3
    assert [set(record) for record in history] == [{"epoch", "loss", "learning_rate", "time"}] * 3
    assert history["loss"] == history.loss == [record["loss"] for record in history]
    assert history.val_loss == []
    assert all(type(value) is float for value in history.loss + history.time)


@pytest.mark.parametrize("weighted", [False, True])
def test_validation_and_metrics_are_taken_after_each_epoch(backend_name, weighted):
    X, Y, weight = data("softmax", 20)
    X_val, Y_val, weight_val = data("softmax", 15, seed=1)
    validation = (X_val, Y_val, weight_val) if weighted else [X_val, Y_val]
    trainer, losses, scores = make("softmax", backend=backend_name), [], []

    class Score:
        def on_epoch_end(self, trainer, record):
            losses.append(trainer.evaluate(X_val, Y_val, weight_val if weighted else None))
            scores.append(accuracy(trainer.predict(X_val), Y_val, weight_val if weighted else None))

    kwargs = {"validation_data": validation, "metrics": "accuracy", "callbacks": [Score()]}
    history = trainer.fit(X, Y, epochs=4, sample_weight=weight, **kwargs)
    assert history.val_loss == losses
    assert history["val_accuracy"] == scores
    assert set(history.records[0]) == {"epoch", "loss", "learning_rate", "time", "val_loss", "val_accuracy"}
    twin = make("softmax", backend=backend_name)
    twin.fit(X, Y, epochs=4, sample_weight=weight)
    np.testing.assert_array_equal(trainer.parameters, twin.parameters)  # looking changes nothing


def test_metrics_without_validation_are_of_the_training_data():
    X, Y, weight = data("mse", 20)
    trainer = make("mse", backend="numpy")
    history = trainer.fit(X, Y, epochs=2, sample_weight=weight, metrics=["mae", "accuracy"])
    A = trainer.predict(X)
    assert history["mae"][-1] == pytest.approx(mae(A, Y.astype("f4"), weight), rel=1e-6)
    assert history["accuracy"][-1] == accuracy(A, Y, weight)
    assert list(history.records[0])[-2:] == ["mae", "accuracy"]


def test_dense_labels_and_one_hot_targets_are_one_task():
    X, labels, _ = data("softmax", 30)
    sparse, dense = (make("softmax", backend="numpy", batch_size=8) for _ in range(2))
    one = sparse.fit(X, labels, epochs=3, metrics=["accuracy"])
    two = dense.fit(X, np.eye(4)[labels], epochs=3, metrics=["accuracy"])
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-6)
    np.testing.assert_allclose(sparse.parameters, dense.parameters, rtol=1e-4, atol=1e-6)
    assert one["accuracy"] == two["accuracy"]


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_order_and_all_of_them_before_training_stops():
    X, Y, _ = data("mse", 9)
    trainer, order = make("mse", backend="numpy"), []

    class Named:
        def __init__(self, name, answer):
            self.name, self.answer = name, answer

        def on_epoch_end(self, trainer, record):
            order.append((self.name, record["epoch"]))
            return self.answer

    stopper, recorder = Named("b", np.True_), Recorder()
    history = trainer.fit(X, Y, epochs=5, callbacks=iter([Named("a", None), stopper, Named("c", 1), recorder]))
    assert order == [("a", 1), ("b", 1), ("c", 1)]
    assert recorder.calls == [("begin", 0), ("epoch", 1), ("end", 1)]
    assert recorder.history is history
    assert recorder.records == list(history)
    assert trainer.epoch == len(history) == 1
    stopper.answer = False
    assert len(trainer.fit(X, Y, epochs=5, callbacks=[stopper])) == 5
    assert trainer.epoch == 6


def test_a_callback_that_fails_leaves_a_whole_epoch_and_a_free_trainer():
    X, Y, _ = data("mse", 9)
    trainer, twin = (make("mse", backend="numpy", batch_size=4) for _ in range(2))

    class Broken:
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        trainer.fit(X, Y, epochs=5, callbacks=[Broken()])
    assert trainer.epoch == 2
    trainer.fit(X, Y, epochs=1)
    twin.fit(X, Y, epochs=3)
    np.testing.assert_array_equal(trainer.parameters, twin.parameters)


def test_early_stopping_restores_the_best_epoch():
    X, Y, _ = data("mse", 12)
    rates = [0.05, 0.05, 40.0, 40.0, 40.0, 40.0]  # two good epochs, then harm
    trainer = make("mse", backend="numpy", optimizer=SGD(lambda epoch: rates[epoch]))
    stopping, kept = EarlyStopping(patience=2), []

    class Keep:
        def on_epoch_end(self, trainer, record):
            kept.append(trainer.parameters.copy())

    history = trainer.fit(X, Y, epochs=6, validation_data=(X, Y), callbacks=[stopping, Keep()])
    best = int(np.argmin(history.val_loss))
    assert stopping.best_epoch == best + 1 < len(history) == best + 3
    np.testing.assert_array_equal(trainer.parameters, kept[best])
    assert trainer.epoch == len(history)
    assert trainer.evaluate(X, Y) == history.val_loss[best] == stopping.best


def test_no_progress_bar_unless_asked_for(capfd):
    X, Y, _ = data("mse", 9)
    trainer = make("mse", backend="numpy")
    trainer.fit(X, Y, epochs=2)
    assert capfd.readouterr() == ("", "")  # standard error is no terminal here
    trainer.fit(X, Y, epochs=2, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "2/2" in err
    assert "loss" in err


def test_given_weights_are_taken():
    W = [np.arange(15.0).reshape(3, 5) / 10, np.arange(10.0).reshape(5, 2) / 10]
    trainer = make("mse", backend="numpy", initializer=[(W[0], np.ones(5)), (W[1].tolist(), [1, 2])])
    for ours, theirs in zip(trainer.weights + trainer.biases, [*W, np.ones(5), [1, 2]], strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs, dtype="f4"))
    twin = make("mse", backend="numpy", initializer=trainer.parameters)
    np.testing.assert_array_equal(twin.parameters, trainer.parameters)
    assert not np.shares_memory(twin.parameters, trainer.parameters)


def test_one_layer_one_neuron_one_row(backend_name):
    trainer = Trainer([1, 1], output="identity", backend=backend_name, optimizer=SGD(0.5), initializer=[([[1]], [0])])
    assert trainer.fit([2.0], [3.0], epochs=1).loss == [1.0]  # (2 - 3)², and the step is 0.5 · 2 · (2, 1)
    assert trainer.parameters.tolist() == [3.0, 1.0]


def test_numpys_error_state_is_not_asked(backend_name):
    X = np.array([[1e3], [-1e3]])
    with np.errstate(all="raise"):  # e^-1000 underflows
        trainer = Trainer([1, 3, 1], loss="cross_entropy", seed=0, backend=backend_name)
        trainer.fit(X, [0, 1], epochs=2, validation_data=(X, [0, 1]))
