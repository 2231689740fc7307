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
def describe(work: object, /) -> tuple[str, int, int]: ...
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
    l2: ndarray[Any, Any],
    params: ndarray[Any, Any],
    X: ndarray[Any, Any],
    Y: ndarray[Any, Any],
    weight: ndarray[Any, Any] | None,
    rows: ndarray[Any, Any],
    scale: float,
    grad: ndarray[Any, Any] | None,
    /,
) -> float: ...
def train(
    work: object,
    l2: ndarray[Any, Any],
    params: ndarray[Any, Any],
    state: ndarray[Any, Any],
    X: ndarray[Any, Any],
    Y: ndarray[Any, Any],
    weight: ndarray[Any, Any] | None,
    order: ndarray[Any, Any] | None,
    counts: ndarray[Any, Any],
    sums: ndarray[Any, Any],
    rates: ndarray[Any, Any],
    max_steps: int,
    losses: ndarray[Any, Any],
    scalars: ndarray[Any, Any] | None = None,
    /,
) -> tuple[int, int, bool] | None: ...
def update(
    plan: Plan,
    dtype_size: int,
    isa: str,
    params: ndarray[Any, Any],
    grad: ndarray[Any, Any],
    state: ndarray[Any, Any],
    step: int,
    rate: float,
    scalars: ndarray[Any, Any] | None = None,
    /,
) -> None: ...
def ticks() -> int: ...
def limits(dtype_size: int, isa: str, threads: int, /) -> tuple[int, float, float, float]: ...
def _fail_allocation(count: int, /) -> None: ...
def _force_threads(threads: int, /) -> None: ...
