"""What a fresh process pays before it trains: the code that such a process runs, and how it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

# Every library here needs NumPy, whose own import is none of its cost.
IMPORT = """
import json, sys, time
if sys.argv[1] != "numpy":
    import numpy
start = time.perf_counter()
__import__(sys.argv[1])
print(json.dumps({"import_s": time.perf_counter() - start}))
"""

FIRST_FIT = """
import json, sys, time
start = time.perf_counter()
import numpy as np
from briskmlp import Trainer
imported = time.perf_counter()
trainer = Trainer([2, 2, 1], dtype=sys.argv[1], backend=sys.argv[2], batch_size=4, seed=0, threads=1)
trainer.fit(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) / 1.0, np.array([0, 1, 1, 0]) / 1.0, epochs=1, progress=False)
print(json.dumps({"import_s": imported - start, "first_fit_s": time.perf_counter() - imported}))
"""


def run(code: str, *arguments: str, cache: Path | None = None) -> dict[str, float]:
    """Run `code` in a fresh interpreter: what it measured, and `process_s`, the whole process' wall time."""
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    start = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])
    return {**json.loads(done.stdout.splitlines()[-1]), "process_s": seconds}
