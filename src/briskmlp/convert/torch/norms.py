"""PyTorch's normalisations: which of ours they are, where their numbers are, and what of them is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from briskmlp.network import FloatArray, Network
from briskmlp.operations.layers import BatchNorm, LayerNorm

MODULES = (nn.BatchNorm1d, nn.LayerNorm)


@dataclass(frozen=True)
class Normalisation:
    """A normalisation of a module, whose tensors have names that begin with its own."""

    name: str  # with a dot, or empty
    layer: Any  # of MODULES
    text: str  # as of `briskmlp.operations.layers.check_norm`

    @property
    def parameters(self) -> list[tuple[str, Tensor | None]]:
        """γ and β with their names; None for one that the module does not have."""
        return [(f"{self.name}{kind}", getattr(self.layer, kind)) for kind in ("weight", "bias")]

    @property
    def buffers(self) -> list[tuple[str, Tensor]]:
        """Running mean and variance with their names, of a batch normalisation."""
        if not isinstance(self.layer, nn.BatchNorm1d):
            return []
        return [(f"{self.name}{kind}", getattr(self.layer, kind)) for kind in ("running_mean", "running_var")]

    @property
    def batches(self) -> list[int]:
        """How many batches a batch normalisation has met."""
        return [int(self.layer.num_batches_tracked)] if self.buffers else []


def normalisation_of(name: str, layer: Any, n: int, where: str) -> Normalisation:
    """Return what a module of `MODULES` is that follows n outputs; raise a ValueError if kernels do not have it."""
    if isinstance(layer, nn.LayerNorm):
        shape = tuple(layer.normalized_shape)
        if shape != (n,):
            raise ValueError(f"{where} has shape {shape}; accepted: ({n},), as it is of {n} numbers")
    else:
        if layer.num_features != n:
            raise ValueError(f"{where} has {layer.num_features} features; accepted: {n}, as it is of {n} numbers")
        if layer.momentum is None:
            raise ValueError(f"{where} has momentum=None, which is not supported; accepted: a number from 0 to 1")
        if not layer.track_running_stats or layer.running_mean is None:
            raise ValueError(f"{where} has track_running_stats=False, which is not supported; accepted: True")
    try:
        kind = LayerNorm(layer.eps) if isinstance(layer, nn.LayerNorm) else BatchNorm(layer.momentum, layer.eps)
        return Normalisation(name, layer, str(kind))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not supported: {error}") from None


def running_statistics(norms: list[Normalisation], network: Network, dtype: Any) -> FloatArray:
    """Return a copy of running means and variances, laid out as the network's."""
    statistics = network.initial_statistics(dtype)
    buffers = [tensor for norm in norms for _, tensor in norm.buffers]
    for tensor, buffer in zip(network.statistics, buffers, strict=True):
        statistics[tensor.part] = buffer.detach().numpy()
    return statistics


def fixed_places(norms: list[Normalisation], network: Network) -> list[int]:
    """Return, for each place of a normalisation in a plan, 1 where training takes running statistics and moves none."""
    fixed = [0] * len(network.layers)
    for norm, place in zip(norms, network.norms, strict=True):
        fixed[place.place] = int(bool(norm.buffers) and not norm.layer.training)
    return fixed


def write_statistics(
    norms: list[Normalisation], network: Network, statistics: FloatArray, batches: Sequence[int]
) -> None:
    """Write running means and variances to the buffers of a module that its mode lets move, and numbers of batches."""
    views = iter([statistics[tensor.part] for tensor in network.statistics])
    counts = iter(batches)
    with torch.no_grad():
        for norm in norms:
            for _, buffer in norm.buffers:
                view = next(views)
                if norm.layer.training:
                    buffer.copy_(torch.from_numpy(view))
            if norm.buffers:
                count = next(counts)
                if norm.layer.training:
                    norm.layer.num_batches_tracked.fill_(count)
