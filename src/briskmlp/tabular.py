"""``briskmlp train`` and ``briskmlp predict``: from a table to a model that knows its columns, and back.

A model file is a checkpoint whose configuration also keeps how columns become numbers.
"""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
import zlib
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp import checkpoint, persistence, table
from briskmlp._console import Result, note
from briskmlp.callbacks import Checkpoint
from briskmlp.optimizers import OPTIMIZERS
from briskmlp.preparation import Preparation
from briskmlp.random import sample_order
from briskmlp.trainer import Trainer

PREPARATION = "table"  # the key of the preparation in a model's configuration
CHECKPOINT_SECONDS = 30.0  # as the help says
SPLIT_STREAM = 2**64 - 1  # an epoch that no training reaches: its sample order splits the rows


def train(args: Namespace) -> Result:
    """Train on some rows of a CSV or NPZ file, score on the others, and write the model to ``args.out`` if given."""
    optimizer = OPTIMIZERS[args.optimizer](*([] if args.learning_rate is None else [args.learning_rate]))
    npz = args.data.suffix.lower() == ".npz"
    if args.target is None and not npz:
        raise ValueError("--target is missing: the name or index of the column to predict")
    kept = _checkpoint_file(args)
    _check_folder(args.out)
    if args.out is not None and args.out.exists() and not args.out.is_file():
        raise ValueError(f"--out is {str(args.out)!r}, which is no regular file, and a model replaces what is there")

    wanted = args.target or "y"
    columns = table.read(args.data, lambda names: _choose(names, wanted, args), wanted if npz else None)
    target = list(columns)[-1]
    n = len(columns[target])
    n_test = max(round(args.test_share * n), int(args.test_share > 0))
    if n_test >= n:
        raise ValueError(f"{args.data}: of {n} rows, --test-share {args.test_share:g} leaves none to train on")
    order = sample_order(args.seed, SPLIT_STREAM, n)
    test, training = np.sort(order[:n_test]), np.sort(order[n_test:])

    preparation = Preparation.fit(columns, target, training)
    _check_task(preparation, columns[target], args.task)
    X, Y = preparation.inputs(columns, args.dtype), preparation.targets(columns)
    classes = preparation.classes
    given = Trainer(
        [preparation.n_in, *args.hidden, preparation.n_out],
        hidden=args.activation,
        output="softmax" if classes else "identity",
        loss="cross_entropy" if classes else "mse",
        optimizer=optimizer,
        batch_size=args.batch_size,
        seed=args.seed,
        dtype=args.dtype,
        backend=args.backend,
        threads=args.threads,
    )
    note(f"{args.data}: {n} rows, {n_test} of them held out; {_describe(preparation)}")
    seen = X[training], Y[training]
    configuration = {PREPARATION: preparation.to_json(), "test_share": args.test_share, "checksum": _checksum(*seen)}
    trainer = _resumed(given, configuration, kept, args) if kept is not None and args.resume else given
    note(f"training {' -> '.join(map(str, trainer.network.layers))} on the {trainer.backend} backend")
    callbacks = []
    if kept is not None:
        kept.parent.mkdir(exist_ok=True)
        callbacks.append(_ModelCheckpoint(kept, configuration))
    start = perf_counter()
    try:
        with _noted_warnings():
            history = trainer.fit(*seen, epochs=args.epochs - trainer.epoch, callbacks=callbacks)
    except KeyboardInterrupt:
        for callback in callbacks:
            callback.save(trainer)
            note(f"{kept}: written; --resume goes on from it")
        raise
    seconds = perf_counter() - start
    if args.out is not None:
        model = {**trainer.configuration, PREPARATION: preparation.to_json()}
        checkpoint.write(args.out, trainer.network, trainer.parameters, model)
    report = {
        "task": "classification" if classes else "regression",
        "target": target,
        "classes": classes,
        "features": [feature.name for feature in preparation.features],
        "layers": trainer.network.layers,
        "backend": trainer.backend,
        "training_rows": len(training),
        "test_rows": n_test,
        "epochs": args.epochs,
        "epochs_resumed": args.epochs - len(history),
        "seconds": round(seconds, 6),
        "loss": history.loss[-1] if history.loss else None,
        "test_loss": _finite(trainer.evaluate(X[test], Y[test])) if n_test else None,
        **_score(trainer, preparation, X[test], columns[target][test]),
        "model": None if args.out is None else str(args.out),
        "checkpoint": None if kept is None else str(kept),
    }
    return Result(report, _training_text(report))


