"""Processes that are killed for good, disks that are full: the file is whole, and training ends with the same bits."""

import functools
import os
import random
import signal
import subprocess
import sys

import pytest
from tasks import BACKENDS

from briskmlp import Trainer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL, fork and resource limits")

# What a user's script would be.
RUN = """
import os, sys
import numpy as np
import briskmlp.session
from briskmlp import SGD, Adam, AdamW, Checkpoint, Cosine, EarlyStopping, RMSprop, StepDecay, Trainer

RUNS = [
    {"optimizer": Adam(Cosine(0.01, epochs=30)), "dropout": 0.25},
    {"optimizer": SGD(0.02, momentum=0.9, nesterov=True), "dtype": "float64"},
    {"optimizer": AdamW(StepDecay(0.005, every=4)), "clip_norm": 1.0},
    {"optimizer": RMSprop(0.001), "l2": 0.01, "shuffle": False},
    {"optimizer": SGD(0.05)},
]
EPOCHS = 30

def train(which, path=None):
    rng = np.random.default_rng(which)
    X, Y = rng.normal(size=(1500, 20)), rng.normal(size=(1500, 2))
    callbacks = [EarlyStopping(patience=5, restore_best=False)] if which % 2 else []
    validation = {"validation_data": (X[:200], Y[:200])} if which % 2 else {}
    if path is not None:
        callbacks.append(Checkpoint(path, every_epochs=1) if which % 2 else Checkpoint(path, every_seconds=0))
    if path is not None and os.path.exists(path):
        trainer = Trainer.load(path)
    else:
        trainer = Trainer([20, 150, 100, 2], hidden="tanh", output="identity", batch_size=50, seed=which, **RUNS[which])
    print("training", flush=True)
    trainer.fit(X, Y, epochs=EPOCHS - trainer.epoch, callbacks=callbacks, progress=False, **validation)
    position = trainer._session.position
    return b"".join(part.tobytes() for part in (trainer.parameters, trainer._session.state.slots, position.counts))
"""

# The kernels' calls are short, so that many a kill falls into a write.
KILLED = """
briskmlp.session.CALL_SECONDS = 0.005
result = train(int(sys.argv[1]), sys.argv[2])
with open(sys.argv[3], "wb") as file:
    file.write(result)
"""


def start(code, *arguments):
    """Start a process in which warnings are what they are for users."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def printed(code, *arguments):
    """Run a process, which must succeed; return what it prints."""
    process = start(code, *arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def expected():
    """Return what runs that nobody kills end with: a function of the run and the backend that is set."""
    names = {}
    exec(RUN, names)
    return functools.cache(lambda which, backend: names["train"](which))


@pytest.mark.parametrize(
    ("kills", "backends"), [(5, ["auto"]), pytest.param(50, BACKENDS, marks=pytest.mark.slow)], ids=["5", "50"]
)
def test_a_run_that_is_killed_ends_with_the_same_bits(
    tmp_path, expected, kills, backends, record_property, monkeypatch
):
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    seed = random.SystemRandom().randrange(2**32)
    record_property("seed", seed)
    rng, killed, trial = random.Random(seed), 0, 0
    code = RUN + KILLED
    while killed < kills:
        which, backend, trial = trial % 5, backends[trial % len(backends)], trial + 1
        monkeypatch.setenv("BRISKMLP_BACKEND", backend)  # of this process, and of those that it starts
        path, result = tmp_path / f"{trial}.safetensors", tmp_path / f"{trial}.result"
        status = None
        while status != 0:
            process = start(code, which, path, result)
            began = process.stdout.readline()
            if killed < kills:
                try:
                    process.wait(timeout=rng.uniform(0.0, 0.2))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
            _, err = process.communicate(timeout=120)
            status = process.returncode
            assert status in (0, -signal.SIGKILL), f"seed {seed}: {began}{err}"
            killed += status != 0
            if path.exists():
                Trainer.load(path)
        assert result.read_bytes() == expected(which, backend), f"seed {seed}, run {which} on {backend}"


# Forks for each line of the modules that write, and kills the child there.
EVERY_LINE = """
import os, signal, sys
import numpy as np
from pathlib import Path
from briskmlp.storage import tensors

