"""The run of ``fit``: a module's numbers in a session, trained there, and written back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import optim

from briskmlp.convert.torch.read import Dense, copy_in, views
from briskmlp.data.examples import Data
from briskmlp.history import History
from briskmlp.interop.torch import loss
from briskmlp.interop.torch import optimizer as rules
from briskmlp.interop.torch.sampler import Sampler
from briskmlp.network import Network
from briskmlp.optimizers import SGD
from briskmlp.plan import DIVISOR_WEIGHT, make_plan
from briskmlp.session import Completed, Session, drive


class Run:
    """A module's numbers in a session, and back."""

    def __init__(self, dense: Dense, optimizer: optim.Optimizer, task: loss.Task, data: Data, sampler: Sampler) -> None:
        self.dense, self.optimizer, self.data, self.sampler = dense, optimizer, data, sampler
        self.fields, self.rate = rules.lower(optimizer, dense)
        network = Network(dense.network.layers, dense.network.hidden, task.output, dense.network.bias)
        plan = make_plan(
            network,
            loss=task.loss,
            optimizer=SGD(1.0),  # replaced by the fields
            batch_size=sampler.batch_size,
            l2=0.0,
            shuffle=False,
            seed=int(torch.randint(2**63 - 1, ())) if any(dense.dropout) else 0,
            dropout=dense.dropout,
        )
        reported: dict[str, Any] = {
            "loss_scale": task.scale,
            "divisor": task.divisor,
            "report_rows": int(task.divisor != DIVISOR_WEIGHT),
        }
        plan = plan._replace(huber=task.threshold, **reported, **self.fields)
        self.session = Session(plan, dense.dtype)
        copy_in(dense, self.session.parameters)
        self.seen = rules.steps(optimizer, dense)
        self.start = rules.read_state(optimizer, dense, plan, self.session.state)
        self.session.position.counts[2] = self.start
        self.history = History()

    def train(self, epochs: int, scheduler: Any) -> History:
        """Train, and write back what was learned, however training ends."""
        self.session.begin(self.sampler.batch_size, self.data)
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
        orders = None if self.sampler.built_in else self.sampler.order
        if scheduler is None:
            drive(self.session, epochs, self._rates, self._record, orders=orders)
            return
        plateau = isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau)
        for epoch in range(epochs):
            self._follow()
            drive(self.session, epoch + 1, self._rates, self._record, orders=orders)
            rules.note_steps(self.optimizer)
            scheduler.step(*([self.history.loss[-1]] if plateau else []))

    def _rates(self, first: int, last: int) -> Any:
        return np.full(last - first, self.rate)

    def _record(self, completed: Completed) -> bool:
        self.history.extend(completed.columns())
        return False

    def _follow(self) -> None:
        """Bring the plan up to date with the optimizer, which a scheduler may have changed."""
        fields, self.rate = rules.lower(self.optimizer, self.dense)
        if fields["rule"] != self.fields["rule"]:
            raise ValueError("optimizer's momentum has become, or is no longer, 0, which is not supported")
        new, old = np.hstack([*fields.values()]), np.hstack([*self.fields.values()])
        if (abs(new - old) > 1e-15 * abs(old)).any():  # ratios of rates that fall together move by rounding
            self.fields = fields
            self.session.replace_plan(self.session.plan._replace(**fields))

    def _write(self) -> None:
        """Write what was learned to the module and the optimizer; as often as one likes."""
        session = self.session
        made = session.position.step - self.start
        if not made:
            return
        with torch.no_grad():
            for view, tensor in zip(views(self.dense.network, session.parameters), self.dense.tensors, strict=True):
                if tensor is not None:
                    tensor.copy_(view)
                    tensor.grad = None
            rules.write_state(self.optimizer, self.dense, session.plan, session.state, self.seen, made)
        rules.note_steps(self.optimizer)
