"""The only options that Numba kernels are compiled with, and where their machine code is kept."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numba
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from briskmlp import plan
from briskmlp.backends import recording
from briskmlp.operations import activations, losses, rules

# No fastmath: sums keep their order, so that bits do not depend on the compiler's mood; the kernels say fma where
# they mean it. NumPy's error model drops Python's check for division by zero, which would block vectorisation.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "boundscheck": False, "fastmath": False}
CONSTANTS = (plan, recording, activations, losses, rules)
UNUSED = 30 * 86400.0  # seconds after which machine code of another version is removed


def _digest() -> str:
    """Return a checksum of all kernels: Numba's own cache does not notice a change in a file that is called into."""
    digest = hashlib.sha256(numba.__version__.encode())
    constants = [Path(str(module.__file__)) for module in CONSTANTS]  # whose constants kernels hold
    for source in (*sorted(Path(__file__).parent.glob("*.py")), *constants):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_directory() -> Path | None:
    """Return a directory for machine code that can be written to, or None.

    ``NUMBA_CACHE_DIR`` if it is set, else the user's cache directory: never beside the source, which may be
    installed read-only, and never a shared temporary directory, as what lies there is executed.
    """
    home = config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    directory = Path(home) / "briskmlp" / f"numba-{_digest()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    if not os.access(directory, os.W_OK):
        return None
    _remove_unused(directory)
    return directory


def _remove_unused(used: Path) -> None:
    """Remove what kernels of other versions have left, unless a process began to use it in the last weeks.

    One that began before has loaded its machine code; what it still compiles is kept in a new directory.
    """
    with suppress(OSError):
        os.utime(used)
        for other in used.parent.iterdir():
            unused = other != used and time.time() - other.lstat().st_mtime > UNUSED
            if unused and re.fullmatch("numba-[0-9a-f]{16}", other.name):
                shutil.rmtree(other, ignore_errors=True)  # which follows no link


CACHE = _cache_directory()

if hasattr(os, "register_at_fork"):  # a child would wait forever for a lock whose holder it does not have
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def jit(function: Callable[..., Any]) -> Any:
    """Return the function as a Numba kernel, to be called from others."""
    return numba.njit(**_OPTIONS)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Return the function as a part of its callers, which are then compiled once: it saves 6 of 16 seconds."""
    return numba.njit(inline="always", **_OPTIONS)(function)


def switch(functions: Sequence[Callable[..., Any]]) -> Any:
    """Return a kernel that calls the function whose place is its first argument, with its other arguments.

    Numba indexes no tuple of functions by a number known only at run time: this is the chain of branches, made from a
    table, which LLVM turns into one jump. A number beyond the last counts as that.
    """
    *before, chosen = functions
    for place in reversed(range(len(before))):
        chosen = _branch(place, before[place], chosen, last=place == len(before) - 1)
    return chosen


def _branch(place: int, function: Any, otherwise: Any, *, last: bool) -> Any:
    if last:

        @numba.njit(forceinline=True, **_OPTIONS)
        def choose(number: int, *arguments: Any) -> Any:
            return function(*arguments) if number == place else otherwise(*arguments)

    else:

        @numba.njit(forceinline=True, **_OPTIONS)
        def choose(number: int, *arguments: Any) -> Any:
            return function(*arguments) if number == place else otherwise(number, *arguments)

    return choose


def entry(function: Callable[..., Any]) -> Any:
    """Return the function as a kernel that Python calls, its machine code cached where possible."""
    if CACHE is None:
        return numba.njit(**_OPTIONS)(function)
    kept, config.CACHE_DIR = config.CACHE_DIR, str(CACHE)  # read when a function is decorated
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = kept


def compile_once(kernel: Any, signature: Any) -> None:
    """Compile a kernel for one signature unless it is; a damaged cache is thrown away and made again.

    Calls then take what converts to a signature. Left alone, Numba wants exact types: it would compile once more for
    each pattern of read-only arrays and layouts, and never call what was compiled here.
    """
    if signature in kernel.overloads:
        return
    # Numba's own lock, which compile() takes again: else a thread that is done disables what another has just enabled.
    with _interrupts_wait(), global_compiler_lock:
        kernel.disable_compile(False)
        try:
            _compile(kernel, signature)
        except Exception as error:
            if CACHE is None or isinstance(error, (MemoryError, numba.core.errors.NumbaError)):
                raise
            shutil.rmtree(CACHE, ignore_errors=True)
            with suppress(OSError):
                CACHE.mkdir(parents=True, exist_ok=True)
            _compile(kernel, signature)
        finally:
            if kernel.overloads:  # without any, Numba does not allow it
                kernel.disable_compile()


def call(kernel: Any, *arguments: Any) -> Any:
    """Call a kernel that is compiled; again, where another thread just compiled it for other types.

    While one may compile, Numba takes arguments of types that are not exactly a signature's for a new one: it waits for
    the other thread, and then finds that it must not compile.
    """
    while True:
        try:
            return kernel(*arguments)
        except RuntimeError as error:
            if str(error) != "compilation disabled":
                raise


def _compile(kernel: Any, signature: Any) -> None:
    """Compile a kernel; that it cannot be kept, on a full disk for one, is no reason not to run it."""
    try:
        kernel.compile(signature)
    except OSError:
        if signature not in kernel.overloads:
            raise


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Answer Ctrl-C after the block: LLVM's callbacks into Python swallow the exception that it would raise there.

    But at once while this thread only waits for Numba's lock: that is taken in C, so the handler sees it held or an
    exception leaves it alone.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[tuple[int, FrameType | None]] = []

    def answer(number: int, frame: FrameType | None) -> None:
        if global_compiler_lock.is_locked():  # by this thread
            received.append((number, frame))
        else:
            handler(number, frame)

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(*received[-1])
