"""Callbacks: what happens between epochs.

A callback is any object with some of

- ``on_fit_begin(trainer)``: before the first epoch; returning True trains nothing,
- ``on_epoch_end(trainer, record)``: after each epoch; returning True stops training,
- ``on_epochs(trainer, records)``: instead of ``on_epoch_end``, once for the one or more epochs that the kernels have
  trained in one go. When no callback has ``on_epoch_end`` alone, short epochs are trained many at a time,
- ``on_pause(trainer)``: between two kernel calls, about every 50 ms, also inside an epoch,
- ``on_fit_end(trainer, history)``: after the last epoch, not when training ends with an exception,
- ``state_dict() -> dict`` and ``load_state_dict(dict)``: what a checkpoint keeps of it, and gives back before
  ``on_fit_begin`` of the first ``fit`` after loading. The dict has names as keys; its values are what JSON has, and
  arrays of numbers. One that has stopped training should know so from its state and say True in ``on_fit_begin``, for
  the case that the process ends right then and is started again.

All callbacks are called, in order, but each `Checkpoint` after all others, whose state it keeps; also when one of them
stops training.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp._messages import check_integer, check_number
from briskmlp.checkpoint import CallbackState, CheckpointError, read_position
from briskmlp.history import History, Record
from briskmlp.network import MAX_SIZE, FloatArray
from briskmlp.tensors import remove_leftovers, shortened

if TYPE_CHECKING:
    from briskmlp.trainer import Trainer

HOOKS = ("on_fit_begin", "on_epoch_end", "on_epochs", "on_pause", "on_fit_end", "state_dict", "load_state_dict")


class Callbacks:
    """The callbacks of one call of ``fit``, checked before any weight moves.

    Parameters
    ----------
    callbacks : iterable of object
    names : iterable of str, optional
        What each record will hold; an `EarlyStopping` that monitors something else is refused.

    Raises
    ------
    TypeError
        For an object without any hook, or a hook that cannot be called.
    ValueError
        For a ``monitor`` that no record will have.

    Examples
    --------
    >>> class Stop:
    ...     def on_epoch_end(self, trainer, record):
    ...         return record["loss"] < 0.1
    >>> callbacks = Callbacks([Stop()])
    >>> callbacks.every_epoch
    True
    >>> callbacks.on_epochs(None, [{"epoch": 1, "loss": 0.05}])
    True
    """

    def __init__(self, callbacks: Iterable[object], names: Iterable[str] | None = None) -> None:
        if isinstance(callbacks, str) or not hasattr(callbacks, "__iter__"):
            raise TypeError(f"callbacks must be a list of objects, got {callbacks!r}")
        self.callbacks = list(callbacks)
        monitored = None if names is None else tuple(names)
        for position, callback in enumerate(self.callbacks):
            _check_hooks(position, callback)
            if monitored is not None and isinstance(callback, EarlyStopping):
                _check_monitor(callback.monitor, monitored)
        self.callbacks.sort(key=lambda callback: isinstance(callback, Checkpoint))
        for callback in self.callbacks:
            if isinstance(callback, Checkpoint):
                callback.callbacks = self.callbacks

    def add(self, callback: object | None) -> None:
        """Add one of our own, if there is one."""
        if callback is not None:
            self.callbacks.append(callback)

    @property
    def every_epoch(self) -> bool:
        """Whether the trainer must come back after each epoch, so that kernels cannot train several in one go."""
        return any(hasattr(c, "on_epoch_end") and not hasattr(c, "on_epochs") for c in self.callbacks)

    def next_stop(self, epoch: int) -> int:
        """Return an epoch after this one, beyond which the kernels must not train in one go."""
        intervals = [c.every_epochs for c in self.callbacks if isinstance(c, Checkpoint) and c.every_epochs is not None]
        return min((epoch - epoch % interval + interval for interval in intervals), default=MAX_SIZE)

    def load_states(self, states: Sequence[CallbackState], trainer: Trainer) -> list[str]:
        """Give the k-th callback of each class the k-th state of this class; return the classes of those left over."""
        left = list(states)
        for callback in self.callbacks:
            kinds = [kind for kind, _ in left]
            if type(callback).__name__ in kinds and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(left.pop(kinds.index(type(callback).__name__))[1])
                if isinstance(callback, EarlyStopping):
                    callback.check_shape(trainer)
        return [kind for kind, _ in left]

    def on_fit_begin(self, trainer: Trainer) -> bool:
        """Tell all callbacks that training begins; return whether one of them said True, as there is nothing to do."""
        answers = []
        for hook in self._hooks("on_fit_begin"):
            answers.append(hook(trainer))  # noqa: PERF401 - a comprehension is a frame more, before Python 3.12
        return _any_true(answers)

    def on_pause(self, trainer: Trainer) -> None:
        """Tell all callbacks that a kernel call has ended."""
        for hook in self._hooks("on_pause"):
            hook(trainer)

    def on_epochs(self, trainer: Trainer, records: Sequence[Record]) -> bool:
        """Tell all callbacks of the epochs just trained; return whether one of them said True."""
        answers = []
        for callback in self.callbacks:
            if hasattr(callback, "on_epochs"):
                answers.append(callback.on_epochs(trainer, records))
            elif hasattr(callback, "on_epoch_end"):
                answers.extend(callback.on_epoch_end(trainer, record) for record in records)
        return _any_true(answers)

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Tell all callbacks that training has ended."""
        for hook in self._hooks("on_fit_end"):
            hook(trainer, history)

    def _hooks(self, name: str) -> Iterator[Any]:
        return (getattr(callback, name) for callback in self.callbacks if hasattr(callback, name))


