"""From a Trainer to a checkpoint and back, and on with the run that was cut."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from briskmlp.callbacks import Callbacks, states_of
from briskmlp.storage import checkpoint, configuration
from briskmlp.storage.checkpoint import CallbackState, CheckpointError, Training
from briskmlp.storage.tensors import shortened

if TYPE_CHECKING:
    from briskmlp.trainer import Trainer

    AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)


class Pending(NamedTuple):
    """What a file holds for the first ``fit`` after it was loaded."""

    path: str
    callbacks: list[CallbackState]
    trained_on: tuple[str, str | None] | None  # backend and ISA; None if nothing was trained


def save(
    trainer: Trainer, path: str | PathLike[str], callbacks: Iterable[object] = (), config: dict[str, Any] | None = None
) -> None:
    """Write all that is needed to go on with the same bits; ``config`` is added to the configuration."""
    described, learned = {**trainer.configuration, **(config or {})}, trainer._engine.learned()
    pending: Pending | None = trainer._pending
    names = configuration.slot_names(trainer.optimizer)
    (epoch, batch, step), (loss_sum, weight_sum) = learned["counts"].tolist(), learned["sums"].tolist()
    checkpoint.write(
        path,
        trainer.network,
        learned["parameters"],
        described,
        slots=dict(zip(names, learned["state"], strict=True)),
        training=Training(
            epoch, batch, step, loss_sum, weight_sum, learned["unfinished"], trainer.backend, trainer.isa
        ),
        callbacks=states_of(callbacks) or (pending.callbacks if pending else []),
    )


def load(cls: type[AnyTrainer], path: str | PathLike[str], *, backend: str, threads: int | None) -> AnyTrainer:
    """Return a Trainer that is where the saved one was."""
    stored = checkpoint.read(path)
    network, file = stored.network, os.fspath(path)
    try:
        trainer = cls(
            network.layers,
            hidden=network.hidden,
            output=network.output,
            bias=network.bias,
            initializer=stored.parameters,
            dtype=stored.parameters.dtype,
            backend=backend,
            threads=threads,
            **configuration.restore(stored.config),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: no Trainer can be made of it: {shortened(error)}") from error
    if (training := stored.training) is None:  # a model alone
        return trainer
    names, state = configuration.slot_names(trainer.optimizer), trainer._engine.state
    if set(names) != set(stored.slots):
        found = shortened(", ".join(stored.slots)) or "none"
        raise CheckpointError(
            f"{file}: {trainer.optimizer!r} needs the state {', '.join(names) or 'none'}, not {found}"
        )
    for row, name in zip(state, names, strict=True):
        row[...] = stored.slots.pop(name)
    trainer._engine.take_over(
        {
            "parameters": stored.parameters,
            "state": state,
            "counts": np.array([training.epoch, training.batch, training.step], dtype=np.int64),
            "sums": np.array([training.loss_sum, training.weight_sum]),
            "unfinished": training.unfinished,
        }
    )
    trainer._pending = Pending(file, stored.callbacks, (training.backend, training.isa) if training.step else None)
    return trainer


def begin(trainer: Trainer, hooks: Callbacks) -> bool:
    """Tell the callbacks that training begins; those of the first ``fit`` after loading get their states before.

    Returns whether one of them said that there is nothing to do. If one of them fails, the next ``fit`` is the first.
    """
    if trainer._pending is not None:
        _go_on(trainer, trainer._pending, hooks)
    stopped = hooks.on_fit_begin(trainer)
    trainer._pending = None
    return stopped


def _go_on(trainer: Trainer, pending: Pending, hooks: Callbacks) -> None:
    """Give callbacks their states; warn if training cannot go on as it was."""
    try:
        unclaimed = hooks.load_states(pending.callbacks, trainer)
    except Exception as error:
        raise CheckpointError(f"{pending.path}: the state of a callback is not usable: {shortened(error)}") from error
    if unclaimed:
        warnings.warn(
            f"{pending.path} holds the state of {shortened(', '.join(unclaimed))}, but this fit has no such callback "
            "with load_state_dict: it goes on without",
            UserWarning,
            stacklevel=4,
        )
    if pending.trained_on not in (None, (trainer.backend, trainer.isa)):
        then, now = (
            " with ".join(filter(None, place)) for place in (pending.trained_on, (trainer.backend, trainer.isa))
        )
        warnings.warn(
            f"{pending.path} was trained on the backend {then} and goes on on {now}: the last bits may differ from "
            "those of a run that was never cut",
            UserWarning,
            stacklevel=4,
        )
