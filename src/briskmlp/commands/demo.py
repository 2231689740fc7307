"""``briskmlp demo``: scikit-learn's digits, trained by briskmlp and by scikit-learn's MLPClassifier in turns."""

from __future__ import annotations

import shutil
import statistics
import warnings
from argparse import Namespace
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from briskmlp._console import Result, can_write, note
from briskmlp._messages import count
from briskmlp.backends.threads import blas_threads, thread_limit
from briskmlp.history import History
from briskmlp.optimizers import Adam
from briskmlp.trainer import Trainer

BLOCKS = " ▁▂▃▄▅▆▇█"


def demo(args: Namespace) -> Result:
    """Train both, three times each, and report times, accuracies and losses."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    held_out = np.arange(len(X)) % 5 == 0
    work = X[~held_out], y[~held_out]
    threads = thread_limit(args.threads)
    chosen = {"optimizer": Adam(1e-3), "seed": args.seed, "backend": args.backend, "threads": threads}

    def train(epochs: int) -> tuple[float, Trainer, History]:
        start = perf_counter()
        trainer = Trainer([64, 100, 10], hidden="relu", loss="cross_entropy", **chosen)
        history = trainer.fit(*work, epochs=epochs, progress=False)
        return perf_counter() - start, trainer, history

    def warm_up() -> float:
        start = perf_counter()
        train(1)[1].predict(X)
        return perf_counter() - start

    note("warming up: kernels are compiled in the very first run, which may take half a minute, and loaded later")
    first, second = warm_up(), warm_up()
    _train_rival(*work, 1, args.seed, threads)
    note(f"training {args.epochs} epochs, three times each, taking turns")
    runs = [(train(args.epochs), _train_rival(*work, args.epochs, args.seed, threads)) for _ in range(3)]
    (_, trainer, history), (_, rival) = runs[-1]
    report = {
        "training_rows": len(work[0]),
        "test_rows": int(held_out.sum()),
        "layers": trainer.network.layers,
        "backend": trainer.backend,
        "threads": threads,
        "batch_size": trainer.batch_size,
        "epochs": args.epochs,
        "first_call_seconds": round(first, 6),
        "compile_seconds": round(max(first - second, 0.0), 6),
        "seconds": round(statistics.median(ours[0] for ours, _ in runs), 6),
        "sklearn_seconds": round(statistics.median(theirs[0] for _, theirs in runs), 6),
        "sklearn_version": sklearn.__version__,
        "accuracy": float((trainer.predict(X[held_out]).argmax(axis=1) == y[held_out]).mean()),
        "sklearn_accuracy": float(rival.score(X[held_out], y[held_out])),
        "loss": history.loss,
    }
    return Result(report, _text(report))


def _train_rival(X: NDArray[Any], y: NDArray[Any], epochs: int, seed: int, threads: int) -> tuple[float, Any]:
    rival = MLPClassifier((100,), alpha=0.0, batch_size=32, learning_rate_init=1e-3, random_state=seed % 2**32)
    rival.set_params(max_iter=epochs, n_iter_no_change=epochs + 1)  # it would stop early otherwise
    with warnings.catch_warnings(), blas_threads(threads):
        warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs are meant to be run
        start = perf_counter()
        rival.fit(X, y)
        return perf_counter() - start, rival


def _text(report: dict[str, Any]) -> str:
    ratio = report["sklearn_seconds"] / report["seconds"]
    return f"""\
Handwritten digits of 8 x 8 pixels: {report["training_rows"]} to train on, {report["test_rows"]} held out.
Network 64 -> 100 relu -> 10 softmax, cross-entropy, Adam 0.001,
batches of {report["batch_size"]}, {report["epochs"]} epochs, float32; {report["backend"]} backend.

Loss on the training rows, epochs 1 to {report["epochs"]}:
{plot(report["loss"], min(72, shutil.get_terminal_size().columns), can_write(BLOCKS))}

                       briskmlp     scikit-learn {report["sklearn_version"]}
held-out accuracy   {report["accuracy"]:11.1%}     {report["sklearn_accuracy"]:.1%}
training time       {report["seconds"]:9.3f} s     {report["sklearn_seconds"]:.3f} s
briskmlp is {ratio:.1f} times as fast as scikit-learn.

Both do the same work: MLPClassifier has the same layers, optimizer,
batches, epochs and float32, no penalty and no early stopping. Both may
use {count(report["threads"], "thread")}. Medians of three runs in turns, after a warm-up.
Not in these times: briskmlp's first fit and predict, of one epoch, took
{report["first_call_seconds"]:.2f} s, of which {report["compile_seconds"]:.2f} s to import and compile its
kernels, or to load them from the cache of an earlier run.
"""


def plot(values: Sequence[float], width: int = 72, blocks: bool = True, height: int = 8) -> str:
    """Draw positive numbers as columns that start at 0, in ``width`` columns and ``height`` lines of text.

    Neighbouring values share a column, as their mean, when they are too many. With ``blocks`` the columns are of
    Unicode's eighths of a block, else of ``#``.

    Examples
    --------
    >>> print(plot([4, 2, 1], width=16, blocks=False, height=2))
         4 |##
         0 |######
    """
    room = max(width - 8, 1)
    if len(values) > room:
        values = [float(part.mean()) for part in np.array_split(np.array(values), room)]
    top, marks = max(values), BLOCKS if blocks else " #"
    stretch = max(1, min(room // len(values), 4))
    lines = []
    for line in reversed(range(height)):
        label = f"{top:.3g}" if line == height - 1 else "0" if line == 0 else ""
        filled = np.clip(np.array(values) / (top or 1) * height - line, 0, 1)  # the part of the line's height
        cells = "".join(marks[int(part * (len(marks) - 1) + 0.5)] * stretch for part in filled)
        lines.append(f"{label:>6} |{cells}".rstrip())
    return "\n".join(lines)
