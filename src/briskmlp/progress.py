"""The progress bar of ``fit``: a callback that is there while it is wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

from briskmlp.history import History, Record


class Progress:
    """A tqdm bar over the epochs of one ``fit``, with the latest loss, on standard error."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._bar: Any = None

    def on_fit_begin(self, trainer: object) -> None:
        """Show the empty bar."""
        from tqdm import tqdm  # only when a bar is shown

        class Bar(tqdm):  # type: ignore[misc] # tqdm ships no types
            monitor_interval = 0  # no thread of tqdm's in the user's process, which may fork

        self._bar = Bar(total=self.epochs, unit=" epochs", miniters=1)

    def on_epochs(self, trainer: object, records: Sequence[Record]) -> None:
        """Move the bar; tqdm draws it at most ten times a second."""
        losses = [f"{name} {records[-1][name]:.4g}" for name in ("loss", "val_loss") if name in records[-1]]
        self._bar.set_postfix_str(", ".join(losses), refresh=False)
        self._bar.update(len(records))

    def on_fit_end(self, trainer: object, history: History) -> None:
        """Leave the finished bar on the terminal."""
        self.close()

    def close(self) -> None:
        """Release the terminal's line; harmless when done before."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress_callback(progress: bool | None, epochs: int) -> AbstractContextManager[Progress | None]:
    """Give a bar if one is wanted, else None; close it also after an exception.

    With ``progress=None`` there is a bar only where standard error is a terminal; anything but that, True and False is
    a TypeError.

    Examples
    --------
    >>> with progress_callback(False, epochs=10) as bar:
    ...     print(bar)
    None
    """
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress must be True, False or None, got {progress!r}")
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    return closing(Progress(epochs)) if progress else nullcontext()
