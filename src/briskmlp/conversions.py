"""Conversion of a Trainer from and to other formats: PyTorch's modules and state dicts, and ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

from briskmlp.network import FloatArray, Network
from briskmlp.session import Session


class Conversions:
    """The members of `Trainer` that convert it; they use its constructor, network, dropout and session alone."""

    network: Network
    dropout: tuple[float, ...]
    _session: Session
    _tracked: tuple[int, ...] = ()  # batches that each batch normalisation had met before the first step of the session

    def __init__(self, layers: Sequence[int], **arguments: Any) -> None:
        raise NotImplementedError

    @property
    def parameters(self) -> FloatArray:
        """All that is learned, W1 b1 W2 b2 … and γ and β of normalisations, flat: (n_parameters,), writable."""
        return self._session.parameters

    @property
    def _batches(self) -> list[int]:
        """PyTorch's ``num_batches_tracked`` of each batch normalisation."""
        return [before + self._session.position.step for before in self._tracked]

    @_batches.setter
    def _batches(self, batches: Sequence[int]) -> None:
        self._tracked = tuple(count - self._session.position.step for count in batches)

    @classmethod
    def from_torch(cls, module: Any, **arguments: Any) -> Self:
        """Convert a PyTorch module to a Trainer with a copy of its parameters, buffers and dropout rates.

        Parameters
        ----------
        module : torch.nn.Module
            See `briskmlp.convert.torch.from_torch`; an error names the layer that is not supported.
        **arguments
            Of the constructor, other than layers, hidden, bias, those of normalisations, and initializer.
            ``loss="cross_entropy"`` adds softmax or sigmoid to a module that ends in a Linear, as PyTorch's losses of
            logits do.
        """
        from briskmlp.convert.torch import convert

        read = convert(module)
        described = read.network.arguments
        output: str | None = described.pop("output")
        if output == "identity" and arguments.get("loss") == "cross_entropy":
            output = None  # logits
        arguments = {"output": output, "dtype": read.parameters.dtype, "dropout": read.dropout or 0.0, **arguments}
        trainer = cls(initializer=read.parameters, **described, **arguments)
        trainer._session.state.statistics[:] = read.statistics
        trainer._batches = read.batches
        return trainer

    def to_torch(self) -> Any:
        """Return a torch.nn.Sequential with a copy of parameters and buffers; see `briskmlp.convert.torch.to_torch`."""
        from briskmlp.convert.torch import to_torch

        return to_torch(self.network, self.parameters, self.dropout, self._session.state.statistics, self._batches)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the parameters as tensors: ``"{2l}.weight"`` (n_out, n_in) and ``"{2l}.bias"`` (n_out,).

        With normalisations the numbers are positions in what ``to_torch`` returns, and running statistics are there,
        too.
        """
        from briskmlp.convert.torch import state_dict

        return state_dict(self.network, self.parameters, self._session.state.statistics, self._batches)

    def load_state_dict(self, state: Any) -> None:
        """Take over what a state dict has, as ``state_dict`` returns it; nothing else changes.

        Parameters
        ----------
        state : mapping of str to Tensor

        Raises
        ------
        ValueError
            A name, shape or number does not fit; nothing has changed.
        """
        from briskmlp.convert.torch import load_state_dict

        self._batches = load_state_dict(self.network, self.parameters, state, self._session.state.statistics)

    def to_onnx(self, path: str | PathLike[str], *, classes: Sequence[Any] | None = None) -> None:
        """Write an ONNX file of the network, with the names of its classes; see `briskmlp.convert.onnx.to_onnx`.

        Parameters
        ----------
        path : str or path-like
        classes : sequence of int or of str, optional
            The names of its outputs, or of 0 and 1 where it has one output; default: 0, 1, …
        """
        from briskmlp.convert.onnx import to_onnx

        to_onnx(self, path, classes=classes)
