"""Checkpoints: one safetensors file that holds a network, its parameters and a configuration.

The file is what PyTorch's tools expect of ``torch.nn.Sequential(Linear, activation, Linear, …)``: layer l is
``"{2l}.weight"`` (n_out, n_in) and ``"{2l}.bias"`` (n_out,). A bias shared by the layer is (1,), none is absent.
The metadata has "format" = "briskmlp", "format_version" and "config", which is JSON:
``{"network": {"layers", "hidden", "output", "bias"}, "trainer": …}``.
Tensors named ``optimizer.*`` and ``callbacks.*`` are kept free for more state; this version skips them.

The layout, https://huggingface.co/docs/safetensors: 8 bytes, little-endian, give the length of a JSON header, which
maps each name to ``{"dtype", "shape", "data_offsets"}``; then come the data, without gaps.
A file may come from anywhere, so nothing in it is believed before it is checked, and nothing in it can run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from briskmlp.network import FloatArray, Network

FORMAT, FORMAT_VERSION = "briskmlp", 1
MAX_HEADER = 100_000_000  # bytes; the format's own limit
SKIPPED = ("optimizer.", "callbacks.")
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}

Header = dict[str, Any]


class CheckpointError(ValueError):
    """A file is not a checkpoint, or is damaged; the message names the file and what is wrong."""


def write(path: str | os.PathLike[str], network: Network, parameters: FloatArray, config: dict[str, Any]) -> None:
    """Write a checkpoint. A crash at any moment leaves the old file or the new one, whole.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists; a symbolic link is followed.
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64
    config : dict
        Strict JSON: tuples come back as lists, NaN and infinity are refused.

    Raises
    ------
    ValueError
        If ``parameters`` does not fit the network or is not finite, or ``config`` is not JSON.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.safetensors")
    ...     write(path, Network([2, 1]), np.ones(3), {"epoch": 7})
    ...     network, parameters, config = read(path)
    >>> network.layers, parameters, config
    ((2, 1), array([1., 1., 1.]), {'epoch': 7})
    """
    from safetensors.numpy import save  # only who saves pays for it

    if parameters.shape != (network.n_parameters,) or parameters.dtype not in DTYPES.values():
        wanted = f"({network.n_parameters},) float32 or float64"
        raise ValueError(f"parameters is {parameters.shape} {parameters.dtype}, but this network's are {wanted}")
    if not np.isfinite(parameters).all():
        raise ValueError("parameters has NaN or infinity, which no checkpoint may hold")
    tensors = {}
    for layer, (W, b) in enumerate(zip(network.weights(parameters), network.biases(parameters), strict=True)):
        tensors[f"{2 * layer}.weight"] = np.ascontiguousarray(W.T)  # save() reads memory as if contiguous
        if b.size:
            tensors[f"{2 * layer}.bias"] = np.ascontiguousarray(b)
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "config": _config_json(network, config)}
    _write_atomically(Path(os.path.realpath(path)), save(tensors, metadata))


def read(path: str | os.PathLike[str]) -> tuple[Network, FloatArray, dict[str, Any]]:
    """Read a checkpoint; needs no memory beyond the parameters, one layer and the header.

    Returns
    -------
    network : Network
    parameters : ndarray, shape (n_parameters,), float32 or float64
    config : dict
        What was given to `write`.

    Raises
    ------
    CheckpointError
        If the file is damaged, is no checkpoint, is of a newer version, or holds NaN or infinity.
    OSError
        If there is no such file, or it cannot be read.
    """
    with Path(path).open("rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size)
        except CheckpointError as error:
            reason = str(error)
        except RecursionError:
            reason = "its JSON is nested too deeply"
    if len(reason) > 400:  # it quotes a hostile file
        reason = reason[:400] + "…"
    raise CheckpointError(f"{os.fspath(path)}: {reason}")


def _config_json(network: Network, config: dict[str, Any]) -> str:
    described = {"layers": network.layers, "hidden": network.hidden, "output": network.output, "bias": network.bias}
    try:
        return json.dumps({"network": described, "trainer": config}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"config must be strict JSON: {error}") from error


def _write_atomically(path: Path, content: bytes) -> None:
    if path.exists() and not path.is_file():  # root would replace /dev/null for the whole system
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # same directory: os.replace must not cross file systems
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some file systems cannot sync a directory
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def _read(file: BinaryIO, size: int) -> tuple[Network, FloatArray, dict[str, Any]]:
    header, start = _read_header(file, size)
    network, config = _parse_metadata(header.pop("__metadata__", None))
    # first of all, so that no hostile width reaches a product, a message or an allocation
    _require(4 * network.n_parameters <= size, "the network of its config needs more bytes than the file has")
    _check_layout(header, size - start)
    dtype = _check_tensors(header, network)
    parameters = np.empty(network.n_parameters, dtype=dtype.newbyteorder("="))
    for layer, (W, b) in enumerate(zip(network.weights(parameters), network.biases(parameters), strict=True)):
        for name, target in ((f"{2 * layer}.weight", W.T), (f"{2 * layer}.bias", b)):
            if name in header:
                file.seek(start + header[name]["data_offsets"][0])
                data = np.fromfile(file, dtype=dtype, count=target.size)
                _require(data.size == target.size, f"the file ends inside tensor {name!r}")
                _require(bool(np.isfinite(data).all()), f"tensor {name!r} has NaN or infinity")
                target[...] = data.reshape(target.shape)
    return network, parameters, config


def _read_header(file: BinaryIO, size: int) -> tuple[Header, int]:
    """Return the header, and where the data start."""
    _require(size >= 8, f"{size} bytes are too few for a safetensors file")
    length = int.from_bytes(file.read(8), "little")
    _require(
        length <= size - 8, f"the header should have {length} bytes, but the file has only {size - 8} after its length"
    )
    _require(length <= MAX_HEADER, f"the header has {length} bytes, but at most {MAX_HEADER} are allowed")
    return _parse_json(file.read(length), "the header"), 8 + length


def _parse_json(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError as error:
        raise CheckpointError(f"{what} is not valid JSON: {error}") from None
    _require(isinstance(value, dict), f"{what} is not a JSON object")
    return value  # type: ignore[no-any-return] # checked


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name occurs twice")
    return unique


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_metadata(metadata: Any) -> tuple[Network, dict[str, Any]]:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointError(f"not a checkpoint of {FORMAT}: its metadata lacks format = {FORMAT!r}")
    version = metadata.get("format_version")
    _require(
        version == str(FORMAT_VERSION), f"its format_version is {version!r}, but this briskmlp reads {FORMAT_VERSION}"
    )
    _require(isinstance(metadata.get("config"), str), "its metadata has no config")
    config = _parse_json(metadata["config"].encode("utf-8", "surrogatepass"), "config")
    described, given = config.get("network"), config.get("trainer")
    if not isinstance(described, dict) or not isinstance(given, dict):
        raise CheckpointError("config lacks the objects 'network' and 'trainer'")
    try:
        network = Network(described["layers"], described["hidden"], described["output"], described["bias"])
    except KeyError as error:
        raise CheckpointError(f"the network of config has no {error}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the network of config is not valid: {error}") from None
    return network, given


def _check_layout(tensors: Header, n_bytes: int) -> None:
    """Check that the tensors cover the data without gap or overlap, as the format demands."""
    ranges = []
    for name, entry in tensors.items():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not isinstance(offsets, list) or len(offsets) != 2 or any(type(offset) is not int for offset in offsets):
            raise CheckpointError(f"tensor {name!r} has no valid data_offsets")
        ranges.append((*offsets, name))
    end = 0
    for begin, stop, name in sorted(ranges):
        _require(begin == end and stop >= begin, f"tensor {name!r} leaves a gap or overlaps another")
        end = stop
    _require(end == n_bytes, f"the tensors take {end} bytes, but the file has {n_bytes} for them")


def _check_tensors(tensors: Header, network: Network) -> np.dtype[Any]:
    """Check names, shapes, dtypes and sizes against the network; return the dtype that all tensors have."""
    expected: dict[str, list[int]] = {}
    for layer, (n_in, n_out) in enumerate(zip(network.layers[:-1], network.layers[1:], strict=True)):
        expected[f"{2 * layer}.weight"] = [n_out, n_in]
        if network.bias != "none":
            expected[f"{2 * layer}.bias"] = [network.bias_size(layer)]
    unknown = [name for name in tensors if name not in expected and not name.startswith(SKIPPED)]
    _require(not unknown, f"tensors {unknown[:3]} do not belong to the network {list(network.layers[:20])}")
    code: Any = tensors.get("0.weight", {}).get("dtype")
    _require(code in list(DTYPES), f"tensor '0.weight' is missing, or its dtype is {code!r}, not one of {list(DTYPES)}")
    dtype = DTYPES[code]
    for name, shape in expected.items():
        _require(name in tensors, f"tensor {name!r} is missing")
        entry = tensors[name]
        _require(entry.get("dtype") == code, f"tensor {name!r} has dtype {entry.get('dtype')!r}, but '0.weight' {code}")
        found = entry.get("shape")
        _require(found == shape, f"tensor {name!r} has shape {found}, but the network's has {shape}")
        begin, stop = entry["data_offsets"]
        n_bytes = math.prod(shape) * dtype.itemsize
        _require(stop - begin == n_bytes, f"tensor {name!r} has {stop - begin} bytes, but its shape needs {n_bytes}")
    return dtype


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckpointError(message)
