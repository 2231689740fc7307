"""The shapes of a module's outputs and of targets: what PyTorch refuses, or would broadcast, is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import nn

from briskmlp.convert.torch import shapes
from briskmlp.convert.torch.read import Dense

# losses that take a target of shape (1,) beside an output of shape (), as squeeze() makes of one row: the same number
BROADCASTING = (nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss)


def output_shape(dense: Dense, row: tuple[int, ...], sizes: Iterable[int], loss_fn: nn.Module) -> tuple[int, ...]:
    """Return the shape of the outputs of one row of X, which has the shape ``row``, in batches of all these sizes.

    Raises
    ------
    ValueError
        PyTorch cannot compute one of these batches, or squeezes the axis of rows away and then cannot compute the loss.
    """
    found = {size: shapes.output_shape(dense.steps, (size, *row)) for size in sorted(sizes, reverse=True)}
    of_one = found.pop(1, None)
    if of_one is not None and not found:  # two rows show what squeeze() does not take away
        found[2] = (2, *of_one[1:]) if of_one[:1] == (1,) else shapes.output_shape(dense.steps, (2, *row))
    shape, *others = {outputs[1:] for outputs in found.values()}
    if others:
        raise ValueError(f"module's outputs have shapes {list(found.values())} in batches of {list(found)} rows")
    if of_one not in (None, (1, *shape)) and not (of_one == shape and isinstance(loss_fn, BROADCASTING)):
        came = f"module makes outputs of shape {of_one} of a batch of one row, and loss_fn is {loss_fn}"
        raise ValueError(f"{came}; accepted: squeeze(-1) for squeeze(), or a batch_size that leaves no single row")
    return shape


def check_shape(Y: Any, n: int, outputs: tuple[int, ...]) -> None:
    """Refuse targets that have not the shape of the outputs of n rows: PyTorch would broadcast and train another model.

    Examples
    --------
    >>> check_shape(np.zeros(5), 5, (1,))
    Traceback (most recent call last):
        ...
    ValueError: Y has shape (5,), but must have the shape of the outputs, (5, 1): Y[:, None], or .squeeze(-1) of them
    """
    shape, expected = tuple(np.shape(Y)), (n, *outputs)
    if shape == expected:
        return
    hint = ""
    if (shape, outputs) == ((n,), (1,)):
        hint = ": Y[:, None], or .squeeze(-1) of them"
    elif (shape, outputs) == ((n, 1), ()):
        hint = ": Y[:, 0]"
    raise ValueError(f"Y has shape {shape}, but must have the shape of the outputs, {expected}{hint}")


def check_classes(loss_fn: nn.Module, Y: Any, n: int, outputs: tuple[int, ...]) -> None:
    """Refuse outputs that are not one for each class, and targets that are neither labels nor probabilities of them."""
    name, shape = type(loss_fn).__name__, tuple(np.shape(Y))
    if len(outputs) != 1 or outputs[0] < 2:
        came = (
            f"the module has {outputs[0]} output" if len(outputs) == 1 else f"the module's outputs are {(n, *outputs)}"
        )
        raise ValueError(f"loss_fn is {name}, but {came}; accepted: 2 or more, one for each class")
    accepted = [(n,)] if isinstance(loss_fn, nn.NLLLoss) else [(n,), (n, *outputs)]
    if shape not in accepted:
        hint = ": Y[:, 0]" if shape == (n, 1) else ""
        also = f" or probabilities {accepted[1]}" if len(accepted) > 1 else ""
        raise ValueError(f"Y has shape {shape}; accepted: labels ({n},){also}{hint}")
