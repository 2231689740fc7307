"""briskmlp: training dense networks by backpropagation, at the speed of the CPU.

Names are resolved when they are first used, so that ``import briskmlp`` loads NumPy and nothing heavier.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    from briskmlp.operations import activations, layers, rules
    from briskmlp.operations.activations import *  # noqa: F403, so that a new operation is exported by its own __all__
    from briskmlp.operations.layers import *  # noqa: F403, as above
    from briskmlp.operations.rules import *  # noqa: F403, as above
    from briskmlp.schedules import Constant, Cosine, InverseScaling, StepDecay
    from briskmlp.storage.checkpoint import CheckpointError
    from briskmlp.trainer import Gradient, Trainer

    __all__ = [
        "Checkpoint", "CheckpointError", "Constant", "Cosine", "EarlyStopping", "Gradient", "History",
        "InverseScaling", "MLPClassifier", "MLPRegressor", "Network", "StepDecay", "Trainer", "__version__",
        "from_sklearn", "patch_sklearn", "to_sklearn", "unpatch_sklearn",
    ]  # fmt: skip
    __all__ += activations.__all__
    __all__ += layers.__all__
    __all__ += rules.__all__

_HOMES = {
    "callbacks": ("Checkpoint", "EarlyStopping"),
    "storage.checkpoint": ("CheckpointError",),
    "estimators": (
        "MLPClassifier", "MLPRegressor", "from_sklearn", "patch_sklearn", "to_sklearn", "unpatch_sklearn",
    ),
    "history": ("History",),
    "network": ("Network",),
    "schedules": ("Constant", "Cosine", "InverseScaling", "StepDecay"),
    "trainer": ("Gradient", "Trainer"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_TABLES = ("operations.activations", "operations.layers", "operations.rules")  # their __all__ says what else there is

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("briskmlp")
    if name == "__all__":
        return sorted(["__version__", *_HOME_OF, *_in_tables()])
    home = _HOME_OF.get(name) or (_in_tables().get(name) if name[0].isupper() else None)
    if home is None:
        raise AttributeError(f"module 'briskmlp' has no attribute {name!r}")
    value = getattr(import_module(f"briskmlp.{home}"), name)
    globals()[name] = value
    return value


def _in_tables() -> dict[str, str]:
    return {name: table for table in _TABLES for name in import_module(f"briskmlp.{table}").__all__}


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
