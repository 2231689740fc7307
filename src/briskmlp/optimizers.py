"""The optimizers: their public path. They are described with their update rules, in ``operations/rules.py``."""

from briskmlp.operations.rules import *  # noqa: F403
from briskmlp.operations.rules import OPTIMIZERS as OPTIMIZERS  # noqa: PLC0414
from briskmlp.operations.rules import Optimizer as Optimizer  # noqa: PLC0414
