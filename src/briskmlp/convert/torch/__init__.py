"""Conversion of networks to PyTorch modules and back. Importing this package imports PyTorch (extra ``torch``).

PyTorch stores a layer's weights as (n_out, n_in), the transpose of ours. In what `to_torch` returns, ``Linear`` l has
index 2l for all activations, so its weight is always named ``"{2l}.weight"``, unless there are normalisations, which
have positions, too.

Examples
--------
>>> from torch import nn
>>> from briskmlp import Trainer
>>> module = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
>>> trainer = Trainer.from_torch(module, loss="cross_entropy", batch_size=4, seed=0)
>>> history = trainer.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], epochs=3)
>>> trainer.to_torch()
Sequential(
  (0): Linear(in_features=2, out_features=4, bias=True)
  (1): Tanh()
  (2): Linear(in_features=4, out_features=2, bias=True)
  (3): Softmax(dim=1)
)
>>> {name: tuple(tensor.shape) for name, tensor in trainer.state_dict().items()}
{'0.weight': (4, 2), '0.bias': (4,), '2.weight': (2, 4), '2.bias': (2,)}
"""

try:
    import torch as _torch  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this needs PyTorch: pip install 'briskmlp[torch]'", name="torch") from error

from briskmlp.convert.torch.read import Dense, convert, copy_in, from_torch, read_module, views
from briskmlp.convert.torch.steps import Exp
from briskmlp.convert.torch.write import load_state_dict, state_dict, to_torch

__all__ = [
    "Dense",
    "Exp",
    "convert",
    "copy_in",
    "from_torch",
    "load_state_dict",
    "read_module",
    "state_dict",
    "to_torch",
    "views",
]
