"""The only code that edits graphs: it keeps origins on new nodes and *observes* what changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.ir.facts import REPLACED, Info, carry, info, qparams, set_info, set_qparams
from fxq.ir.ops import SPLITTERS, Op, canonical_kwargs, op_name, op_of
from fxq.quantization.formats import QParams


@dataclass(frozen=True)
class Rewrite:
    """One change that a pass made: where, and what in a few words."""

    path: str
    what: str


@dataclass(frozen=True)
class Refusal:
    """One change that a pass did not make, with a stable code and one sentence."""

    path: str
    op: str
    code: str
    reason: str
    source: str = ""


@dataclass(frozen=True)
class PassResult:
    rewrites: tuple[Rewrite, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    choices: tuple[Any, ...] = ()  # what the cost tables decided


def label(node: Node) -> str:
    """A short name for messages: the module path, or the operator's name."""
    return info(node).path or op_name(node) or str(getattr(node.target, "__name__", node.target))


@dataclass
class Rewriter:
    """Edits one graph and records each edit."""

    module: fx.GraphModule
    rewrites: list[Rewrite] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    _taken: dict[str, int] = field(default_factory=dict)  # how often a name was looked for

    @property
    def graph(self) -> fx.Graph:
        return self.module.graph

    def call(self, target: Op | Callable[..., Any], args: Iterable[Any], kwargs: dict[str, Any],
             *, like: Node, before: Node | None = None, value: Info | None = None,
             quantized: QParams | None = None) -> Node:
        """A new call node with the origin of `like`, placed before `before` (or after `like`)."""
        if isinstance(target, Op):
            kwargs, target = canonical_kwargs(target, kwargs), target.call
        place = self.graph.inserting_before(before) if before else self.graph.inserting_after(like)
        with place:
            node = self.graph.call_function(target, tuple(args), kwargs)
        set_info(node, value or info(like))
        set_qparams(node, quantized)
        return node

    def constant(self, name: str, tensor: Tensor, before: Node) -> Node:
        """A get_attr node for a constant; equal tensors of the same name share storage."""
        target = self._register(_attribute_name(name), tensor)
        with self.graph.inserting_before(before):
            node = self.graph.get_attr(target)
        set_info(node, Info(tuple(tensor.shape), tensor.dtype, path=name))
        return node

    def _register(self, name: str, tensor: Tensor) -> str:
        base, count = name, 1
        while hasattr(self.module, name):
            known = getattr(self.module, name)
            if isinstance(known, Tensor) and _identical(known, tensor):
                return name
            name, count = f"{base}_{count}", count + 1
        self.module.register_buffer(name, tensor)
        return name

    def packed(self, name: str, value: Any, before: Node) -> Node:
        """A get_attr node for an engine's packed weights (an opaque object of torch)."""
        target = self._free_name(_attribute_name(name))
        setattr(self.module, target, value)
        with self.graph.inserting_before(before):
            return self.graph.create_node("get_attr", target)

    def _free_name(self, base: str) -> str:
        """`base`, or the first of base_1, base_2, … that names nothing; the search is kept."""
        count = self._taken.get(base, 0)
        while hasattr(self.module, f"{base}_{count}" if count else base):
            count += 1
        self._taken[base] = count + 1
        return f"{base}_{count}" if count else base

    def observe(self, node: Node, observer: nn.Module) -> Node:
        """Put a module between a value and all of its readers."""
        name = self._free_name("observer")
        self.module.add_submodule(name, observer)
        with self.graph.inserting_after(node):
            new = self.graph.call_module(name, (node,))
        set_info(new, replace(info(node), is_module=False))
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self.note(node, "observed")
        return new

    def bypass(self, node: Node) -> None:
        """Remove a node that passes its first operand on unchanged."""
        source = node.args[0]
        assert isinstance(source, Node)
        node.replace_all_uses_with(source)
        self.graph.erase_node(node)

    def insert_between(self, node: Node, readers: Iterable[Node], new: Node) -> None:
        """Send the given readers of `node` to `new`."""
        for reader in readers:
            if reader is not new:
                reader.replace_input_with(node, new)

    def replace(self, old: Node, new: Node, what: str) -> None:
        """Send all readers of `old` to `new`, erase `old`, and record it."""
        self.rewrites.append(Rewrite(label(new), what))
        REPLACED.set(new, old.name)  # so that a check can find the value it stands for
        carry(old, new)
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self.graph.erase_node(old)

    def erase(self, node: Node) -> None:
        self.graph.erase_node(node)

    def note(self, node: Node, what: str) -> None:
        self.rewrites.append(Rewrite(label(node), what))

    def choose(self, choice: Any) -> None:
        """Record what a cost table decided."""
        self.choices.append(choice)

    def refuse(self, node: Node, code: str, reason: str) -> None:
        op = op_name(node) or str(getattr(node.target, "__name__", node.target))
        self.refusals.append(Refusal(label(node), op, code, reason, info(node).source))

    def sweep(self) -> None:
        """Drop pure nodes that nobody reads, and constants that no node names."""
        for node in reversed(self.graph.nodes):
            if not node.users and (node.op == "get_attr" or is_pure(node)):
                self.graph.erase_node(node)
        used = {str(n.target) for n in self.graph.nodes if n.op in ("get_attr", "call_module")}
        drop_unused_attributes(self.module, used)

    def result(self) -> PassResult:
        self.sweep()
        return PassResult(tuple(self.rewrites), tuple(self.refusals), tuple(self.choices))


def _attribute_name(path: str) -> str:
    """A path as the name of an attribute: torch.fx writes such names into source."""
    return re.sub(r"[^A-Za-z0-9_]", "_", path).strip("_") or "constant"


def _identical(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b))


_PURE: set[Any] = set()
_CASTS = ("float", "to")  # methods


def declare_pure(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function as free of side effects, so that unread results may be dropped."""
    _PURE.add(function)
    return function


def is_pure(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in (*SPLITTERS, *_CASTS)
    if node.op != "call_function":
        return False
    known = qparams(node) is not None or op_of(node) is not None
    return known or node.target in SPLITTERS or node.target in _PURE or (
        getattr(node.target, "__module__", "") in ("_operator", "builtins"))


def drop_unused_attributes(module: fx.GraphModule, used: set[str]) -> None:
    """Delete top-level tensors and submodules that no node names (directly or below)."""
    keep = {name.split(".")[0] for name in used}
    for store in (module._buffers, module._parameters, module._modules):
        for name in [name for name in store if name not in keep]:
            del store[name]
    for name in [k for k, v in vars(module).items()
                 if isinstance(v, Tensor | torch.ScriptObject) and k not in keep]:
        delattr(module, name)


_LARGEST = 100


def is_constant(node: Any) -> bool:
    """A constant, or a value that is computed from constants only, by up to `_LARGEST` operators.

    Without a bound, each value of a chain would be followed up to the inputs.
    """
    waiting, seen = [node] if isinstance(node, Node) else [], set[Node]()
    while waiting:
        source = waiting.pop()
        if source.op == "get_attr" or source in seen:
            continue
        if source.op != "call_function" or not source.all_input_nodes or len(seen) == _LARGEST:
            return False
        seen.add(source)
        waiting += source.all_input_nodes
    return True


def constant_of(node: Any) -> Tensor | None:
    """The tensor behind a get_attr node, or None for anything else."""
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    owner: Any = node.graph.owning_module
    for part in str(node.target).split("."):
        owner = getattr(owner, part)
    return owner if isinstance(owner, Tensor) else None
