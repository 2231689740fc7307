"""PyTorch modules trained in place. Importing this package imports PyTorch (extra ``torch``)."""

import briskmlp.convert.torch  # noqa: F401 - says what is missing, if PyTorch is
from briskmlp.interop.torch.epochs import training
from briskmlp.interop.torch.loop import fit

__all__ = ["fit", "training"]
