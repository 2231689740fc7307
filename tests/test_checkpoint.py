"""Checkpoints: what is written, what others read, and that no file can do harm."""

import contextlib
import errno
import functools
import io
import itertools
import json
import math
import operator
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from briskmlp import Adam, Cosine, EarlyStopping, StepDecay, Trainer
from briskmlp.network import Network
from briskmlp.storage import files, tensors
from briskmlp.storage.checkpoint import CheckpointError, Training, read, write

CONFIG = {"loss": "mse", "seed": 2**63, "optimizer": {"name": "SGD", "learning_rate": 0.1}}


def make(layers=(2, 3, 1), bias="neuron", dtype=np.float32):
    network = Network(layers, hidden="tanh", output="sigmoid", bias=bias)
    return network, np.random.default_rng(0).normal(size=network.n_parameters).astype(dtype)


def assert_same(found, expected):
    assert found.network == expected[0]
    assert found.parameters.dtype == expected[1].dtype
    np.testing.assert_array_equal(found.parameters, expected[1])
    assert found.config == expected[2]


def parts(content):
    """Return header and data of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def changed(content, *changes):
    """Return a file with these pairs of (place, value) in its header, of which the configuration is a part."""
    header, data = parts(content)
    metadata = header["__metadata__"]
    metadata["config"] = json.loads(metadata["config"])
    for (*parents, key), value in changes:
        functools.reduce(operator.getitem, parents, header)[key] = value
    if isinstance(metadata["config"], dict):
        metadata["config"] = json.dumps(metadata["config"])
    return join(header, data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture(scope="module")
def content(folder):
    """A file of which Trainer.load makes a Trainer, with all that a file can hold."""
    network, parameters = make()
    arguments = {"dropout": 0.5, "clip_norm": 2.0, "optimizer": Adam(Cosine(0.1, epochs=9)), "seed": 1, "loss": "mse"}
    trainer = Trainer(network.layers, hidden="tanh", output="sigmoid", backend="numpy", **arguments)
    write(folder / "valid", network, parameters, trainer.configuration, **FULL)
    assert Trainer.load(folder / "valid", backend="numpy").epoch == 4
    return (folder / "valid").read_bytes()


def read_bytes(folder, content):
    (folder / "hostile").write_bytes(content)
    return read(folder / "hostile")


@pytest.fixture
def refused(folder):
    """Return a function that reads bytes, which must be refused with this message."""

    def refused(content, message):
        with pytest.raises(CheckpointError, match=message):
            read_bytes(folder, content)

    return refused


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
def test_round_trip(tmp_path, bias, dtype):
    for layers in ((1, 1), (2, 3, 1), (5, 4, 3, 2)):
        expected = (*make(layers, bias, dtype), CONFIG)
        write(tmp_path / "model.safetensors", *expected)
        found = read(str(tmp_path / "model.safetensors"))
        assert_same(found, expected)
        assert found.parameters.flags.writeable
        assert found.parameters.dtype.isnative
        assert (found.slots, found.training, found.callbacks) == ({}, None, [])


FULL = {
    "slots": {"exp_avg": np.arange(13, dtype=np.float32), "exp_avg_sq": np.ones(13, dtype=np.float32)},
    "training": Training(4, 2, 30, 0.1 + 0.2, 7.0, (8, 123), "native", "avx2"),
    "callbacks": [("Best", {"best": -math.inf, "seen": np.float32(0.5), "names": ["a", None], "W": np.eye(2)})],
}


def test_training_round_trips(tmp_path):
    write(tmp_path / "model", *make(), CONFIG, **FULL)
    found = read(tmp_path / "model")
    assert_same(found, (*make(), CONFIG))
    assert found.training == FULL["training"]
    assert found.slots.keys() == FULL["slots"].keys()
    for name, values in FULL["slots"].items():
        np.testing.assert_array_equal(found.slots[name], values)
    [(kind, state)] = found.callbacks
    np.testing.assert_array_equal(state.pop("W"), np.eye(2))
    assert (kind, state) == ("Best", {"best": -math.inf, "seen": 0.5, "names": ["a", None]})


@pytest.mark.parametrize("dtype", sorted(map(str, tensors.CODES)))
def test_tensors_of_any_layout_and_byte_order(tmp_path, dtype):
    shapes = (), (0,), (3,), (2, 0, 4), (2, 3, 4)
    rows = [np.arange(math.prod(shape)).reshape(shape).astype(dtype) for shape in shapes]
    others = [(a.T, np.array(a, order="F"), a.astype(a.dtype.newbyteorder(">"))) for a in rows]
    for array in (*rows, *itertools.chain(*others)):
        tensors.write(tmp_path / "file", {"odd": np.zeros(3, dtype="u1"), "x": array}, {"note": "ü\ud800"})
        with tensors.opened(tmp_path / "file") as file:
            found = file.read("x")
            assert file.metadata == {"note": "ü\ud800"}
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.shape == array.shape


def test_what_a_tensor_cannot_be(tmp_path):
    for wrong in (np.zeros(2, dtype=bool), np.zeros(2, dtype=complex), np.array(["x"]), np.array([None])):
        with pytest.raises(ValueError, match=r"tensor 'x' is of .*, but must be of one of float64"):
            tensors.write(tmp_path / "file", {"x": wrong}, {})
    with pytest.raises(ValueError, match=r"names and configuration take .* bytes, but at most"):
        tensors.write(tmp_path / "file", {}, {"x": "x" * tensors.MAX_HEADER})
    assert list(tmp_path.iterdir()) == []


def test_safetensors_reads_it(tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="it is the reference, and is not installed")
    network, parameters = make()
    path = tmp_path / "model.safetensors"
    write(path, network, parameters, CONFIG, **FULL)
    found = library.load_file(path)
    more = {"optimizer.exp_avg", "optimizer.exp_avg_sq", "callbacks.0.best", "callbacks.0.W"}
    assert found.keys() == {"0.bias", "0.weight", "2.bias", "2.weight"} | more
    for layer, (W, b) in enumerate(zip(network.weights(parameters), network.biases(parameters), strict=True)):
        np.testing.assert_array_equal(found[f"{2 * layer}.weight"], W.T)
        np.testing.assert_array_equal(found[f"{2 * layer}.bias"], b)
    np.testing.assert_array_equal(found["optimizer.exp_avg"], FULL["slots"]["exp_avg"])
    with pytest.importorskip("safetensors").safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "format_version", "config"}
    assert (metadata["format"], metadata["format_version"]) == ("briskmlp", "2")
    described = {"layers": [2, 3, 1], "hidden": ["tanh"], "output": "sigmoid", "bias": "neuron"}
    config = json.loads(metadata["config"])
    assert (config["network"], config["trainer"]) == (described, CONFIG)


def test_it_reads_what_safetensors_writes(tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="it is the reference, and is not installed")
    arrays = {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(3, dtype=np.int8)}
    library.save_file(arrays, tmp_path / "file", {"a": "b"})
    with tensors.opened(tmp_path / "file") as file:
        assert file.metadata == {"a": "b"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.read(name), array)


def test_shared_biases_are_one_number_and_none_is_absent(tmp_path):
    for bias, expected in (("layer", {"0.bias": (1,), "2.bias": (1,)}), ("none", {})):
        write(tmp_path / bias, *make(bias=bias), {})
        with tensors.opened(tmp_path / bias) as file:
            shapes = {name: entry.shape for name, entry in file.tensors.items()}
        assert shapes == {"0.weight": (3, 2), "2.weight": (1, 3), **expected}


def test_older_versions_are_read():
    """`data/format_1.safetensors` knows no dropout, clipping or training; the other was cut in its third epoch."""
    folder = Path(__file__).parent / "data"
    first, second = (Trainer.load(folder / f"format_{n}.safetensors", backend="numpy") for n in (1, 2))
    for trainer in (first, second):
        np.testing.assert_array_equal(trainer.parameters, (np.arange(26) - 13) / 64)
        assert (trainer.network, trainer.dtype) == (Network([3, 4, 2], "tanh", "softmax"), np.float32)
        assert (trainer.loss, trainer.l2, trainer.seed, trainer.shuffle) == ("cross_entropy", 0.001, 11, True)
    assert (first.optimizer, second.optimizer) == (Adam(StepDecay(0.01, every=5)), Adam(Cosine(0.01, epochs=9)))
    assert (first.batch_size, first.dropout, first.clip_norm, first.epoch) == (8, (0.0,), None, 0)
    assert (second.batch_size, second.dropout, second.clip_norm, second.epoch) == (4, (0.25,), 2.0, 2)
    first.fit(np.eye(3), [0, 1, 0], epochs=1)
    stored = read(folder / "format_2.safetensors")
    assert stored.training[:3] == (2, 2, 8)
    assert stored.training.unfinished[0] == 4
    np.testing.assert_array_equal([*stored.slots.values()], np.arange(52).reshape(2, 26) / 128)
    assert list(stored.slots) == ["exp_avg", "exp_avg_sq"]
    # the epoch that was cut goes on, without a warning that the data are others, and so does the callback
    stopping = EarlyStopping("loss", patience=5)
    history = second.fit(np.arange(30.0).reshape(10, 3) / 32, np.arange(10) % 2, epochs=1, callbacks=[stopping])
    assert history["epoch"] == [3]
    assert second._session.position.step == 9
    assert (stopping.best, stopping.best_epoch, stopping.wait) == (0.5, 1, 2)


def test_parameters_may_be_any_view(tmp_path):
    network, parameters = make()
    strided = np.zeros(2 * len(parameters), dtype=np.float32)[::2]
    strided[:] = parameters
    swapped = parameters.astype(">f4")
    write(tmp_path / "strided", network, strided, CONFIG)
    assert_same(read(tmp_path / "strided"), (network, parameters, CONFIG))
    with pytest.raises(ValueError, match=r"parameters is .* >f4"):
        write(tmp_path / "swapped", network, swapped, CONFIG)


def test_what_cannot_be_read_is_not_written(tmp_path):
    network, parameters = make()
    path = tmp_path / "model"
    for wrong in (parameters[:-1], parameters.astype(np.float16), parameters.astype(np.int64)):
        with pytest.raises(ValueError, match="parameters is"):
            write(path, network, wrong, {})
    for value in (np.nan, np.inf):
        bad = parameters.copy()
        bad[3] = value
        with pytest.raises(ValueError, match="parameters has NaN or infinity"):
            write(path, network, bad, {})
    for value in (float("nan"), {1, 2}, object()):
        with pytest.raises(ValueError, match="config must be strict JSON"):
            write(path, network, parameters, {"x": value})
    with pytest.raises(ValueError, match="exp_avg has NaN or infinity"):
        write(path, network, parameters, {}, slots={"exp_avg": parameters * np.nan})
    with pytest.raises(ValueError, match=r"exp_avg is .* float64"):
        write(path, network, parameters, {}, slots={"exp_avg": parameters.astype(float)})
    for wrong in ({"x": {1, 2}}, {"x": [math.nan]}, {"x": {1: 2}}, {3: 4}, {"x": np.array([None])}):
        with pytest.raises(TypeError, match=r"the state of the callback Mine has .*, which a checkpoint cannot keep"):
            write(path, network, parameters, {}, callbacks=[("Mine", wrong)])
    with pytest.raises(TypeError, match=r"state_dict\(\) of the callback Mine must return a dict, got None"):
        write(path, network, parameters, {}, callbacks=[("Mine", None)])
    assert list(tmp_path.iterdir()) == []


class TestAtomic:
    @pytest.mark.parametrize("where", ["write", "fsync", "replace"])
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
    def test_a_failure_leaves_the_old_file_alone(self, tmp_path, monkeypatch, where, error):
        path = tmp_path / "model"
        write(path, *make(), CONFIG)
        old = path.read_bytes()

        def fail(*args):
            raise error

        class FailingFile(io.FileIO):
            def write(self, content):
                super().write(content[:10])
                raise error

        failing = {
            "write": (Path, "open", functools.partialmethod(FailingFile)),
            "fsync": (os, "fsync", fail),
            "replace": (Path, "replace", fail),
        }
        with monkeypatch.context() as patch:
            patch.setattr(*failing[where])
            with pytest.raises(type(error)) as raised:
                write(path, *make((4, 4)), CONFIG)
        if isinstance(error, OSError):
            assert str(raised.value) == f"[Errno 28] disk full; the file that was there is unchanged: {str(path)!r}"
        assert path.read_bytes() == old
        assert list(tmp_path.iterdir()) == [path]

    def test_file_is_synced_before_it_is_renamed_and_the_directory_after(self, tmp_path, monkeypatch):
        events, fsync, replace = [], os.fsync, Path.replace

        def note_fsync(fd):
            events.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
            fsync(fd)

        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(Path, "replace", lambda self, target: events.append("replace") or replace(self, target))
        write(tmp_path / "model", *make(), CONFIG)
        assert events == ["file", "replace", "directory"]

    def test_links_are_followed_and_permissions_are_usual(self, tmp_path):
        (tmp_path / "real").mkdir()
        link, target = tmp_path / "link", tmp_path / "real" / "model"
        usual = tmp_path / "usual"
        usual.touch()
        link.symlink_to(target)
        write(link, *make(), CONFIG)
        assert link.is_symlink()
        assert target.stat().st_mode == usual.stat().st_mode
        assert_same(read(link), (*make(), CONFIG))

    def test_leftovers_of_killed_processes(self, tmp_path):
        path, other = tmp_path / "model", tmp_path / "other"
        names = (f".model.{'1' * 16}.tmp", f".model.{'2' * 16}.tmp", f".other.{'a' * 16}.tmp")
        old, new, others = (tmp_path / name for name in names)
        users = {tmp_path / name for name in (".model.x", ".model.notes.tmp", f".model.{'1' * 16}.tmp2")}
        for leftover in (old, new, others, *users):
            leftover.touch()
            os.utime(leftover, (0, 0))
        os.utime(new)
        files.remove_leftovers(path)
        assert {*tmp_path.iterdir()} == {new, others, *users}
        files.remove_leftovers(other)
        assert {*tmp_path.iterdir()} == {new, *users}
        files.remove_leftovers(tmp_path / "no" / "model")

    def test_long_names(self, tmp_path):
        for name in ("x" * 255, "é" * 127, "x" + "€" * 84):  # of 1, 2 and 3 bytes a character
            write(tmp_path / name, *make(), {})
            assert list(tmp_path.iterdir()) == [tmp_path / name]
            (tmp_path / name).unlink()

    def test_the_permissions_of_what_is_replaced_stay(self, tmp_path):
        path = tmp_path / "model"
        write(path, *make(), CONFIG)
        for mode in (0o600, 0o664):
            path.chmod(mode)
            write(path, *make((4, 4)), CONFIG)
            assert stat.S_IMODE(path.stat().st_mode) == mode

    @pytest.mark.parametrize("supported", [True, False])
    def test_a_directory_that_cannot_be_synced(self, tmp_path, monkeypatch, supported):
        fsync, code = os.fsync, errno.EIO if supported else errno.EINVAL

        def fail(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(code, os.strerror(code))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fail)
        if supported:
            with pytest.raises(OSError, match="the new file is there, but may be lost when the power fails"):
                write(tmp_path / "model", *make(), CONFIG)
        else:
            write(tmp_path / "model", *make(), CONFIG)
        assert_same(read(tmp_path / "model"), (*make(), CONFIG))

    def test_missing_directory(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "no" / "model", *make(), CONFIG)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "model")


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="Not a regular file"):
        write(fifo, *make(), {})
    with pytest.raises(CheckpointError, match="fifo: not a regular file"):
        read(fifo)  # and does not wait for a writer
    assert stat.S_ISFIFO(fifo.stat().st_mode)


HELD = ("__metadata__", "config")  # the place of the configuration in a header
POSITIONS = {
    "epoch": (-1, 2**53 + 1, 1.0, True, None, "1"),
    "step": (-1, 2**70),
    "loss_sum": (None, "0", 10**400, True),
    "unfinished": (7, [1], [1, 2, 3], [1, 2.5], [1, "2"]),
    "backend": (None, 3),
    "isa": (5,),
    "unknown": (1,),
}
SHAPES = [2**62, 2**62], [10**9] * 10**5, [0, -1], [3.0, 2], "32", None, [2**64]


class TestHostile:
    def test_every_truncation_is_refused(self, content, refused):
        for size in (*range(40), *range(40, len(content) - 40, 7), *range(len(content) - 40, len(content))):
            refused(content[:size], "hostile: ")
        refused(content + b"\0", "the tensors take")

    @given(st.data())
    def test_flipped_bytes(self, folder, content, data):
        damaged = bytearray(content)
        positions = st.integers(0, len(content) - 1)
        for position in data.draw(st.lists(positions, min_size=1, max_size=4)):
            damaged[position] = data.draw(st.integers(0, 255))
        self.only_checkpoint_errors(folder, bytes(damaged))

    @given(st.binary(max_size=200))
    def test_random_bytes(self, folder, noise):
        self.only_checkpoint_errors(folder, noise)
        self.only_checkpoint_errors(folder, join(noise, b""))

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )

    @given(st.data())
    def test_any_value_anywhere_in_the_header(self, folder, content, data):
        header, tensors = parts(content)
        config = json.loads(header["__metadata__"]["config"])
        network, weight, callback = config["network"], header["2.weight"], config["callbacks"][0]
        targets = (header, header["__metadata__"], config, network, weight, network["layers"], weight["data_offsets"])
        targets += (weight["shape"], config["training"], callback, callback["state"], callback["arrays"])
        trainer = config["trainer"]
        targets += (trainer, trainer["dropout"], trainer["optimizer"], trainer["optimizer"]["learning_rate"])
        target = data.draw(st.sampled_from(targets))
        key = data.draw(st.sampled_from(list(target) if isinstance(target, dict) else range(len(target))))
        if isinstance(target, dict) and data.draw(st.booleans()):
            del target[key]
        else:
            target[key] = data.draw(self.JSON)
        if isinstance(header.get("__metadata__"), dict) and target is not header["__metadata__"]:
            header["__metadata__"]["config"] = json.dumps(config)
        self.only_checkpoint_errors(folder, join(header, tensors))

    @staticmethod
    def only_checkpoint_errors(folder, content):
        """Read these bytes, and make a Trainer of them."""
        try:
            found = read_bytes(folder, content)
        except CheckpointError as error:
            message = str(error)
        else:
            message = "hostile"
            for values in (found.parameters, *found.slots.values()):
                assert values.shape == (found.network.n_parameters,)
                assert np.isfinite(values).all()
            assert isinstance(found.config, dict)
            if found.training is not None:
                assert min(found.training[:3]) >= 0
            with contextlib.suppress(CheckpointError):
                trainer = Trainer.load(folder / "hostile", backend="numpy")
                np.testing.assert_array_equal(trainer.parameters, found.parameters)
        assert "hostile" in message
        assert len(message) < 1000

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            (b"[" * 100_000, "nested too deeply|not valid JSON"),
            (b'{"__metadata__": NaN}', "NaN is not JSON"),
            (b'{"a": 1, "a": 2}', "a name occurs twice"),
            (b"[]", "not a JSON object"),
            (b"\xff\xfe", "not valid JSON"),
            ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
            (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
            (b"{}", "not a checkpoint of briskmlp"),
            (pickle.dumps({"0.weight": np.zeros(3)}), "hostile: "),
        ],
    )
    def test_bad_headers(self, refused, header, message):
        refused(join(header, b""), message)
        refused(header, "hostile: ")

    def test_a_header_larger_than_allowed_is_not_read(self, refused, monkeypatch):
        monkeypatch.setattr(tensors, "MAX_HEADER", 10)
        refused(join(b"{" + b" " * 10, b""), "the header has 11 bytes, but at most 10")
        refused(b"\xff" * 8 + b"{}", "the header should have 18446744073709551615 bytes")

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (("__metadata__", "format"), "other", "not a checkpoint of briskmlp"),
            (("__metadata__", "format_version"), "4", "its format_version is '4', but this briskmlp reads 1 to 3"),
            (HELD, "{", "config is not valid JSON"),
            (HELD, "{}", "config lacks the objects"),
            (("0.weight", "shape"), [2, 3], r"'0.weight' has shape \[2, 3\], but the network's has \[3, 2\]"),
            (("0.weight", "dtype"), "BF16", "dtype 'BF16', not one of F64, F32,"),
            (("0.weight", "dtype"), "F16", "'0.weight' has 24 bytes, but its shape needs 12"),
            (("0.weight", "dtype"), "I32", "'0.weight' has dtype 'I32', not one of F32, F64"),
            (("2.weight", "dtype"), "I32", "'2.weight' has dtype 'I32', but '0.weight' 'F32'"),
            (("2.weight", "data_offsets"), [0, 12], "leaves a gap or overlaps"),
            (("2.weight", "data_offsets"), [-4, 4], "leaves a gap or overlaps"),
            (("2.weight", "data_offsets"), [0.0, 4], "'2.weight' has no valid data_offsets"),
            (("2.weight",), [], "'2.weight' has no valid data_offsets"),
            *(
                (
                    (*HELD, "network", "layers"),
                    [width, width, 1],
                    "more bytes than the file has|more than can be|more neu",
                )
                for width in (2**20, 2**40, 10**4000)
            ),
            *(
                ((*HELD, "training", name), value, "its training")
                for name, values in POSITIONS.items()
                for value in values
            ),
            *((("0.weight", "shape"), shape, "'0.weight' has (no valid shape|24 bytes, but its)") for shape in SHAPES),
        ],
        ids=itertools.count(),
    )
    def test_messages_say_what_is_wrong(self, refused, content, place, value, message):
        """And no memory is asked for before."""
        refused(changed(content, (place, value)), message)

    @pytest.mark.parametrize("name", ["0.weight", "2.bias", "optimizer.exp_avg"])
    def test_weights_and_state_that_are_not_finite(self, refused, content, name):
        header, data = parts(content)
        start = header[name]["data_offsets"][0]
        for value in (np.nan, np.inf, -np.inf):
            damaged = data[:start] + np.float32(value).tobytes() + data[start + 4 :]
            refused(join(header, damaged), f"tensor '{name}' has NaN or infinity")

    @pytest.mark.parametrize("name", ["2.bias", "callbacks.0.W", "optimizer.exp_avg"])
    def test_missing_and_unknown_tensors(self, folder, refused, content, name):
        header, data = parts(content)

        def renamed(new):
            return join({(new if key == name else key): entry for key, entry in header.items()}, data)

        refused(renamed("4.weight"), r"tensor '4.weight' does not belong")
        if name.startswith("optimizer"):
            assert read_bytes(folder, renamed("callbacks.9")).slots.keys() == {"exp_avg_sq"}  # the Trainer misses it
        else:
            refused(renamed("callbacks.9"), f"'{name}' is missing")

    def test_lengths_that_overflow_beside_one_of_0(self, refused, content):
        end = len(parts(content)[1])
        names = (*HELD, "callbacks", 0, "arrays"), ["best", "W", "z"]
        for shape in ([2**62, 2**62, 0], [2**61, 0]):
            entry = {"dtype": "F64", "shape": shape, "data_offsets": [end, end]}
            hostile = changed(content, (("callbacks.0.z",), entry), names)
            refused(hostile, r"'callbacks\.0\.z' has no valid shape")

    def test_more_layers_than_tensors(self, refused, content, monkeypatch):
        monkeypatch.setattr("briskmlp.storage.checkpoint.Network", None)  # is not even made
        hostile = changed(content, ((*HELD, "network", "layers"), [1] * 10**5))
        refused(hostile, "has 99999 layers, more than the file has tensors")

    def test_messages_are_short(self, folder, content):
        long = changed(content, ((*HELD, "trainer", "precision"), "x" * 10**5))
        (folder / "hostile").write_bytes(long)
        with pytest.raises(CheckpointError, match="no Trainer can be made of it: precision is 'x") as raised:
            Trainer.load(folder / "hostile", backend="numpy")
        assert len(str(raised.value)) < 1000
