"""Keeping checkpoints while training; what is in the file, `briskmlp.storage.checkpoint` says."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from briskmlp._messages import check_integer, check_number
from briskmlp.callbacks.hooks import Fitted
from briskmlp.history import History, Record
from briskmlp.storage.checkpoint import CheckpointError, read_position
from briskmlp.storage.files import remove_leftovers
from briskmlp.storage.tensors import shortened


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
    >>> import os, tempfile
    >>> from briskmlp import Checkpoint, EarlyStopping, Trainer
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
            came = f"every_epochs is {every_epochs} and every_seconds {every_seconds}"
            raise ValueError(f"{came}, but one alone is accepted")
        self.config: dict[str, Any] = {}  # what each file holds beside the trainer's own
        self.path = os.fspath(Path(path).absolute())  # a callback may change the directory
        self.every_seconds = None if every_seconds is None else check_number("every_seconds", every_seconds, low=0.0)
        every = 1 if every_epochs is None and every_seconds is None else every_epochs
        self.every_epochs = None if every is None else check_integer("every_epochs", every, low=1)
        self._callbacks: Sequence[object] = ()
        self._last = 0.0

    def keep_states_of(self, callbacks: Sequence[object]) -> None:
        """Take the callbacks of the ``fit``, whose states each file is to hold; that makes this one the last of them.

        Parameters
        ----------
        callbacks : sequence of object
        """
        self._callbacks = callbacks

    def on_fit_begin(self, trainer: Fitted) -> None:
        """Write the first file: whatever cannot be kept is found out now, and not after hours."""
        remove_leftovers(self.path)
        self._check_older(trainer)
        self.save(trainer)
        self._last = time.monotonic()

    def on_epochs(self, trainer: Fitted, records: Sequence[Record]) -> None:
        """Write after each so many epochs; the kernels have not gone beyond."""
        if self.every_epochs is not None and trainer.epoch % self.every_epochs == 0:
            self.save(trainer)

    def on_kernel_call_end(self, trainer: Fitted) -> None:
        """Write after each so many seconds."""
        if self.every_seconds is not None and time.monotonic() - self._last >= self.every_seconds:
            self.save(trainer)
            self._last = time.monotonic()  # now, so that a slow disk leaves time for training

    def on_fit_end(self, trainer: Fitted, history: History) -> None:
        """Write what ``fit`` leaves, such as the weights that `EarlyStopping` has restored."""
        self.save(trainer)

    def _check_older(self, trainer: Fitted) -> None:
        """Refuse to replace what the trainer has not come from: most often, a script that forgot to load it."""
        try:
            network, step = read_position(self.path)
        except (CheckpointError, FileNotFoundError):
            return  # nothing there that could be loaded
        if network == trainer.network and step <= trainer.step:
            return
        found = f"of {step} steps" if network == trainer.network else f"of {shortened(repr(network))}"
        came = f"but this trainer has made {trainer.step} steps of {trainer.network!r}"
        advice = "go on from it with Trainer.load, or choose another path, or remove the file"
        raise ValueError(f"{self.path} is a checkpoint {found}, {came}; {advice}")

    def save(self, trainer: Fitted) -> None:
        """Write the file now.

        Parameters
        ----------
        trainer : Trainer
        """
        trainer.save(self.path, callbacks=self._callbacks, config=self.config)