path = Path(sys.argv[1])
old, new = ({"x": np.full(3, value)} for value in (1.0, 2.0))
tensors.write(path, old, {})
before = path.read_bytes()
tensors.write(path, new, {})
after = path.read_bytes()

def kill_at(line):
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(("tensors.py", "files.py")):
            return None
        count += event == "line"
        if count == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    tensors.write(path, new, {})
    os._exit(0)

outcomes = []
for line in range(1, 10_000):
    tensors.write(path, old, {})
    child = os.fork()
    if not child:
        kill_at(line)
    status = os.waitpid(child, 0)[1]
    outcomes.append({before: "old", after: "new"}[path.read_bytes()])
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
switch = outcomes.index("new")
assert outcomes == ["old"] * switch + ["new"] * (len(outcomes) - switch)
print(switch, len(outcomes))
"""


def test_a_kill_at_any_line_leaves_the_old_file_or_the_new_one(tmp_path):
    old, all_lines = map(int, printed(EVERY_LINE, tmp_path / "file").split())
    assert 20 < old < all_lines


# --- disks that are full ---------------------------------------------------------------------------------------------

FULL = """
import resource
trainer = Trainer([20, 150, 100, 2], seed=0, optimizer=Adam(0.01))
rng = np.random.default_rng(0)
X, Y = rng.uniform(size=(100, 20)), rng.uniform(size=(100, 2))
path, hard = sys.argv[1], resource.getrlimit(resource.RLIMIT_FSIZE)[1]

class Fill:
    def on_epoch_end(self, trainer, record):
        if trainer.epoch == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

try:
    trainer.fit(X, Y, epochs=5, callbacks=[Fill(), Checkpoint(path)])
except OSError as error:
    print(error)
stored = Trainer.load(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
whole = Trainer([20, 150, 100, 2], seed=0, optimizer=Adam(0.01))
whole.fit(X, Y, epochs=5)
print(trainer.epoch, stored.epoch, len(os.listdir(os.path.dirname(path))))
for survivor in (trainer, stored):
    os.remove(path)
    survivor.fit(X, Y, epochs=5 - survivor.epoch, callbacks=[Checkpoint(path)])
    assert survivor.parameters.tobytes() == whole.parameters.tobytes()
"""


def test_a_process_that_may_write_no_more(tmp_path):
    """A limit on the size of files, which the kernel enforces in the middle of a write."""
    path = tmp_path / "run"
    message, epochs = printed(RUN + FULL, path).splitlines()
    assert message.endswith(f"File too large; the file that was there is unchanged: {str(path)!r}")
    assert epochs == "3 2 1"  # what the trainer has, what the file has, and no other file
    assert path.stat().st_size > 100_000


# --- hostile files ---------------------------------------------------------------------------------------------------


def test_a_hostile_file_takes_no_memory(tmp_path):
    """Under a limit of 2 GiB of address space, files of a kilobyte that claim 2**40 neurons are refused."""
    Trainer([3, 2], backend="numpy", seed=0).save(tmp_path / "good")
    content = (tmp_path / "good").read_bytes()
    changes = (b"[3, 2]", b"[9, 9]"), (b'"shape": [2, 3]', b'"shape": [2, 9]'), (b"[3, 2]", b"[1099511627776, 2]")
    for i, (old, new) in enumerate(changes):
        changed = content[8:].replace(old, new)
        length = int.from_bytes(content[:8], "little") + len(changed) - len(content) + 8
        (tmp_path / f"bad{i}").write_bytes(length.to_bytes(8, "little") + changed)
    code = """
import resource, sys
from briskmlp import CheckpointError, Trainer
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
for path in sys.argv[1:]:
    try:
        Trainer.load(path, backend="numpy")
    except CheckpointError as error:
        print(error)
"""
    assert len(printed(code, *sorted(tmp_path.glob("bad*"))).splitlines()) == 3
