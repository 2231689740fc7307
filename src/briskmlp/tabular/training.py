"""``briskmlp train``: from the rows of files to a model, and its score on held-out rows."""

from __future__ import annotations

import json
import warnings
import zlib
from argparse import Namespace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._console import Result, check_apart, check_plot, check_writable, note
from briskmlp.callbacks import Checkpoint, EarlyStopping
from briskmlp.data.arrays import chunks
from briskmlp.data.inputs import Inputs
from briskmlp.network import flattened
from briskmlp.optimizers import OPTIMIZERS
from briskmlp.random import sample_order
from briskmlp.storage import checkpoint
from briskmlp.tabular.data import read_training
from briskmlp.tabular.preparation import PREPARATION, Preparation
from briskmlp.tabular.reading.npy import Index
from briskmlp.tabular.reporting import describe, finite, plot, score, training_text
from briskmlp.trainer import Trainer

SPLIT_STREAM = 2**64 - 1  # an epoch that no training reaches: its sample order splits the rows
VALIDATION_SHARE = 0.1  # with early stopping, as the help says
CHECKPOINT_SECONDS = 30.0  # as the help says


def train(args: Namespace) -> Result:
    """Train on some rows of files, score on the others, and write the model to ``args.out`` if given."""
    optimizer = OPTIMIZERS[args.optimizer](*(() if args.learning_rate is None else (args.learning_rate,)))
    share = _validation_share(args)
    kept = _checkpoint_file(args)
    check_writable("--out", args.out)
    if args.out is not None and args.out.exists() and not args.out.is_file():
        raise ValueError(f"--out is {str(args.out)!r}, which is no regular file, and a model replaces what is there")
    check_plot(args.plot)
    target = [Path(args.target)] if args.target and args.target.lower().endswith(".npy") else []
    check_apart({"--checkpoint": kept, "--out": args.out, "--plot": args.plot}, [*args.data, *target])

    data = read_training(args)
    test, validation, training = _split(data.n, args, share)
    preparation = data.fit(training)
    _check_task(preparation, data.y, args.task)
    inputs, Y = data.inputs(preparation, args.dtype), preparation.targets(data.y, data.place)
    classes = preparation.classes
    chosen = {name: getattr(args, name) for name in ("batch_size", "seed", "dtype", "precision", "backend", "threads")}
    chosen |= {"norm": args.norm, "norm_position": args.norm_position}
    chosen |= {"output": "softmax", "loss": "cross_entropy"} if classes else {"output": "identity", "loss": "mse"}
    layers = [preparation.n_in, *args.hidden, preparation.n_out]
    given = Trainer(layers, hidden=args.activation, optimizer=optimizer, **chosen)
    held_out = f"{len(test)} of them held out" + (f", {len(validation)} for validation" if len(validation) else "")
    note(f"{_named(args)}: {data.n} rows, {held_out}; {describe(preparation)}")
    seen, watched, unseen = ((inputs(rows), Y[rows]) for rows in (training, validation, test))
    checksums = [_checksum(*part) for part in (seen, watched, unseen)]  # of all rows, so that bad ones are found now
    configuration = {
        PREPARATION: preparation.to_json(),
        "test_share": args.test_share,
        "validation_share": share,
        # validation rows decide when to stop; without them there is one number, as in older files
        "checksum": checksums[:2] if len(validation) else checksums[0],
    }
    trainer = _resumed(given, configuration, kept, args) if kept is not None and args.resume else given
    note(f"training {' -> '.join(map(str, trainer.network.layers))} on the {trainer.backend} backend")
    stopping = None if args.early_stopping is None else EarlyStopping(patience=args.early_stopping)
    keeper = None
    if kept is not None:
        kept.parent.mkdir(exist_ok=True)
        keeper = Checkpoint(kept, every_seconds=CHECKPOINT_SECONDS)
        keeper.config = configuration  # so that `predict` takes it as a model
    start = perf_counter()
    try:
        with warnings.catch_warnings():
            # Warnings are lines for people, without the place in the code.
            warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
            history = trainer.fit(
                *seen,
                epochs=args.epochs - trainer.epoch,
                validation_data=watched if len(validation) else None,
                callbacks=[callback for callback in (stopping, keeper) if callback is not None],
                progress=False if args.json else args.progress,
            )
    except KeyboardInterrupt:
        if keeper is not None:
            keeper.save(trainer)
            note(f"{kept}: written; --resume goes on from it")
        raise
    seconds = perf_counter() - start
    if args.out is not None:
        model = {**trainer.configuration, PREPARATION: preparation.to_json()}
        statistics = flattened(trainer.statistics, trainer.dtype)
        checkpoint.write(args.out, trainer.network, trainer.parameters, model, statistics=statistics)
    if args.plot is not None:
        plot(args.plot, history)
    report = {
        "task": "classification" if classes else "regression",
        "target": data.target,
        "classes": classes,
        "features": [feature.name for feature in preparation.features],
        "layers": trainer.network.layers,
        "backend": trainer.backend,
        "training_rows": len(training),
        "validation_rows": len(validation),
        "test_rows": len(test),
        "epochs": trainer.epoch,
        "epochs_resumed": trainer.epoch - len(history),
        "seconds": round(seconds, 6),
        "loss": history.loss[-1] if history.loss else None,
        "validation_loss": finite(trainer.evaluate(*watched)) if len(validation) else None,
        "best_epoch": None if stopping is None else stopping.best_epoch,
        "test_loss": finite(trainer.evaluate(*unseen)) if len(test) else None,
        **score(trainer, preparation, unseen[0], data.y[test]),
        "model": None if args.out is None else str(args.out),
        "checkpoint": None if kept is None else str(kept),
        "plot": None if args.plot is None or not len(history) else str(args.plot),
    }
    return Result(report, training_text(report))


