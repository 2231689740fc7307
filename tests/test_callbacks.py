"""Callbacks and History, with a fake trainer."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from briskmlp.callbacks import Callbacks, EarlyStopping
from briskmlp.history import History
from briskmlp.progress import Progress


class FakeTrainer:
    """Epoch i's parameters are all i."""

    statistics = ()

    def __init__(self):
        self.parameters = np.zeros(3)
        self.epoch = 0


def record(epoch, **values):
    return {"epoch": epoch, "loss": 1.0 / epoch, "learning_rate": 0.1, "time": 0.5, **values}


def fit(trainer, stopping, values, name="val_loss"):
    """Do what Trainer.fit does, with these values; return how many epochs it took."""
    callbacks, history = Callbacks([stopping]), History()
    callbacks.on_fit_begin(trainer)
    for value in values:
        trainer.epoch += 1
        trainer.parameters += 1.0
        history.extend({key: [entry] for key, entry in record(trainer.epoch, **{name: value}).items()})
        if callbacks.on_epochs(trainer, history.last(1)):
            break
    callbacks.on_fit_end(trainer, history)
    return len(history)


class Recorder:
    """Notes every call."""

    def __init__(self, answer=None):
        self.answer, self.calls = answer, []

    def on_fit_begin(self, trainer):
        self.calls.append("begin")

    def on_epoch_end(self, trainer, record):
        self.calls.append(record["epoch"])
        return self.answer

    def on_fit_end(self, trainer, history):
        self.calls.append(("end", len(history)))


class Batched(Recorder):
    """Takes many epochs at once."""

    def on_epochs(self, trainer, records):
        self.calls.append([record["epoch"] for record in records])
        return self.answer


def test_history():
    history = History([record(1, val_accuracy=0.5), record(2, val_accuracy=0.75)])
    assert history.loss == history["loss"] == [1.0, 0.5]
    assert history["val_accuracy"] == pd.DataFrame(history)["val_accuracy"].tolist() == [0.5, 0.75]
    assert history["epoch"] == [r["epoch"] for r in history] == [1, 2]
    assert history.time == [0.5, 0.5]
    assert history.val_loss == []
    assert len(history) == 2
    assert repr(history) == "History(2 epochs: loss 0.5, val_accuracy 0.75)"
    assert repr(History([record(1)])) == "History(1 epoch: loss 1)"
    assert repr(History()) == "History(0 epochs)"
    assert pickle.loads(pickle.dumps(history)) == history
    with pytest.raises(KeyError, match="no 'val_loss', only epoch, loss, learning_rate, time, val_accuracy"):
        history["val_loss"]
    with pytest.raises(KeyError, match="only no epochs"):
        History()["loss"]


class TestCallbacks:
    def test_hooks_are_called_in_order(self):
        single, batched = Recorder(), Batched()
        callbacks = Callbacks([single, batched])
        callbacks.on_fit_begin(None)
        assert callbacks.on_epochs(None, [record(1), record(2)]) is False
        callbacks.on_fit_end(None, History([record(1), record(2)]))
        assert single.calls == ["begin", 1, 2, ("end", 2)]
        assert batched.calls == ["begin", [1, 2], ("end", 2)]

    @pytest.mark.parametrize("kind", [Recorder, Batched])
    def test_only_true_stops_and_all_are_called(self, kind):
        for answer in (True, np.True_, None, False, 1, "yes", [True], np.array([1, 2])):
            last = Recorder()
            stops = isinstance(answer, bool | np.bool) and bool(answer)
            assert Callbacks([kind(answer), last]).on_epochs(None, [record(1)]) is stops
            assert last.calls == [1]

    def test_every_epoch(self):
        only_end = type("OnlyEnd", (), {"on_fit_end": lambda self, trainer, history: None})()
        assert not Callbacks([]).every_epoch
        assert not Callbacks([Batched(), only_end, Progress(3)]).every_epoch
        assert Callbacks([Batched(), Recorder()]).every_epoch

    def test_hooks_are_optional_and_any_iterable_will_do(self):
        callbacks = Callbacks(c for c in [EarlyStopping()])
        callbacks.add(None)
        callbacks.add(Progress(1))
        assert len(callbacks.callbacks) == 2

    def test_errors_name_the_object(self):
        broken, stopping, equal = Recorder(), EarlyStopping(), EarlyStopping()
        broken.on_epoch_end = 3
        Callbacks([stopping, equal])
        for callbacks, error, message in (
            ([Recorder(), object()], TypeError, r"callbacks\[1\] has no hook: <object object"),
            ([EarlyStopping], TypeError, r"callbacks\[0\] is a class, not an object of it: .*EarlyStopping"),
            ([broken], TypeError, r"callbacks\[0\]\.on_epoch_end of .*Recorder.* cannot be called"),
            *((wrong, TypeError, "callbacks must be a list of objects") for wrong in (Recorder(), "text", 3)),
            (
                [stopping, equal, stopping],
                ValueError,
                r"\[2\] is callbacks\[0\], .*EarlyS.*; accepted: each object once",
            ),
        ):
            with pytest.raises(error, match=message):
                Callbacks(callbacks)

    def test_monitor_is_checked_before_training(self):
        Callbacks([EarlyStopping("loss")], names=["epoch", "loss"])
        with pytest.raises(ValueError, match="monitor is 'val_loss', but the record has only epoch, loss; pass valid"):
            Callbacks([EarlyStopping()], names=["epoch", "loss"])


