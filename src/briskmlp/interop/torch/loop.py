"""fit: a PyTorch training loop, run by briskmlp's kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn, optim

from briskmlp._messages import check_integer
from briskmlp.history import History, Record
from briskmlp.interop.torch.epochs import training
from briskmlp.interop.torch.given import Given
from briskmlp.interop.torch.stopping import Stopping
from briskmlp.interop.torch.validation import Metric
from briskmlp.progress import progress_callback


def fit(
    module: nn.Module,
    loss_fn: nn.Module | Callable[..., torch.Tensor],
    optimizer: optim.Optimizer,
    X: Any,
    Y: Any = None,
    *,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    order: Sequence[Any] | None = None,
    drop_last: bool = False,
    sample_weight: Any = None,
    clip_norm: float | None = None,
    scheduler: Any = None,
    scheduler_step: str = "epoch",
    validation_data: Any = None,
    metrics: Metric | Sequence[Metric] = (),
    on_epoch_end: Callable[[Record], Any] | None = None,
    patience: int | None = None,
    restore_best: bool = False,
    progress: bool | None = False,
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
    loss_fn : nn.Module or function
        MSELoss, L1Loss, HuberLoss, SmoothL1Loss, BCELoss (after Sigmoid), BCEWithLogitsLoss, CrossEntropyLoss or
        PoissonNLLLoss (after Linear) or NLLLoss (after LogSoftmax), with reduction "mean" or "sum"; or the function of
        ``torch.nn.functional`` that one of them calls, or a ``functools.partial`` of it. The weight of cross-entropy
        and NLLLoss is that of classes; of the others it must be the same for all outputs. A pos_weight needs one
        output. PoissonNLLLoss has the defaults of ``log_input`` and ``full``.
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
    epochs = check_integer("epochs", epochs, low=1)
    orders = None if order is None else list(order)
    if orders is not None and len(orders) != epochs:
        raise ValueError(f"order has {len(orders)} epochs, but epochs is {epochs}")
    if on_epoch_end is not None and not callable(on_epoch_end):
        raise TypeError(f"on_epoch_end is {on_epoch_end!r}; accepted: a function of an epoch's record")
    given, monitor = Given(X, Y, sample_weight, orders), "loss" if validation_data is None else "val_loss"
    opened = training(
        module,
        loss_fn,
        optimizer,
        batch_size=batch_size,
        shuffle=shuffle,
        generator=generator,
        drop_last=drop_last,
        scheduler=scheduler,
        scheduler_step=scheduler_step,
        clip_norm=clip_norm,
        validation_data=validation_data,
        metrics=metrics,
    )
    with opened as t, progress_callback(progress, epochs) as bar:
        stopping = Stopping(module, monitor, patience, restore_best, bar)
        if on_epoch_end is None:
            t.train(given, epochs, stopping)
        else:
            for epoch in range(epochs):
                t.train(given, 1, stopping, first=epoch)
                if (on_epoch_end(t.history.last(1)[0]) is True) or stopping.stopped:
                    break
        stopping.restore()
    return t.history
