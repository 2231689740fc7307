"""The checks of scalar arguments, so that every message names the argument, what came and what is accepted."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar, TypeVar


def check_choice(argument: str, value: Any, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``; else name the nearest valid one."""
    if isinstance(value, str) and value in choices:
        return value
    import difflib  # only when something is wrong

    near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{argument} is {value!r}, but must be one of {', '.join(map(repr, choices))}{hint}")


def check_number(
    argument: str, value: Any, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Return a finite float in [low, high], or (low, high] with ``open_low``."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
    except OverflowError:  # an int beyond all floats
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a number, got {value!r}") from None
    if not math.isfinite(number) or not (low < number if open_low else low <= number) or number > high:
        bounds = ["finite"] * (not math.isfinite(number) or low == -math.inf)
        bounds += [f"{'>' if open_low else '>='} {low:g}"] * (low > -math.inf)
        bounds += [f"<= {high:g}"] * (high < math.inf)
        raise ValueError(f"{argument} is {value!r}, but must be {' and '.join(bounds)}")
    return number


def check_fraction(argument: str, value: Any) -> float:
    """Return a float in [0, 1)."""
    if (number := check_number(argument, value, low=0.0)) >= 1.0:
        raise ValueError(f"{argument} is {value!r}, but must be >= 0 and < 1")
    return number


def check_flag(argument: str, value: Any) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, got {value!r}")
    return value


def check_integer(argument: str, value: Any, *, low: int, high: int | None = None) -> int:
    """Return an int in [low, high]."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{argument} must be an integer, got {value!r}") from None
    if number < low or (high is not None and number > high):
        bound = f">= {low}" + (f" and <= {high}" if high is not None else "")
        raise ValueError(f"{argument} is {number}, but must be {bound}")
    return number


def count(number: int, noun: str) -> str:
    """Return a number of things: "1 row", "2 rows"."""
    return f"{number} {noun}{'s' * (number != 1)}"


T = TypeVar("T")


def check_each(argument: str, value: Any, n_hidden: int, check: Callable[[str, Any], T]) -> tuple[T, ...]:
    """Return what is checked for each hidden layer: the values of a sequence, or one that stands for all."""
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if not several and getattr(value, "ndim", 0) == 0:
        return (check(argument, value),) * n_hidden
    if len(value) != n_hidden:
        given, layers = count(len(value), "value"), count(n_hidden, "hidden layer")
        raise ValueError(f"{argument} has {given}, but the network has {layers}")
    return tuple(check(f"{argument}[{layer}]", each) for layer, each in enumerate(value))


check_not_negative = partial(check_number, low=0.0)
check_positive = partial(check_number, low=0.0, open_low=True)
check_count = partial(check_integer, low=1)


class Checked:
    """A dataclass that checks its fields: as `bounds` says of their names, else as True or False or a number >= 0."""

    bounds: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type] # whatever inherits from it is one
            check: Callable[[str, Any], Any] = check_flag if isinstance(field.default, bool) else check_not_negative
            self.bounds.get(field.name, check)(field.name, getattr(self, field.name))


def describe_bytes(n: int) -> str:
    """Return a number of bytes as people read it."""
    power = min((int(n).bit_length() - 1) // 10, 4)
    return f"{n / 1024**power:.1f} {'KMGT'[power - 1]}iB" if power > 0 else f"{n} bytes"
