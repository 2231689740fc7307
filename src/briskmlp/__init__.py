"""briskmlp: training dense networks by backpropagation, at the speed of the CPU.

Names are resolved when they are first used, so that ``import briskmlp`` loads NumPy and nothing heavier.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from briskmlp.operations import activations, rules

if TYPE_CHECKING:
    from briskmlp.callbacks import Checkpoint, EarlyStopping
    from briskmlp.estimators import (
        MLPClassifier,
        MLPRegressor,
        from_sklearn,
        patch_sklearn,
        to_sklearn,
        unpatch_sklearn,
    )
    from briskmlp.history import History
    from briskmlp.network import Network
    from briskmlp.operations.activations import *  # noqa: F403
    from briskmlp.operations.rules import *  # noqa: F403
    from briskmlp.schedules import Constant, Cosine, InverseScaling, StepDecay
    from briskmlp.storage.checkpoint import CheckpointError
    from briskmlp.trainer import Gradient, Trainer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Constant",
    "Cosine",
    "EarlyStopping",
    "Gradient",
    "History",
    "InverseScaling",
    "MLPClassifier",
    "MLPRegressor",
    "Network",
    "StepDecay",
    "Trainer",
    "__version__",
    "from_sklearn",
    "patch_sklearn",
    "to_sklearn",
    "unpatch_sklearn",
]
__all__ += activations.__all__
__all__ += rules.__all__

_HOMES: dict[str, Sequence[str]] = {
    "callbacks": ("Checkpoint", "EarlyStopping"),
    "storage.checkpoint": ("CheckpointError",),
    "estimators": (
        "MLPClassifier",
        "MLPRegressor",
        "from_sklearn",
        "patch_sklearn",
        "to_sklearn",
        "unpatch_sklearn",
    ),
    "history": ("History",),
    "network": ("Network",),
    "operations.activations": activations.__all__,
    "operations.rules": rules.__all__,
    "schedules": ("Constant", "Cosine", "InverseScaling", "StepDecay"),
    "trainer": ("Gradient", "Trainer"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("briskmlp")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'briskmlp' has no attribute {name!r}")
    value = getattr(import_module(f"briskmlp.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
