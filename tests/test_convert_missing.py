"""Without PyTorch or ONNX, what needs them says so, and names the extra."""

import subprocess
import sys

import pytest

MODULES = {"briskmlp.convert.torch": "torch", "briskmlp.interop.torch": "torch", "briskmlp.convert.onnx": "onnx"}


@pytest.mark.parametrize("module", MODULES)
def test_the_message_names_the_extra(module):
    # None in sys.modules makes an import fail as if nothing were installed
    code = f"import sys; sys.modules[{MODULES[module]!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'briskmlp[{MODULES[module]}]'" in done.stderr.splitlines()[-1]
