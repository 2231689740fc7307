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
            for x, y in loader:  # or X[rows], Y[rows] for rows in order.split(batch_size)
                optimizer.zero_grad()
                loss_fn(module(x), y).backward()
                clip_grad_norm_(module.parameters(), clip_norm)
                optimizer.step()
            validate(module.eval(), validation_data)
            scheduler.step()  # or after each batch
            if on_epoch_end(record) is True or epochs_since_the_best >= patience:
                break

    The module's own tensors, the optimizer's own state and the scheduler end as this loop leaves them, to rounding,
    even when ``fit`` raises: you can switch between PyTorch and ``fit`` at any point. They are copied in and out once
    per call, which takes about as long as a few steps. For a loop over epochs of your own see `training`.

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
    X : Tensor or array_like, shape (n, n_in), or (n, …) if the module makes rows (n, n_in) of it; or DataLoader
        A DataLoader over a TensorDataset, Subset, ConcatDataset or a dataset of your own, whose items are pairs of
        tensors, arrays or numbers. Each item is asked for once, some twice to see whether they stay the same. Batches
        are those of its batch sampler, drawn as PyTorch draws them: with one seed they, and the random numbers after
        them, are the loop's. Its ``num_workers`` and ``pin_memory`` do not matter; a ``collate_fn`` must stack.
    Y : Tensor or array_like
        Of the outputs' shape, such as (n, n_out), or (n,) where the module squeezes one output; for CrossEntropyLoss
        and NLLLoss labels (n,), for the first also probabilities (n, n_out). Not with a DataLoader.
    epochs : int
    batch_size : int, optional
        None is all rows. This and the next four are not for a DataLoader, which has its own.
    shuffle : bool
        Take the order of each epoch from one ``torch.randperm(n, generator=generator)``.
    generator : torch.Generator, optional
        None is PyTorch's global one. That one also gives the seed of dropout masks, where there are any.
    order : sequence of Tensor or array_like, optional
        For each epoch the rows that it visits, up to n of them, from 0 to n-1.
    drop_last : bool
        Leave out the last batch of an epoch if it is short.
    sample_weight : Tensor or array_like, shape (n,), optional
        Not negative; one for each row of X, or item of the dataset. The loss of a batch is ``(w * loss).mean()``, or
        ``.sum()`` where that is the reduction, of what ``loss_fn`` is with reduction "none": the mean is divided by the
        batch's rows (and outputs), whatever its weights add up to.
    clip_norm : float > 0, optional
        Multiply the gradient of each step by ``clip_norm / (norm + 1e-6)`` where that is below 1, as PyTorch's
        ``clip_grad_norm_`` does.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        ReduceLROnPlateau is given the epoch's validation loss, or else its loss.
    scheduler_step : {"epoch", "batch"}
        Step the scheduler after each epoch, or after each batch, as OneCycleLR and warm-up need it. The rates, and
        momenta where it moves these, of an epoch's batches are found out by stepping it before the epoch; if the epoch
        is cut, it goes back to the last update.
    validation_data : (X, Y) or DataLoader, optional
        Evaluated after each epoch, by the module itself in evaluation mode, into ``val_loss``: the value of
        ``loss_fn``, or the mean of those of a DataLoader's batches by their rows. Each submodule's mode is put back.
    metrics : {"accuracy", "mae"}, function of outputs and targets, or sequence of these
        Computed after each epoch in evaluation mode, on all validation data if there are any, else on X and Y. A
        function takes the module's outputs and the targets as tensors, and is recorded under its ``__name__``.
    on_epoch_end : function, optional
        Called with each epoch's record, a dict, when module, optimizer and scheduler are up to date; it may change
        them. True stops.
    patience : int >= 1, optional
        Stop after so many epochs in which ``val_loss``, or ``loss`` without validation data, was not below its best.
    restore_best : bool
        When training ends without an error, give the module the parameters and buffers of the best epoch. Optimizer and
        scheduler stay as they are.
    progress : bool, optional
        Show a progress bar; None shows it on a terminal only.

    Returns
    -------
    History
        "epoch" counts from 1, "loss" is the mean of the batches' losses, by their rows or by their class weights, each
        taken before its update; "learning_rate" is the largest of the groups' in the epoch's last batch; "time" is in
        seconds, of training alone; "val_loss" and metrics as above.

    Raises
    ------
    TypeError, ValueError
        Something is not supported or does not fit; the message names it, and nothing has changed. Or a scheduler or
        sampler of yours fails later; then the last update is that before it.
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
    opened.reads_again = on_epoch_end is not None
    with opened as t, progress_callback(progress, epochs) as bar:
        stopping = Stopping(module, monitor, patience, restore_best, bar)
        watch = stopping if bar is not None or stopping.every_epoch else None
        if on_epoch_end is None:
            t.train(given, epochs, watch)
        else:
            for epoch in range(epochs):
                t.train(given, 1, watch, first=epoch)
                if (on_epoch_end(t.history.last(1)[0]) is True) or stopping.stopped:
                    break
        stopping.restore()
    return t.history
