"""What a callback may use of what is being fitted."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any, Protocol

from briskmlp.network import FloatArray, Network


class Fitted(Protocol):
    """What callbacks are given: a `Trainer`, or whatever else has these."""

    @property
    def network(self) -> Network:
        """The architecture."""

    @property
    def parameters(self) -> FloatArray:
        """All weights and biases, (n_parameters,), writable."""

    @property
    def epoch(self) -> int:
        """Epochs completed."""

    @property
    def step(self) -> int:
        """Steps made."""

    def save(
        self, path: str | PathLike[str], *, callbacks: Iterable[Any] = (), config: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint, with the states of these callbacks."""
