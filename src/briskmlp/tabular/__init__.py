"""``briskmlp train`` and ``briskmlp predict``: models of the tables in files.

A model file is a checkpoint whose configuration also has the `Preparation`, which turns columns into numbers.
"""

from briskmlp.tabular.prediction import predict
from briskmlp.tabular.training import train

__all__ = ["predict", "train"]
