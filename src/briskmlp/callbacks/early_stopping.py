"""Stopping when there is no more progress."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from itertools import chain
from typing import Any

import numpy as np

from briskmlp._messages import check_integer, check_number
from briskmlp.callbacks.hooks import Fitted
from briskmlp.history import History, Record
from briskmlp.network import FloatArray, flattened


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
        Write the parameters and running statistics of the best epoch back into the trainer at the end of ``fit``,
        whether stopped early or not. The optimizer's state and the count of epochs stay.

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

    def _reset(self) -> None:
        self.best: float | None = None
        self.best_epoch, self.wait = 0, 0
        self._best_parameters: FloatArray | None = None
        self._best_statistics: FloatArray | None = None  # of batch normalisations, one after the other

    def on_fit_begin(self, trainer: Fitted) -> bool:
        """Start afresh, unless a state has just been loaded; return True if that state has stopped training."""
        if not self._loaded:  # which stays until something is trained: another callback may fail
            self._reset()
        self.check_state(trainer)
        if self.wait < self.patience:
            return False
        stopped = f"EarlyStopping had stopped this training {self.wait} epochs after the best, {self.best_epoch}"
        warnings.warn(f"{stopped}, so nothing is trained; a larger patience trains on", UserWarning, stacklevel=4)
        return True

    def check_state(self, trainer: Fitted) -> None:
        """Refuse, and forget, a state of another network.

        Parameters
        ----------
        trainer : Trainer
        """
        stored = self._best_parameters
        if stored is not None and stored.shape != trainer.parameters.shape:
            self._loaded = False
            found = f"EarlyStopping's state has best_parameters of shape {stored.shape}"
            raise ValueError(f"{found}, but the trainer's parameters have shape {trainer.parameters.shape}")
        size = flattened(trainer.statistics).size
        if stored is not None and size and (self._best_statistics is None or self._best_statistics.size != size):
            self._loaded = False
            raise ValueError(f"EarlyStopping's state has no best_statistics of {size} numbers, which the trainer has")

    def check_record(self, names: Collection[str]) -> None:
        """Refuse a ``monitor`` that is not among the names in the records.

        Parameters
        ----------
        names : collection of str
        """
        if self.monitor not in names:
            hint = "; pass validation_data to fit" if self.monitor.startswith("val_") else ""
            raise ValueError(f"monitor is {self.monitor!r}, but the record has only {', '.join(names)}{hint}")

    def on_epoch_end(self, trainer: Fitted, record: Record) -> bool:
        """Compare with the best epoch; return True when patience is at its end."""
        self.check_record(record)
        self._loaded = False
        value = record[self.monitor]
        if not self._improves(value):
            self.wait += 1
            return self.wait >= self.patience
        self.best, self.best_epoch, self.wait = value, int(record["epoch"]), 0
        if self.restore_best:
            self._best_parameters = trainer.parameters.copy()
            self._best_statistics = flattened(trainer.statistics, trainer.parameters.dtype)
        return False

    def on_fit_end(self, trainer: Fitted, history: History) -> None:
        """Restore the best parameters, and the running statistics beside them."""
        self._loaded = False
        if self.restore_best and self._best_parameters is not None:
            trainer.parameters[...] = self._best_parameters
            at = 0
            for array in chain.from_iterable(trainer.statistics):
                array[...] = self._best_statistics[at : at + array.size]  # type: ignore[index] # kept with the others
                at += array.size

    def state_dict(self) -> dict[str, Any]:
        """Return ``monitor``, ``best`` and ``best_parameters`` (None at first), ``best_epoch`` and ``wait``.

        With batch normalisation ``best_statistics``, too: running means and variances, one after the other.
        """
        stored = None if self._best_parameters is None else self._best_parameters.copy()
        kept = {name: getattr(self, name) for name in ("best", "best_epoch", "wait")}
        if self._best_statistics is not None and self._best_statistics.size:
            kept["best_statistics"] = self._best_statistics.copy()
        return {**kept, "best_parameters": stored, "monitor": self.monitor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state in the next ``fit``.

        Parameters
        ----------
        state : dict
            As ``state_dict`` returns it.
        """
        needed = ("best", "best_epoch", "wait", "best_parameters", "monitor")
        if missing := [name for name in needed if name not in state]:
            raise ValueError(f"EarlyStopping's state has no {', '.join(missing)}")
        if state["monitor"] != self.monitor:
            raise ValueError(f"EarlyStopping's state is of {state['monitor']!r}, but monitor is {self.monitor!r}")
        stored = state["best_parameters"]
        if stored is not None and not np.isfinite(stored).all():
            raise ValueError("EarlyStopping's state has best_parameters with NaN or infinity")
        statistics = np.array(state.get("best_statistics", []))
        if not np.isfinite(statistics).all():
            raise ValueError("EarlyStopping's state has best_statistics with NaN or infinity")
        self.best = None if state["best"] is None else float(state["best"])
        self.best_epoch, self.wait = int(state["best_epoch"]), int(state["wait"])
        self._best_parameters = None if stored is None else np.array(stored)
        self._best_statistics = statistics
        self._loaded = True

    def _improves(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        if self.monitor.endswith("accuracy"):
            return value > self.best + self.min_delta
        return value < self.best - self.min_delta
