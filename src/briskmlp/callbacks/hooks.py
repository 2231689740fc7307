"""The callbacks of one ``fit``: what they may use of a trainer, when each hook is called, and their states."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple, Protocol

import numpy as np

from briskmlp.history import History, Record
from briskmlp.network import MAX_SIZE, FloatArray, Network, Statistics
from briskmlp.storage.checkpoint import CallbackState, CheckpointError
from briskmlp.storage.tensors import shortened

HOOKS = (
    "on_fit_begin", "on_epoch_end", "on_epochs", "on_kernel_call_end", "on_pause", "on_fit_end", "state_dict",
    "load_state_dict",
)  # fmt: skip


class Fitted(Protocol):
    """What callbacks are given: a `Trainer`, or whatever else has these."""

    @property
    def network(self) -> Network:
        """The architecture."""

    @property
    def statistics(self) -> list[Statistics]:
        """Running mean and variance of each batch normalisation, (n,) each, writable."""

    @property
    def parameters(self) -> FloatArray:
        """All weights and biases, (n_parameters,), writable."""

    @property
    def epoch(self) -> int:
        """Epochs completed."""

    @property
    def step(self) -> int:
        """Steps made."""

    def save(
        self, path: str | PathLike[str], *, callbacks: Iterable[Any] = (), config: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint, with the states of these callbacks."""


class Callbacks:
    """The callbacks of one call of ``fit``, checked before any weight moves.

    An object without any hook, or with one that cannot be called, is a TypeError. An object that is listed twice is a
    ValueError, and so is an `EarlyStopping` that monitors what is not among the ``names`` that each record will have.

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
        recorded = tuple(names or ())
        for position, callback in enumerate(self.callbacks):
            _check_hooks(position, callback)
            first = next(i for i, other in enumerate(self.callbacks) if other is callback)
            if first != position:  # it would count each epoch twice
                twice = f"callbacks[{position}] is callbacks[{first}], {callback!r}"
                raise ValueError(f"{twice}; accepted: each object once")
            if names is not None and hasattr(callback, "check_record"):
                callback.check_record(recorded)
        self.callbacks.sort(key=lambda callback: hasattr(callback, "keep_states_of"))
        for keep_states_of in self._hooks("keep_states_of"):
            keep_states_of(self.callbacks)

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
        if self.every_epoch:
            return epoch + 1
        every = [getattr(callback, "every_epochs", None) for callback in self.callbacks]
        return min((epoch - epoch % n + n for n in every if isinstance(n, int) and n >= 1), default=MAX_SIZE)

    def load_states(self, states: Sequence[CallbackState], trainer: Fitted) -> list[str]:
        """Give the k-th callback of each class the k-th state of this class; return the classes of those left over."""
        left = list(states)
        for callback in self.callbacks:
            kinds, name = [kind for kind, _ in left], type(callback).__name__
            if name in kinds and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(left.pop(kinds.index(name))[1])
                if hasattr(callback, "check_state"):
                    callback.check_state(trainer)
        return [kind for kind, _ in left]

    def on_fit_begin(self, trainer: Fitted) -> bool:
        """Tell all callbacks that training begins; return whether one of them said True, as there is nothing to do."""
        answers = []
        for hook in self._hooks("on_fit_begin"):
            answers.append(hook(trainer))  # noqa: PERF401 - a comprehension is a frame more, before Python 3.12
        return any_true(answers)

    def on_kernel_call_end(self, trainer: Fitted) -> None:
        """Tell all callbacks that a kernel call has ended."""
        for callback in self.callbacks:
            if hook := getattr(callback, "on_kernel_call_end", None) or getattr(callback, "on_pause", None):
                hook(trainer)

    def on_epochs(self, trainer: Fitted, records: Sequence[Record]) -> bool:
        """Tell all callbacks of the epochs just trained; return whether one of them said True."""
        answers = []
        for callback in self.callbacks:
            if hasattr(callback, "on_epochs"):
                answers.append(callback.on_epochs(trainer, records))
            elif hasattr(callback, "on_epoch_end"):
                answers.extend(callback.on_epoch_end(trainer, record) for record in records)
        return any_true(answers)

    def on_fit_end(self, trainer: Fitted, history: History) -> None:
        """Tell all callbacks that training has ended."""
        for hook in self._hooks("on_fit_end"):
            hook(trainer, history)

    def _hooks(self, name: str) -> Iterator[Any]:
        return (getattr(callback, name) for callback in self.callbacks if hasattr(callback, name))


class Pending(NamedTuple):
    """What a file holds for the first ``fit`` after it was loaded."""

    path: str
    callbacks: list[CallbackState]
    trained_on: tuple[str, str | None] | None  # backend and ISA; None if nothing was trained

    def resume(self, trainer: Fitted, hooks: Callbacks, now: tuple[str, str | None]) -> None:
        """Give callbacks their states; warn if training cannot go on as it was, on the backend and ISA of now."""
        try:
            unclaimed = hooks.load_states(self.callbacks, trainer)
        except Exception as error:
            raise CheckpointError(f"{self.path}: the state of a callback is not usable: {shortened(error)}") from error
        told = []
        if unclaimed:
            left = f"holds the state of {shortened(', '.join(unclaimed))}, but this fit has no such callback"
            told.append(f"{left} with load_state_dict: it goes on without")
        if self.trained_on is not None and self.trained_on != now:
            before, after = (" with ".join(filter(None, place)) for place in (self.trained_on, now))
            moved = f"was trained on the backend {before} and goes on on {after}"
            told.append(f"{moved}: the last bits may differ from those of a run that was never cut")
        for text in told:
            warnings.warn(f"{self.path} {text}", UserWarning, stacklevel=3)


def states_of(callbacks: Iterable[object]) -> list[CallbackState]:
    """Return the states of those callbacks that have one."""
    return [(type(c).__name__, c.state_dict()) for c in callbacks if hasattr(c, "state_dict")]


def any_true(answers: Iterable[object]) -> bool:
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
