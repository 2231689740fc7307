"""What a call of a module does besides its class's forward: it is refused, or looked through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from briskmlp.convert.torch.steps import SUPPORTED


def check_modules(module: Any) -> None:
    """Refuse what is no module, and modules that do more when they are called than their class's forward says."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is a {type(module).__name__}; accepted: a torch.nn.Module")
    for name, layer in module.named_modules():
        where = f"module's layer {name}" if name else "module"
        if is_compiled(layer):  # what was compiled follows
            check_no_hooks(layer, where, but=["forward", "_forward"])
            continue
        if isinstance(layer, torch.jit.ScriptModule) or type(layer).__call__ is not nn.Module.__call__:
            raise TypeError(f"{where} is a {type(layer).__name__}, which is not supported; accepted: {SUPPORTED}")
        if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():  # type: ignore[misc] # PyTorch's
            raise ValueError(f"{where}, {layer}, has no parameters yet; call the module once before")
        check_no_hooks(layer, where)


def check_no_hooks(owner: Any, where: str, but: Sequence[str] = ()) -> None:
    """Refuse a module or optimizer with hooks, or with a forward of its own: they would not be called."""
    for name, value in vars(owner).items():
        registered = isinstance(value, dict) and value and name.endswith("hooks") and "state_dict" not in name
        if (name == "forward" or registered) and name not in but:
            raise ValueError(f"{where} has {name.strip('_')}, which would not be called; remove it")


def is_compiled(module: Any) -> bool:
    """Whether a module is what `torch.compile` returns, without an import of the compiler."""
    return isinstance(module, nn.Module) and type(module).__name__ == "OptimizedModule"


def uncompiled(module: Any) -> Any:
    """Return the module that `torch.compile` was given."""
    return module._orig_mod if is_compiled(module) else module
