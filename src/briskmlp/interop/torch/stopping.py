"""When training has stopped to improve, and the module as it was at its best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from briskmlp._messages import check_flag, check_integer
from briskmlp.history import Record


class Stopping:
    """Follows the epochs of a training: a progress bar, ``patience``, and ``restore_best``."""

    def __init__(self, module: nn.Module, monitor: str, patience: int | None, restore_best: Any, bar: Any) -> None:
        self.module, self.monitor, self.bar = module, monitor, bar
        self.patience = None if patience is None else check_integer("patience", patience, low=1)
        self.restore_best = check_flag("restore_best", restore_best)
        self.every_epoch = patience is not None or self.restore_best
        self.reads_module = self.restore_best
        self.best, self.wait, self.stopped = math.inf, 0, False
        self._tensors: list[tuple[Tensor, Tensor]] = []  # those of the module, and copies from the best epoch
        if bar is not None:
            bar.on_fit_begin(module)

    def on_epochs(self, records: Sequence[Record]) -> bool:
        """Take the records of the epochs just trained; return whether to stop."""
        if self.bar is not None:
            self.bar.on_epochs(self.module, records)
        for record in records if self.every_epoch else ():
            self._take(record[self.monitor])
        self.stopped = self.patience is not None and self.wait >= self.patience
        return self.stopped

    def _take(self, value: float) -> None:
        if not value < self.best:  # NaN is no improvement
            self.wait += 1
            return
        self.best, self.wait = value, 0
        if self.restore_best:
            of_module = [*self.module.parameters(), *self.module.buffers()]
            self._tensors = [(tensor, tensor.detach().clone()) for tensor in of_module]

    def restore(self) -> None:
        """Write the best epoch's parameters and buffers back, if that is wanted."""
        with torch.no_grad():
            for tensor, best in self._tensors:
                tensor.copy_(best)
