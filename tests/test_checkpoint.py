"""Checkpoints: what is written, what others read, and that no file can do harm."""

import errno
import json
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from briskmlp import checkpoint
from briskmlp.checkpoint import CheckpointError, read, write
from briskmlp.network import Network

CONFIG = {"loss": "mse", "seed": 2**63, "optimizer": {"name": "SGD", "learning_rate": 0.1}}


def make(layers=(2, 3, 1), bias="neuron", dtype=np.float32):
    network = Network(layers, hidden="tanh", output="sigmoid", bias=bias)
    return network, np.random.default_rng(0).normal(size=network.n_parameters).astype(dtype)


def assert_same(found, expected):
    assert found[0] == expected[0]
    assert found[1].dtype == expected[1].dtype
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[2] == expected[2]


def parts(content):
    """Return header and data of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture(scope="module")
def content(folder):
    write(folder / "valid", *make(), CONFIG)
    return (folder / "valid").read_bytes()


def read_bytes(folder, content):
    path = folder / "hostile"
    path.write_bytes(content)
    return read(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", ["neuron", "layer", "none"])
@pytest.mark.parametrize("layers", [(1, 1), (2, 3, 1), (5, 4, 3, 2)])
def test_round_trip(tmp_path, layers, bias, dtype):
    expected = (*make(layers, bias, dtype), CONFIG)
    path = tmp_path / "model.safetensors"
    write(path, *expected)
    found = read(str(path))
    assert_same(found, expected)
    assert found[1].flags.writeable
    assert found[1].dtype.isnative


def test_safetensors_reads_it(tmp_path):
    network, parameters = make()
    path = tmp_path / "model.safetensors"
    write(path, network, parameters, CONFIG)
    tensors = load_file(path)
    assert sorted(tensors) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    for layer, (W, b) in enumerate(zip(network.weights(parameters), network.biases(parameters), strict=True)):
        np.testing.assert_array_equal(tensors[f"{2 * layer}.weight"], W.T)
        np.testing.assert_array_equal(tensors[f"{2 * layer}.bias"], b)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "format_version", "config"}
    assert (metadata["format"], metadata["format_version"]) == ("briskmlp", "1")
    described = {"layers": [2, 3, 1], "hidden": ["tanh"], "output": "sigmoid", "bias": "neuron"}
    assert json.loads(metadata["config"]) == {"network": described, "trainer": CONFIG}


def test_shared_biases_are_one_number_and_none_is_absent(tmp_path):
    write(tmp_path / "layer", *make(bias="layer"), {})
    assert load_file(tmp_path / "layer")["0.bias"].shape == (1,)
    write(tmp_path / "none", *make(bias="none"), {})
    assert sorted(load_file(tmp_path / "none")) == ["0.weight", "2.weight"]


@pytest.mark.torch
def test_torch_loads_it(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    network, parameters = make(dtype=np.float64)
    write(tmp_path / "model", network, parameters, CONFIG)
    nn = torch.nn
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Sigmoid()).double()
    module.load_state_dict(load_torch(tmp_path / "model"))
    X = np.random.default_rng(1).normal(size=(5, 2))
    (W1, W2), (b1, b2) = network.weights(parameters), network.biases(parameters)
    expected = 1 / (1 + np.exp(-(np.tanh(X @ W1 + b1) @ W2 + b2)))
    np.testing.assert_allclose(module(torch.from_numpy(X)).detach().numpy(), expected, rtol=1e-12)


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

        class FailingFile:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *args):
                self.file.close()

            def write(self, content):
                self.file.write(content[:10])
                raise error

        with monkeypatch.context() as patch:
            if where == "write":
                opened = checkpoint.Path.open
                patch.setattr(checkpoint.Path, "open", lambda self, mode: FailingFile(opened(self, mode)))
            elif where == "fsync":
                patch.setattr(os, "fsync", fail)
            else:
                patch.setattr(checkpoint.Path, "replace", fail)
            with pytest.raises(type(error)):
                write(path, *make((4, 4)), CONFIG)
        assert path.read_bytes() == old
        assert list(tmp_path.iterdir()) == [path]

    def test_file_is_synced_before_it_is_renamed_and_the_directory_after(self, tmp_path, monkeypatch):
        events = []
        fsync, replace = os.fsync, checkpoint.Path.replace

        def note_fsync(fd):
            events.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
            fsync(fd)

        def note_replace(self, target):
            events.append("replace")
            return replace(self, target)

        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(checkpoint.Path, "replace", note_replace)
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
    assert stat.S_ISFIFO(fifo.stat().st_mode)


class TestHostile:
    def test_every_truncation_is_refused(self, folder, content):
        for size in range(len(content)):
            with pytest.raises(CheckpointError, match="hostile: "):
                read_bytes(folder, content[:size])

    def test_appended_bytes_are_refused(self, folder, content):
        with pytest.raises(CheckpointError, match="the tensors take"):
            read_bytes(folder, content + b"\0")

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
        network, weight = config["network"], header["2.weight"]
        targets = (header, header["__metadata__"], config, network, weight, network["layers"], weight["data_offsets"])
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
        try:
            network, parameters, config = read_bytes(folder, content)
        except CheckpointError as error:
            message = str(error)
        else:
            message = "hostile"
            assert parameters.shape == (network.n_parameters,)
            assert np.isfinite(parameters).all()
            assert isinstance(config, dict)
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
        ],
    )
    def test_bad_headers(self, folder, header, message):
        with pytest.raises(CheckpointError, match=message):
            read_bytes(folder, join(header, b""))

    def test_a_header_larger_than_allowed_is_not_read(self, folder, monkeypatch):
        monkeypatch.setattr(checkpoint, "MAX_HEADER", 10)
        with pytest.raises(CheckpointError, match="the header has 11 bytes, but at most 10"):
            read_bytes(folder, join(b"{" + b" " * 10, b""))
        with pytest.raises(CheckpointError, match="the header should have 18446744073709551615 bytes"):
            read_bytes(folder, b"\xff" * 8 + b"{}")

    @pytest.mark.parametrize("width", [2**20, 2**40, 10**4000], ids=["2**20", "2**40", "10**4000"])
    def test_huge_networks_are_refused_before_memory_is_asked_for(self, folder, content, width):
        header, data = parts(content)
        text = header["__metadata__"]["config"].replace("[2, 3, 1]", f"[{width}, {width}, 1]")
        header["__metadata__"]["config"] = text
        with pytest.raises(
            CheckpointError, match=r"needs more bytes than the file has|more than can be counted|more neurons"
        ):
            read_bytes(folder, join(header, data))

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (("__metadata__", "format"), "other", "not a checkpoint of briskmlp"),
            (("__metadata__", "format_version"), "2", "its format_version is '2', but this briskmlp reads 1"),
            (("__metadata__", "config"), "{", "config is not valid JSON"),
            (("__metadata__", "config"), "{}", "config lacks the objects"),
            (("0.weight", "shape"), [2, 3], r"'0.weight' has shape \[2, 3\], but the network's has \[3, 2\]"),
            (("0.weight", "dtype"), "F16", "dtype is 'F16'"),
            (("2.weight", "dtype"), "F64", "'2.weight' has dtype 'F64', but '0.weight' F32"),
            (("2.weight", "data_offsets"), [0, 4], "leaves a gap or overlaps"),
            (("2.weight", "data_offsets"), [-4, 4], "leaves a gap or overlaps"),
            (("2.weight", "data_offsets"), [0.0, 4], "'2.weight' has no valid data_offsets"),
            (("2.weight",), [], "'2.weight' has no valid data_offsets"),
        ],
    )
    def test_messages_say_what_is_wrong(self, folder, content, path, value, message):
        header, data = parts(content)
        *parents, key = path
        target = header
        for parent in parents:
            target = target[parent]
        target[key] = value
        with pytest.raises(CheckpointError, match=message):
            read_bytes(folder, join(header, data))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_weights_that_are_not_finite(self, folder, content, value):
        damaged = content[:-4] + np.float32(value).tobytes()
        with pytest.raises(CheckpointError, match=r"tensor '\d\.\w+' has NaN or infinity"):
            read_bytes(folder, damaged)

    def test_missing_and_unknown_tensors(self, folder, content):
        with safe_open(folder / "valid", "numpy") as file:
            metadata = file.metadata()
        tensors = load_file(folder / "valid")
        missing = {name: tensor for name, tensor in tensors.items() if name != "2.bias"}
        for changed, message in (
            (missing, "tensor '2.bias' is missing"),
            ({**tensors, "4.weight": tensors["0.bias"]}, r"tensors \['4.weight'\] do not belong"),
        ):
            save_file(changed, folder / "other", metadata)
            with pytest.raises(CheckpointError, match=message):
                read(folder / "other")
        extra = {"optimizer.state": np.arange(5), "callbacks.0.best": np.ones(1)}
        save_file({**tensors, **extra}, folder / "other", metadata)
        assert_same(read(folder / "other"), (*make(), CONFIG))

    def test_a_pickle_is_refused(self, folder):
        import pickle

        with pytest.raises(CheckpointError):
            read_bytes(folder, pickle.dumps({"0.weight": np.zeros(3)}))
