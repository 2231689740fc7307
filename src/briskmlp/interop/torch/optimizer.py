"""Lowering of PyTorch's optimizers to a Plan; reading and writing their state."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, optim

from briskmlp.convert.torch.read import Dense, check_no_hooks, views
from briskmlp.network import FloatArray
from briskmlp.operations.rules import CODES, RULES
from briskmlp.plan import rule_fields

ACCEPTED = "SGD, Adam, AdamW, RMSprop"
REFUSED = ("amsgrad", "maximize", "dampening", "centered", "differentiable", "capturable")
SLOTS = {CODES[name]: row.slots for name, row in RULES.items()}  # PyTorch's names, in the order of ours


def check(optimizer: optim.Optimizer, dense: Dense) -> None:
    """Raise an error for an optimizer that kernels do not support, or whose parameters are not exactly the module's.

    Raises
    ------
    TypeError, ValueError
        The message names what is not supported.
    """
    kinds = (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)
    if type(optimizer) not in kinds:
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, which is not supported; accepted: {ACCEPTED}")
    check_no_hooks(optimizer, "optimizer")
    check_no_hooks(sys.modules[optim.Optimizer.__module__], "torch.optim")  # those of all optimizers
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    for name, tensor in zip(dense.names, dense.tensors, strict=True):
        if tensor is not None and id(tensor) not in held:
            raise ValueError(f"optimizer does not have the module's {name}; accepted: one of all its parameters")
        held.discard(id(tensor))
    if held:
        raise ValueError(f"optimizer has {len(held)} parameters that are not the module's")


def lower(optimizer: optim.Optimizer, dense: Dense) -> tuple[dict[str, Any], float]:
    """Return the Plan's fields for the optimizer's current options, and the largest learning rate of its groups.

    Raises
    ------
    ValueError
        An option is not supported, or the groups differ in more than learning rate and weight decay.
    """
    groups = optimizer.param_groups
    for group in groups:
        for option in REFUSED:
            if group.get(option):
                raise ValueError(f"optimizer has {option}={group[option]!r}, which is not supported")
        _check_tensors(group, dense)
    rules = [_rule(optimizer, group) for group in groups]
    for rule in rules[1:]:
        if rule != rules[0]:
            different = ", ".join(name for name in rule if rule[name] != rules[0].get(name))
            raise ValueError(f"optimizer's groups differ in {different}; accepted: in lr and weight_decay")
    group_of = {id(tensor): group for group in groups for tensor in group["params"]}
    of = [group_of.get(id(tensor), {"lr": 0.0, "weight_decay": 0.0}) for tensor in dense.tensors]
    rates = np.array([float(group["lr"]) for group in of])  # 0 holds a bias that the module has not
    rate = float(rates[abs(rates).argmax()])
    scale = rates / rate if rate else np.ones_like(rates)
    rule = rules[0]
    hyper = [rule.get(name, 0.0) for name in RULES[rule["rule"]].hyper]
    fields = rule_fields(rule["rule"], hyper, decoupled=rule.get("decoupled", False))
    return {**fields, "rate_scale": scale, "decay": np.array([float(group["weight_decay"]) for group in of])}, rate


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


def note_steps(optimizer: optim.Optimizer) -> None:
    """Record that the optimizer has made steps; otherwise, schedulers warn that it has made none."""
    vars(optimizer)["_opt_called"] = True


def _rule(optimizer: optim.Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    if isinstance(optimizer, optim.SGD):
        momentum = float(group["momentum"])
        if not momentum:
            return {"rule": "sgd"}
        return {"rule": "momentum", "momentum": momentum, "nesterov": int(group["nesterov"])}
    if isinstance(optimizer, optim.RMSprop):
        if group["momentum"]:
            raise ValueError(f"optimizer has momentum={group['momentum']!r}, which RMSprop has not here")
        return {"rule": "rmsprop", "alpha": float(group["alpha"]), "epsilon": float(group["eps"])}
    beta1, beta2 = map(float, group["betas"])
    decoupled = bool(group.get("decoupled_weight_decay", isinstance(optimizer, optim.AdamW)))
    return {"rule": "adam", "beta1": beta1, "beta2": beta2, "epsilon": float(group["eps"]), "decoupled": decoupled}


def steps(optimizer: optim.Optimizer, dense: Dense) -> list[int]:
    """Return the step count in each tensor's state; 0 if it has no state, or the rule counts no steps."""
    return [0 if tensor is None else int(optimizer.state.get(tensor, {}).get("step", 0)) for tensor in dense.tensors]


def read_state(optimizer: optim.Optimizer, dense: Dense, rule: int, state: FloatArray) -> int:
    """Write the optimizer's state to ``state``, (n_slots, n_parameters), and return its step count.

    Raises
    ------
    ValueError
        Adam's tensors have different step counts, or a state has another dtype or shape.
    """
    seen = {count for count, tensor in zip(steps(optimizer, dense), dense.tensors, strict=True) if tensor is not None}
    if rule == CODES["adam"] and len(seen) > 1:
        raise ValueError(f"optimizer's parameters have seen {sorted(seen)} steps; accepted: as many for each")
    with torch.no_grad():
        for slot, name in zip(state, SLOTS[rule], strict=True):
            for view, tensor, label in zip(views(dense.network, slot), dense.tensors, dense.names, strict=True):
                kept = None if tensor is None else optimizer.state.get(tensor, {}).get(name)
                if kept is None:
                    view.zero_()
                elif tensor is None or (kept.shape, kept.dtype, kept.device) != (
                    tensor.shape,
                    tensor.dtype,
                    tensor.device,
                ):
                    raise ValueError(f"optimizer's {name} of {label} has another shape, dtype or device than it")
                elif kept.is_inference():
                    raise ValueError(f"optimizer's {name} of {label} was made in inference mode, and cannot be written")
                else:
                    view.copy_(kept)
    return max(seen) if rule == CODES["adam"] else 0


def write_state(
    optimizer: optim.Optimizer, dense: Dense, rule: int, state: FloatArray, seen: list[int], made: int
) -> None:
    """Write ``state`` to the optimizer, whose tensors had ``seen`` steps before these ``made``."""
    for slot, name in zip(state, SLOTS[rule], strict=True):
        for view, tensor in zip(views(dense.network, slot), dense.tensors, strict=True):
            if tensor is None:
                continue
            of = optimizer.state[tensor]
            if of.get(name) is None:
                of[name] = torch.empty_like(tensor, memory_format=torch.preserve_format)
            of[name].copy_(view)
    if rule in (CODES["adam"], CODES["rmsprop"]):
        for tensor, count in zip(dense.tensors, seen, strict=True):
            if tensor is not None:
                _set_step(optimizer, tensor, count + made)


def _set_step(optimizer: optim.Optimizer, tensor: Tensor, count: int) -> None:
    of = optimizer.state[tensor]
    if isinstance(of.get("step"), Tensor):
        of["step"].fill_(count)
        return
    fused = optimizer.param_groups[0].get("fused")
    # as torch.optim makes it: float64 only where that is the default dtype
    double = torch.get_default_dtype() == torch.float64 and not fused
    of["step"] = torch.tensor(float(count), dtype=torch.float64 if double else torch.float32)
