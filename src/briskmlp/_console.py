"""Writing to a terminal, a pipe or a file that may be closed, full, gone or unable to show a character.

And to files that options name: whether that will be possible, and pictures.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from briskmlp.storage.files import is_replaced, written


class Result(NamedTuple):
    """What a command prints: ``report`` with --json, else ``text``."""

    report: dict[str, Any]
    text: str


def check_writable(option: str, path: Path | None) -> None:
    """Find out before hours of training, not after, that a file cannot be written there."""
    if path is None:
        return
    place = Path(os.path.realpath(path)).parent if is_replaced(path) else path
    if place.is_dir() != is_replaced(path) or not os.access(place, os.W_OK):
        raise ValueError(f"{option} is {str(path)!r}, which cannot be written; accepted: a file in an existing folder")


def check_apart(targets: Mapping[str, Path | None], read: Iterable[Path] = ()) -> None:
    """Refuse to write one file, by whatever name, twice or over what is read; options tell what is written."""
    taken = {os.path.realpath(path): "is read" for path in read}
    for option, path in targets.items():
        if path is None or (path.exists() and not path.is_file()):  # /dev/null takes any number
            continue
        if use := taken.get(os.path.realpath(path)):
            raise ValueError(f"{option} is {str(path)!r}, which {use}; accepted: another file")
        taken[os.path.realpath(path)] = f"{option} is as well"


def check_plot(path: Path | None) -> None:
    """Find out the same of a picture: whether Matplotlib is there, and knows the format."""
    if path is None:
        return
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ValueError("--plot needs Matplotlib: pip install 'briskmlp[plot]'") from None
    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        raise ValueError(f"--plot is {str(path)!r}; accepted: a name that ends in .{', .'.join(sorted(formats))}")
    check_writable("--plot", path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a picture in the format that `check_plot` has found in its name."""
    with written(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."))


def note(text: str) -> None:
    """Write a line to stderr if anybody reads it: no reason to stop a training."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:  # closed; print would turn to stdout
            print(text, file=sys.stderr)


def write(text: str) -> None:
    """Write to stdout, at once; what its encoding lacks becomes a backslash escape."""
    if sys.stdout is None:  # closed
        return
    sys.stdout.write(text.encode(_encoding(), "backslashreplace").decode(_encoding()))
    sys.stdout.flush()


def can_write(text: str) -> bool:
    """Return whether the encoding of stdout has all these characters."""
    return text.encode(_encoding(), "ignore").decode(_encoding()) == text


def abandon_stdout() -> None:
    """Lead stdout nowhere: the interpreter flushes it once more at exit, which must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"
