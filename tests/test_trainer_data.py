"""Whatever holds the data, training gives the bits of a contiguous copy; what is larger than memory is not copied."""

import sys

import numpy as np
import pytest
import scipy.sparse
from tasks import BACKENDS, data, make, run_script
from test_inputs import LAYOUTS, ArrayOnly, DLPackOnly

from briskmlp import SGD, Adam, Trainer

INTEGERS = np.random.default_rng(0).integers(0, 2, size=(21, 3))  # every dtype holds them exactly


def bits(X, Y, weight=None, task="mse", **arguments):
    """What three epochs, predict and evaluate give, as bytes."""
    trainer = make(task, **{"batch_size": 4, "optimizer": Adam(), **arguments})
    losses = trainer.fit(X, Y, epochs=3, sample_weight=weight).loss
    return trainer.parameters.tobytes(), losses, trainer.predict(X).tobytes(), trainer.evaluate(X, Y, weight)


CONTAINERS = LAYOUTS | {"list": np.ndarray.tolist, "array": ArrayOnly, "DLPack": DLPackOnly, "memory": memoryview}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(backend_name, dtype, container):
    """Of X, Y, weights and labels; what becomes of each dtype in each layout is held to its copy in test_inputs.py."""
    X, (_, Y, weight), contain = INTEGERS.astype(dtype), data("mse", 21), CONTAINERS[container]
    arguments, labels = {"backend": backend_name, "dtype": dtype}, np.random.default_rng(0).integers(2, size=(21, 1))
    given_bytes = X.tobytes()
    column = np.asarray(contain(weight[:, None]))[:, 0] if container in LAYOUTS else contain(weight)
    assert bits(contain(X), contain(Y), column, **arguments) == bits(X, Y, weight, **arguments)
    assert X.tobytes() == given_bytes
    for task in ("softmax", "binary"):
        found = bits(contain(INTEGERS.astype("i1")), contain(labels), task=task, **arguments)
        assert found == bits(X, labels[:, 0], task=task, **arguments)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_one_output_in_all_its_forms(loss):
    X = data("mse", 21)[0]
    Y = np.random.default_rng(0).integers(2, size=21)
    forms = [Y, Y[:, None], Y.astype(bool), Y.astype("f8"), Y.astype("f4")[:, None], Y.tolist(), Y[:, None, None]]
    results = [bits(X, form, task="binary", loss=loss, backend="numpy") for form in forms]
    assert all(result == results[0] for result in results)


def test_scalars_and_images_are_rows(backend_name):
    rng = np.random.default_rng(0)
    scalars, images, Y = rng.normal(size=30), rng.normal(size=(30, 2, 3, 2)), rng.normal(size=(30, 2))

    def run(X, width, Y=Y):
        trainer = Trainer([width, 4, 2], seed=1, backend=backend_name, batch_size=8)
        trainer.fit(X, Y, epochs=2)
        return trainer.predict(X).tobytes()

    assert run(scalars, 1) == run(scalars[:, None], 1) == run(scalars.tolist(), 1)
    flat = images.reshape(30, 12)
    assert run(images, 12) == run(np.asfortranarray(images), 12) == run(flat, 12)
    assert run(images.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3), 12) == run(flat, 12)
    assert run(flat, 12, Y.reshape(30, 2, 1)) == run(flat, 12)


# --- staged data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage_rows", [1, 5, 8, 10**6])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
def test_staged_data_give_the_bits_of_data_in_memory(backend_name, tmp_path, monkeypatch, sparse, shuffle, stage_rows):
    _, Y, weight = data("mse", 21)
    np.save(tmp_path / "X.npy", INTEGERS.astype("u1"))
    X = scipy.sparse.csc_matrix(INTEGERS) if sparse else np.load(tmp_path / "X.npy", mmap_mode="r")
    kwargs = {"shuffle": shuffle, "backend": backend_name}
    monkeypatch.setattr("briskmlp.session.STAGE_BYTES", stage_rows * 5 * 4)  # chunks of predict are as small, for both
    assert bits(X, Y, weight, **kwargs) == bits(INTEGERS, Y, weight, **kwargs)


def test_a_memory_map_of_pixels_trains_as_the_array_that_it_holds(backend_name, tmp_path):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(256, size=(300, 8, 8), dtype=np.uint8), rng.integers(10, size=300)
    pixels.tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=pixels.shape)

    def run(X):
        kwargs = {"loss": "cross_entropy", "hidden": "relu", "optimizer": SGD(1e-5), "batch_size": 32, "seed": 1}
        trainer = Trainer([64, 16, 10], backend=backend_name, **kwargs)
        history = trainer.fit(X, labels, epochs=3, validation_data=(X[:100], labels[:100]), metrics="accuracy")
        return trainer.parameters.tobytes(), history.loss, history.val_loss, history["val_accuracy"]

    assert run(mapped) == run(pixels)


LARGE = """
import sys
from pathlib import Path
import numpy as np
from briskmlp import Trainer

path, n, width, dtype, backend = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]

def anonymous():  # MiB that are this process's own, unlike pages of a mapped file
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) // 1024

X = np.memmap(path, dtype=dtype, mode="r", shape=(n, width))
Y = np.zeros((n, 1), dtype=np.float32)
trainer = Trainer([width, 2, 1], batch_size=128, seed=0, backend=backend)
trainer.fit(np.ones((8, width)), Y[:8], epochs=1)  # compiled, libraries loaded
before, after, calls, module = anonymous(), 0, 0, trainer._session.backend

def train(*args, run=module.train):
    global after, calls
    where, calls, after = run(*args), calls + 1, max(after, anonymous())
    if dtype == "uint8" and calls == 2:
        raise KeyboardInterrupt  # enough seen of so many rows
    return where

module.train = train
try:
    trainer.fit(X, Y, epochs=1)
except KeyboardInterrupt:
    pass
assert trainer.predict(X[:: n // 64]).shape == (64, 1)
assert trainer.epoch == 1 + (dtype != "uint8")
print(max(after, anonymous()) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize(("n", "width", "came"), [
    (2**15, 2**15, "uint8"),  # 1 GiB: staged
    (2**12, 2**14, "float32"),  # 256 MiB: read in place
    pytest.param(2**14, 2**15, "float32", marks=pytest.mark.slow),  # 2 GiB
])  # fmt: skip
def test_a_large_memory_map_is_never_copied(backend_name, tmp_path, n, width, came):
    with (tmp_path / "X").open("wb") as file:
        file.truncate(n * width * np.dtype(came).itemsize)  # a file of holes: it takes no disk
    taken = run_script(LARGE, tmp_path / "X", n, width, came, backend_name, timeout=250)
    # A stage is 64 MiB, twice where the next is made before the last is let go; the NumPy backend gathers a batch.
    assert int(taken) < 160, f"{taken.strip()} MiB for a file of {n * width >> 20} million numbers"
