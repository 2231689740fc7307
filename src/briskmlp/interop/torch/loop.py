"""fit: a PyTorch training loop, run by briskmlp's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn, optim

from briskmlp._messages import check_integer
from briskmlp.convert.torch.read import Dense, read_module
from briskmlp.data.examples import Data
from briskmlp.data.inputs import check_inputs
from briskmlp.history import History
from briskmlp.interop.torch import loss
from briskmlp.interop.torch import optimizer as rules
from briskmlp.interop.torch.run import Run, Sampler
from briskmlp.interop.torch.shapes import output_shape
from briskmlp.network import MAX_SIZE


def fit(
    module: nn.Module,
    loss_fn: nn.Module,
    optimizer: optim.Optimizer,
    X: Any,
    Y: Any,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    order: Sequence[Any] | None = None,
    drop_last: bool = False,
    scheduler: Any = None,
) -> History:
    """Train a PyTorch module in place, as a PyTorch loop over the same batches would, on the fastest backend present.

    The loop is::

        for epoch in range(epochs):
            for rows in order.split(batch_size):
                optimizer.zero_grad()
                loss_fn(module(X[rows]), Y[rows]).backward()
                optimizer.step()
            scheduler.step()

    The module's own tensors and the optimizer's own state end as this loop leaves them, to rounding, even when ``fit``
    raises: you can switch between PyTorch and ``fit`` at any point. They are copied in and out once per call, which
    takes about as long as a few steps.

    Parameters
    ----------
    module : nn.Module
        Whose forward is a chain of Linear, each followed by at most one activation (all that ``Trainer`` has) and one
        Dropout, in whatever way it is written: nn.Sequential, modules, functions and methods, in loops and parts. It
        may flatten, reshape or squeeze at both ends. On the CPU, in float32 or float64. A forward of one's own is run
        once, to read it; see "What modules are read" in the documentation. Dropout in evaluation mode does nothing; in
        training mode its masks are briskmlp's own, so that results equal the loop's only in distribution, and its rate
        is rounded to 1/65536.
    loss_fn : nn.Module
        MSELoss, L1Loss, HuberLoss, BCELoss (after Sigmoid), BCEWithLogitsLoss, CrossEntropyLoss (after Linear) or
        NLLLoss (after LogSoftmax), with reduction "mean" or "sum". The weight of the last two is that of classes; of
        the others it must be the same for all outputs. A pos_weight needs one output.
    optimizer : torch.optim.Optimizer
        SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta or RMSprop, of exactly the module's parameters; those
        that forward does not use may be left out, and stay either way. Groups may differ in lr and weight_decay.
        Gradients end as after ``optimizer.zero_grad()``.
    X : Tensor or array_like, shape (n, n_in), or (n, …) if the module makes rows (n, n_in) of it
    Y : Tensor or array_like
        Of the outputs' shape, such as (n, n_out), or (n,) where the module squeezes one output; for CrossEntropyLoss
        and NLLLoss labels (n,), for the first also probabilities (n, n_out).
    epochs, batch_size : int
    shuffle : bool
        Take the order of each epoch from one ``torch.randperm(n, generator=generator)``.
    generator : torch.Generator, optional
        None is PyTorch's global one. That one also gives the seed of dropout masks, where there are any.
    order : sequence of Tensor or array_like, optional
        For each epoch the rows that it visits, up to n of them, from 0 to n-1.
    drop_last : bool
        Leave out the last batch of an epoch if it is short.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        Stepped after each epoch; ReduceLROnPlateau with the epoch's loss.

    Returns
    -------
    History
        "epoch" counts from 1, "loss" is the mean of the batches' losses, by their rows or by their class weights, each
        taken before its update; "learning_rate" is the largest of the groups'; "time" is in seconds.

    Raises
    ------
    TypeError, ValueError
        Something is not supported or does not fit; the message names it, and nothing has changed.
    FloatingPointError
        Training diverged; everything is as it was some batches before, at the place that the message names.
    KeyboardInterrupt
        On Ctrl-C, between two batches.

    Notes
    -----
    A batch whose labels all have class weight 0 is skipped; PyTorch's mean is NaN then.

    PyTorch's BCELoss bounds the logarithm where Sigmoid has saturated to exactly 0 or 1, and its gradient vanishes
    there; here it does not.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> adam = optim.Adam(module.parameters(), lr=0.02)
    >>> X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> Y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    >>> history = fit(module, nn.BCEWithLogitsLoss(), adam, X, Y, epochs=500, batch_size=4)
    >>> (module(X) > 0).flatten().tolist(), int(adam.state[module[0].weight]["step"])
    ([False, True, True, False], 500)
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("fit is called in torch.inference_mode, in which PyTorch trains nothing; call it outside")
    epochs = check_integer("epochs", epochs, low=1)
    batch_size = check_integer("batch_size", batch_size, low=1, high=MAX_SIZE)
    row = tuple(np.shape(X)[1:])
    dense = read_module(module, training=True, row=row)
    _check_trainable(dense)
    rules.check(optimizer, dense)
    if not isinstance(scheduler, optim.lr_scheduler.LRScheduler | None):
        raise TypeError(f"scheduler is a {type(scheduler).__name__}; accepted: a torch.optim.lr_scheduler.LRScheduler")
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError("scheduler is of another optimizer")
    _check_readable(X, "X")
    _check_readable(Y, "Y")
    inputs = check_inputs(X, dense.network.n_in, dense.dtype)
    sampler = Sampler(order, shuffle, generator, inputs.n, batch_size, drop_last)
    if sampler.orders is not None and len(sampler.orders) != epochs:
        raise ValueError(f"order has {len(sampler.orders)} epochs, but epochs is {epochs}")
    shape = output_shape(dense, row, sampler.sizes, loss_fn)
    task = loss.lower(loss_fn, dense, Y, inputs.n, shape)
    return Run(dense, optimizer, task, Data(inputs, task.Y, task.weight), sampler).train(epochs, scheduler)


def _check_trainable(dense: Dense) -> None:
    for name, tensor in dense.present:
        if not tensor.requires_grad:
            raise ValueError(f"{name} has requires_grad=False, which is not supported")
        if tensor.is_inference():
            raise ValueError(f"{name} was made in torch.inference_mode, and cannot be written to; accepted: a clone")
        if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
            raise ValueError(f"{name} has hooks, which would not be called; remove them")


def _check_readable(array: Any, name: str) -> None:
    if not isinstance(array, torch.Tensor):
        return
    if array.device.type != "cpu":
        raise ValueError(f"{name} is on {array.device}; accepted: CPU tensors")
    if array.requires_grad:
        raise ValueError(f"{name} has requires_grad=True, but would get no gradient; accepted: {name}.detach()")
    if array.dtype == torch.bfloat16:
        raise TypeError(f"{name} has dtype torch.bfloat16, which NumPy does not have; accepted: {name}.float()")
