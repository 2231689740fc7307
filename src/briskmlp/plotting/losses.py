"""LossCurveDisplay: the loss, or other recorded values, over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from briskmlp.history import History
from briskmlp.plotting._figures import COLORS, Display, fitted_attribute

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

MARKERS = ("", "o", "s", "^", "D", "v")  # tell the runs on one axes apart in grey
VALIDATION = "val_"
_SHOWN = ("loss", "val_loss")


class LossCurveDisplay(Display):
    """Curves of the loss, or of other recorded values, over the epochs.

    Make it with `from_history` or `from_estimator`. Several displays on the same axes differ in colour and marker.
    Curves on validation data are dashed.

    Parameters
    ----------
    curves : dict of str to sequence of float
        One value per epoch; names that begin with ``val_`` are those of validation data.
    epochs : sequence of int, optional
        Default: 1, 2, …

    Attributes
    ----------
    curves : dict of str to ndarray, shape (n_epochs,)
    epochs : ndarray, shape (n_epochs,)
    lines_ : dict of str to Line2D
        The line of each curve.
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from briskmlp import Trainer
    >>> history = Trainer([1, 3, 1], seed=0, backend="numpy").fit([0.0, 1.0], [0.5, 0.2], epochs=20)
    >>> display = LossCurveDisplay.from_history(history)
    >>> display.lines_["loss"].get_ydata().tolist() == history.loss
    True
    """

    def __init__(self, curves: Mapping[str, Sequence[float]], epochs: Sequence[int] | None = None) -> None:
        self.curves = {name: np.asarray(values, dtype=np.float64) for name, values in curves.items()}
        longest = max((len(values) for values in self.curves.values()), default=0)
        if longest == 0:
            raise ValueError("curves has no epochs, but a picture needs at least 1")
        self.epochs = np.arange(1, longest + 1) if epochs is None else np.asarray(epochs)
        for name, values in self.curves.items():
            if values.shape != self.epochs.shape:
                raise ValueError(f"curves[{name!r}] has shape {values.shape}, but epochs has {self.epochs.shape}")

    @classmethod
    def from_history(
        cls, history: History, *, names: Sequence[str] | None = None, ax: Axes | None = None, **kwargs: Any
    ) -> Self:
        """Plot the history that ``Trainer.fit`` returned.

        Parameters
        ----------
        history : History
            The history of a second ``fit``, plotted on the same ``ax``, begins where the first one ended.
        names : sequence of str, optional
            Curves to plot, such as ``["accuracy", "val_accuracy"]``. Default: loss, and val_loss if recorded.
        ax, kwargs
            Passed to `plot`.

        Raises
        ------
        TypeError, ValueError, KeyError
            ``history`` is not a History, has no epochs, or lacks one of ``names``.
        """
        _check_names(names)
        if not isinstance(history, History):
            raise TypeError(f"history must be what Trainer.fit returns, a History, got {type(history).__name__}")
        if not len(history):
            raise ValueError("history has no epochs, but a picture needs at least 1")
        names = names or [name for name in _SHOWN if name in history.records[0]]
        return cls({name: history[name] for name in names}, history["epoch"]).plot(ax, **kwargs)  # type: ignore[arg-type] # epochs are int

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, names: Sequence[str] | None = None, ax: Axes | None = None, **kwargs: Any
    ) -> Self:
        """Plot the curves of a fitted MLPClassifier or MLPRegressor, this library's or scikit-learn's.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
        names : sequence of str, optional
            Some of ``"loss"`` (``loss_curve_``), ``"val_loss"`` (``validation_loss_curve_``, if ``fit`` was given
            validation data) and ``"val_score"`` (``validation_scores_``, with ``early_stopping=True``). Default: the
            losses available.
        ax, kwargs
            Passed to `plot`.

        Raises
        ------
        TypeError, ValueError
            ``estimator`` is not one of these, is not fitted, or has not recorded one of ``names``.
        """
        _check_names(names)
        fitted_attribute(estimator, "loss_curve_", ", as solver='lbfgs' records no epochs")
        kept = {"loss": "loss_curve_", "val_loss": "validation_loss_curve_", "val_score": "validation_scores_"}
        found = {name: values for name, own in kept.items() if (values := getattr(estimator, own, None))}
        for name in names or ():
            if name not in found:
                raise ValueError(f"names has {name!r}, but this estimator has recorded {', '.join(found)}")
        return cls({name: found[name] for name in names or _SHOWN if name in found}).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, label: str | None = None, **kwargs: Any) -> Self:
        """Plot the curves; return the display.

        Parameters
        ----------
        ax : Axes, optional
        label : str, optional
            Name of the run in the legend.
        **kwargs
            Passed to ``Axes.plot`` for all curves: ``color``, ``linewidth`` …
        """
        ax = self._new_axes(ax)
        runs = len({line.get_gid() or line for line in ax.get_lines()})
        n_epochs = len(self.epochs)
        style = {
            "color": COLORS[runs % len(COLORS)],
            "marker": MARKERS[runs % len(MARKERS)] or ("o" if n_epochs == 1 else ""),  # a point has no line
            "markevery": max(1, n_epochs // 8),
            "markersize": 5,
            "gid": f"run{runs}",
        }
        self.lines_: dict[str, Line2D] = {}
        for name, values in self.curves.items():
            validation = name.startswith(VALIDATION)
            data = "validation" if validation else "training"
            own = {"linestyle": "--" if validation else "-", "label": f"{label}, {data}" if label else data}
            (self.lines_[name],) = ax.plot(self.epochs, values, **{**style, **own, **kwargs})
        ax.set_xlabel("epoch")
        ax.set_ylabel(" / ".join(dict.fromkeys(name.removeprefix(VALIDATION) for name in self.curves)))
        if ax.get_xscale() == "linear":  # there is no epoch 2.5
            ax.locator_params(axis="x", integer=True)
        ax.legend()
        return self


def _check_names(names: Any) -> None:
    """Raise an error for no names, and for a single string, whose letters would be taken for names."""
    if isinstance(names, str) or (names is not None and not len(names)):
        raise ValueError(f"names is {names!r}, but must be a sequence of names, such as ['loss']")
