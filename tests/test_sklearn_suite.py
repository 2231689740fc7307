"""scikit-learn's own tests of its perceptrons, and its checks of any estimator, on ours."""

import os
import subprocess
import sys

import pytest
import sklearn
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.fixes import parse_version

from briskmlp import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]

# The classes are swapped before scikit-learn's tests are imported, as these name them in parameters.
SWAP = """
import pytest
from briskmlp import patch_sklearn

patch_sklearn()


@pytest.fixture
def global_random_seed():
    return 42
"""


def test_scikit_learn_s_own_tests(tmp_path):
    (tmp_path / "conftest.py").write_text(SWAP)
    (tmp_path / "test_swapped.py").write_text("from sklearn.neural_network.tests.test_mlp import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts =\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(tmp_path)]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    summary = done.stdout.splitlines()[-1]
    assert "skipped" not in summary
    least = 59 if parse_version(sklearn.__version__) >= parse_version("1.9.1") else 55
    assert int(summary.split()[0]) >= least, summary


CHECKS = [
    pytest.param(estimator, check, id=f"{name}-{check.func.__name__}-{k}")
    for name, checked in {
        "classifier": MLPClassifier(max_iter=50),
        "logits": MLPClassifier(max_iter=50, logits=True),
        "regressor": MLPRegressor(max_iter=50),
    }.items()
    for k, (estimator, check) in enumerate(estimator_checks_generator(checked))
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)
