"""Texts that name an operation with its parameters, such as "leaky_relu(0.2)": how they are written and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Any

_CALL = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*")


def defaults_of(kind: Any) -> dict[str, float]:
    """Return the names of a dataclass's parameters, with their defaults."""
    return {} if kind is None else {field.name: field.default for field in fields(kind)}  # type: ignore[misc]


def text_of(name: str, parameters: Any) -> str:
    """Return the name, and in parentheses the parameters, a dataclass, unless all have their defaults."""
    values = astuple(parameters)
    if values == tuple(defaults_of(parameters).values()):
        return name
    return f"{name}({', '.join(repr(float(value)) for value in values)})"


def split(value: Any) -> tuple[Any, str]:
    """Return the name in a text, and what is in its parentheses; anything else as it is, and nothing."""
    match = _CALL.fullmatch(value) if isinstance(value, str) and "(" in value else None
    return (value, "") if match is None else (match[1], match[2])


def given_in(argument: str, value: Any, name: str, inside: str, defaults: Mapping[str, float]) -> dict[str, float]:
    """Return the parameters that stand between the parentheses of a text, by position or by name."""
    given = dict[str, float]()
    try:
        for place, part in enumerate(filter(None, map(str.strip, inside.split(",")))):
            key, _, number = part.rpartition("=")
            key = key.strip() or list(defaults)[place]
            if key not in defaults or key in given:
                raise ValueError(key)
            given[key] = float(number)
    except (ValueError, IndexError):
        takes = "takes " + ", ".join(f"{key}={default}" for key, default in defaults.items())
        raise ValueError(f"{argument} is {value!r}, but {name} {takes if defaults else 'has no parameters'}") from None
    return given


def values_in(text: str, defaults: Mapping[str, float]) -> tuple[float, ...]:
    """Return the parameters of a checked text, all of them or none."""
    _, _, inside = text.partition("(")
    return tuple(map(float, inside.rstrip(")").split(","))) if inside else tuple(defaults.values())
