"""Reading a forward: the graph of its operations as the steps of a chain."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial

from torch import fx, nn

from briskmlp.convert.torch.calls import described, evaluate, of_call
from briskmlp.convert.torch.effects import refuse_effects
from briskmlp.convert.torch.graph import INSTEAD, decided, record
from briskmlp.convert.torch.steps import Measure, Step, of_module

_MEASURES = ("size", "dim", "ndimension", "numel", "nelement")


def trace(module: nn.Module, training: bool, row: tuple[int, ...] | None = None) -> list[Step]:
    """Return the steps of a module's forward; the module is left as it was.

    A row of X is of shape ``row``, by default what the first Linear among its submodules takes.

    Raises
    ------
    TypeError, ValueError
        It is no chain, or cannot be traced; the message names the node or the line.

    Examples
    --------
    >>> import torch
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
    if row is None:
        row = next(((layer.in_features,) for layer in module.modules() if isinstance(layer, nn.Linear)), ())
    with refuse_effects(module):
        graph = record(module, row)
    return list(_chain(graph, module, training))


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
    if node.target is decided:
        return True
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
