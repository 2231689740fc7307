"""``briskmlp predict``: the rows of files, as CSV."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._console import Result, check_apart, check_writable
from briskmlp.storage import checkpoint
from briskmlp.storage.files import written
from briskmlp.tabular.data import read_prediction
from briskmlp.tabular.preparation import Preparation
from briskmlp.tabular.reporting import labels_of
from briskmlp.tabular.resuming import PREPARATION
from briskmlp.trainer import Trainer

CHUNK_ROWS = 10_000  # held as text at a time, which takes many times as much memory as numbers


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

    report: dict[str, Any] = {"target": preparation.target.name, "rows": len(A)}
    if args.out is not None:
        with written(args.out) as file:
            for part in _parts(preparation, A):
                file.write(part.encode())
        return Result(report | {"out": str(args.out)}, f"wrote {len(A)} predictions to {args.out}\n")
    if not args.json:
        return Result(report, "".join(_parts(preparation, A)))
    rows = [row for part in _rows(preparation, A) for row in part]
    values: dict[str, Any] = {"predictions": [row[0] for row in rows]}
    if classes := preparation.classes:
        values |= {"classes": classes, "probabilities": [list(map(float, row[1:])) for row in rows]}
    else:
        values["predictions"] = list(map(float, values["predictions"]))
    return Result(report | values, "")


def _parts(preparation: Preparation, A: NDArray[Any]) -> Iterator[str]:
    """Yield CSV, some rows at a time."""
    header = ["prediction", *(f"probability_{name}" for name in preparation.classes or ())]
    for rows in chain([[header]], _rows(preparation, A)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        yield text.getvalue()


def _rows(preparation: Preparation, A: NDArray[Any]) -> Iterator[list[list[str]]]:
    """Yield rows some at a time, each cell as the shortest text that gives back the same float32."""
    for start in range(0, len(A), CHUNK_ROWS):
        part = A[start : start + CHUNK_ROWS]
        if classes := preparation.classes:
            labels, probabilities = labels_of(part, classes).tolist(), part.astype(str).tolist()
            yield [[label, *row] for label, row in zip(labels, probabilities, strict=True)]
        else:
            yield preparation.original_units(part).astype(str)[:, None].tolist()
