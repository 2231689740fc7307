"""The shapes that values have along a chain, found by PyTorch itself on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from briskmlp.convert.torch.steps import Activate, Known, Linear, Measure, Norm, Reshape, Step


def output_shape(steps: Sequence[Step], shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of what a chain gives for a batch of X of this shape.

    Raises
    ------
    ValueError
        PyTorch cannot compute it, or a Linear does not get one row for each row of X; the message names the step.

    Examples
    --------
    >>> from torch import nn
    >>> from briskmlp.convert.torch import read_module
    >>> steps = read_module(nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.Flatten(0))).steps
    >>> output_shape(steps, (5, 2, 3))
    (5,)
    """
    linears = [step for step in steps if isinstance(step, Linear)]
    unchanged = not any(isinstance(step, Reshape | Measure) for step in steps)
    if unchanged and tuple(shape[1:]) == linears[0].weight.shape[1:]:
        return (shape[0], len(linears[-1].weight))  # as for most modules, without these few 10 µs
    value, known = torch.empty(tuple(shape), device="meta"), Known()
    for step in steps:
        value = _next(step, value, known, tuple(shape))
    return _checked(value, tuple(shape))


def output_shape_of_rows(steps: Sequence[Step], n: int) -> tuple[int, ...]:
    """Return the shape of what a chain gives where its first Linear gets n rows, by whatever shapes of X."""
    shape = (n, next(step.weight.shape[1] for step in steps if isinstance(step, Linear)))
    value, known, begun = torch.empty(shape, device="meta"), Known(), False
    for step in steps:
        begun = begun or isinstance(step, Linear)
        if begun:
            value = _next(step, value, known, shape)
        elif isinstance(step, Measure):
            with suppress(Exception):  # it may ask for an axis that rows do not have
                known[step.node] = step.compute(known)
        else:
            known[step.node] = value
    return _checked(value, shape)


def _next(step: Step, value: Tensor, known: Known, shape: tuple[int, ...]) -> Tensor:
    """Return the value after a step, of a chain for X of this shape, and note what is known of its node."""
    if isinstance(step, Measure):
        known[step.node] = _tried(step, shape, lambda: step.compute(known))
        return value
    if isinstance(step, Linear):
        n_out, n_in = step.weight.shape
        if value.shape != (shape[0], n_in):
            came = f"it gets {tuple(value.shape)} of a batch of X of shape {shape}"
            raise ValueError(f"{step.where} takes rows, {(shape[0], n_in)}, but {came}")
        value = value.new_empty((shape[0], n_out))
    elif _of_rows(step) and (value.ndim != 2 or len(value) != shape[0]):
        raise ValueError(f"{step.where} gets a batch of shape {tuple(value.shape)}; accepted: rows")
    elif isinstance(step, Reshape):
        before, value = value, _tried(step, shape, lambda: step.change(value, known))
        if (value.numel(), value.dtype) != (before.numel(), before.dtype):
            came = f"{step.where} makes {tuple(value.shape)} of {tuple(before.shape)}"
            raise ValueError(f"{came}, which is not supported; accepted: another shape of the same numbers")
    if step.node is not None:
        known[step.node] = value
    return value


def _of_rows(step: Step) -> bool:
    """Whether a step needs to be told which numbers are a row."""
    return isinstance(step, Norm) or (isinstance(step, Activate) and step.of_rows)


def _tried(step: Step, shape: tuple[int, ...], compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Exception as error:
        message = str(error).split("\n")[0]
        raise ValueError(f"{step.where} cannot be computed of a batch of X of shape {shape}: {message}") from error


def _checked(value: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the outputs; of a batch of one row, squeeze() may have taken the axis of rows as well."""
    outputs, n = tuple(value.shape), shape[0]
    if n != 1 and outputs[:1] != (n,):
        raise ValueError(f"module makes {outputs} of a batch of X of shape {shape}; accepted: outputs ({n}, …)")
    return outputs