class EarlyStopping:
    """Stop when a value of the record has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        Name in the record. A name that ends in "accuracy" improves when it rises above ``best + min_delta``,
        any other when it falls below ``best - min_delta``.
    patience : int, >= 1
        Epochs without improvement after which training stops.
    min_delta : float, >= 0
    restore_best : bool
        Write the parameters of the best epoch back into the trainer at the end of ``fit``, whether stopped early
        or not. The optimizer's state and the count of epochs stay.

    Attributes
    ----------
    best : float or None
        Best value so far; None before the first epoch.
    best_epoch : int
        The epoch that it belongs to.
    wait : int
        Epochs since then.

    Raises
    ------
    ValueError, TypeError
        For bad arguments, and in ``fit`` when the records do not have ``monitor``.

    Notes
    -----
    Each ``fit`` starts afresh, except the first after ``load_state_dict`` or `Trainer.load`, which goes on from the
    state that it was given, or that was in the file; training that this state had stopped ends before it begins.
    NaN is no improvement.

    References
    ----------
    Prechelt 1998, "Early stopping - but when?"

    Examples
    --------
    >>> stopping = EarlyStopping("loss", patience=2, restore_best=False)
    >>> [stopping.on_epoch_end(None, {"epoch": 1 + i, "loss": loss}) for i, loss in enumerate([3.0, 2.0, 4.0, 2.5])]
    [False, False, False, True]
    >>> stopping.best, stopping.best_epoch
    (2.0, 2)
    """

    best: float | None
    best_epoch: int
    wait: int
    _best_parameters: FloatArray | None

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name in the record such as 'val_loss', got {monitor!r}")
        self.monitor = monitor
        self.patience = check_integer("patience", patience, low=1)
        self.min_delta = check_number("min_delta", min_delta, low=0.0)
        self.restore_best = restore_best
        self._loaded = False
        self._reset()

    def on_fit_begin(self, trainer: Trainer) -> bool:
        """Start afresh, unless a state has just been loaded; return True if that state has stopped training."""
        if not self._loaded:  # which stays until something is trained: another callback may fail
            self._reset()
        self.check_shape(trainer)
        if self.wait < self.patience:
            return False
        warnings.warn(
            f"EarlyStopping had stopped this training {self.wait} epochs after the best, {self.best_epoch}, so nothing "
            "is trained; a larger patience trains on",
            UserWarning,
            stacklevel=5,
        )
        return True

    def check_shape(self, trainer: Trainer) -> None:
        """Refuse, and forget, a state of another network.

        Parameters
        ----------
        trainer : Trainer
        """
        stored = self._best_parameters
        if stored is not None and stored.shape != trainer.parameters.shape:
            self._loaded = False
            raise ValueError(
                f"EarlyStopping's state has best_parameters of shape {stored.shape}, "
                f"but the trainer's parameters have shape {trainer.parameters.shape}"
            )

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool:
        """Compare with the best epoch; return True when patience is at its end."""
        _check_monitor(self.monitor, record)
        self._loaded = False
        value = record[self.monitor]
        if not self._improves(value):
            self.wait += 1
            return self.wait >= self.patience
        self.best, self.best_epoch, self.wait = value, int(record["epoch"]), 0
        if self.restore_best:
            self._best_parameters = trainer.parameters.copy()
        return False

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Restore the best parameters."""
        self._loaded = False
        if self.restore_best and self._best_parameters is not None:
            trainer.parameters[...] = self._best_parameters

    def state_dict(self) -> dict[str, Any]:
        """Return ``monitor``, ``best`` and ``best_parameters`` (None at first), ``best_epoch`` and ``wait``."""
        stored = self._best_parameters
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "wait": self.wait,
            "best_parameters": None if stored is None else stored.copy(),
            "monitor": self.monitor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state in the next ``fit``.

        Parameters
        ----------
        state : dict
            As ``state_dict`` returns it.
        """
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise ValueError(f"EarlyStopping's state has no {', '.join(missing)}")
        if state["monitor"] != self.monitor:
            raise ValueError(f"EarlyStopping's state is of {state['monitor']!r}, but monitor is {self.monitor!r}")
        stored = state["best_parameters"]
        if stored is not None and not np.isfinite(stored).all():
            raise ValueError("EarlyStopping's state has best_parameters with NaN or infinity")
        self.best = None if state["best"] is None else float(state["best"])
        self.best_epoch, self.wait = int(state["best_epoch"]), int(state["wait"])
        self._best_parameters = None if stored is None else np.array(stored)
        self._loaded = True

    def _reset(self) -> None:
        self.best, self.best_epoch, self.wait = None, 0, 0
        self._best_parameters = None

    def _improves(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        if self.monitor.endswith("accuracy"):
            return value > self.best + self.min_delta
        return value < self.best - self.min_delta


class Checkpoint:
    """Keep a checkpoint from which training goes on with the same bits, whenever and however it was stopped.

    The file is written before training, then at the interval, and at the end of ``fit``. It is complete at any moment:
    the one before stays until the next is on the disk. It is what `Trainer.save` writes, with the states of all
    callbacks of the ``fit``; wherever it stands among them, this one is called last.

    Parameters
    ----------
    path : str or path-like
        Of the file, such as ``"run.safetensors"``; relative to the directory of the moment.
    every_epochs : int, >= 1, optional
        Write after the epochs that are multiples of it. Default: 1, unless ``every_seconds`` is given.
    every_seconds : float, >= 0, optional
        Write when so much time has passed since the last file was written, also inside an epoch.

    Raises
    ------
    ValueError, TypeError
        For bad arguments. In ``fit``, before any weight moves, if the configuration or the state of a callback cannot
        be kept, or if the checkpoint at ``path`` is of another network or has made more steps than the trainer: one
        that should have been loaded. Later, if a callback's state has become one that cannot be kept.
    OSError
        In ``fit``, if the file cannot be written, as on a full disk. The file before is unchanged, and the trainer
        has what it had learned; the next ``fit`` goes on from there.

    Notes
    -----
    To resume, load the file and pass the same data and callbacks; each goes on from its state in the file. One that
    had stopped the training stops it again, before it has begun. To train another time from the weights of a file,
    without the past of its optimizer and callbacks, make a new `Trainer` with ``initializer=loaded.parameters``.

    Examples
    --------
    >>> import tempfile
    >>> from briskmlp import Trainer
    >>> def train(path, epochs):
    ...     trainer = Trainer.load(path) if os.path.exists(path) else Trainer([1, 3, 1], seed=1, batch_size=2)
    ...     callbacks = [EarlyStopping("loss", patience=3), Checkpoint(path, every_seconds=60)]
    ...     return trainer.fit([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], epochs=epochs - trainer.epoch, callbacks=callbacks)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.safetensors")
    ...     train(path, 4)["epoch"], train(path, 6)["epoch"]  # the second goes on where the first came to
    ([1, 2, 3, 4], [5, 6])
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every_epochs: int | None = None, every_seconds: float | None = None
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be that of a file, got {path!r}")
        if every_epochs is not None and every_seconds is not None:
            raise ValueError(
                f"every_epochs is {every_epochs} and every_seconds {every_seconds}, but one alone is accepted"
            )
        self.path = os.fspath(Path(path).absolute())  # a callback may change the directory
        self.every_epochs, self.every_seconds = None, None
        if every_seconds is not None:
            self.every_seconds = check_number("every_seconds", every_seconds, low=0.0)
        else:
            self.every_epochs = check_integer("every_epochs", 1 if every_epochs is None else every_epochs, low=1)
        self.callbacks: Sequence[object] = ()  # those of the fit
        self._last = 0.0

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Write the first file: whatever cannot be kept is found out now, and not after hours."""
        remove_leftovers(self.path)
        self._check_older(trainer)
        self.save(trainer)
        self._last = time.monotonic()

    def on_epochs(self, trainer: Trainer, records: Sequence[Record]) -> None:
        """Write after each so many epochs; the kernels have not gone beyond."""
        if self.every_epochs is not None and trainer.epoch % self.every_epochs == 0:
            self.save(trainer)

    def on_pause(self, trainer: Trainer) -> None:
        """Write after each so many seconds."""
        if self.every_seconds is not None and time.monotonic() - self._last >= self.every_seconds:
            self.save(trainer)
            self._last = time.monotonic()  # now, so that a slow disk leaves time for training

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Write what ``fit`` leaves, such as the weights that `EarlyStopping` has restored."""
        self.save(trainer)

    def _check_older(self, trainer: Trainer) -> None:
        """Refuse to replace what the trainer has not come from: most often, a script that forgot to load it."""
        try:
            network, step = read_position(self.path)
        except (CheckpointError, FileNotFoundError):
            return  # nothing there that could be loaded
        made = trainer._engine.position.step
        if network == trainer.network and step <= made:
            return
        found = f"of {step} steps" if network == trainer.network else f"of {shortened(repr(network))}"
        raise ValueError(
            f"{self.path} is a checkpoint {found}, but this trainer has made {made} steps of {trainer.network!r}; "
            "go on from it with Trainer.load, or choose another path, or remove the file"
        )

    def save(self, trainer: Trainer) -> None:
        """Write the file now.

        Parameters
        ----------
        trainer : Trainer
        """
        trainer.save(self.path, callbacks=self.callbacks)


def states_of(callbacks: Iterable[object]) -> list[CallbackState]:
    """Return the states of those callbacks that have one."""
    return [(type(c).__name__, c.state_dict()) for c in callbacks if hasattr(c, "state_dict")]


def _any_true(answers: Iterable[object]) -> bool:
    """Return whether an answer is True; nothing else stops, so that a lambda's accidental value does not."""
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)


def _check_hooks(position: int, callback: object) -> None:
    hooks = [name for name in HOOKS if hasattr(callback, name)]
    if isinstance(callback, type) or not hooks:
        problem = "is a class, not an object of it" if isinstance(callback, type) else "has no hook"
        raise TypeError(f"callbacks[{position}] {problem}: {callback!r}; the hooks are {', '.join(HOOKS)}")
    for name in hooks:
        if not callable(getattr(callback, name)):
            raise TypeError(f"callbacks[{position}].{name} of {callback!r} cannot be called")


def _check_monitor(monitor: str, names: Iterable[str]) -> None:
    if monitor not in names:
        hint = "; pass validation_data to fit" if monitor.startswith("val_") else ""
        raise ValueError(f"monitor is {monitor!r}, but the record has only {', '.join(names)}{hint}")
