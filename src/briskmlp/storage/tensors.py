"""Safetensors files: named arrays and text, replaced whole or not at all, and read without trust.

The layout, https://huggingface.co/docs/safetensors: 8 bytes, little-endian, give the length of a JSON header, which
maps each name to ``{"dtype", "shape", "data_offsets"}`` and "__metadata__" to strings; then the data, without gaps.
A file may come from anywhere, so nothing in it is believed before it is checked, and nothing in it can run.

The package safetensors is not used: its ``safe_open`` dies of SIGBUS when a file is truncated while it is open, and its
``save_file`` needs contiguous copies of all tensors and syncs nothing to the disk.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from briskmlp.storage.files import replacing

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
DTYPES: dict[str, np.dtype[Any]] = {code: np.dtype(name) for code, name in _DTYPES.items()}
CODES = {dtype: code for code, dtype in DTYPES.items()}
MAX_HEADER = 2**24  # bytes; the format allows 10^8, of which Python makes gigabytes. Ours have some thousands.
MAX_DIMENSIONS = 32
MAX_REASON = 400  # characters of a message, as it may quote a hostile file


class CheckpointError(ValueError):
    """A file is not a checkpoint, or is damaged; the message names the file and what is wrong."""


class Entry(NamedTuple):
    """A tensor in a file."""

    code: str  # a key of DTYPES
    shape: tuple[int, ...]
    start: int  # its first byte, from the beginning of the file


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a file. Whatever happens meanwhile, at ``path`` is then the old file or the new one, whole.

    An old file is replaced, with its permissions; a symbolic link is followed. Tensors have a dtype in `DTYPES` and any
    layout; one is copied at a time, if it is not contiguous. A ValueError says that a dtype cannot be written or that
    the header is larger than what would be read; an OSError that the file cannot be written, as on a full disk.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "file"), {"x": np.arange(3.0)}, {"unit": "m"})
    ...     with opened(Path(folder, "file")) as file:
    ...         file.metadata, file.tensors["x"].shape, file.read("x")
    ({'unit': 'm'}, (3,), array([0., 1., 2.]))
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    # So each starts at a multiple of its size.
    ordered = sorted(tensors.items(), key=lambda named: -named[1].dtype.itemsize)
    end = 0
    for name, array in ordered:
        code = CODES.get(array.dtype.newbyteorder("<"))
        if code is None:
            raise ValueError(f"tensor {name!r} is of {array.dtype}, but must be of one of {', '.join(map(str, CODES))}")
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"names and configuration take {len(text)} bytes, but at most {MAX_HEADER} are allowed")
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)


class Reader:
    """An open file whose header is checked: each tensor has a known dtype, and its bytes are there.

    The metadata is as the header has it, and still to be checked.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        require(size >= 8, f"{size} bytes are too few for a safetensors file")
        length, left = int.from_bytes(file.read(8), "little"), size - 8
        require(length <= left, f"the header should have {length} bytes, but the file has only {left} after its length")
        require(length <= MAX_HEADER, f"the header has {length} bytes, but at most {MAX_HEADER} are allowed")
        header = parse_json(file.read(length), "the header")
        self.metadata: Any = header.pop("__metadata__", None)
        self.tensors = _parse_entries(header, 8 + length, left - length)

    def read(self, name: str) -> Array:
        """Return a tensor, in the machine's byte order."""
        code, shape, start = self.tensors[name]
        self._file.seek(start)
        data = np.fromfile(self._file, dtype=DTYPES[code], count=math.prod(shape))
        require(data.size == math.prod(shape), f"the file ends inside tensor {name!r}")
        return data.astype(DTYPES[code].newbyteorder("="), copy=False).reshape(shape)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Reader]:
    """Open a file to read tensors, and give each CheckpointError that is raised meanwhile the name of the file.

    One is raised for a file that is damaged or none of this kind, and for a pipe or device, which might never answer;
    an OSError where there is no file or it cannot be read.
    """
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # that of a directory is an OSError
        raise CheckpointError(f"{os.fspath(path)}: not a regular file")
    with Path(path).open("rb") as file:
        try:
            yield Reader(file, os.fstat(file.fileno()).st_size)
        except (CheckpointError, RecursionError) as error:
            reason = "its JSON is nested too deeply" if isinstance(error, RecursionError) else error
            raise CheckpointError(f"{os.fspath(path)}: {shortened(reason)}") from None


def shortened(reason: object) -> str:
    """Return a text for a message, of bounded length."""
    text = str(reason)
    return text[:MAX_REASON] + "…" * (len(text) > MAX_REASON)


def require(condition: bool, message: str) -> None:
    """Raise a CheckpointError unless the condition holds."""
    if not condition:
        raise CheckpointError(message)


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object, in which no name may occur twice."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError as error:
        raise CheckpointError(f"{what} is not valid JSON: {error}") from None
    require(isinstance(value, dict), f"{what} is not a JSON object")
    return value  # type: ignore[no-any-return] # checked


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name occurs twice")
    return unique


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_entries(header: dict[str, Any], start: int, n_bytes: int) -> dict[str, Entry]:
    """Check each tensor, and that all cover the data without gap or overlap, as the format demands."""
    ranges = []
    for name, entry in header.items():
        offsets: Any = entry.get("data_offsets") if isinstance(entry, dict) else None
        valid = isinstance(offsets, list) and [*map(type, offsets)] == [int, int]
        require(valid, f"tensor {name!r} has no valid data_offsets")
        ranges.append((*offsets, name))
    entries, end = {}, 0
    for begin, stop, name in sorted(ranges):
        require(begin == end and stop >= begin, f"tensor {name!r} leaves a gap or overlaps another")
        end = stop
        code, shape = header[name].get("dtype"), header[name].get("shape", ())
        known = isinstance(code, str) and code in DTYPES
        require(known, f"tensor {name!r} has dtype {code!r}, not one of {', '.join(DTYPES)}")
        size = DTYPES[code].itemsize
        valid = (
            isinstance(shape, list)
            and len(shape) <= MAX_DIMENSIONS
            and all(type(length) is int and 0 <= length < 2**63 for length in shape)  # or their product takes hours
            and math.prod(filter(None, shape)) * size < 2**63  # NumPy counts the bytes without a length of 0, too
        )
        require(valid, f"tensor {name!r} has no valid shape")
        found, needed = stop - begin, math.prod(shape) * size
        require(found == needed, f"tensor {name!r} has {found} bytes, but its shape needs {needed}")
        entries[name] = Entry(code, tuple(shape), start + begin)
    require(end == n_bytes, f"the tensors take {end} bytes, but the file has {n_bytes} for them")
    return entries
