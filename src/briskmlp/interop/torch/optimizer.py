"""Lowering of PyTorch's optimizers to a Plan, by the table of rules; reading and writing their state."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, optim

from briskmlp.backends.contract import State
from briskmlp.convert.torch.modules import check_no_hooks
from briskmlp.convert.torch.read import Dense
from briskmlp.operations.rules import BY_CODE, OPTIMIZERS, Optimizer, hyperparameters_of
from briskmlp.plan import Plan

Fields = dict[str, Any]  # of a Plan, those that an optimizer says
REFUSED = ("maximize", "differentiable", "capturable")
CLASSES: dict[type[optim.Optimizer], type[Optimizer]] = {getattr(optim, name): cls for name, cls in OPTIMIZERS.items()}


def check(optimizer: optim.Optimizer, dense: Dense) -> None:
    """Raise an error for an optimizer that kernels do not support, or whose parameters are not exactly the module's."""
    if type(optimizer) not in CLASSES:
        accepted = ", ".join(OPTIMIZERS)
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, which is not supported; accepted: {accepted}")
    check_no_hooks(optimizer, "optimizer")
    check_no_hooks(sys.modules[optim.Optimizer.__module__], "torch.optim")  # those of all optimizers
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    for name, tensor in dense.present:
        if id(tensor) not in held:
            raise ValueError(f"optimizer does not have the module's {name}; accepted: one of all its parameters")
        held.discard(id(tensor))
    held -= set(map(id, dense.unused))
    if held:
        raise ValueError(f"optimizer has {len(held)} parameters that are not the module's")


def lower(optimizer: optim.Optimizer, dense: Dense) -> tuple[Fields, float]:
    """Return the Plan's fields for the optimizer's current options, and the largest learning rate of its groups."""
    groups = optimizer.param_groups
    for group in groups:
        if refused := [option for option in REFUSED if group.get(option)]:
            raise ValueError(f"optimizer has {refused[0]}={group[refused[0]]!r}, which is not supported")
        _check_tensors(group, dense)
    options = [_options(optimizer, group) for group in groups]
    for other in options[1:]:
        different = [name for name, value in other.items() if value != options[0][name]]
        if different:
            raise ValueError(f"optimizer's groups differ in {', '.join(different)}; accepted: in lr and weight_decay")
    group_of = {id(tensor): group for group in groups for tensor in group["params"]}
    of = [group_of.get(id(tensor), {"lr": 0.0, "weight_decay": 0.0}) for tensor in dense.tensors]
    rates = np.array([float(group["lr"]) for group in of])  # 0 holds a bias that the module does not have
    rate = float(rates[abs(rates).argmax()])
    scale = rates / rate if rate else np.ones_like(rates)
    decay = np.array([float(group["weight_decay"]) for group in of])
    # PyTorch has checked the options, and takes some that our class refuses, such as epsilon 0
    unchecked = object.__new__(CLASSES[type(optimizer)])
    vars(unchecked).update(options[0])
    lowered = unchecked.lowered()._replace(decoupled=options[0]["decoupled"])
    return {**lowered.plan_fields(), "rate_scale": scale, "decay": decay}, rate


def check_rule(fields: Fields, before: Fields) -> None:
    """Refuse another rule than before: its state has other slots."""
    if fields["rule"] != before["rule"]:
        raise ValueError(
            "optimizer's momentum has become, or is no longer, 0, which is not supported within an epoch; accepted: "
            "between two epochs"
        )


def _check_tensors(group: dict[str, Any], dense: Dense) -> None:
    """Raise an error for option tensors with which PyTorch would compute in less than the module's precision."""
    if dense.dtype != np.float64:
        return
    for option, value in group.items():
        for number in value if option == "betas" else [value]:
            if isinstance(number, Tensor) and number.dtype != torch.float64:
                raise ValueError(
                    f"optimizer has {option}={number!r}, of {number.dtype}, but the module is of torch.float64; "
                    "accepted: a number, or a tensor of torch.float64"
                )