def _named(args: Namespace) -> str:
    return str(args.data[0]) if len(args.data) == 1 else f"{args.data[0]} and {len(args.data) - 1} more"


def _validation_share(args: Namespace) -> float:
    """Return the share of the rows not held out that are for validation."""
    if args.early_stopping is None:
        return args.validation_share or 0.0
    if args.validation_share == 0:
        raise ValueError("--early-stopping needs rows to watch: --validation-share is 0, accepted: > 0 and < 1")
    return args.validation_share or VALIDATION_SHARE


def _split(n: int, args: Namespace, share: float) -> tuple[Index, Index, Index]:
    """Return the rows for test, validation and training; the test rows do not depend on the validation share."""
    n_test = max(round(args.test_share * n), int(args.test_share > 0))
    if n_test >= n:
        raise ValueError(f"{_named(args)}: of {n} rows, --test-share {args.test_share:g} leaves none to train on")
    n_watched = max(round(share * (n - n_test)), int(share > 0))
    if n_watched >= n - n_test:
        left = f"of {n - n_test} rows that are not held out, --validation-share {share:g}"
        raise ValueError(f"{_named(args)}: {left} leaves none to train on")
    order = sample_order(args.seed, SPLIT_STREAM, n)
    test, watched, training = map(np.sort, np.split(order, [n_test, n_test + n_watched]))
    return test, watched, training


def _check_task(preparation: Preparation, column: Any, task: str | None) -> None:
    target, classes = preparation.target.name, preparation.classes
    if classes is not None and len(classes) < 2:
        raise ValueError(f"target {target!r} is {classes[0]!r} in every row; classification needs 2 classes")
    if classes is None and task is None:
        values = set(column.tolist())
        if len(values) <= 20 and all(value.is_integer() for value in values):
            note(f"target {target!r} is numeric: regression; --task classification makes {len(values)} classes of it")


def _checkpoint_file(args: Namespace) -> Path | None:
    """Return the path of the checkpoint; one that exists is replaced only with --resume."""
    if args.checkpoint is None:
        if args.resume:
            raise ValueError("--resume needs --checkpoint DIR, which tells where the checkpoint is")
        return None
    if not (args.checkpoint if args.checkpoint.exists() else args.checkpoint.parent).is_dir():
        accepted = "a folder, or a new one in an existing folder"
        raise ValueError(f"--checkpoint is {str(args.checkpoint)!r}; accepted: {accepted}")
    path: Path = args.checkpoint / "checkpoint.safetensors"
    if path.exists() and not args.resume:
        raise ValueError(f"{path} is there; --resume goes on from it, and without it the file must be removed first")
    return path


def _resumed(given: Trainer, configuration: dict[str, Any], path: Path, args: Namespace) -> Trainer:
    """Return the Trainer of a checkpoint if there is one; it must have been trained on the same data and arguments."""
    if not path.exists():
        note(f"{path}: no checkpoint yet")
        return given
    trainer = Trainer.load(path, backend=args.backend, threads=args.threads)

    def compared(trainer: Trainer, kept: dict[str, Any]) -> dict[str, Any]:
        shares = {"test_share": kept.get("test_share"), "validation_share": kept.get("validation_share", 0.0)}
        described = {"dtype": trainer.dtype.name, "network": trainer.network, **shares}  # older files lack the second
        return {**trainer.configuration, **described, "data": [kept.get(PREPARATION), kept.get("checksum")]}

    stored = compared(trainer, checkpoint.read(path).config)
    wanted = compared(given, json.loads(json.dumps(configuration)))  # whose tuples become lists
    if changed := [name for name in wanted if stored[name] != wanted[name]]:
        raise ValueError(f"{path} was not written by this command: it has another {', another '.join(changed)}")
    if trainer.epoch > args.epochs:
        raise ValueError(f"--epochs is {args.epochs}, but {path} has {trainer.epoch} epochs already")
    note(f"{path}: goes on after epoch {trainer.epoch}")
    return trainer


def _checksum(X: NDArray[Any] | Inputs, Y: NDArray[Any]) -> int:
    """Return a checksum of all bytes; rows that cannot be read are found here, before any weight moves."""
    take = X.take if isinstance(X, Inputs) else X.__getitem__
    n, width = len(Y), take(slice(0)).shape[1]
    result = zlib.crc32(repr((n, width)).encode())
    for rows in chunks(n, width):
        result = zlib.crc32(np.ascontiguousarray(take(rows)).data, result)
    return zlib.crc32(np.ascontiguousarray(Y).data, zlib.crc32(repr(Y.shape).encode(), result))
