"""What else a forward does than compute: refused where training would miss it, put back where only tracing did it.

PyTorch's loop runs forward once per batch, kernels never. So a forward that writes to a tensor, or draws random
numbers, is refused. What it sets in Python, such as a counter of calls, is put back to what it was before.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def refuse_effects(module: nn.Module) -> Iterator[None]:
    """Run a block that runs a module's forward with proxies; then put back the attributes of all its submodules.

    Raises
    ------
    ValueError
        The block writes to a tensor, draws random numbers, or sets a parameter, buffer or submodule.
    """
    snapshot, states = _Snapshot(module), _random_states()
    try:
        with _OnlyReading():  # type: ignore[no-untyped-call] # PyTorch's
            yield
        if _random_states() != states:
            raise ValueError("module's forward draws or seeds random numbers; accepted: Dropout")
        for name, layer in module.named_modules():
            for kind in ("_parameters", "_buffers", "_modules"):
                if snapshot.changed(vars(layer)[kind]):
                    where = f"layer {name}'s" if name else "its"
                    raise ValueError(f"module's forward sets {where} {kind[1:]}, which is not supported; take this out")
    finally:
        snapshot.put_back()
        if _random_states() != states:
            random.setstate(states[0])
            np.random.set_state(pickle.loads(states[1]))  # noqa: NPY002, S301 - what users' code draws from; made here
            torch.set_rng_state(torch.frombuffer(bytearray(states[2]), dtype=torch.uint8))


def _random_states() -> tuple[Any, bytes, bytes]:
    """Return the states of Python's, NumPy's and PyTorch's global generators, which can be compared."""
    of_numpy = pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002 - what users' code draws from
    return random.getstate(), of_numpy, torch.get_rng_state().numpy().tobytes()


class _OnlyReading(TorchDispatchMode):  # type: ignore[no-untyped-call] # PyTorch's
    """Refuses operations on tensors, other than proxies, that write to one or draw random numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable:
            raise ValueError(f"{func} writes to a tensor, which fit would not do for each batch; take this out")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise ValueError(f"{func} draws random numbers, which is not supported; accepted: Dropout")
        return func(*args, **(kwargs or {}))


class _Snapshot:
    """The attributes of a module and its submodules: which objects they are, and what is in lists, dicts, … of them."""

    def __init__(self, module: nn.Module) -> None:
        self.saved: dict[int, tuple[Any, Any]] = {}  # containers and arrays, with shallow copies
        for layer in module.modules():
            self._save(vars(layer))

    def _save(self, value: Any) -> None:
        if id(value) in self.saved or not isinstance(value, dict | list | set | deque | np.ndarray):
            return
        if isinstance(value, np.ndarray):
            self.saved[id(value)] = value, value.copy()
            return
        content = dict(value) if isinstance(value, dict) else list(value)
        self.saved[id(value)] = value, content
        for item in content.values() if isinstance(content, dict) else content:
            self._save(item)

    def changed(self, value: Any) -> bool:
        """Return whether a container has other objects than before, or an array other numbers."""
        _, content = self.saved[id(value)]
        if isinstance(value, np.ndarray):
            return bool(value.tobytes() != content.tobytes())
        if isinstance(value, dict):
            return [*map(id, value), *map(id, value.values())] != [*map(id, content), *map(id, content.values())]
        return [*map(id, value)] != [*map(id, content)]

    def put_back(self) -> None:
        """Give each container that has changed its former content."""
        for value, content in self.saved.values():
            if not self.changed(value):
                continue
            if isinstance(value, np.ndarray):
                value[...] = content
                continue
            value.clear()
            if isinstance(value, dict | set):
                value.update(content)
            else:
                value.extend(content)
