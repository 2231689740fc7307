"""Importing briskmlp costs what NumPy costs: heavier libraries come with the work that needs them."""

import pytest
from tasks import run_script

import briskmlp

HEAVY = (
    "{'scipy', 'numba', 'llvmlite', 'sklearn', 'tqdm', 'safetensors', 'threadpoolctl', 'pandas', 'onnx', 'torch', "
    "'matplotlib'}"
)
ESTIMATORS = set(briskmlp._HOMES["estimators"])  # scikit-learn's classes are theirs


def test_the_package_imports_nothing_of_its_own_and_nothing_but_the_standard_library_beyond_numpy():
    code = "import sys, numpy; before = set(sys.modules); import briskmlp; print(*(set(sys.modules) - before))"
    assert {name.split(".")[0] for name in run_script(code).split()} <= {
        "briskmlp",
        "__future__",
        "typing",
        "importlib",
    }


def test_no_public_name_loads_a_heavy_library():
    code = f"""
import sys
import briskmlp
for name in sys.argv[1:]:
    getattr(briskmlp, name)
    assert not {HEAVY} & {{module.split(".")[0] for module in sys.modules}}, name
"""
    run_script(code, *sorted({*briskmlp.__all__} - ESTIMATORS - {"__version__"}))


def test_a_numpy_trainer_never_loads_numba_and_no_training_loads_what_it_does_not_use():
    code = f"""
import sys
import briskmlp
trainer = briskmlp.Trainer([2, 3, 1], backend="numpy")
trainer.fit([[0.0, 1.0]], [1.0], epochs=2)
print(*(({HEAVY} - {{"threadpoolctl"}}) & {{name.split(".")[0] for name in sys.modules}}))
"""
    assert run_script(code) == "\n"


def test_public_names_are_listed_and_resolve():
    assert set(dir(briskmlp)) == set(briskmlp.__all__)
    for name in set(briskmlp.__all__) - {"__version__"}:
        assert getattr(briskmlp, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'briskmlp' has no attribute 'Trainr'"):
        _ = briskmlp.Trainr
