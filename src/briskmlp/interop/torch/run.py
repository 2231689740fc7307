"""The run of ``fit``: a module's parameters and an optimizer's state in a session, trained, and written back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import optim

from briskmlp.convert.torch import norms
from briskmlp.convert.torch.read import Dense, copy_in
from briskmlp.data.examples import Data, check_batches
from briskmlp.history import History
from briskmlp.interop.torch import loss
from briskmlp.interop.torch import optimizer as rules
from briskmlp.network import Network
from briskmlp.optimizers import SGD
from briskmlp.plan import DIVISOR_WEIGHT, Ints, make_plan
from briskmlp.session import Session, drive


class Run:
    """A module's parameters in a session, and written back."""

    def __init__(self, dense: Dense, optimizer: optim.Optimizer, task: loss.Task, data: Data, sampler: Sampler) -> None:
        self.dense, self.optimizer, self.data, self.sampler = dense, optimizer, data, sampler
        self.fields, self.rate = rules.lower(optimizer, dense)
        network = Network(**{**dense.network.arguments, "output": task.output})
        fixed = np.array(norms.fixed_places(dense.norms, network), dtype=np.int64)
        if any(norm.buffers and norm.layer.training for norm in dense.norms):
            for n in sorted(sampler.lengths):
                check_batches(network, n, sampler.batch_size)
        seed = int(torch.randint(2**63 - 1, ())) if any(dense.dropout) else 0
        # the rule is replaced by the fields, the batch size when training begins
        plan = make_plan(network, loss=task.loss, optimizer=SGD(1.0), batch_size=0, seed=seed, dropout=dense.dropout)
        plan = plan._replace(huber=task.threshold, loss_scale=task.scale, divisor=task.divisor, **self.fields)
        plan = plan._replace(report_rows=int(task.divisor != DIVISOR_WEIGHT), norm_fixed=fixed)
        self.session = Session(plan, dense.dtype)
        copy_in(dense, self.session.parameters)
        self.session.state.statistics[:] = norms.running_statistics(dense.norms, network, dense.dtype)
        self.batches = [count for norm in dense.norms for count in norm.batches]
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
        plateau = isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau)
        for until in [epochs] if scheduler is None else range(1, epochs + 1):
            if scheduler is not None:
                self._follow()
            drive(
                self.session,
                until,
                lambda first, last: np.full(last - first, self.rate),
                lambda completed: self.history.extend(completed.columns()),
                orders=None if self.sampler.built_in else self.sampler.order,
            )
            if scheduler is not None:
                rules.note_steps(self.optimizer)
                scheduler.step(*([self.history.loss[-1]] if plateau else []))

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
        if not (made := session.position.step - self.start):
            return
        with torch.no_grad():
            for _, tensor, view in self.dense.pairs(session.parameters):
                tensor.copy_(view)
                tensor.grad = None
            batches = [count + made for count in self.batches]
            norms.write_statistics(self.dense.norms, self.dense.network, session.state.statistics, batches)
            rules.write_state(self.optimizer, self.dense, session.plan, session.state, self.seen, made)
        rules.note_steps(self.optimizer)


class Sampler:
    """The rows that each epoch of a PyTorch loop visits, in an order that is given or drawn, and in which batches."""

    def __init__(
        self, order: Any, shuffle: bool, generator: torch.Generator | None, n: int, batch_size: int, drop_last: bool
    ) -> None:
        if order is not None and shuffle:
            raise ValueError("order is given and shuffle is True; accepted: one of them")
        if generator is not None and not shuffle:
            raise ValueError("generator is given, but shuffle is False: it would not be used")
        self.shuffle, self.generator, self.n = shuffle, generator, n
        self.orders = None if order is None else [_indices(rows, epoch, n) for epoch, rows in enumerate(order)]
        lengths = {n} if self.orders is None else set(map(len, self.orders))
        self.dropped = batch_size if drop_last else 1  # only multiples of it are visited
        if min(lengths, default=1) < self.dropped:
            raise ValueError(f"drop_last leaves no batch of {min(lengths)} rows; accepted: batch_size up to that")
        self.batch_size = min(batch_size, n)
        self.lengths = {length - length % self.dropped for length in lengths}  # of the epochs, in rows
        self.built_in = not shuffle and self.orders is None and n % self.dropped == 0  # all rows, as they lie

    def order(self, epoch: int) -> Ints:
        """Return the rows of an epoch."""
        if self.shuffle:
            rows: Ints = torch.randperm(self.n, generator=self.generator).numpy()
        else:
            rows = np.arange(self.n, dtype=np.int64) if self.orders is None else self.orders[epoch]
        return rows[: len(rows) - len(rows) % self.dropped]


def _indices(rows: Any, epoch: int, n: int) -> Ints:
    indices = np.asarray(rows)
    if indices.ndim != 1 or not 0 < len(indices) <= n or indices.dtype.kind not in "iu":
        came = f"{indices.dtype} of shape {indices.shape}"
        raise ValueError(f"order[{epoch}] is {came}; accepted: integers, (m,) with m from 1 to {n}")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"order[{epoch}] has {indices.min()} to {indices.max()}; accepted: 0 to {n - 1}")
    return np.require(indices, np.int64, ["C", "A"])
