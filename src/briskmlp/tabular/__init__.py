"""``briskmlp train`` and ``briskmlp predict``: from a table to a model that knows its columns, and back.

A model file is a checkpoint whose configuration also keeps how columns become numbers.
"""

from briskmlp.tabular.prediction import predict
from briskmlp.tabular.training import train

__all__ = ["predict", "train"]
