"""A Trainer's arguments as JSON values and back: what a checkpoint keeps beside the weights."""

from __future__ import annotations

import operator
from dataclasses import fields
from typing import Any

from briskmlp.operations.rules import OPTIMIZERS, RULES, Optimizer
from briskmlp.schedules import SCHEDULES
from briskmlp.storage.checkpoint import CheckpointError

# Those that are JSON values as they are, and what a file may hold; the Trainer checks the values.
_PLAIN: dict[str, tuple[type, ...]] = {
    "loss": (str,),
    "batch_size": (int, type(None)),
    "l2": (int, float),
    "dropout": (list, float),
    "clip_norm": (float, type(None)),
    "precision": (str,),
    "shuffle": (bool,),
    "seed": (int,),
}
_BEFORE = {"dropout": 0.0, "clip_norm": None}  # what those are that older files lack


def describe(trainer: Any) -> dict[str, Any]:
    """Return the arguments of a Trainer, other than its architecture and dtype, as JSON values."""
    plain = {name: getattr(trainer, name) for name in _PLAIN}
    return {**plain, "dropout": list(trainer.dropout), "optimizer": _describe_optimizer(trainer.optimizer)}


def restore(described: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that ``describe`` wrote; the Trainer checks their values."""
    try:
        arguments = {name: (_BEFORE | described)[name] for name in _PLAIN}
        for name, types in _PLAIN.items():
            if type(arguments[name]) not in types:
                raise TypeError(f"{name} is {arguments[name]!r}")
        return {**arguments, "optimizer": _restore_optimizer(described["optimizer"])}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the file's configuration is not usable: {error!r}") from error


def state_names(optimizer: Optimizer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return PyTorch's names of the state: of each parameter's, in the order of its rows, and of the whole network's.

    Examples
    --------
    >>> state_names(OPTIMIZERS["NAdam"]())
    (('exp_avg', 'exp_avg_sq'), ('mu_product',))
    """
    rule = RULES[optimizer.lowered().rule]
    return rule.slots, rule.scalars


def _describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    name = type(optimizer).__name__
    if OPTIMIZERS.get(name) is not type(optimizer):
        raise TypeError(f"optimizer {optimizer!r} cannot be saved; it must be one of {list(OPTIMIZERS)}")
    values = _numbers(optimizer)
    rate = optimizer.learning_rate
    if callable(rate):
        schedule = type(rate).__name__
        if SCHEDULES.get(schedule) is not type(rate):
            raise TypeError(f"learning_rate {rate!r} cannot be saved; it must be a number or one of {list(SCHEDULES)}")
        values["learning_rate"] = {"name": schedule, **_numbers(rate)}
    return {"name": name, **values}


def _numbers(hyperparameters: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; NumPy's numbers and the like as Python's, which JSON has."""
    return {field.name: _number(getattr(hyperparameters, field.name)) for field in fields(hyperparameters)}


def _number(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or callable(value):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return float(value)


def _restore_optimizer(described: dict[str, Any]) -> Optimizer:
    values = dict(described)
    optimizer = OPTIMIZERS[values.pop("name")]
    if isinstance(values["learning_rate"], dict):
        schedule = dict(values["learning_rate"])
        values["learning_rate"] = SCHEDULES[schedule.pop("name")](**schedule)
    restored: Optimizer = optimizer(**values)
    return restored