def predict(args: Namespace) -> Result:
    """Predict the rows of a CSV or NPZ file with a model that `train` wrote, as CSV to ``args.out`` or stdout."""
    _check_folder(args.out)
    configuration = checkpoint.read(args.model).config
    if PREPARATION not in configuration:
        raise ValueError(
            f"{args.model} has no columns: it is not from `briskmlp train`; Trainer.load reads it in Python"
        )
    preparation = Preparation.from_json(configuration[PREPARATION])
    trainer = Trainer.load(args.model, backend=args.backend, threads=args.threads)
    if (preparation.n_in, preparation.n_out) != (trainer.network.n_in, trainer.network.n_out):
        raise ValueError(f"{args.model} is damaged: its columns do not fit its network")
    columns = table.read(args.data, preparation.choose, preparation.target.name)
    A = trainer.predict(preparation.inputs(columns, trainer.dtype.name))
    if not (finite := np.isfinite(A).all(axis=1)).all():
        raise ValueError(f"{args.data}, row {finite.argmin()}: the prediction overflows, far from the training rows")

    # as text, because that is the shortest that gives back the same float32
    report: dict[str, Any] = {"target": preparation.target.name, "rows": len(A)}
    if classes := preparation.classes:
        labels, probabilities = _labels(A, classes).tolist(), A.astype(str).tolist()
        header = ["prediction", *(f"probability_{name}" for name in classes)]
        rows = [[label, *row] for label, row in zip(labels, probabilities, strict=True)]
        values = {
            "predictions": labels,
            "classes": classes,
            "probabilities": [list(map(float, p)) for p in probabilities],
        }
    else:
        header, rows = ["prediction"], preparation.original_units(A).astype(str)[:, None].tolist()
        values = {"predictions": [float(row[0]) for row in rows]}
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if args.out is None:
        return Result(report | values, file.getvalue())
    args.out.write_text(file.getvalue(), encoding="utf-8", newline="")
    return Result(report | {"out": str(args.out)}, f"wrote {len(A)} predictions to {args.out}\n")


def _choose(names: list[str], wanted: str, args: Namespace) -> dict[str, str | None]:
    """Return the columns to read for training, the target last."""
    target = table.find_column(names, wanted, "--target")
    ignored = {table.find_column(names, name, "--ignore") for name in args.ignore}
    text = {table.find_column(names, name, "--text") for name in args.text}
    kinds = {name: table.TEXT if name in text else None for name in names}
    features = {name: kind for name, kind in kinds.items() if name not in ignored | {target}}
    if not features:
        raise ValueError(f"{args.data} has no column to learn from besides the target {target!r}")
    task_kinds = {"classification": table.TEXT, "regression": table.NUMBER}
    return {**features, target: task_kinds.get(args.task, kinds[target])}


def _check_folder(path: Path | None) -> None:
    """Find out before hours of training, not after, that a file cannot be written there."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ValueError(f"--out is {str(path)!r}, which cannot be written; accepted: a file in an existing folder")


class _ModelCheckpoint(Checkpoint):
    """A checkpoint that `predict` takes as a model: it knows its columns, and the rows that it has seen."""

    def __init__(self, path: Path, configuration: dict[str, Any]) -> None:
        super().__init__(path, every_seconds=CHECKPOINT_SECONDS)
        self.configuration = configuration

    def save(self, trainer: Trainer) -> None:
        """Write the file, with columns and rows."""
        persistence.save(trainer, self.path, self.callbacks, self.configuration)


@contextmanager
def _noted_warnings() -> Iterator[None]:
    """Print warnings as lines for people, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
        yield


