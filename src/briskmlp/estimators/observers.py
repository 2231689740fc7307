"""Observers of an estimator's training: functions, scikit-learn's callbacks, and a progress bar."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from briskmlp.callbacks.hooks import any_true
from briskmlp.progress import progress_callback

try:  # from scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context as managed
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef] # where the import failed
        """Replacement for scikit-learn's class in versions without callbacks."""

    def managed(estimator: Any) -> AbstractContextManager[None]:
        """Do nothing, as there are no callbacks."""
        return nullcontext()


__all__ = ["CallbackSupportMixin", "fit_task", "managed", "observers"]
Logs = dict[str, float]


@contextmanager
def fit_task(estimator: Any, X: Any, y: Any, weight: Any, epochs: int) -> Iterator[Callable[[], bool]]:
    """Notify scikit-learn's callbacks, if any, of the beginning and end of ``fit``.

    Yields a function that reports an epoch to them and returns whether one of them asks to stop. X, y and weight may be
    functions that return the arrays passed to callbacks.
    """
    if not (hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")):
        yield lambda: False
        return
    metadata = None if weight is None else {"sample_weight": weight}
    shown = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    context = estimator._init_callback_context(max_subtasks=epochs)
    context.call_on_fit_task_begin(**shown)

    def trained() -> dict[str, Any]:
        """Return copies of the attributes, as if training stopped here."""
        copies = {name: [np.array(own) for own in getattr(estimator, name)] for name in ("coefs_", "intercepts_")}
        if norms := vars(estimator).get("norms_"):
            copies["norms_"] = copy.deepcopy(norms)
        return {**copies, "loss_curve_": list(estimator.loss_curve_)}

    def after_epoch() -> bool:
        epoch = context.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(**shown)
        return bool(epoch.call_on_fit_task_end(**shown, reconstruction_attributes=trained))

    yield after_epoch
    context.call_on_fit_task_end(**shown, reconstruction_attributes={})


@contextmanager
def observers(estimator: Any, tell: Callable[[], bool]) -> Iterator[Callable[[Logs], bool]]:
    """Yield a function to call after each epoch, which returns whether an observer, or `fit_task`'s ``tell``, stops."""
    callbacks = estimator.callbacks
    listening = [] if callbacks is None else [callbacks] if callable(callbacks) else callbacks
    if not all(map(callable, listening)):
        raise TypeError(f"callbacks must be a function (estimator, epoch, logs) or a list of them, got {callbacks!r}")
    with progress_callback(estimator.progress, estimator.max_iter) as bar:
        if bar is not None:
            bar.on_fit_begin(estimator)

        def after_epoch(logs: Logs) -> bool:
            answers = [function(estimator, estimator.n_iter_, dict(logs)) for function in listening]
            if bar is not None:
                bar.on_epochs(estimator, [logs])
            return tell() or any_true(answers)

        yield after_epoch
