"""Checks before a training, and what tells whether they must be made again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from briskmlp._messages import check_choice
from briskmlp.convert.torch.modules import check_no_hooks
from briskmlp.convert.torch.read import Dense
from briskmlp.data.examples import check_batches as check_batches_of
from briskmlp.interop.torch.sampler import LoaderSampler, Sampler

PLAIN = (bool, int, float, str, type(None))


def check_scheduler(scheduler: Any, scheduler_step: str, optimizer: optim.Optimizer) -> bool:
    """Return whether the scheduler is stepped after each batch."""
    each_batch = check_choice("scheduler_step", scheduler_step, ("epoch", "batch")) == "batch"
    if not isinstance(scheduler, LRScheduler | None):
        raise TypeError(f"scheduler is a {type(scheduler).__name__}; accepted: a torch.optim.lr_scheduler.LRScheduler")
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError("scheduler is of another optimizer")
    if each_batch and scheduler is None:
        raise ValueError("scheduler_step is 'batch', but there is no scheduler")
    if each_batch and isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError("scheduler_step is 'batch', but ReduceLROnPlateau needs an epoch's loss; accepted: 'epoch'")
    return each_batch


def check_trainable(dense: Dense) -> None:
    """Refuse tensors that training cannot write to, or whose hooks it would not call."""
    check_no_hooks(nn.modules.module, "torch.nn")
    for name, tensor in dense.present:
        if not tensor.requires_grad:
            raise ValueError(f"{name} has requires_grad=False, which is not supported")
        if tensor.is_inference():
            raise ValueError(f"{name} was made in torch.inference_mode, and cannot be written to; accepted: a clone")
        if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
            raise ValueError(f"{name} has hooks, which would not be called; remove them")


def check_readable(array: Any, name: str) -> None:
    """Refuse tensors that NumPy cannot read, or that would get a gradient."""
    if not isinstance(array, Tensor):
        return
    if array.device.type != "cpu":
        raise ValueError(f"{name} is on {array.device}; accepted: CPU tensors")
    if array.requires_grad:
        raise ValueError(f"{name} has requires_grad=True, but would get no gradient; accepted: {name}.detach()")
    if array.dtype == torch.bfloat16:
        raise TypeError(f"{name} has dtype torch.bfloat16, which NumPy does not have; accepted: {name}.float()")


def check_clipped(clip_norm: float | None, dense: Dense) -> None:
    """Refuse to clip where kernels compute a gradient for what is not there, which would count in the norm."""
    if clip_norm is not None and dense.missing:
        came = f"clip_norm is given, but module has no {dense.missing[0]}"
        raise ValueError(f"{came}, and other biases; accepted: all of them or none; of normalisations, all")


def check_batches(dense: Dense, sampler: Sampler | LoaderSampler) -> None:
    """Refuse batches of one row, of which a BatchNorm1d in training mode has no variance."""
    if not any(norm.buffers and norm.layer.training for norm in dense.norms):
        return
    sampler.least = 2
    for n in sampler.lengths:
        check_batches_of(dense.network, n, sampler.batch_size, sampler.name)


def structure(module: Any) -> list[Any]:
    """Return what changes if a module, or a loss, computes something else, other than by numbers of its parameters."""
    if not isinstance(module, nn.Module):
        return [module]
    found: list[Any] = []
    for each in module.modules():
        found.append((id(each), type(each), len(vars(each))))
        for name, value in vars(each).items():
            several = isinstance(value, (tuple, list)) and all(isinstance(part, PLAIN) for part in value)
            if isinstance(value, PLAIN) or several:
                found.append((name, tuple(value) if several else value))
            elif isinstance(value, dict):
                found.append((name, len(value)))
    tensors = [each for each in (*module.parameters(), *module.buffers()) if not is_lazy(each)]
    return found + [(id(each), each.requires_grad, each.dtype, each.shape, each.device) for each in tensors]


def versions(loss_fn: Any) -> list[int]:
    """Return what PyTorch counts up when it changes one of the loss's weights, which targets are multiplied by."""
    return [tensor._version for tensor in loss_fn.buffers()] if isinstance(loss_fn, nn.Module) else []
