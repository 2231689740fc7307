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

All callbacks are called, in order, but each `briskmlp.Checkpoint` after all others, whose state it keeps; also when one
of them stops training.
"""

from briskmlp.callbacks.checkpoint import Checkpoint
from briskmlp.callbacks.early_stopping import EarlyStopping
from briskmlp.callbacks.hooks import Callbacks, states_of

__all__ = ["Callbacks", "Checkpoint", "EarlyStopping", "states_of"]
