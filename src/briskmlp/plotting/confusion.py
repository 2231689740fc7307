"""The confusion matrix of a Trainer, plotted by scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp.plotting._figures import axes, check_trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_confusion_matrix(trainer: Any, X: Any, Y: Any, *, ax: Axes | None = None, **kwargs: Any) -> Any:
    """Plot the confusion matrix of a Trainer as a ``sklearn.metrics.ConfusionMatrixDisplay``.

    For an MLPClassifier, use ``ConfusionMatrixDisplay.from_estimator(classifier, X, y)``.

    Parameters
    ----------
    trainer : Trainer
    X : array_like, as in ``Trainer.predict``
    Y : array_like, shape (n,) or (n, n_out)
        Labels 0…n_out-1, or 0 and 1 for one output; or rows of targets, whose largest element is the class.
    ax : Axes, optional
    **kwargs
        Passed to ``ConfusionMatrixDisplay.from_predictions``: ``normalize``, ``display_labels``, ``cmap`` …

    Returns
    -------
    sklearn.metrics.ConfusionMatrixDisplay
        ``confusion_matrix`` has one row per true class and one column per predicted class. The predicted class is the
        one with the largest output; with one output, it is 1 if the output is at least 0.5. ``ax_``, ``figure_``,
        ``im_`` and ``text_`` are the Matplotlib objects.

    Raises
    ------
    TypeError, ValueError
        ``trainer`` is not a Trainer, or ``Y`` does not contain classes of its outputs.

    Examples
    --------
    >>> from briskmlp import Trainer
    >>> trainer = Trainer([1, 1], initializer=[([[1.0]], [0.0])], backend="numpy")
    >>> plot_confusion_matrix(trainer, [-2.0, -1.0, 3.0], [0, 1, 1]).confusion_matrix
    array([[1, 0],
           [1, 1]])
    """
    n_out = check_trainer(trainer).network.n_out
    A = trainer.predict(X)
    classes = np.arange(max(n_out, 2))
    predicted = (A[:, 0] >= 0.5).astype(int) if n_out == 1 else A.argmax(axis=1)
    true = np.asarray(Y)
    if true.ndim == 2 and true.shape[1] == n_out:
        true = true[:, 0] if n_out == 1 else true.argmax(axis=1)
    if true.shape != predicted.shape:
        raise ValueError(f"Y has shape {true.shape}, but must have ({len(A)},) or ({len(A)}, {n_out})")
    if (strange := ~np.isin(true, classes)).any():
        raise ValueError(f"Y has {true[strange][0].item()!r}, but the classes are 0…{classes[-1]}")
    ax = axes(ax)
    from sklearn.metrics import ConfusionMatrixDisplay

    return ConfusionMatrixDisplay.from_predictions(true, predicted, ax=ax, **{"labels": classes, **kwargs})
