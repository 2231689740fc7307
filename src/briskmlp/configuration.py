"""A Trainer's arguments as JSON values and back: what a checkpoint keeps beside the weights."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from briskmlp.checkpoint import CheckpointError
from briskmlp.optimizers import OPTIMIZERS, Optimizer
from briskmlp.schedules import SCHEDULES

_PLAIN = ("loss", "batch_size", "l2", "precision", "shuffle", "seed")


def describe(trainer: Any) -> dict[str, Any]:
    """Return the arguments of a Trainer, other than its architecture and dtype, as JSON values."""
    plain = {name: getattr(trainer, name) for name in _PLAIN}
    return {**plain, "optimizer": _describe_optimizer(trainer.optimizer)}


def restore(described: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that ``describe`` wrote; the Trainer checks their values."""
    try:
        arguments = {name: described[name] for name in _PLAIN}
        return {**arguments, "optimizer": _restore_optimizer(described["optimizer"])}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the file's configuration is not usable: {error!r}") from error


def _describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    values = {field.name: getattr(optimizer, field.name) for field in fields(optimizer)}
    rate = values["learning_rate"]
    if callable(rate):
        name = type(rate).__name__
        if SCHEDULES.get(name) is not type(rate):
            raise TypeError(f"learning_rate {rate!r} cannot be saved; it must be a number or one of {list(SCHEDULES)}")
        values["learning_rate"] = {"name": name, **{field.name: getattr(rate, field.name) for field in fields(rate)}}
    return {"name": type(optimizer).__name__, **values}


def _restore_optimizer(described: dict[str, Any]) -> Optimizer:
    values = dict(described)
    optimizer = OPTIMIZERS[values.pop("name")]
    if isinstance(values["learning_rate"], dict):
        schedule = dict(values["learning_rate"])
        values["learning_rate"] = SCHEDULES[schedule.pop("name")](**schedule)
    return optimizer(**values)
