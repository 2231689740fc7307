"""Whatever holds the data, training gives the bits of a contiguous copy; what is larger than memory is not copied."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from tasks import BACKENDS, data, make

from briskmlp import SGD, Adam, Trainer

INTEGERS = np.random.default_rng(0).integers(0, 2, size=(21, 3))  # every dtype holds them exactly


def bits(X, Y, weight=None, task="mse", **arguments):
    """What three epochs, predict and evaluate give, as bytes."""
    trainer = make(task, **{"batch_size": 4, "optimizer": Adam(), **arguments})
    losses = trainer.fit(X, Y, epochs=3, sample_weight=weight).loss
    return trainer.parameters.tobytes(), losses, trainer.predict(X).tobytes(), trainer.evaluate(X, Y, weight)


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided rows": lambda X: np.repeat(X, 2, axis=0)[::2],
    "strided columns": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "byte-swapped": lambda X: X.astype(X.dtype.newbyteorder()),
    "unaligned": lambda X: np.frombuffer(b"x" + X.tobytes(), X.dtype, offset=1).reshape(X.shape),
    "inside another": lambda X: np.pad(X, 2)[2:-2, 2:-2],
    "list": lambda X: X.tolist(),
}


@pytest.mark.parametrize("came", ["f4", "f8", "f2", "i1", "u8", "i4", "?", "g"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dtypes_and_layouts(backend_name, dtype, layout, came):
    Y = data("mse", 21)[1]
    expected = bits(INTEGERS.astype(dtype), Y, backend=backend_name, dtype=dtype)
    X = INTEGERS.astype(came)
    given_bytes = X.tobytes()
    assert bits(LAYOUTS[layout](X), Y, backend=backend_name, dtype=dtype) == expected
    assert X.tobytes() == given_bytes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_targets_and_weights_of_any_layout(backend_name, layout):
    X, Y, weight = data("mse", 21)
    expected = bits(X, Y, weight, backend=backend_name)
    column = LAYOUTS[layout](weight[:, None])
    column = np.asarray(column)[:, 0]
    assert bits(X, LAYOUTS[layout](Y), column, backend=backend_name) == expected
    labels = np.random.default_rng(0).integers(4, size=(21, 1))
    expected = bits(X, labels[:, 0], backend=backend_name, task="softmax")
    assert bits(X, LAYOUTS[layout](labels), backend=backend_name, task="softmax") == expected


@pytest.mark.parametrize("came", ["i1", "u1", "i8", ">i4", "?", "u8"])
def test_labels_of_any_integer_dtype(backend_name, came):
    X = data("softmax", 21)[0]
    for task, n_labels in (("softmax", 2), ("binary", 2)):
        labels = np.random.default_rng(0).integers(n_labels, size=21)
        expected = bits(X, labels, task=task, backend=backend_name)
        assert bits(X, labels.astype(came), task=task, backend=backend_name) == expected
        assert bits(X, labels.astype(came)[:, None], task=task, backend=backend_name) == expected


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_one_output_in_all_its_forms(backend_name, loss):
    X = data("mse", 21)[0]
    Y = np.random.default_rng(0).integers(2, size=21)
    forms = [Y, Y[:, None], Y.astype(bool), Y.astype("f8"), Y.astype("f4")[:, None], Y.tolist(), Y[:, None, None]]
    results = [bits(X, form, task="binary", loss=loss, backend=backend_name) for form in forms]
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


@given(
    n=st.integers(1, 12),
    steps=st.tuples(st.sampled_from([-2, -1, 1, 3]), st.sampled_from([-2, -1, 1, 3])),
    swap=st.booleans(),
    came=st.sampled_from(["f4", "f8", ">f4", ">f8", "f2", "i2"]),
    name=st.sampled_from(BACKENDS),
)
def test_any_view_gives_the_bits_of_its_copy(n, steps, swap, came, name):
    rng = np.random.default_rng(n)
    shape = [n * abs(steps[0]), 3 * abs(steps[1])]
    memory = rng.integers(-5, 5, size=shape[::-1] if swap else shape).astype(came)
    X = (memory.T if swap else memory)[:: steps[0], :: steps[1]][:n, :3]
    Y = rng.normal(size=(n, 2))
    assert bits(X, Y, backend=name) == bits(np.array(X, dtype="f4", order="C"), Y, backend=name)


def test_pandas(backend_name):
    pandas = pytest.importorskip("pandas")
    X, Y, weight = data("mse", 21)
    index = pandas.RangeIndex(100, 121)
    frames = pandas.DataFrame(X, index, list("abc")), pandas.DataFrame(Y, index), pandas.Series(weight, index)
    assert bits(*frames, backend=backend_name) == bits(X, Y, weight, backend=backend_name)
    labels = np.random.default_rng(0).integers(4, size=21)
    expected = bits(X, labels, task="softmax", backend=backend_name)
    assert bits(frames[0], pandas.Series(labels, index), task="softmax", backend=backend_name) == expected
    nullable = pandas.Series(labels, index, dtype="Int8")
    assert bits(frames[0], nullable.to_frame(), task="softmax", backend=backend_name) == expected


class OnlyArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OnlyDLPack(OnlyArray):
    __array__ = property()  # hasattr() finds none

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("wrap", [OnlyArray, OnlyDLPack, memoryview])
def test_anything_that_gives_an_array(backend_name, wrap):
    X, Y, _ = data("mse", 21)
    assert bits(wrap(X), wrap(Y), backend=backend_name) == bits(X, Y, backend=backend_name)


# --- staged data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage_rows", [1, 5, 8, 10**6])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("how", ["memory map", "csr", "csc", "coo array"])
def test_staged_data_give_the_bits_of_data_in_memory(backend_name, tmp_path, monkeypatch, how, shuffle, stage_rows):
    _, Y, weight = data("mse", 21)
    source = INTEGERS.astype("u1")
    if how == "memory map":
        np.save(tmp_path / "X.npy", source)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    else:
        X = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}.get(how, scipy.sparse.coo_array)(source)
    kwargs = {"shuffle": shuffle, "backend": backend_name}
    monkeypatch.setattr("briskmlp.session.STAGE_BYTES", stage_rows * 5 * 4)  # chunks of predict are as small, for both
    assert bits(X, Y, weight, **kwargs) == bits(source, Y, weight, **kwargs)


def test_a_memory_map_of_pixels_trains_as_the_array_that_it_holds(backend_name, dtype, tmp_path):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(256, size=(300, 8, 8), dtype=np.uint8), rng.integers(10, size=300)
    pixels.tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=pixels.shape)

    def run(X):
        kwargs = {"loss": "cross_entropy", "hidden": "relu", "optimizer": SGD(1e-5), "batch_size": 32, "seed": 1}
        trainer = Trainer([64, 16, 10], backend=backend_name, dtype=dtype, **kwargs)
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
@pytest.mark.parametrize(
    ("n", "width", "came"),
    [
        (2**15, 2**15, "uint8"),  # 1 GiB: staged
        (2**12, 2**14, "float32"),  # 256 MiB: read in place
        pytest.param(2**14, 2**15, "float32", marks=pytest.mark.slow),  # 2 GiB
    ],
)
def test_a_large_memory_map_is_never_copied(backend_name, tmp_path, n, width, came):
    with (tmp_path / "X").open("wb") as file:
        file.truncate(n * width * np.dtype(came).itemsize)  # a file of holes: it takes no disk
    command = [sys.executable, "-c", LARGE, tmp_path / "X", str(n), str(width), came, backend_name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    # A stage is 64 MiB, twice where the next is made before the last is let go; the NumPy backend gathers a batch.
    assert int(done.stdout) < 160, f"{done.stdout.strip()} MiB for a file of {n * width >> 20} million numbers"
