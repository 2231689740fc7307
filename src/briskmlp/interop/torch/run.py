"""A module's parameters and an optimizer's state in a session, read from PyTorch and written back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import optim

from briskmlp.convert.torch import norms
from briskmlp.convert.torch.read import Dense, copy_in
from briskmlp.data.examples import Data
from briskmlp.interop.torch import loss
from briskmlp.interop.torch import optimizer as rules
from briskmlp.interop.torch.optimizer import Fields
from briskmlp.network import Network
from briskmlp.optimizers import SGD
from briskmlp.plan import DIVISOR_WEIGHT, make_plan
from briskmlp.session import Session

CLIP_EPSILON = 1e-6  # which PyTorch's clip_grad_norm_ adds to the norm


class Run:
    """A session of a module's network, a loss and an optimizer's rule."""

    def __init__(
        self,
        dense: Dense,
        optimizer: optim.Optimizer,
        task: loss.Task,
        fields: Fields,
        clip_norm: float | None,
        *,
        each_batch: bool,
    ) -> None:
        self.dense, self.optimizer, self.fields, self.rate = dense, optimizer, fields, 0.0
        self.each_batch = each_batch  # whether each batch is given its own rate and hyperparameters
        self.loss = task.loss, task.output
        network = Network(**{**dense.network.arguments, "output": task.output})
        # the rule is replaced by the fields, the batch size when training begins, the seed when nothing can be refused
        plan = make_plan(network, loss=task.loss, optimizer=SGD(1.0), batch_size=0, seed=0, dropout=dense.dropout)
        plan = plan._replace(**fields, norm_fixed=np.array(norms.fixed_places(dense.norms, network), dtype=np.int64))
        if clip_norm is not None:
            plan = plan._replace(clip_norm=clip_norm, clip_epsilon=CLIP_EPSILON)
        self.session = Session(plan, dense.dtype)
        self.start = 0  # the steps that the optimizer had made when it was read
        self.seen: list[int] = []  # those of each tensor
        self.batches: list[int] = []  # that each batch normalisation had met then

    def fits(self, dense: Dense, task: loss.Task, fields: Fields) -> bool:
        """Return whether this session can train so: the same network and loss, and a rule with the same state."""
        same_rule = fields["rule"] == self.fields["rule"]
        return dense is self.dense and (task.loss, task.output) == self.loss and same_rule

    def read(self, task: loss.Task, fields: Fields, rate: float) -> None:
        """Bring the session up to date with the module, the optimizer and the loss."""
        session = self.session
        self.start = session.position.step  # until all is read there is nothing to write
        self.use(fields, rate)
        values: dict[str, Any] = {"huber": task.threshold, "loss_scale": task.scale, "divisor": task.divisor}
        values["report_rows"] = int(task.divisor != DIVISOR_WEIGHT)
        if any(getattr(session.plan, name) != value for name, value in values.items()):
            session.replace_plan(session.plan._replace(**values))
        copy_in(self.dense, session.parameters)
        session.state.statistics[:] = norms.running_statistics(self.dense.norms, self.dense.network, session.dtype)
        self.batches = [count for norm in self.dense.norms for count in norm.batches]
        self.seen = rules.steps(self.optimizer, self.dense)
        plan = session.plan._replace(hyper=fields["hyper"])
        self.start = rules.read_state(self.optimizer, self.dense, plan, session.state)
        session.position.counts[2] = self.start

    def use(self, fields: Fields, rate: float) -> None:
        """Train by these fields of the plan, and at this rate, from now on."""
        self.rate = rate
        if self.each_batch:
            fields = {**fields, "hyper": self.fields["hyper"]}
        if fields is not self.fields and differ(fields, self.fields):
            self.fields = fields
            self.session.replace_plan(self.session.plan._replace(**fields))

    def use_seed(self, seed: int) -> None:
        """Draw the masks of dropout from this seed."""
        if seed != self.session.plan.seed:
            self.session.replace_plan(self.session.plan._replace(seed=seed))

    def begin(self, batch_size: int, data: Data, epoch: int) -> None:
        """Begin this epoch, on which dropout's masks depend, even where the last one was cut."""
        self.session.position.counts[0] = epoch
        self.session.position.drop_epoch()
        self.session.begin(batch_size, data)

    def write(self) -> None:
        """Write what was learned to the module and the optimizer; as often as one likes."""
        session = self.session
        if not (made := session.position.step - self.start):
            return
        with torch.no_grad():
            for _, tensor, view in self.dense.pairs(session.parameters):
                tensor.copy_(view)
            for group in self.optimizer.param_groups:
                for tensor in group["params"]:
                    tensor.grad = None
            batches = [count + made for count in self.batches]
            norms.write_statistics(self.dense.norms, self.dense.network, session.state.statistics, batches)
            rules.write_state(self.optimizer, self.dense, session.plan, session.state, self.seen, made)
        rules.note_steps(self.optimizer)


def differ(one: Fields, other: Fields) -> bool:
    """Return whether a plan has to be replaced: not where ratios of rates that fall together move by rounding."""
    new, old = np.hstack([*one.values()]), np.hstack([*other.values()])
    return bool((abs(new - old) > 1e-15 * abs(old)).any())