class TestEarlyStopping:
    def test_stops_after_patience_and_restores_the_best(self):
        trainer, stopping = FakeTrainer(), EarlyStopping(patience=3)
        assert fit(trainer, stopping, [5, 4, 3, 3, 3.5, 3, 2]) == 6
        assert (stopping.best, stopping.best_epoch, stopping.wait) == (3, 3, 3)
        assert trainer.parameters.tolist() == [3, 3, 3]

    @pytest.mark.parametrize(("restore", "left"), [(True, [2, 2, 2]), (False, [3, 3, 3])])
    def test_restores_the_best_also_when_epochs_run_out(self, restore, left):
        trainer, stopping = FakeTrainer(), EarlyStopping(restore_best=restore)
        assert fit(trainer, stopping, [5, 4, 6]) == 3
        assert trainer.parameters.tolist() == left
        assert (stopping.state_dict()["best_parameters"] is not None) == restore

    @pytest.mark.parametrize(("name", "sign"), [("loss", 1), ("mae", 1), ("accuracy", -1), ("val_accuracy", -1)])
    def test_direction_and_min_delta(self, name, sign):
        stopping = EarlyStopping(name, patience=2, min_delta=0.5)
        assert fit(FakeTrainer(), stopping, [sign * v for v in (4, 3, 2.5, 2.75, 0)], name) == 4
        assert stopping.best == sign * 3

    def test_nan_is_no_improvement(self):
        trainer, stopping = FakeTrainer(), EarlyStopping(patience=2)
        assert fit(trainer, stopping, [np.nan, np.nan, 1.0]) == 2
        assert stopping.best is None
        assert trainer.parameters.tolist() == [2, 2, 2]
        assert fit(trainer, stopping, [np.nan, 2.0, np.nan, 1.0]) == 4
        assert stopping.best == 1.0

    def test_each_fit_starts_afresh(self):
        trainer, stopping = FakeTrainer(), EarlyStopping(patience=2)
        fit(trainer, stopping, [1, 2, 3])
        assert fit(trainer, stopping, [9, 8, 8.5, 8.5]) == 4
        assert (stopping.best, stopping.best_epoch) == (8, 5)

    def test_a_loaded_state_goes_on_where_it_was_cut(self):
        values = [5, 4, 6, 7, 8, 9]
        whole, first = EarlyStopping(patience=4), EarlyStopping(patience=4)
        trainer, expected = FakeTrainer(), FakeTrainer()
        fit(expected, whole, values)
        first.on_fit_begin(trainer)
        for i in range(3):
            trainer.parameters += 1
            trainer.epoch += 1
            first.on_epoch_end(trainer, record(i + 1, val_loss=values[i]))
        second = EarlyStopping(patience=4)
        second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
        assert fit(trainer, second, values[3:]) == 3
        assert (second.best, second.best_epoch, second.wait) == (whole.best, whole.best_epoch, whole.wait) == (4, 2, 4)
        np.testing.assert_array_equal(trainer.parameters, expected.parameters)
        fit(trainer, second, [7])
        assert second.best == 7  # loaded for one fit only

    def test_state_is_a_copy(self):
        trainer, stopping = FakeTrainer(), EarlyStopping()
        fit(trainer, stopping, [1])
        assert copy.deepcopy(stopping).best == pickle.loads(pickle.dumps(stopping)).best == 1
        state = stopping.state_dict()
        other = EarlyStopping()
        other.load_state_dict(state)
        state["best_parameters"][:] = 99
        for owner in (stopping, other):
            assert owner.state_dict()["best_parameters"].tolist() == [1, 1, 1]

    def test_a_loaded_state_waits_until_something_is_trained(self):
        fails = Recorder()
        fails.on_fit_begin = next  # which takes no Trainer
        first, stopping = EarlyStopping(), EarlyStopping()
        fit(FakeTrainer(), first, [1, 2])
        stopping.load_state_dict(first.state_dict())
        with pytest.raises(TypeError, match="not an iterator"):
            Callbacks([stopping, fails]).on_fit_begin(FakeTrainer())
        fit(FakeTrainer(), stopping, [3])
        assert (stopping.best, stopping.wait) == (1, 2)
        fit(FakeTrainer(), stopping, [3])
        assert (stopping.best, stopping.wait) == (3, 0)

    def test_an_empty_state_round_trips(self):
        stopping = EarlyStopping()
        stopping.load_state_dict(EarlyStopping().state_dict())
        assert fit(FakeTrainer(), stopping, [1, 2]) == 2

    def test_bad_states(self):
        stopping = EarlyStopping()
        with pytest.raises(ValueError, match="state has no best_epoch, best_parameters, monitor"):
            stopping.load_state_dict({"best": 1.0, "wait": 0})
        state = {"best": 1.0, "best_epoch": 1, "wait": 0, "best_parameters": np.zeros(2), "monitor": "val_loss"}
        with pytest.raises(ValueError, match="state is of 'loss', but monitor is 'val_loss'"):
            stopping.load_state_dict({**state, "monitor": "loss"})
        with pytest.raises(ValueError, match="best_parameters with NaN or infinity"):
            stopping.load_state_dict({**state, "best_parameters": np.array([0, np.nan])})
        stopping.load_state_dict(state)
        with pytest.raises(ValueError, match=r"best_parameters of shape \(2,\)"):
            stopping.on_fit_begin(FakeTrainer())

    def test_missing_monitor(self):
        with pytest.raises(ValueError, match="monitor is 'accuracy', but the record has only epoch, loss"):
            fit(FakeTrainer(), EarlyStopping("accuracy"), [1])

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"monitor": 3}, TypeError, "monitor must be a name"),
            ({"patience": 0}, ValueError, "patience is 0, but must be >= 1"),
            ({"patience": 1.5}, TypeError, "patience must be an integer"),
            ({"min_delta": -1}, ValueError, "min_delta is -1"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            EarlyStopping(**arguments)
