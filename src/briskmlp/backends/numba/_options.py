"""The only options that Numba kernels are compiled with, and where their machine code is kept."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numba
from numba import types
from numba.core import cgutils, config
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, is_jitted, overload

from briskmlp import plan
from briskmlp.backends import recording
from briskmlp.operations import activations, layers, losses, rules

# No fastmath: sums keep their order, so that bits do not depend on the compiler's mood; the kernels say fma where
# they mean it. NumPy's error model drops Python's check for division by zero, which would block vectorisation.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "boundscheck": False, "fastmath": False}
CONSTANTS = (plan, recording, activations, layers, losses, rules)
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


_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # which take a quarter of compilation


def jit(function: Callable[..., Any]) -> Any:
    """Return the function as a Numba kernel for other kernels, not for Python, which would crash; a kernel as it is."""
    return function if is_jitted(function) else numba.njit(**_INNER)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Return the function as a part of its callers, which are then compiled once: it saves 6 of 16 seconds."""
    return numba.njit(inline="always", **_INNER)(function)


def choose(function_of: Callable[[int], Callable[..., Any]]) -> Any:
    """Return a kernel that calls the function of its first argument, which is a constant when it is compiled."""

    def chosen(code: int, *arguments: Any) -> Any: ...

    @overload(chosen, jit_options=_INNER, prefer_literal=True, strict=False)
    def _chosen(code: Any, *arguments: Any) -> Any:
        function = jit(function_of(code.literal_value))
        return lambda code, *arguments: function(*arguments)

    return chosen


def entry(function: Callable[..., Any], options: dict[str, Any] = _OPTIONS) -> Any:
    """Return the function as a kernel, its machine code cached where possible; by default one that Python calls."""
    if CACHE is None:
        return numba.njit(**options)(function)
    kept, config.CACHE_DIR = config.CACHE_DIR, str(CACHE)  # read when a function is decorated
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        config.CACHE_DIR = kept


class Operation:
    """A kernel with a variant for each code, which is compiled, and cached, when the first plan needs it.

    Other kernels call it by the ``address`` that a plan's records hold: so these are compiled once for all plans. Its
    first argument is the code, which ``call`` leaves out; its second points to numbers of the dtype.
    """

    def __init__(self, function: Callable[..., Any], returns: Any, arguments: Callable[[Any], tuple[Any, ...]]) -> None:
        self.kernel, self._arguments = entry(function, _INNER), arguments
        self._addresses: dict[tuple[int, Any], int] = {}

        @intrinsic
        def call(typing: Any, address: Any, p: Any, *others: Any) -> Any:
            kinds = types.int64, types.CPointer(p.dtype), *arguments(p.dtype)

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                kind = context.call_conv.get_function_type(returns, kinds)
                code, others = context.get_constant(types.int64, 0), cgutils.unpack_tuple(builder, values[2])
                callee = builder.inttoptr(values[0], kind.as_pointer())
                return context.call_conv.call_function(builder, callee, returns, kinds, (code, values[1], *others))[1]

            return returns(types.int64, kinds[1], types.Tuple(kinds[2:])), generate

        self.call = call

    def address(self, code: int, dtype: Any) -> int:
        """Return the address of the machine code for a code and a dtype."""
        if (code, dtype) not in self._addresses:
            number = numba.from_dtype(dtype)
            signature = types.literal(code), types.CPointer(number), *self._arguments(number)
            compile_once(self.kernel, signature)
            compiled = self.kernel.overloads[signature]
            address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
            self._addresses[code, dtype] = address
        return self._addresses[code, dtype]


def operation(returns: Any, arguments: Callable[[Any], tuple[Any, ...]]) -> Callable[[Callable[..., Any]], Operation]:
    """Return a decorator of a kernel's function: what it returns, and the types of its arguments from the third on."""
    return lambda function: Operation(function, returns, arguments)


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
