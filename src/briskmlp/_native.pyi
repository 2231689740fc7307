from typing import Any

from numpy import ndarray

from briskmlp.plan import Plan

version: str
compiler: str
emulated: bool

def isas() -> tuple[str, ...]: ...
def permits_tiles() -> bool: ...
def best_isa(precision: int, /) -> str: ...
def workspace(
    plan: Plan,
    dtype_size: int,
    isa: str,
    n: int,
    training: bool,
    threads: int,
    record: ndarray[Any, Any] | None = None,
    /,
) -> object: ...
def workspace_size(plan: Plan, dtype_size: int, isa: str, n: int, training: bool, threads: int, /) -> int: ...
def describe(work: object, /) -> tuple[str, int, int, int, int, tuple[tuple[str, str | None, str, bool], ...]]: ...
def forward(
    work: object,
    params: ndarray[Any, Any],
    X: ndarray[Any, Any],
    rows: ndarray[Any, Any],
    out: ndarray[Any, Any],
    /,
) -> None: ...
def gradient(
    work: object,
    params: ndarray[Any, Any],
    examples: tuple[Any, ...],
    rows: ndarray[Any, Any],
    scale: float,
    with_penalty: bool,
    grad: ndarray[Any, Any] | None,
    /,
) -> float: ...
def train(
    work: object, state: tuple[Any, ...], examples: tuple[Any, ...], steps: tuple[Any, ...], /
) -> tuple[int, int, bool] | None: ...
def update(
    plan: Plan,
    dtype_size: int,
    isa: str,
    state: tuple[Any, ...],
    grad: ndarray[Any, Any],
    step: int,
    rate: float,
    /,
) -> None: ...
def ticks() -> int: ...
def limits(dtype_size: int, isa: str, threads: int, /) -> tuple[int, float, float, float]: ...
def _fail_allocation(count: int, /) -> None: ...
def _force_threads(threads: int, /) -> None: ...
