"""A scheduler that is stepped after each batch: the rates and momenta of an epoch, found out by stepping it before."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from torch import Tensor, optim

from briskmlp.interop.torch import optimizer as rules
from briskmlp.interop.torch.optimizer import Fields
from briskmlp.interop.torch.run import Run, differ
from briskmlp.plan import Floats


class Ahead:
    """What a scheduler does in an epoch. It is stepped once for each batch, and rewound if the epoch is cut."""

    def __init__(self, run: Run, scheduler: Any, n_batches: int) -> None:
        self.run, self.scheduler = run, scheduler
        self._before = _Kept(scheduler, run.optimizer)
        self._fields: list[Fields] = []
        self._rates: list[float] = []
        rules.note_steps(run.optimizer)
        self._error: Exception | None = None  # after as many batches as there are rates
        try:
            self._error = self._step(n_batches)
        except BaseException:
            self._before.restore()
            raise
        self._per_step = np.column_stack([self._rates, [fields["hyper"] for fields in self._fields]])

    @property
    def last_rate(self) -> float:
        """The learning rate of the last batch."""
        return self._rates[-1]

    def _step(self, n_batches: int) -> Exception | None:
        """Step the scheduler for each batch; return what it raises, as PyTorch's loop would raise it after a batch."""
        optimizer, dense = self.run.optimizer, self.run.dense
        for _ in range(n_batches):
            try:
                fields, rate = rules.lower(optimizer, dense)
                rules.check_rule(fields, self.run.fields)
                self._fields.append(self._alike(fields, rate))
                self._rates.append(rate)
                self.scheduler.step()
            except Exception as error:
                return error
        return None

    def _alike(self, fields: Fields, rate: float) -> Fields:
        """Return fields that share the last batch's arrays where only the rate and hyperparameters have changed."""
        if not self._fields:
            return fields
        last = self._fields[-1]
        if rate == 0.0:  # then the ratios of rates say nothing
            fields = {**fields, "rate_scale": last["rate_scale"]}
        others = {**fields, "hyper": last["hyper"]}
        return {**last, "hyper": fields["hyper"]} if not differ(others, last) else fields

    def per_step(self, batch: int) -> Floats:
        """Return rate and hyperparameters of the batches from this one on, for as long as the rest of the plan stays.

        The plan is brought up to date. Raises what the scheduler raised after the batch before.
        """
        self.check(batch)
        fields = self._fields[batch]
        self.run.use(fields, self._rates[batch])
        end = batch + 1
        while end < len(self._fields) and self._fields[end]["rate_scale"] is fields["rate_scale"]:
            end += 1
        rows: Floats = self._per_step[batch:end]
        return rows

    def check(self, batch: int) -> None:
        """Raise what the scheduler raised after the batch before this one."""
        if self._error is not None and batch >= len(self._rates):
            raise self._error

    def rewind(self, batches: int) -> None:
        """Leave the scheduler, and the optimizer's options, as they were after so many batches of the epoch."""
        if self._error is not None and batches >= len(self._rates) > 0:
            return  # it is where it raised
        self._before.restore()
        for _ in range(batches):
            self.scheduler.step()


class _Kept:
    """Copies of a scheduler, those within it, and the optimizer's options, which are written back in place."""

    def __init__(self, scheduler: Any, optimizer: optim.Optimizer) -> None:
        self._schedulers, self._groups = list(_within(scheduler)), optimizer.param_groups
        self._same = {id(kept): kept for kept in (optimizer, *self._schedulers)}  # are not copied where they are held
        self._values = [deepcopy(vars(each), dict(self._same)) for each in self._schedulers]
        self._options = [deepcopy({**group, "params": None}) for group in self._groups]

    def restore(self) -> None:
        """Write all back."""
        for scheduler, values in zip(self._schedulers, self._values, strict=True):
            vars(scheduler).clear()
            vars(scheduler).update(deepcopy(values, dict(self._same)))
        for group, options in zip(self._groups, self._options, strict=True):
            for name, value in options.items():
                if isinstance(value, Tensor):
                    group[name].copy_(value)
                elif name != "params":
                    group[name] = value


def _within(scheduler: Any) -> Iterator[Any]:
    """Yield a scheduler and those that it holds, such as SequentialLR does."""
    yield scheduler
    for value in vars(scheduler).values():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, optim.lr_scheduler.LRScheduler):
                yield from _within(each)
