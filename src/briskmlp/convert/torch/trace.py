"""Reading a forward: what it does to its input, recorded by ``torch.fx``, as the steps of a chain.

The module's forward runs once, with a proxy for X that notes each operation in a graph. Modules of PyTorch are noted as
they are, those of the user run. What is noted holds for all X: a decision that depends on X is an error.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import GraphAppendingTracer, TraceError

from briskmlp.convert.torch.effects import refuse_effects
from briskmlp.convert.torch.steps import Exp, Measure, Step, described, evaluate, of_call, of_module

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.DataParallel)  # PyTorch's own that are looked into
INSTEAD = "train such a module by PyTorch's own loop"
_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))


def trace(module: nn.Module, training: bool) -> list[Step]:
    """Return the steps of a module's forward; the module is left as it was.

    Raises
    ------
    TypeError, ValueError
        It is no chain, or cannot be traced; the message names the node or the line.

    Examples
    --------
    >>> class Model(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(3, 1)
    ...
    ...     def forward(self, X):
    ...         return torch.sigmoid(self.fc(X)).squeeze(-1)
    >>> [type(step).__name__ for step in trace(Model(), training=True)]
    ['Step', 'Linear', 'Activate', 'Reshape']
    """
    try:
        inspect.signature(module.forward).bind(None)
    except TypeError:
        names = ", ".join(inspect.signature(module.forward).parameters)
        raise ValueError(f"module's forward takes ({names}); accepted: one input") from None
    with refuse_effects(module):
        graph = _record(module)
    return list(_chain(graph, module, training))


def is_leaf(layer: nn.Module) -> bool:
    """Whether a module is noted as it is: PyTorch's own, and ours."""
    if is_compiled(layer) or isinstance(layer, CONTAINERS):
        return False
    return type(layer) is Exp or type(layer).__module__.startswith("torch.")


def is_compiled(module: Any) -> bool:
    """Whether a module is what `torch.compile` returns, without an import of the compiler."""
    return isinstance(module, nn.Module) and type(module).__name__ == "OptimizedModule"


def uncompiled(module: Any) -> Any:
    """Return the module that `torch.compile` was given."""
    return module._orig_mod if is_compiled(module) else module


# --- the graph -------------------------------------------------------------------------------------------------------


class _Recorder(GraphAppendingTracer):
    """Makes the nodes of a graph of a module's operations."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(fx.Graph())
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

    def to_bool(self, obj: fx.Proxy) -> bool:
        raise TraceError(f"{obj.node.name} decides what is computed, but is known only when X is")

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


def _record(module: nn.Module) -> fx.Graph:
    """Return the graph of what a module's forward does."""
    recorder = _Recorder(module)
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        X = recorder.create_proxy("placeholder", "x", (), {})
        for name, layer in module.named_modules():
            vars(layer).update(forward=recorder.method(name, layer), _compiled_call_impl=None)
        try:
            result = module.forward(X)
        except Exception as error:
            raise _untraceable(error) from error
        recorder.create_node("output", "output", (recorder.create_arg(result),), {})
    return recorder.graph


def _untraceable(error: Exception) -> ValueError:
    """Return the error that names the line of the user's code in which tracing failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARIES)]
    line = f" at {frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    message = str(error).split("\n")[0]
    return ValueError(f"module's forward cannot be traced{line}: {message}; {INSTEAD}")


# --- the chain -------------------------------------------------------------------------------------------------------

_MEASURES = ("size", "dim", "ndimension", "numel", "nelement")


def _chain(graph: fx.Graph, module: nn.Module, training: bool) -> Iterator[Step]:
    """Yield the steps of a graph, each of which must take what the one before gives."""
    layers, parameters = dict(module.named_modules()), dict(module.named_parameters())
    output = next(iter(reversed(graph.nodes)))
    needed = _ancestors(output)
    last = next(iter(graph.nodes))
    taken_by: dict[fx.Node, fx.Node] = {}
    aside: set[fx.Node] = set()  # measures, and what does not come back to the chain
    yield Step(where="X", node=last)
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            continue
        inputs = [other for other in node.all_input_nodes if other.op != "get_attr" and other not in aside]
        if node is output:
            _check_output(output, last)
        elif _is_measure(node, inputs):
            aside.add(node)
            yield Measure(where=described(node), node=node, compute=partial(evaluate, node))
        elif node not in needed and _is_harmless(node, inputs):
            aside.add(node)
        elif node not in needed and not node.users:
            raise ValueError(f"{described(node)} is computed, but not returned by forward; take this out of it")
        elif inputs != [last]:
            raise ValueError(f"{described(node)} {_no_chain(inputs, last, taken_by)} is not supported; {INSTEAD}")
        else:
            taken_by[last], last = node, node
            if node.op == "call_module":
                yield of_module(str(node.target), layers[str(node.target)], training, node)
            else:
                yield of_call(node, parameters)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """Return the nodes that a node depends on."""
    found, open_ends = {node}, [node]
    while open_ends:
        new = [other for other in open_ends.pop().all_input_nodes if other not in found]
        found.update(new)
        open_ends += new
    return found


def _is_measure(node: fx.Node, inputs: list[fx.Node]) -> bool:
    """Whether a node asks for the shape of a tensor, or computes with what was asked."""
    if node.op == "call_method" and node.target in _MEASURES:
        return True
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    of_numbers = getattr(node.target, "__module__", "") in ("_operator", "math")
    return of_numbers and not inputs and all(other.op != "get_attr" for other in node.all_input_nodes)


def _is_harmless(node: fx.Node, inputs: list[fx.Node]) -> bool:
    """Whether a node that forward does not return is a copy without gradient, or is computed from one, not in place."""
    in_place = str(node.target).endswith("_") or {"inplace", "out"} & node.kwargs.keys()
    return node.op != "call_module" and not in_place and (node.target == "detach" or not inputs)


def _check_output(output: fx.Node, last: fx.Node) -> None:
    result = output.args[0]
    if not isinstance(result, fx.Node):
        raise TypeError(f"module's forward returns {result!r}; accepted: one tensor")
    if result is not last:
        raise ValueError(f"module's forward returns {result}, but its last layer computes {last}, {INSTEAD}")


def _no_chain(inputs: list[fx.Node], last: fx.Node, taken_by: dict[fx.Node, fx.Node]) -> str:
    """Say what is wrong with the inputs of a node that are not the last value alone."""
    if not inputs:
        return "does not depend on X, which"
    if len(inputs) > 1:
        return f"takes {' and '.join(map(str, inputs))}, which, like a skip connection,"
    return f"takes {inputs[0]}, which {taken_by[inputs[0]]} takes as well: a branch, which"
