"""On with a run that was cut: what a checkpoint holds for the first ``fit`` after it was loaded."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from briskmlp.callbacks.base import Fitted
from briskmlp.callbacks.hooks import Callbacks
from briskmlp.storage.checkpoint import CallbackState, CheckpointError
from briskmlp.storage.tensors import shortened


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
