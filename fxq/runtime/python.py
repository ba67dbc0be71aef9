"""Flat generated Python: one function, constants in its closure, values freed when dead."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.ir.graph_module import attribute_at
from fxq.ir.liveness import last_uses

Function = Callable[..., Any]
_LITERALS = (int, float, bool, type(None))  # no texts: what comes from a file stays out of source


class Shell:
    """What generated Python needs of a GraphModule, without torch.fx generating code for it.

    `twins` are the nodes of this graph, by those of the module's that they stand for.
    """

    def __init__(self, module: fx.GraphModule, graph: fx.Graph, twins: dict[Node, Node]) -> None:
        self.module, self.graph, self.twins = module, graph, twins

    def get_submodule(self, name: str) -> nn.Module:
        return self.module.get_submodule(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class _Writer:
    """Turns nodes into source lines; whatever is no literal becomes a closure variable."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.names: dict[Node, str] = {}
        self.constants: dict[str, Any] = {}
        self.lines: list[str] = []
        self._known: dict[int, str] = {}

    def constant(self, value: Any) -> str:
        name = self._known.setdefault(id(value), f"k{len(self._known)}")
        self.constants[name] = value
        return name

    def expression(self, value: Any) -> str:
        if isinstance(value, Node):
            return self.names[value]
        if type(value) in _LITERALS and value == value and value not in (
                float("inf"), float("-inf")):
            return repr(value)
        if isinstance(value, list):
            return "[" + ", ".join(map(self.expression, value)) + "]"
        if type(value) is tuple or type(value).__name__ == "immutable_list":
            return "(" + "".join(f"{self.expression(v)}, " for v in value) + ")"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.expression(k)}: {self.expression(v)}"
                                   for k, v in value.items()) + "}"
        if isinstance(value, slice):
            parts = map(self.expression, (value.start, value.stop, value.step))
            return f"slice({', '.join(parts)})"
        return self.constant(value)

    def write(self, node: Node) -> None:
        if node.op == "get_attr":
            self.names[node] = self.constant(attribute_at(self.module, str(node.target)))
        elif node.op == "output":
            self.lines.append(f"return {self.expression(node.args[0])}")
        elif node.op != "placeholder":
            self.names[node] = f"v{len(self.lines)}"
            arguments = [self.expression(a) for a in node.args]
            arguments += [f"{_keyword(k)}={self.expression(v)}" for k, v in node.kwargs.items()]
            function = self.constant(_callable(self.module, node))
            self.lines.append(f"{self.names[node]} = {function}({', '.join(arguments)})")

    def free(self, dead: list[Node]) -> None:
        if dead:
            self.lines.append(" = ".join(self.names[n] for n in dead) + " = None")


def _keyword(name: str) -> str:
    """A name as source; raises ValueError for what Python would read as anything else."""
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise ValueError(f"{name[:40]!r} is no name of an argument")
    return name


def _callable(module: fx.GraphModule, node: Node) -> Function:
    if node.op == "call_module":
        return module.get_submodule(str(node.target))
    if node.op == "call_method":
        return getattr(Tensor, str(node.target))  # type: ignore[no-any-return]
    assert callable(node.target)
    return node.target


def source_of(module: fx.GraphModule) -> tuple[str, dict[str, Any]]:
    """The generated source of a factory, and the constants that it takes."""
    writer, dead = _Writer(module), last_uses(module.graph)
    for position, node in enumerate(n for n in module.graph.nodes if n.op == "placeholder"):
        writer.names[node] = f"x{position}"
    inputs = ", ".join(writer.names.values())
    for node in module.graph.nodes:
        writer.write(node)
        if node.op not in ("output", "get_attr", "placeholder"):
            writer.free(dead[node])
    body = "".join(f"        {line}\n" for line in writer.lines)
    header = f"def make({', '.join(writer.constants)}):\n    def forward({inputs}):\n"
    return f"{header}{body}    return forward\n", writer.constants


def build(module: fx.GraphModule) -> Function:
    """A function of the graph's flat inputs that returns its flat outputs."""
    source, constants = source_of(module)
    namespace: dict[str, Any] = {}
    exec(compile(source, "<fxq graph>", "exec"), namespace)
    # by place: Python looks each named argument up among all parameters, one after the other
    function: Function = namespace["make"](*constants.values())
    return function
