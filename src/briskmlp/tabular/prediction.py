"""``briskmlp predict``: the predictions for the rows of files, as CSV."""

from __future__ import annotations

import codecs
import csv
import io
from argparse import Namespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._console import Result, check_apart, check_writable
from briskmlp.storage import checkpoint
from briskmlp.storage.files import written
from briskmlp.tabular.data import read_prediction
from briskmlp.tabular.preparation import PREPARATION, Preparation
from briskmlp.tabular.reporting import labels_of
from briskmlp.trainer import Trainer

CHUNK_ROWS = 10_000  # held as text at a time, which takes many times as much memory as numbers


def predict(args: Namespace) -> Result:
    """Predict the rows of files with a model that `train` wrote, as CSV to ``args.out`` or stdout."""
    check_writable("--out", args.out)
    check_apart({"--out": args.out}, [args.model, *args.data])
    configuration = checkpoint.read(args.model).config
    if PREPARATION not in configuration:
        reason = "it is not from `briskmlp train`; Trainer.load reads it in Python"
        raise ValueError(f"{args.model} has no columns: {reason}")
    preparation = Preparation.from_json(configuration[PREPARATION])
    trainer = Trainer.load(args.model, backend=args.backend, threads=args.threads)
    if (preparation.n_in, preparation.n_out) != (trainer.network.n_in, trainer.network.n_out):
        raise ValueError(f"{args.model} is damaged: its columns do not fit its network")
    data = read_prediction(args.data, preparation)
    A = trainer.predict(data.inputs(preparation, trainer.dtype.name)(slice(None)))
    if not (finite := np.isfinite(A).all(axis=1)).all():
        raise ValueError(f"{data.place(int(finite.argmin()))}: the prediction overflows, far from the training rows")

    report: dict[str, Any] = {"target": preparation.target.name, "rows": len(A)}
    if args.out is not None:
        with written(args.out) as file:
            _write_csv(codecs.getwriter("utf-8")(file), preparation, A)
        return Result(report | {"out": str(args.out)}, f"wrote {len(A)} predictions to {args.out}\n")
    if not args.json:
        _write_csv(text := io.StringIO(), preparation, A)
        return Result(report, text.getvalue())
    if (classes := preparation.classes) is None:
        return Result(report | {"predictions": preparation.original_units(A).tolist()}, "")
    probabilities = A.astype(str).astype(float).tolist()  # of the digits that a float32 has
    report |= {"predictions": labels_of(A, classes).tolist(), "classes": classes, "probabilities": probabilities}
    return Result(report, "")


def _write_csv(file: Any, preparation: Preparation, A: NDArray[Any]) -> None:
    """Write the rows, each cell as the shortest text that gives back the same float32."""
    classes, writer = preparation.classes, csv.writer(file, lineterminator="\n")
    writer.writerow(["prediction", *(f"probability_{name}" for name in classes or ())])
    for start in range(0, len(A), CHUNK_ROWS):
        part = A[start : start + CHUNK_ROWS]
        values = preparation.original_units(part) if classes is None else part
        cells = values.astype(str).reshape(len(part), -1)
        writer.writerows((cells if classes is None else np.column_stack([labels_of(part, classes), cells])).tolist())
