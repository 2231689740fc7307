"""``briskmlp predict``: the rows of files, as CSV."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from typing import Any

import numpy as np

from briskmlp import checkpoint
from briskmlp._console import Result, check_apart, check_writable
from briskmlp.preparation import Preparation
from briskmlp.tabular.data import read_prediction
from briskmlp.tabular.reporting import labels_of
from briskmlp.tabular.resuming import PREPARATION
from briskmlp.trainer import Trainer


def predict(args: Namespace) -> Result:
    """Predict the rows of files with a model that `train` wrote, as CSV to ``args.out`` or stdout."""
    check_writable("--out", args.out)
    check_apart({"--out": args.out}, [args.model, *args.data])
    configuration = checkpoint.read(args.model).config
    if PREPARATION not in configuration:
        raise ValueError(
            f"{args.model} has no columns: it is not from `briskmlp train`; Trainer.load reads it in Python"
        )
    preparation = Preparation.from_json(configuration[PREPARATION])
    trainer = Trainer.load(args.model, backend=args.backend, threads=args.threads)
    if (preparation.n_in, preparation.n_out) != (trainer.network.n_in, trainer.network.n_out):
        raise ValueError(f"{args.model} is damaged: its columns do not fit its network")
    data = read_prediction(args.data, preparation)
    A = trainer.predict(data.inputs(preparation, trainer.dtype.name)(slice(None)))
    if not (finite := np.isfinite(A).all(axis=1)).all():
        place = data.place(int(finite.argmin()))
        raise ValueError(f"{place}: the prediction overflows, far from the training rows")

    # as text, because that is the shortest that gives back the same float32
    report: dict[str, Any] = {"target": preparation.target.name, "rows": len(A)}
    if classes := preparation.classes:
        labels, probabilities = labels_of(A, classes).tolist(), A.astype(str).tolist()
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
