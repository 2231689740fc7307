"""The run of ``fit``: slices of training, one kernel call each, and what is recorded between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from briskmlp.callbacks import Callbacks
from briskmlp.engine import Data, Engine
from briskmlp.history import History
from briskmlp.metrics import METRICS

if TYPE_CHECKING:
    from briskmlp.trainer import Trainer

SLICE_SECONDS = 0.05  # a kernel call lasts about this long, so that Ctrl-C is answered within 0.2 s


def run(
    trainer: Trainer,
    engine: Engine,
    data: Data,
    epochs: int,
    validation: Data | None,
    metrics: tuple[str, ...],
    hooks: Callbacks,
    history: History,
) -> None:
    """Train ``epochs`` epochs; a slice ends with an epoch if something waits for each of them."""
    position, n = engine.position, data.inputs.n
    batch_size = min(trainer.batch_size or n, n)
    n_batches = -(-n // batch_size)
    one_by_one = validation is not None or bool(metrics) or hooks.every_epoch
    engine.begin(batch_size, data)
    end = position.epoch + epochs
    steps, elapsed = 1, 0.0
    try:
        while position.epoch < end:
            first, first_batch = position.epoch, position.batch
            last = min(end, hooks.next_stop(first), first + (1 if one_by_one else 1 + steps // n_batches))
            rates = trainer.optimizer.rates(first, last)
            losses = np.empty(last - first)
            seconds = engine.advance(data, rates, steps, losses)
            elapsed += seconds
            done = position.epoch - first
            steps = next_steps(done * n_batches + position.batch - first_batch, seconds)
            if done:
                history.extend(
                    {
                        "epoch": np.arange(first + 1, first + done + 1),
                        "loss": losses[:done],
                        "learning_rate": rates[:done],
                        "time": np.full(done, elapsed / done),
                        **_scores(engine, data, validation, metrics),
                    }
                )
                elapsed = 0.0
                if hooks.callbacks and hooks.on_epochs(trainer, history.last(done)):
                    return
            hooks.on_pause(trainer)
    finally:
        engine.end(data)


def _scores(engine: Engine, data: Data, validation: Data | None, metrics: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the validation loss and the metrics as they are now, one value each."""
    scores = {} if validation is None else {"val_loss": [engine.loss(validation)]}
    if metrics:
        prefix, scored = ("", data) if validation is None else ("val_", validation)
        A = engine.predict(scored.inputs)
        scores |= {prefix + name: [METRICS[name](A, scored.Y, scored.weight)] for name in metrics}
    return scores


def next_steps(made: int, seconds: float) -> int:
    """Return how many steps the next kernel call may make, so that it lasts about SLICE_SECONDS."""
    return max(1, min(made * 8, int(made * SLICE_SECONDS / max(seconds, 1e-9))))
