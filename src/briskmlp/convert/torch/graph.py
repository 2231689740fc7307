"""The graph of what a module's forward does, recorded by ``torch.fx`` with a proxy for X.

Modules of PyTorch are noted as they are, those of the user run. What is noted must hold for all X: a decision may
depend on the shape of its rows, but not on its numbers.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute, GraphAppendingTracer, TraceError

from briskmlp.convert.torch.calls import described, evaluate
from briskmlp.convert.torch.modules import is_compiled, uncompiled
from briskmlp.convert.torch.steps import Exp

CONTAINERS = (nn.Sequential, nn.DataParallel)  # PyTorch's own that are looked into
INSTEAD = "train such a module by PyTorch's own loop"
_LIBRARIES = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[2]}{os.sep}")


def is_leaf(layer: nn.Module) -> bool:
    """Whether a module is noted as it is: PyTorch's own, and ours."""
    if is_compiled(layer) or isinstance(layer, CONTAINERS):
        return False
    return type(layer) is Exp or type(layer).__module__.startswith("torch.")


class _Sized:
    """A proxy whose length may be known: that of a shape is, that of X is not."""

    tracer: Any

    def __len__(self) -> int:
        return int(self.tracer.decide("len", self))


class _Attribute(_Sized, Attribute):
    """Stands for an attribute of a tensor."""


class _Value(_Sized, fx.Proxy):
    """Stands for a tensor, on the CPU, or for a number or shape."""

    device, is_cuda = torch.device("cpu"), False

    def __getattr__(self, name: str) -> Attribute:
        return _Attribute(self, name)


class _Recorder(GraphAppendingTracer):
    """Makes the nodes of a graph of a module's operations."""

    def __init__(self, module: nn.Module, row: tuple[int, ...]) -> None:
        super().__init__(fx.Graph())
        self.row = row
        tensors = [*module.named_parameters(), *module.named_buffers()]
        self.names = {id(tensor): name for name, tensor in tensors}
        self.entered: list[str] = []  # the submodules whose forward runs

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        node.meta["layer"] = self.entered[-1] if self.entered else ""
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            raise ValueError(f"{described(node)} computes without gradients, which is not supported")
        if torch.is_autocast_enabled("cpu"):
            raise ValueError(f"{described(node)} computes in torch.autocast, which is not supported")
        return node

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            return self.create_node("get_attr", self.names.get(id(a), "a_tensor"), (), {})
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.decide("bool", obj))

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[i] for i in range(self.decide("len", obj))])

    def decide(self, question: str, obj: fx.Proxy) -> int:
        """Return the answer if it follows from the shape of a row; it is asked again for each batch's shape."""
        what = f"{'the length of ' if question == 'len' else ''}{obj.node.name} decides what is computed"
        try:
            answers = {QUESTIONS[question](self._measure(obj.node, n)) for n in (2, 3)}
        except Exception as error:
            raise TraceError(f"{what}, but depends on X") from error
        if len(answers) > 1:
            raise TraceError(f"{what}, but depends on the number of rows")
        (answer,) = answers
        self.create_proxy("call_function", decided, (question, obj, answer), {})
        return answer

    def _measure(self, node: fx.Node, n: int) -> Any:
        """Return the value of a node for n rows of X, of which only the shape is known."""
        if node.op == "placeholder":
            return torch.empty((n, *self.row), device="meta")
        if node.op == "call_module":
            raise TraceError(f"{node.name} is not followed")
        return evaluate(node, {other: self._measure(other, n) for other in node.all_input_nodes})

    def method(self, name: str, layer: Any) -> Callable[..., Any]:
        """Return what stands in for a submodule's forward while it is traced."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(value, fx.Proxy) for value in (*args, *kwargs.values())):
                return type(layer).forward(layer, *args, **kwargs)
            if is_compiled(layer):
                return uncompiled(layer)(*args, **kwargs)
            if is_leaf(layer):
                return self.create_proxy("call_module", name, args, kwargs)
            self.entered.append(name)
            result = type(layer).forward(layer, *args, **kwargs)
            self.entered.pop()
            return result

        return forward


def record(module: nn.Module, row: tuple[int, ...]) -> fx.Graph:
    """Return the graph of what a module's forward does."""
    recorder = _Recorder(module, row)
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        X = recorder.create_proxy("placeholder", "x", (), {})
        for name, layer in module.named_modules():
            vars(layer).update(forward=recorder.method(name, layer), _compiled_call_impl=None)
        try:
            result = recorder.create_arg(module.forward(X))
        except Exception as error:
            raise _untraceable(error) from error
        recorder.create_node("output", "output", (result,), {})
    return recorder.graph


def _untraceable(error: Exception) -> ValueError:
    """Return the error that names the line of the user's code in which tracing failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARIES)]
    line = f" at {frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    message = str(error).split("\n")[0]
    return ValueError(f"module's forward cannot be traced{line}: {message}; {INSTEAD}")


QUESTIONS: dict[str, Callable[[Any], int]] = {"bool": bool, "len": len}


def decided(question: str, value: Any, answer: int) -> None:
    """Raise an error if what forward decides by is another answer than when it was read."""
    if QUESTIONS[question](value) != answer:
        raise ValueError(f"forward was read where this is {answer}")
