"""What README.md shows runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parent.parent / "README.md"
DIGITS, SKLEARN, TORCH = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_ten_lines_that_train_and_the_estimator_after_them(folder, capsys):
    names = {}
    exec(DIGITS, names)
    accuracy, digit = capsys.readouterr().out.split()
    assert 0.85 < float(accuracy) <= 1  # the last 297 digits were written by other people
    assert 0 <= int(digit) <= 9
    assert names["Trainer"].load(folder / "digits.safetensors").epoch == len(names["history"])
    exec(SKLEARN.replace("random_state=0", "random_state=0, max_iter=3"), names)
    assert names["MLPClassifier"].__module__.startswith("briskmlp")


@pytest.mark.torch
def test_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = torch.nn.Linear(4, 3)
    before = module.weight.detach().clone()
    names = {"nn": torch.nn, "module": module, "optimizer": torch.optim.SGD(module.parameters(), 0.1)}
    exec(TORCH, names | {"X": np.eye(4), "y": np.array([0, 1, 2, 0])})
    assert not torch.equal(module.weight, before)


def test_files_and_commands_exist():
    from briskmlp.cli import main

    text = README.read_text(encoding="utf-8")
    for command in re.findall(r"briskmlp (train|predict|info|demo)\b", text):
        assert main([command, "--help"]) == 0
    for name in re.findall(r"^`(\w+)/`|· `(\w+)/`", text, re.MULTILINE):
        assert (README.parent / "".join(name)).is_dir()
