"""training: what an epoch of a PyTorch loop needs, made once; and epochs on briskmlp's kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from briskmlp._messages import check_number
from briskmlp.convert.torch.read import Dense, read_module
from briskmlp.history import History
from briskmlp.interop.torch import given as givens
from briskmlp.interop.torch import loader as loaders
from briskmlp.interop.torch import optimizer as rules
from briskmlp.interop.torch import validation as validations
from briskmlp.interop.torch.checks import (
    check_batches,
    check_clipped,
    check_scheduler,
    check_trainable,
    structure,
    versions,
)
from briskmlp.interop.torch.given import Given, Read
from briskmlp.interop.torch.loss import Task, as_module
from briskmlp.interop.torch.run import Run
from briskmlp.interop.torch.sampler import LoaderSampler, Sampler
from briskmlp.interop.torch.schedule import Ahead
from briskmlp.interop.torch.stopping import Stopping
from briskmlp.interop.torch.validation import Evaluation, Metric
from briskmlp.session import Completed, drive


class training:  # noqa: N801 - it is used as a function
    """An epoch at a time of a PyTorch loop, for code that keeps its own loop over epochs.

    Tracing, checks, stacked data and workspace are made once. ::

        with training(module, loss_fn, optimizer, scheduler=scheduler) as t:
            for epoch in range(20):
                loss = t.epoch(loader)

    Parameters
    ----------
    module, loss_fn, optimizer, batch_size, shuffle, generator, drop_last, scheduler, scheduler_step, clip_norm
        As in `fit`; a scheduler is stepped by ``epoch``.
    validation_data, metrics
        As in `fit`; see ``history``.

    Attributes
    ----------
    history : History
        Of all epochs so far, as `fit` returns it.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> adam = optim.Adam(module.parameters(), lr=0.02)
    >>> X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> Y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    >>> with training(module, nn.BCEWithLogitsLoss(), adam, batch_size=4) as t:
    ...     losses = [t.epoch(X, Y) for _ in range(500)]
    >>> losses[0] > 0.6 > 0.1 > losses[-1], int(adam.state[module[0].weight]["step"])
    (True, 500)
    """

    def __init__(
        self,
        module: nn.Module,
        loss_fn: nn.Module | Callable[..., torch.Tensor],
        optimizer: optim.Optimizer,
        *,
        batch_size: int | None = None,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        scheduler: LRScheduler | None = None,
        scheduler_step: str = "epoch",
        clip_norm: float | None = None,
        validation_data: Any = None,
        metrics: Metric | Sequence[Metric] = (),
    ) -> None:
        self.module, self.loss_fn, self.optimizer = module, as_module(loss_fn), optimizer
        self._of_arrays: dict[str, Any] = {
            "batch_size": batch_size, "shuffle": shuffle, "generator": generator, "drop_last": drop_last,
        }  # fmt: skip
        self.scheduler, self._each_batch = scheduler, check_scheduler(scheduler, scheduler_step, optimizer)
        self.clip_norm = None if clip_norm is None else check_number("clip_norm", clip_norm, low=0.0, open_low=True)
        self._validation_data, self._metrics = validation_data, validations.check_metrics(metrics)
        self.history, self.reads_again = History(), True  # False: nothing changes but by training
        self._structures: list[Any] = []  # of what has been read
        self._dense: Dense | None = None
        self._evaluation = Evaluation(module, self.loss_fn, None, {})
        self._read: Read | None = None
        self._sampler: tuple[Any, int, Sampler] | None = None  # of orders that were checked for so many rows
        self._run: Run | None = None
        self._seed: int | None = None  # of dropout's masks
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed, self._dense, self._read, self._sampler, self._run = True, None, None, None, None

    def epoch(self, X: Any, Y: Any = None, *, sample_weight: Any = None, order: Any = None) -> float:
        """Train one epoch, and return its loss.

        Module, optimizer and scheduler are then as PyTorch's loop would leave them, and what was changed since the last
        epoch has been taken in: weights, the optimizer's options and state, ``requires_grad``, training and evaluation
        mode. Tensors are read again when PyTorch has changed them, NumPy arrays each time, a DataLoader's dataset when
        it is another one, or of tensors that were changed.

        Parameters
        ----------
        X : Tensor, array_like or DataLoader
        Y : Tensor or array_like
        sample_weight : Tensor or array_like, shape (n,), optional
            As in `fit`.
        order : Tensor or array_like, shape (m,), optional
            The rows that this epoch visits, up to n of them, from 0 to n-1.

        Returns
        -------
        float
            The mean of the batches' losses, as in the history of `fit`.

        Raises
        ------
        TypeError, ValueError, FloatingPointError, KeyboardInterrupt
            As `fit`.
        RuntimeError
            The with statement has ended.
        """
        self.train(Given(X, Y, sample_weight, None if order is None else [order]), 1)
        return self.history.loss[-1]

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read_module(self, row: tuple[int, ...]) -> Dense:
        """Return what the module consists of, read again only if something other than its numbers has changed."""
        structures, dense = [], self._dense
        if self.reads_again:
            structures = [structure(self.module), structure(self.loss_fn), versions(self.loss_fn), row]
        if dense is None or structures != self._structures:
            dense = read_module(self.module, training=True, row=row)
        check_trainable(dense)
        rules.check(self.optimizer, dense)
        check_clipped(self.clip_norm, dense)
        if dense is not self._dense:
            validation = self._validation_data
            if validation is not None:
                validation = validations.check_validation(validation, self.loss_fn, dense)
            self._evaluation = Evaluation(self.module, self.loss_fn, validation, self._metrics)
            self._dense, self._structures, self._read = dense, structures, None
        return dense

    def _read_all(self, given: Given) -> tuple[Dense, Read, Sampler | LoaderSampler]:
        """Return what the module, the data and the order of batches are, read again only where they have changed."""
        known = self._read if givens.same(given, self._read) else None
        stacked = givens.stack(given, self._of_arrays) if known is None else known.stacked
        dense = self._read_module(stacked.row)
        sampler = self._sampler_of(given, stacked.n)
        if known is None or self._read is None:
            self._read = givens.read(given, stacked, self.loss_fn, dense, self._evaluation, sampler.sizes)
        return dense, self._read, sampler

    def _sampler_of(self, given: Given, n: int) -> Sampler | LoaderSampler:
        if loaders.is_loader(given.X):
            return LoaderSampler(given.X, n, "X")
        if self._sampler is None or self._sampler[0] is not given.orders or self._sampler[1] != n:
            self._sampler = given.orders, n, Sampler(n, given.orders, **self._of_arrays)
        return self._sampler[2]

    def _open(self, dense: Dense, task: Task, fields: rules.Fields, rate: float) -> Run:
        """Return a session that is up to date with module, optimizer and loss, the last one where it fits."""
        run = self._run
        if run is None or not run.fits(dense, task, fields):
            run = Run(dense, self.optimizer, task, fields, self.clip_norm, each_batch=self._each_batch)
        run.read(task, fields, rate)
        self._run = run
        return run

    # --- training ----------------------------------------------------------------------------------------------------

    def train(self, given: Given, epochs: int, watch: Stopping | None = None, first: int = 0) -> None:
        """Train epochs. However training ends, module, optimizer and scheduler are as PyTorch's loop would leave them.

        Parameters
        ----------
        given : Given
            The data.
        epochs : int
            How many.
        watch : Stopping, optional
            Told of each epoch that has ended; ends training early.
        first : int
            The epoch from which the orders that are given are counted.
        """
        if self._closed:
            raise RuntimeError("this training is closed; accepted: epochs within its with statement")
        if torch.is_inference_mode_enabled():
            raise ValueError("fit is called in torch.inference_mode, in which PyTorch trains nothing; call it outside")
        dense, read, sampler = self._read_all(given)
        fields, rate = rules.lower(self.optimizer, dense)
        check_batches(dense, sampler)
        run = self._open(dense, read.task, fields, rate)
        sampler.look_ahead()
        self._begin(run, sampler, read)
        watched = watch is not None and watch.every_epoch
        every = self.scheduler is not None or read.scored is not None or read.task.constants is not None or watched
        try:
            try:
                if every:
                    self._train_each(run, read, sampler, range(first, first + epochs), watch)
                else:
                    self._train_all(run, sampler, range(first, first + epochs), watch)
            finally:
                self._write()
        except BaseException:
            self._write()  # again: a second interrupt may have cut the first
            raise

    def _begin(self, run: Run, sampler: Any, read: Read) -> None:
        """Begin to train, when nothing can be refused any more."""
        if any(run.dense.dropout):
            if self._seed is None:
                self._seed = int(torch.randint(2**63 - 1, ()))
            run.use_seed(self._seed)
        run.begin(sampler.batch_size, read.data, len(self.history))

    def _write(self) -> None:
        if self._run is not None:
            self._run.write()

    def _train_all(self, run: Run, sampler: Any, epochs: range, watch: Stopping | None) -> None:
        """Train epochs that need nothing between them."""
        offset = run.session.position.epoch - epochs.start

        def on_epochs(completed: Completed) -> bool:
            self._note(completed, {})
            return watch is not None and watch.on_epochs(self.history.last(len(completed.losses)))

        drive(
            run.session,
            epochs.stop + offset,
            lambda first, last: np.full(last - first, run.rate),
            on_epochs,
            orders=None if sampler.built_in else lambda epoch: sampler.order(epoch - offset),
        )

    def _train_each(self, run: Run, read: Read, sampler: Any, epochs: range, watch: Stopping | None) -> None:
        """Train epoch by epoch; after each one evaluate the module, step the scheduler and tell the watch."""
        for epoch in epochs:
            if epoch > epochs.start:
                run = self._follow(run, read, sampler)
            order = None if sampler.built_in else sampler.order(epoch)
            completed = self._train_batches(run, read.data.inputs.n if order is None else len(order), order)
            losses = completed.losses + read.task.constant(order, run.session.plan.batch_size)
            completed = completed._replace(losses=losses)
            if read.scored is not None or (watch is not None and watch.reads_module):
                run.write()
            scores = {} if read.scored is None else self._evaluation.record(read.scored)
            self._note(completed, scores)
            if self.scheduler is not None and not self._each_batch:
                rules.note_steps(self.optimizer)
                watched = scores.get("val_loss", completed.losses)
                self.scheduler.step(*(watched if isinstance(self.scheduler, ReduceLROnPlateau) else []))
            if watch is not None and watch.on_epochs(self.history.last(1)):
                return

    def _train_batches(self, run: Run, n: int, order: Any) -> Completed:
        """Train one epoch of n rows."""
        session = run.session
        n_batches, epoch = -(-n // session.plan.batch_size), session.position.epoch
        done: list[Completed] = []
        ahead = Ahead(run, self.scheduler, n_batches) if self._each_batch else None
        rate = np.array([run.rate if ahead is None else ahead.last_rate])
        try:
            drive(
                session,
                epoch + 1,
                lambda first, last: rate,
                done.append,
                orders=None if order is None else lambda epoch: order,
                per_step=None if ahead is None else ahead.per_step,
            )
        except BaseException:
            if ahead is not None:
                ahead.rewind(session.position.batch if session.position.epoch == epoch else n_batches)
            raise
        if ahead is not None:
            ahead.check(n_batches)
        return done[0]

    def _follow(self, run: Run, read: Read, sampler: Any) -> Run:
        """Take in what a scheduler has changed in the optimizer."""
        fields, rate = rules.lower(self.optimizer, run.dense)
        if fields["rule"] == run.fields["rule"]:
            run.use(fields, rate)
            return run
        run.write()
        run = self._open(run.dense, read.task, fields, rate)
        self._begin(run, sampler, read)
        return run

    def _note(self, completed: Completed, scores: dict[str, list[float]]) -> None:
        """Add epochs to the history."""
        self.history.extend(completed.columns() | scores)
