"""The results of ``briskmlp train``: the score on held-out rows, the report as text, and the plot of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._console import note, save_figure
from briskmlp.history import History
from briskmlp.tabular.preparation import Preparation
from briskmlp.tabular.reading import NUMBER, TEXT
from briskmlp.trainer import Trainer


def plot(path: Path, history: History) -> None:
    """Write the curves of the losses."""
    if not len(history):
        note(f"{path}: not written, as no epoch was trained")
        return
    from matplotlib.figure import Figure  # and not pyplot, which may want a display

    from briskmlp.plotting import LossCurveDisplay

    figure = Figure(layout="constrained")
    LossCurveDisplay.from_history(history, ax=figure.subplots())
    save_figure(figure, path)


def score(trainer: Trainer, preparation: Preparation, X: Any, target: NDArray[Any]) -> dict[str, Any]:
    """Return the accuracy, or R² and the mean absolute error in the target's own units; None where undefined."""
    if not len(target):
        return {"accuracy": None} if preparation.classes else {"r2": None, "mae": None}
    A = trainer.predict(X)
    if preparation.classes:
        return {"accuracy": float((labels_of(A, preparation.classes) == target).mean())}
    error = preparation.original_units(A) - target
    spread = float(((target - target.mean()) ** 2).sum())
    return {"r2": finite(1 - (error**2).sum() / spread) if spread else None, "mae": finite(abs(error).mean())}


def finite(value: float) -> float | None:
    """Return a finite number as it is, and None for NaN and infinity, which JSON lacks."""
    return float(value) if np.isfinite(value) else None


def labels_of(A: NDArray[Any], classes: Sequence[str]) -> NDArray[Any]:
    """Return the most probable class of each row."""
    labels: NDArray[Any] = np.array(classes, dtype=object)[A.argmax(axis=1)]
    return labels


def describe(preparation: Preparation) -> str:
    """Return the kinds of the columns and of the target, in a line."""
    kinds = [feature.kind for feature in preparation.features]
    goal = f"{len(preparation.classes)} classes" if preparation.classes else "a number"
    columns = f"columns: {kinds.count(NUMBER)} of numbers, {kinds.count(TEXT)} of text"
    return f"{columns}; inputs: {preparation.n_in}; target: {preparation.target.name!r}, {goal}"


def training_text(report: dict[str, Any]) -> str:
    """Return the report for people."""
    unit = "" if report["classes"] else " (squared error of the standardised target)"
    lines = [f"loss      {report['loss']:.4g} in the last epoch{unit}"] if report["loss"] is not None else []
    rows = f"on {report['validation_rows']} validation rows"
    if report["best_epoch"] is not None:
        lines.append(f"best      {report['validation_loss']:.4g} {rows}, in epoch {report['best_epoch']}: kept")
    elif report["validation_loss"] is not None:
        lines.append(f"valid.    {report['validation_loss']:.4g} {rows}")
    if report["test_rows"]:
        scores = {"accuracy": "accuracy"} if report["classes"] else {"R2": "r2", "mae": "mae"}
        for label, name in {"": "test_loss", **scores}.items():
            value = report[name]
            told = "undefined" if value is None else f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"
            lines.append(f"{label:<9} {told} on {report['test_rows']} held-out rows")
    epochs = report["epochs"] - report["epochs_resumed"]
    lines.append(f"time      {report['seconds']:.2f} s for {epochs} epochs, first loading of kernels included")
    lines.append(f"model     {report['model'] or 'not kept; --out FILE writes it'}")
    kept = {"resumable": report["checkpoint"], "curves": report["plot"]}
    return "\n".join([*lines, *(f"{label:<9} {path}" for label, path in kept.items() if path)]) + "\n"
