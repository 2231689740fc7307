"""Files that are written: replaced whole or not at all, unless they are pipes or devices.

A new file is written beside the old one, brought to the disk, and renamed: at whatever moment the process is killed or
the disk is full, the name has the old content or the new.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ABANDONED = 3600.0  # seconds; a temporary file that nobody has written to for so long is a killed process's


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write: one that replaces another, as in `replacing`, or the pipe or device that is there.

    If it cannot be written, an OSError has its name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written(Path(folder, "file")) as file:
    ...         n_bytes = file.write(b"new")
    ...     Path(folder, "file").read_bytes()
    b'new'
    """
    if is_replaced(path):
        with replacing(path) as file:
            yield file
        return
    try:
        stream = _stream(path)
        with open(path if stream is None else os.dup(stream), "wb") as file:  # noqa: PTH123 - may be a descriptor
            yield file
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def is_replaced(path: str | os.PathLike[str]) -> bool:
    """Return whether `written` makes a new file: not of a pipe or device, nor where stdout or stderr goes to."""
    return (not Path(path).exists() or Path(path).is_file()) and _stream(path) is None


def _stream(path: str | os.PathLike[str]) -> int | None:
    """Return the descriptor of stdout or stderr if one goes there: it would write over what another has written."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # closed; or there is no such file
            if os.path.samestat(os.fstat(stream), Path(path).stat()):
                return stream
    return None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file that takes the place of another when all of it is on the disk; a symbolic link is followed.

    An OSError says that it cannot be written, as on a full disk, or is no regular file; an old one is still there.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # root would replace /dev/null for the whole system
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.tmp")  # renaming must not cross file systems
    try:
        try:
            with temporary.open("xb") as file:
                if os.name == "posix" and path.exists():
                    with _unless_unsupported():
                        os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # as no error should hide the first
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        kept = "; the file that was there is unchanged" if path.exists() else ""
        raise OSError(error.errno, f"{error.strerror or error}{kept}", str(path)) from error
    if os.name == "posix":
        _sync_directory(path)


def _sync_directory(path: Path) -> None:
    """Bring the new name to the disk."""
    try:
        directory = os.open(path.parent, os.O_RDONLY)
    except PermissionError:  # one may write to a directory that one may not read
        return
    try:
        with _unless_unsupported():
            os.fsync(directory)
    except OSError as error:
        told = f"{error.strerror or error}; the new file is there, but may be lost when the power fails"
        raise OSError(error.errno, told, str(path)) from error
    finally:
        os.close(directory)


@contextlib.contextmanager
def _unless_unsupported() -> Iterator[None]:
    """Go on where a file system has no such thing."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EPERM):
            raise


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed while they wrote ``path`` have left beside it, an hour later or more."""
    target = Path(os.path.realpath(path))
    ours = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{16}\.tmp")
    with contextlib.suppress(OSError):  # no reason to fail: they only take space
        for file in os.scandir(target.parent):
            if ours.fullmatch(file.name) and file.is_file() and time.time() - file.stat().st_mtime > ABANDONED:
                Path(file.path).unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    kept = os.fsencode(path.name)[:200].decode(errors="ignore")  # a name has at most 255 bytes on most systems
    return f".{kept}."
