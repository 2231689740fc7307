"""A Trainer's arguments as JSON values and back: what a checkpoint keeps beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
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
    optimizer, rate = _describe("optimizer", trainer.optimizer, OPTIMIZERS), trainer.optimizer.learning_rate
    if callable(rate):
        optimizer["learning_rate"] = _describe("learning_rate", rate, SCHEDULES, "a number or one of")
    return {**plain, "dropout": list(trainer.dropout), "optimizer": optimizer}


def restore(described: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that ``describe`` wrote; the Trainer checks their values."""
    try:
        arguments = {name: (_BEFORE | described)[name] for name in _PLAIN}
        for name, types in _PLAIN.items():
            if type(arguments[name]) not in types:
                raise TypeError(f"{name} is {arguments[name]!r}")
        optimizer = dict(described["optimizer"])
        if isinstance(optimizer["learning_rate"], dict):
            optimizer["learning_rate"] = _restore(optimizer["learning_rate"], SCHEDULES)
        return {**arguments, "optimizer": _restore(optimizer, OPTIMIZERS)}
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


def _describe(argument: str, value: Any, classes: Mapping[str, Any], accepted: str = "one of") -> dict[str, Any]:
    """Return the name of a dataclass and its fields; NumPy's numbers and the like as Python's, which JSON has."""
    name = type(value).__name__
    if classes.get(name) is not type(value):
        raise TypeError(f"{argument} {value!r} cannot be saved; it must be {accepted} {list(classes)}")
    return {"name": name, **{field.name: _number(getattr(value, field.name)) for field in fields(value)}}


def _number(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or callable(value):
        return value
    return int(value) if hasattr(value, "__index__") else float(value)


def _restore(described: dict[str, Any], classes: Mapping[str, Any]) -> Any:
    values = dict(described)
    return classes[values.pop("name")](**values)