def _checksum(*parts: NDArray[Any]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(np.ascontiguousarray(part).data, zlib.crc32(repr(part.shape).encode(), checksum))
    return checksum


def _checkpoint_file(args: Namespace) -> Path | None:
    """Return where the checkpoint is to be; refuse to replace one unasked."""
    if args.checkpoint is None:
        if args.resume:
            raise ValueError("--resume needs --checkpoint DIR, which tells where the checkpoint is")
        return None
    path: Path = args.checkpoint / "checkpoint.safetensors"
    if path.exists() and not args.resume:
        raise ValueError(f"{path} is there; --resume goes on from it, and without it the file must be removed first")
    return path


def _resumed(given: Trainer, configuration: dict[str, Any], path: Path, args: Namespace) -> Trainer:
    """Return the Trainer of a checkpoint if there is one, and if it has learned the same from the same data."""
    if not path.exists():
        note(f"{path}: no checkpoint yet")
        return given
    trainer = Trainer.load(path, backend=args.backend, threads=args.threads)
    stored, wanted = (
        {
            **trainer.configuration,
            "dtype": trainer.dtype.name,
            "network": trainer.network,
            "test_share": kept.get("test_share"),
            "data": [kept.get(PREPARATION), kept.get("checksum")],
        }
        for trainer, kept in (
            (trainer, checkpoint.read(path).config),
            (given, json.loads(json.dumps(configuration))),  # whose tuples become lists
        )
    )
    if changed := [name for name in wanted if stored[name] != wanted[name]]:
        raise ValueError(f"{path} was not written by this command: it has another {', another '.join(changed)}")
    if trainer.epoch > args.epochs:
        raise ValueError(f"--epochs is {args.epochs}, but {path} has {trainer.epoch} epochs already")
    note(f"{path}: goes on after epoch {trainer.epoch}")
    return trainer


def _check_task(preparation: Preparation, column: table.Column, task: str | None) -> None:
    target, classes = preparation.target.name, preparation.classes
    if classes is not None and len(classes) < 2:
        raise ValueError(f"target {target!r} is {classes[0]!r} in every row; classification needs 2 classes")
    if classes is None and task is None:
        values = set(column.tolist())
        if len(values) <= 20 and all(value.is_integer() for value in values):
            note(f"target {target!r} is numeric: regression; --task classification makes {len(values)} classes of it")


def _score(trainer: Trainer, preparation: Preparation, X: NDArray[Any], target: NDArray[Any]) -> dict[str, Any]:
    """Return the accuracy, or R² and the mean absolute error in the target's own units; None where undefined."""
    if not len(X):
        return {"accuracy": None} if preparation.classes else {"r2": None, "mae": None}
    A = trainer.predict(X)
    if preparation.classes:
        return {"accuracy": float((_labels(A, preparation.classes) == target).mean())}
    error = preparation.original_units(A) - target
    spread = float(((target - target.mean()) ** 2).sum())
    return {"r2": _finite(1 - (error**2).sum() / spread) if spread else None, "mae": _finite(abs(error).mean())}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None  # JSON has no NaN and no infinity


def _labels(A: NDArray[Any], classes: Sequence[str]) -> NDArray[Any]:
    labels: NDArray[Any] = np.array(classes, dtype=object)[A.argmax(axis=1)]
    return labels


def _describe(preparation: Preparation) -> str:
    kinds = [feature.kind for feature in preparation.features]
    goal = f"{len(preparation.classes)} classes" if preparation.classes else "a number"
    return (
        f"columns: {kinds.count(table.NUMBER)} of numbers, {kinds.count(table.TEXT)} of text; "
        f"inputs: {preparation.n_in}; target: {preparation.target.name!r}, {goal}"
    )


def _training_text(report: dict[str, Any]) -> str:
    unit = "" if report["classes"] else " (squared error of the standardised target)"
    lines = [f"loss      {report['loss']:.4g} in the last epoch{unit}"] if report["loss"] is not None else []
    if report["test_rows"]:
        scores = {"accuracy": "accuracy"} if report["classes"] else {"R2": "r2", "mae": "mae"}
        for label, name in {"": "test_loss", **scores}.items():
            value = report[name]
            told = "undefined" if value is None else f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"
            lines.append(f"{label:<9} {told} on {report['test_rows']} held-out rows")
    epochs = report["epochs"] - report["epochs_resumed"]
    lines += [
        f"time      {report['seconds']:.2f} s for {epochs} epochs, first loading of kernels included",
        f"model     {report['model'] or 'not kept; --out FILE writes it'}",
    ]
    if report["checkpoint"]:
        lines.append(f"resumable {report['checkpoint']}")
    return "\n".join(lines) + "\n"
