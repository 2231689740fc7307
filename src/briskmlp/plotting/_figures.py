"""Shared by all plots: Matplotlib, figures, colours, and data from a Trainer or a fitted estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp.network import FloatArray, Network
from briskmlp.operations.activations import of_estimator
from briskmlp.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color universal design"
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
POSITIVE, NEGATIVE = COLORS[0], COLORS[3]  # blue, vermillion


def pyplot() -> Any:
    """Return matplotlib.pyplot, or raise an error that says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this needs Matplotlib: pip install 'briskmlp[plot]'", name="matplotlib") from error
    return plt


def axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """Return ``ax``, or the axes of a new figure of this size in inches."""
    plt = pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    elif not hasattr(ax, "add_artist"):
        raise TypeError(f"ax must be an Axes of Matplotlib, got {type(ax).__name__}")
    return ax


class Display:
    """The base class of the displays."""

    ax_: Axes
    figure_: Figure

    def _new_axes(self, ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
        """Store and return ``ax``, or the axes of a new figure."""
        self.ax_ = axes(ax, figsize)
        self.figure_ = self.ax_.figure  # type: ignore[assignment] # or a SubFigure
        return self.ax_


def check_trainer(trainer: Any) -> Trainer:
    """Return a Trainer; raise an error for anything else."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a Trainer, got {type(trainer).__name__}")
    return trainer


def check_finite(argument: str, numbers: FloatArray) -> None:
    """Raise an error for NaN and infinity, which cannot be drawn."""
    if not np.isfinite(numbers).all():
        raise ValueError(f"{argument} has numbers that are not finite")


def fitted_attribute(estimator: Any, name: str, why: str = "") -> Any:
    """Return a fitted attribute of an estimator, this library's or scikit-learn's."""
    if not hasattr(estimator, "coefs_"):
        if not hasattr(estimator, "hidden_layer_sizes"):
            raise TypeError(f"estimator must be an MLPClassifier or MLPRegressor, got {type(estimator).__name__}")
        raise ValueError(f"estimator is not fitted: call fit of this {type(estimator).__name__} first")
    if not hasattr(estimator, name):
        raise ValueError(f"estimator has no {name}{why}")
    return getattr(estimator, name)


def network_of(estimator: Any) -> tuple[Network, FloatArray]:
    """Return a fitted estimator's network and a flat copy of its parameters."""
    coefs, intercepts = fitted_attribute(estimator, "coefs_"), estimator.intercepts_
    widths = [len(coefs[0]), *(W.shape[1] for W in coefs)]
    *hidden, output = of_estimator(estimator.activation, estimator.out_activation_, len(coefs) - 1)
    network = Network(widths, hidden, output)
    return network, np.concatenate([part.ravel() for pair in zip(coefs, intercepts, strict=True) for part in pair])
