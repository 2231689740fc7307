"""The layers: which tensors each kind has, in PyTorch's names, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

BIASES = ("neuron", "layer", "none")


class Tensor(NamedTuple):
    """A part of a flat buffer."""

    name: str  # as PyTorch names it in nn.Sequential(Linear, activation, Linear, …): "0.weight"
    layer: int
    kind: str  # "weight" or "bias"
    offset: int
    shape: tuple[int, ...]  # of a weight (n_in, n_out), PyTorch's transposed

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def part(self) -> slice:
        """Where it lies in the flat buffer."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True, eq=False)
class Layer:
    """A row of the table: a kind of layer."""

    name: str
    tensors: tuple[str, ...]  # that are trained
    statistics: tuple[str, ...]  # that no gradient moves
    shape: Callable[[str, int, int, str], tuple[int, ...]]  # of a tensor, from n_in, n_out and the kind of bias


def _dense_shape(tensor: str, n_in: int, n_out: int, bias: str) -> tuple[int, ...]:
    return (n_in, n_out) if tensor == "weight" else ({"neuron": n_out, "layer": 1, "none": 0}[bias],)


LAYERS = {row.name: row for row in (Layer("dense", ("weight", "bias"), (), _dense_shape),)}
