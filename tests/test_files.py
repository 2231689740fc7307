"""Files that are written: replaced whole or not at all; pipes, devices and stdout as they are."""

import errno
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from briskmlp import Trainer, cli
from briskmlp._console import check_writable
from briskmlp.storage import files

WRITE = """
import sys
from briskmlp.storage.files import written
print("before", flush=True)
with written(sys.argv[1]) as file:
    file.write(b"written\\n")
print("after")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model and its table, which commands are run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRISKMLP_BACKEND", "numpy")
    rows = np.random.default_rng(0).random((20, 2))
    Path("table.csv").write_text("a,y\n" + "".join(f"{a},{y}\n" for a, y in rows))
    train("--out", "model")
    return tmp_path


def train(*options):
    assert cli.main(["train", "table.csv", "--target", "y", "--epochs", "2", *options]) == 0


def predict(path):
    return cli.main(["predict", "model", "table.csv", "--out", path])


def trace(path):
    trainer = Trainer([1, 2], backend="numpy", seed=0)
    with trainer.profile() as profile:
        trainer.fit([[0.0]], [[0.0, 1.0]], epochs=1)
    profile.to_chrome_trace(path)


def to_onnx(path):
    pytest.importorskip("onnx", reason="not installed")
    Trainer([1, 2], backend="numpy", seed=0).to_onnx(path)


def plot(path):
    pytest.importorskip("matplotlib", reason="not installed")
    return cli.main(["train", "table.csv", "--target", "y", "--epochs", "2", "--plot", path])


@pytest.mark.parametrize(
    ("write", "name"), [(predict, "p.csv"), (trace, "t.json"), (to_onnx, "m.onnx"), (plot, "l.png"), (plot, "l.SVG")]
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_is_not_written_whole_leaves_the_old_file(folder, monkeypatch, capsys, write, name, error):
    def fail(descriptor):
        raise error

    Path(name).write_text("old")
    before = {*folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        if write in (trace, to_onnx):
            with pytest.raises(type(error)) as raised:
                write(name)
            told = str(raised.value)
        else:
            monkeypatch.setattr(cli, "abandon_stdout", lambda: None)  # which would be pytest's
            assert write(name) == (2 if isinstance(error, OSError) else 130)
            told = capsys.readouterr().err
    assert Path(name).read_text() == "old"
    assert {*folder.iterdir()} == before
    if isinstance(error, OSError):
        assert "No space left on device; the file that was there is unchanged" in told
        assert name in told
    Path("link").symlink_to(name)
    write("link" if write is not plot else name)
    assert Path(name).read_bytes() != b"old"
    assert {*folder.iterdir()} == before | {folder / "link"}


def test_a_pipe_is_written_to(folder):
    os.mkfifo("pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_bytes()))
    reader.start()
    assert predict("pipe") == 0
    reader.join()
    assert predict("p.csv") == 0
    assert read == [Path("p.csv").read_bytes()]
    assert Path("pipe").is_fifo()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
@pytest.mark.parametrize("name", ["/dev/stdout", "out", "link"])
@pytest.mark.parametrize("mode", ["w", "a"])
def test_where_stdout_goes_is_written_in_turn(tmp_path, name, mode):
    (tmp_path / "out").write_text("")
    (tmp_path / "link").symlink_to("out")
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[2])}
    command = [sys.executable, "-c", WRITE, name]
    with (tmp_path / "out").open(mode) as out:
        subprocess.run(command, stdout=out, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "out").read_text() == "before\nwritten\nafter\n"
    if name == "/dev/stdout":
        piped = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=True)
        assert piped.stdout == b"before\nwritten\nafter\n"


def test_what_cannot_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "file"):
        with pytest.raises(OSError, match=str(path)), files.written(path):
            pass
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("allowed", ["pipe", "folder"])
def test_a_pipe_needs_no_folder_that_can_be_written_to(folder, monkeypatch, allowed):
    os.mkfifo("pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path) == Path("pipe")) is (allowed == "pipe"))
    for path in map(Path, ("pipe", "p.csv")):
        may = (path.name == "pipe") is (allowed == "pipe")
        with nullcontext() if may else pytest.raises(ValueError, match=path.name):
            check_writable("--out", path)
