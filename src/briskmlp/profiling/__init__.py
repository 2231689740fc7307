"""Where training spends its time: per layer and phase, beside what the machine could do at best."""

from briskmlp.profiling.machine import Machine, limits
from briskmlp.profiling.profile import Profile
from briskmlp.profiling.rows import Row

__all__ = ["Machine", "Profile", "Row", "limits"]
