"""The run of ``fit``: a module's numbers in an engine, trained there, and written back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import optim

from briskmlp.convert.torch.read import Dense, copy_in, views
from briskmlp.engine import Data, Engine
from briskmlp.history import History
from briskmlp.interop.torch import loss
from briskmlp.interop.torch import optimizer as rules
from briskmlp.interop.torch.order import Visits
from briskmlp.interop.torch.stepwise import Stepwise
from briskmlp.network import Network
from briskmlp.optimizers import SGD
from briskmlp.plan import Ints, make_plan
from briskmlp.training import next_steps


class Run:
    """A module's numbers in an engine, and back."""

    def __init__(self, dense: Dense, optimizer: optim.Optimizer, task: loss.Task, data: Data, visits: Visits) -> None:
        self.dense, self.optimizer, self.data, self.visits = dense, optimizer, data, visits
        self.fields, self.rate = rules.lower(optimizer, dense)
        scale, by_rows = task.scale, task.divisor == loss.BY_ROWS
        stepwise = by_rows or (task.divisor == loss.BY_NOTHING and not (task.weight is None and visits.in_one_piece))
        if stepwise and any(dense.dropout):
            raise ValueError("module has Dropout, which is not supported with this reduction and weight of loss_fn")
        if task.divisor == loss.BY_NOTHING and not stepwise:
            scale *= visits.batch_size  # the kernel divides by as much
        network = Network(dense.network.layers, dense.network.hidden, task.output, dense.network.bias)
        plan = make_plan(
            network,
            loss=task.loss,
            optimizer=SGD(1.0),  # replaced by the fields
            batch_size=visits.batch_size,
            l2=0.0,
            shuffle=False,
            seed=int(torch.randint(2**63 - 1, ())) if any(dense.dropout) else 0,
            dropout=dense.dropout,
        )
        plan = plan._replace(loss_scale=scale, huber=task.threshold, **self.fields)
        self.engine = Engine(plan, dense.dtype, "auto", None)
        if stepwise:
            self.engine.choice = self.engine.choice._replace(backend=Stepwise(self.engine.backend, by_rows))
        copy_in(dense, self.engine.parameters)
        self.seen = rules.steps(optimizer, dense)
        self.start = rules.read_state(optimizer, dense, self.fields, self.engine.state, self.engine.scalars)
        self.engine.position.counts[2] = self.start
        self.history, self.steps = History(), 1

    def train(self, epochs: int, scheduler: Any) -> History:
        """Train, and write back what was learned, however training ends."""
        self.engine.begin(self.visits.batch_size, self.data)
        try:
            try:
                self._train(epochs, scheduler)
            finally:
                self._write()
        except BaseException:
            self._write()  # again: a second interrupt may have cut the first
            raise
        return self.history

    def _train(self, epochs: int, scheduler: Any) -> None:
        position = self.engine.position
        while position.epoch < epochs:
            if scheduler is not None:
                self._follow()
            order = self.visits.of(position.epoch)
            together = scheduler is None and order is None
            self._advance(epochs if together else position.epoch + 1, order)
            if scheduler is not None:
                rules.note_steps(self.optimizer)
                plateau = isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(*([self.history.loss[-1]] if plateau else []))

    def _follow(self) -> None:
        """Bring the plan up to date with the optimizer, which a scheduler may have changed."""
        fields, self.rate = rules.lower(self.optimizer, self.dense)
        if fields["rule"] != self.fields["rule"]:
            raise ValueError("optimizer's momentum has become, or is no longer, 0, which is not supported")
        new, old = np.hstack([*fields.values()]), np.hstack([*self.fields.values()])
        if (abs(new - old) > 1e-15 * abs(old)).any():  # ratios of rates that fall together move by rounding
            self.fields = fields
            self.engine.plan = self.engine.plan._replace(**fields)
            self.engine._work = None  # it was made for the old plan

    def _advance(self, last: int, order: Ints | None) -> None:
        """Train up to the epoch ``last``, in kernel calls of bounded length."""
        engine, position, elapsed = self.engine, self.engine.position, 0.0
        n_batches = -(-(self.data.inputs.n if order is None else len(order)) // self.visits.batch_size)
        while position.epoch < last:
            first, first_batch = position.epoch, position.batch
            until = min(last, first + 1 + self.steps // n_batches)
            losses, rates = np.empty(until - first), np.full(until - first, self.rate)
            seconds = engine.advance(self.data, rates, self.steps, losses, order)
            elapsed += seconds
            done = position.epoch - first
            self.steps = next_steps(done * n_batches + position.batch - first_batch, seconds)
            if done:
                self.history.extend(
                    {
                        "epoch": np.arange(first + 1, first + done + 1),
                        "loss": losses[:done],
                        "learning_rate": rates[:done],
                        "time": np.full(done, elapsed / done),
                    }
                )
                elapsed = 0.0

    def _write(self) -> None:
        """Write what was learned to the module and the optimizer; as often as one likes."""
        made = self.engine.position.step - self.start
        if not made:
            return
        with torch.no_grad():
            for view, tensor in zip(views(self.dense.network, self.engine.parameters), self.dense.tensors, strict=True):
                if tensor is not None:
                    tensor.copy_(view)
                    tensor.grad = None
            plan, state = self.engine.plan, self.engine.state
            rules.write_state(self.optimizer, self.dense, self.fields, state, self.engine.scalars, self.seen, made)
        rules.note_steps(self.optimizer)
