"""Conversion of a Trainer from and to other formats: PyTorch's modules and state dicts, and ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

from briskmlp.network import FloatArray, Network
from briskmlp.session import Session


class Conversions:
    """The members of `Trainer` that convert it; they use its constructor, network, parameters and dropout alone."""

    network: Network
    dropout: tuple[float, ...]
    _session: Session

    def __init__(self, layers: Sequence[int], **arguments: Any) -> None:
        raise NotImplementedError

    @property
    def parameters(self) -> FloatArray:
        """All weights and biases, W1 b1 W2 b2 …, flat: (n_parameters,), writable."""
        return self._session.parameters

    @classmethod
    def from_torch(cls, module: Any, **arguments: Any) -> Self:
        """Convert a PyTorch module to a Trainer with a copy of its parameters and dropout rates.

        Parameters
        ----------
        module : torch.nn.Module
            See `briskmlp.convert.torch.from_torch`; an error names the layer that is not supported.
        **arguments
            Of the constructor, other than layers, hidden, bias and initializer. ``loss="cross_entropy"`` adds softmax
            or sigmoid to a module that ends in a Linear, as PyTorch's losses of logits do.
        """
        from briskmlp.convert.torch import from_torch

        network, parameters, dropout = from_torch(module)
        logits = network.output == "identity" and arguments.get("loss") == "cross_entropy"
        output = None if logits else network.output
        arguments = {"output": output, "dtype": parameters.dtype, "dropout": dropout or 0.0, **arguments}
        return cls(network.layers, hidden=network.hidden, bias=network.bias, initializer=parameters, **arguments)

    def to_torch(self) -> Any:
        """Return a torch.nn.Sequential with a copy of the parameters; see `briskmlp.convert.torch.to_torch`."""
        from briskmlp.convert.torch import to_torch

        return to_torch(self.network, self.parameters, self.dropout)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the parameters as tensors: ``"{2l}.weight"`` (n_out, n_in) and ``"{2l}.bias"`` (n_out,)."""
        from briskmlp.convert.torch import state_dict

        return state_dict(self.network, self.parameters)

    def load_state_dict(self, state: Any) -> None:
        """Take over the parameters of a state dict, as ``state_dict`` returns it; nothing else changes.

        Parameters
        ----------
        state : mapping of str to Tensor

        Raises
        ------
        ValueError
            A name, shape or number does not fit; nothing has changed.
        """
        from briskmlp.convert.torch import load_state_dict

        load_state_dict(self.network, self.parameters, state)

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
