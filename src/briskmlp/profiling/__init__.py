"""The time that training spends in each layer and phase, compared with the limits of the machine."""

from briskmlp.profiling.machine import Machine, limits
from briskmlp.profiling.profile import Profile
from briskmlp.profiling.rows import Row

__all__ = ["Machine", "Profile", "Row", "limits"]
