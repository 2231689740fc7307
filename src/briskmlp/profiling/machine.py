"""The limits of this machine: measured once by the C kernels, and cached in the user's cache directory."""

from __future__ import annotations

import json
import math
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from briskmlp._messages import count
from briskmlp.backends import native
from briskmlp.storage.files import written


class Machine(NamedTuple):
    """The limits of a processor for one instruction set, dtype and number of threads."""

    # "#:" is read by Sphinx
    cpu: str  #: the processor's name
    isa: str  #: the instruction set that was measured with
    dtype: str  #: "float32" or "float64"
    threads: int  #: those that worked together
    flops: float  #: per second, of fused multiply-adds that touch no memory
    read: float  #: bytes/s of reading what no cache holds
    triad: float  #: bytes/s of A = B + C / 2, the two read and the one written, as STREAM counts

    @property
    def bandwidth(self) -> float:
        """The larger of the read and triad bandwidths, in bytes/s."""
        return max(self.read, self.triad)

    def describe(self) -> str:
        """Return all limits in one line, without the processor's name."""
        rates = f"{self.flops / 1e9:.0f} GFLOP/s, {self.bandwidth / 1e9:.0f} GB/s"
        return f"{rates} with {self.isa}, {self.dtype}, {count(self.threads, 'thread')}"

    def seconds(self, flops: float, n_bytes: float) -> float:
        """Return the least time for this work, by the roofline model min(peak, intensity · bandwidth)."""
        return max(flops / self.flops, n_bytes / self.bandwidth)


def limits(isa: str, dtype: Any, threads: int, *, calibrate: bool = False) -> Machine:
    """Return this machine's limits, and measure them if they are not cached, which takes about half a second.

    Parameters
    ----------
    isa : str
        One of ``briskmlp.backends.native.isas()``.
    dtype : dtype
        float32 or float64.
    threads : int
    calibrate : bool
        Measure again.

    Raises
    ------
    RuntimeError
        There is no C extension to measure with, or the thread pool is in use.
    """
    if native.reason() is not None:
        raise RuntimeError(f"the machine's limits are measured by the C extension: {native.reason()}")
    dtype = np.dtype(dtype)
    key = f"{cpu_model()} | {isa} | {dtype.name} | {threads}"
    rates = None if calibrate else _read().get(key)
    if rates is None:
        team, *rates = native.limits(dtype, isa, threads)
        if team < threads:
            raise RuntimeError(f"of {threads} threads, {team} were free to measure with: is another training running?")
        _write({**_read(), key: rates})  # read again: another process may have measured meanwhile
    return Machine(cpu_model(), isa, dtype.name, threads, *rates)


@cache
def cpu_model() -> str:
    """Return the processor's name, as far as the system reports it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _path() -> Path:
    """Return the path of the cache; a RuntimeError says that there is no home directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "briskmlp" / "machine.json"


def _read() -> dict[str, list[float]]:
    """Return the cached limits; entries that are not three positive numbers are dropped, and measured again."""

    def valid(rates: Any) -> bool:
        numbers = isinstance(rates, list) and len(rates) == 3 and {*map(type, rates)} == {float}
        return numbers and all(0 < rate < math.inf for rate in rates)

    with suppress(OSError, ValueError, RuntimeError):  # such as JSON that is nested too deeply
        kept = json.loads(_path().read_text())
        return {key: rates for key, rates in kept.items() if valid(rates)} if isinstance(kept, dict) else {}
    return {}


def _write(kept: dict[str, list[float]]) -> None:
    """Replace the file atomically; failing to write it is not an error."""
    with suppress(OSError, RuntimeError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as file:
            file.write(json.dumps(kept, indent=1).encode())
