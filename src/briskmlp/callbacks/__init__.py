"""Callbacks: what happens between epochs.

A callback is any object with some of

- ``on_fit_begin(trainer)``: before the first epoch; returning True trains nothing,
- ``on_epoch_end(trainer, record)``: after each epoch; returning True stops training,
- ``on_epochs(trainer, records)``: instead of ``on_epoch_end``, once for the one or more epochs that the kernels have
  trained in one go. When no callback has ``on_epoch_end`` alone, short epochs are trained many at a time,
- ``on_kernel_call_end(trainer)``: about every 50 ms, also inside an epoch; ``on_pause`` is its older name,
- ``on_fit_end(trainer, history)``: after the last epoch, not when training ends with an exception,
- ``state_dict() -> dict`` and ``load_state_dict(dict)``: what a checkpoint keeps of it, and gives back before
  ``on_fit_begin`` of the first ``fit`` after loading. The dict has names as keys; its values are what JSON has, and
  arrays of numbers. One that has stopped training should know so from its state and say True in ``on_fit_begin``, for
  the case that the process ends right then and is started again.

``trainer`` has at least what ``Fitted`` in ``callbacks/hooks.py`` says. A callback may also have

- ``every_epochs``: an integer; the kernels do not train past a multiple of it in one go,
- ``check_record(names)``: before any weight moves, with the names of what is recorded of each epoch; raises an error,
- ``check_state(trainer)``: after ``load_state_dict``; raises an error if the state does not fit what is trained,
- ``keep_states_of(callbacks)``: takes all callbacks of the ``fit``, and is called after all others, as their states are
  what it keeps: each `briskmlp.Checkpoint`.

All callbacks are called, in order, also when one of them stops training.
"""

from briskmlp.callbacks.checkpoint import Checkpoint
from briskmlp.callbacks.early_stopping import EarlyStopping
from briskmlp.callbacks.hooks import Callbacks, Fitted, states_of

__all__ = ["Callbacks", "Checkpoint", "EarlyStopping", "Fitted", "states_of"]