def _options(optimizer: optim.Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """Return a group's hyperparameters that all groups must share, by our names."""
    named = hyperparameters_of(CLASSES[type(optimizer)], group)
    shared = {name: value for name, value in named.items() if name not in ("learning_rate", "weight_decay")}
    shared |= {name: float(value) for name, value in shared.items() if not isinstance(value, bool)}
    return shared | {"decoupled": bool(group.get("decoupled_weight_decay", isinstance(optimizer, optim.AdamW)))}


def note_steps(optimizer: optim.Optimizer) -> None:
    """Record that the optimizer has made steps; otherwise, schedulers warn that it has made none."""
    vars(optimizer)["_opt_called"] = True


def steps(optimizer: optim.Optimizer, dense: Dense) -> list[int]:
    """Return the step count of each tensor present; 0 if it has no state, or the optimizer counts no steps.

    SGD counts none, but its first step is another one with dampening: there, a momentum buffer stands for a step.
    """
    states = [optimizer.state.get(tensor, {}) for _, tensor in dense.present]
    if isinstance(optimizer, optim.SGD):
        return [int(state.get("momentum_buffer") is not None) for state in states]
    return [int(state.get("step", 0)) for state in states]


def read_state(optimizer: optim.Optimizer, dense: Dense, plan: Plan, state: State) -> int:
    """Write the optimizer's state to the slots and scalars of ``state``; return its step count."""
    row, slots, scalars = BY_CODE[plan.rule], state.slots, state.scalars
    seen = set(steps(optimizer, dense))
    matters = row.counts_steps and (row.name != "momentum" or plan.hyper[1] != 0.0)
    if matters and len(seen) > 1:
        raise ValueError(f"optimizer's parameters have seen {sorted(seen)} steps; accepted: as many for each")
    row.fill(slots, scalars, plan.hyper)
    for slot, name in zip(slots, row.slots, strict=True):
        for label, tensor, view in dense.pairs(slot):
            saved = optimizer.state.get(tensor, {}).get(name)
            if saved is None:
                continue
            if (saved.shape, saved.dtype, saved.device) != (tensor.shape, tensor.dtype, tensor.device):
                raise ValueError(f"optimizer's {name} of {label} has another shape, dtype or device than it")
            if saved.is_inference():
                raise ValueError(f"optimizer's {name} of {label} was made in inference mode, and cannot be written")
            view.copy_(saved.detach())
    for place, name in enumerate(row.scalars):
        values = {float(optimizer.state.get(tensor, {}).get(name, scalars[place])) for _, tensor in dense.present}
        if len(values) > 1:
            raise ValueError(f"optimizer's parameters have different {name}: {sorted(values)}; accepted: one for all")
        scalars[place] = values.pop()
    return max(seen) if matters else 0


def write_state(optimizer: optim.Optimizer, dense: Dense, plan: Plan, state: State, seen: list[int], made: int) -> None:
    """Write slots and scalars to the optimizer, whose tensors had ``seen`` steps before these ``made``."""
    row = BY_CODE[plan.rule]
    for slot, name in zip(state.slots, row.slots, strict=True):
        for _, tensor, view in dense.pairs(slot):
            of = optimizer.state[tensor]
            if of.get(name) is None:
                of[name] = torch.empty_like(tensor, memory_format=torch.preserve_format)
            of[name].copy_(view)
    if isinstance(optimizer, optim.SGD):
        return
    for (_, tensor), count in zip(dense.present, seen, strict=True):
        for name, value in [("step", count + made), *zip(row.scalars, state.scalars, strict=True)]:
            _set_scalar(optimizer, tensor, name, float(value))


def _set_scalar(optimizer: optim.Optimizer, tensor: Tensor, name: str, value: float) -> None:
    of = optimizer.state[tensor]
    if not isinstance(of.get(name), Tensor):  # as torch.optim makes it: float64 only where that is the default dtype
        double = torch.get_default_dtype() == torch.float64 and not optimizer.param_groups[0].get("fused")
        of[name] = torch.empty((), dtype=torch.float64 if double else torch.float32)
    of[name].fill_(value)
