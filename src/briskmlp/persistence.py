"""Where pickles of Trainers that were loaded, but not trained on yet, had `Pending` before it moved."""

from briskmlp.callbacks.hooks import Pending as Pending  # noqa: PLC0414 - offered here
