"""``python -m briskmlp.patch script.py …`` runs a script whose scikit-learn has this library's perceptrons."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Patch scikit-learn, and run a script or module as ``__main__`` with the arguments after it."""
    by_name = arguments[:1] == ["-m"]
    command = list(arguments[by_name:])
    if not command or command[0] in ("-h", "--help"):
        print("usage: python -m briskmlp.patch (script.py | -m module) [argument …]")
        return 0 if command else 2
    from briskmlp.estimators import patch_sklearn

    patch_sklearn()
    sys.argv = command
    if by_name:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(command[0]).resolve().parent)  # where Python looks first when it runs a script
        runpy.run_path(command[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
