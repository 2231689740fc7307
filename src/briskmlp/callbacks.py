"""Callbacks: what happens between epochs.

A callback is any object with some of

- ``on_fit_begin(trainer)``: before the first epoch,
- ``on_epoch_end(trainer, record)``: after each epoch; returning True stops training,
- ``on_epochs(trainer, records)``: instead of ``on_epoch_end``, once for the one or more epochs that the kernels have
  trained in one go. When no callback has ``on_epoch_end`` alone, short epochs are trained many at a time,
- ``on_fit_end(trainer, history)``: after the last epoch, not when training ends with an exception,
- ``state_dict() -> dict`` and ``load_state_dict(dict)``: what a checkpoint keeps of it.

All callbacks are called, in order, also when one of them stops training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp._messages import check_integer, check_number
from briskmlp.history import History, Record
from briskmlp.network import FloatArray

if TYPE_CHECKING:
    from briskmlp.trainer import Trainer

HOOKS = ("on_fit_begin", "on_epoch_end", "on_epochs", "on_fit_end", "state_dict", "load_state_dict")


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

    def add(self, callback: object | None) -> None:
        """Add one of our own, if there is one."""
        if callback is not None:
            self.callbacks.append(callback)

    @property
    def every_epoch(self) -> bool:
        """Whether the trainer must come back after each epoch, so that kernels cannot train several in one go."""
        return any(hasattr(c, "on_epoch_end") and not hasattr(c, "on_epochs") for c in self.callbacks)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Tell all callbacks that training begins."""
        for hook in self._hooks("on_fit_begin"):
            hook(trainer)

    def on_epochs(self, trainer: Trainer, records: Sequence[Record]) -> bool:
        """Tell all callbacks of the epochs just trained; return whether one of them said True."""
        answers = []
        for callback in self.callbacks:
            if hasattr(callback, "on_epochs"):
                answers.append(callback.on_epochs(trainer, records))
            elif hasattr(callback, "on_epoch_end"):
                answers.extend(callback.on_epoch_end(trainer, record) for record in records)
        # only True stops, so that a lambda's accidental value does not
        return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)

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
    Each ``fit`` starts afresh, except the first after ``load_state_dict``, which goes on from that state.
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

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Start afresh, unless a state has just been loaded."""
        if not self._loaded:
            self._reset()
        self._loaded = False
        stored = self._best_parameters
        if stored is not None and stored.shape != trainer.parameters.shape:
            raise ValueError(
                f"EarlyStopping's state has best_parameters of shape {stored.shape}, "
                f"but the trainer's parameters have shape {trainer.parameters.shape}"
            )

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool:
        """Compare with the best epoch; return True when patience is at its end."""
        _check_monitor(self.monitor, record)
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
        if self.restore_best and self._best_parameters is not None:
            trainer.parameters[...] = self._best_parameters

    def state_dict(self) -> dict[str, Any]:
        """Return ``best`` (float or None), ``best_epoch``, ``wait``, ``best_parameters`` (a copy, or None)."""
        stored = self._best_parameters
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "wait": self.wait,
            "best_parameters": None if stored is None else stored.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state in the next ``fit``."""
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise ValueError(f"EarlyStopping's state has no {', '.join(missing)}")
        stored = state["best_parameters"]
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
