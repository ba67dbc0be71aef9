"""normalize: one canonical spelling for every operator.

    r = self.relu(x)   F.relu(x, inplace=True)   x.relu_()      ->      relu(x)
    c = self.conv(x)   F.conv2d(input=x, weight=w)              ->      conv2d(x, w, b)
    d = dropout(x)     identity(x)                              ->      x

  1. Operands become positional, attributes keywords that name only what is not the default.
  2. In-place operators become pure: later readers of the written value read the result.
     Refused when another view of that memory is read later, or when it is a buffer.
  3. Convolutions with padding="same" or a padding mode get integer padding or their own pad.
  4. What the operator table does not know stays as it is and runs in float.

Preserved: every output, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.errors import TraceError
from fxq.frontend.binding import Call, bind_function, bind_method, bind_module
from fxq.frontend.padding import explicit_padding
from fxq.frontend.spellings import ASSERTION, IDENTITY, function_spelling
from fxq.ir.facts import info, remember_dropout, set_info, set_mark, tensor_inputs, why_untraceable
from fxq.ir.ops import OPS, Kind, canonical_kwargs
from fxq.ir.origins import Dropout, Mark
from fxq.ir.printer import value_names
from fxq.ir.rewriter import PassResult, Rewriter, constant_of, label
from fxq.ir.stages import Stage
from fxq.passes.base import Pass


@dataclass(frozen=True)
class Normalize(Pass):
    """One spelling per operator; no dropout, no identity, nothing in place."""

    name: ClassVar[str] = "normalize"
    before: ClassVar[Stage] = Stage.FLOAT
    after: ClassVar[Stage] = Stage.NORMAL

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        order = {node: place for place, node in enumerate(module.graph.nodes)}
        roots: dict[Node, Node] = {}  # view -> the value whose memory it shares
        for node in order:
            if node.op in ("call_function", "call_method", "call_module"):
                _normalize(node, rewriter, roots, order)
            elif node.op == "get_attr":
                _flatten_name(node, rewriter)
        result = rewriter.result()
        _name_values(module)
        return result


def _normalize(node: Node, rewriter: Rewriter, roots: dict[Node, Node],
               order: dict[Node, int]) -> None:
    call = _bind(node)
    if call is None:
        _refuse_unknown_mutation(node)
        reason = why_untraceable(node)
        if reason or (not _is_canonical(node) and info(node).is_float_tensor):
            rewriter.refuse(node, "untraceable" if reason else "opaque",
                            reason or "fxq does not know this operator; it runs in float")
        return
    if call.op == ASSERTION:
        rewriter.erase(node)
        return
    written = node.args[0] if node.args else None
    result = node if _is_unchanged(node, call) else _emit(node, call, rewriter)
    if _shares_memory(call.op) and tensor_inputs(result):
        source = tensor_inputs(result)[0] if result is not written else result
        roots[result] = roots.get(source, source)
    if call.in_place and isinstance(written, Node):
        _redirect(node, written, result, roots, order)
    if result is not node:
        rewriter.replace(node, result, f"{node.op} {_spelling(node)} -> {call.op}")


def _shares_memory(op: str) -> bool:
    return op == IDENTITY or (op in OPS and OPS[op].view)


def _bind(node: Node) -> Call | None:
    if node.op == "call_module":
        return bind_module(node)
    return bind_method(node) if node.op == "call_method" else bind_function(node)


def _is_unchanged(node: Node, call: Call) -> bool:
    """The node is spelled canonically already."""
    if call.op not in OPS or node.target is not OPS[call.op].call:
        return False
    given = canonical_kwargs(OPS[call.op], call.attributes)
    return node.args == call.operands and node.kwargs == given


def _is_canonical(node: Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__module__", "") == "_operator"


def _spelling(node: Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _emit(node: Node, call: Call, rewriter: Rewriter) -> Node:
    """Create the canonical nodes before `node`; identity gives its own input."""
    if call.op == IDENTITY:
        source = call.operands[0]
        assert isinstance(source, Node)
        _remember(node, source)
        return source
    operands = [_operand(value, node, rewriter) for value in call.operands]
    attributes = dict(call.attributes)
    op = OPS[call.op]
    if op.kind is Kind.MAC and op.rank and not op.transposed:
        operands[0] = explicit_padding(node, call, operands, attributes, rewriter)
    return rewriter.call(op, operands, attributes, like=node, before=node)


def _remember(node: Node, source: Node) -> None:
    """What an identity says beside its value: dropout for training, formats decided before."""
    shared = len(source.users) > 1
    if node.op == "call_module":
        assert node.graph.owning_module is not None
        module = node.graph.owning_module.get_submodule(str(node.target))
        if isinstance(module, nn.modules.dropout._DropoutNd):
            remember_dropout(source, Dropout(label(node), module=str(node.target), shared=shared))
        if isinstance(module, Mark):
            set_mark(source, module)
        return
    spelling = function_spelling(node.target)
    names = spelling.parameters.split() if spelling else []
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if given.get("p"):
        options = tuple((k, v) for k, v in given.items() if k not in ("input", "inplace"))
        function: Any = node.target
        remember_dropout(source, Dropout(label(node), function=function, options=options,
                                         shared=shared))


def _operand(value: Any, node: Node, rewriter: Rewriter) -> Any:
    if isinstance(value, Tensor):
        name = next((n for n, t in _named_tensors(node) if t is value), "constant")
        return rewriter.constant(f"{label(node)}.{name}", value.detach(), node)
    return value


def _named_tensors(node: Node) -> list[tuple[str, Tensor]]:
    if node.op != "call_module":
        return []
    assert node.graph.owning_module is not None
    module = node.graph.owning_module.get_submodule(str(node.target))
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _redirect(node: Node, written: Node, result: Node, roots: dict[Node, Node],
              order: dict[Node, int]) -> None:
    """Condition 2: later readers of the written value read the result instead."""
    def later(user: Node) -> bool:
        return order.get(user, -1) > order[node]  # canonical nodes have no place of their own

    if constant_of(written) is not None:
        raise TraceError(f"{label(node) or 'the model'} writes into {written.target}",
                         where=info(node).source,
                         why="a compiled model keeps no state between calls",
                         fix="compute a new value instead of writing into a buffer")
    root = roots.get(written, written)
    relatives = [n for n in {root, *roots} if roots.get(n, n) is root and n is not written]
    if any(later(user) for n in relatives for user in n.users if n is not result):
        raise TraceError("an in-place operator writes into memory that another view reads later",
                         where=info(node).source,
                         fix="use the operator that returns a new tensor (x + y, F.relu(x))")
    for user in list(written.users):
        if later(user):
            user.replace_input_with(written, result)


def _refuse_unknown_mutation(node: Node) -> None:
    name = _spelling(node)
    if name == "setitem" or (node.op == "call_method" and name.endswith("_")
                             and not name.endswith("__")):
        raise TraceError(f"{name} writes into a tensor in place", where=info(node).source,
                         why="fxq cannot prove that no other value shares this memory",
                         fix="use the operator that returns a new tensor (torch.where, x + y)")


def _flatten_name(node: Node, rewriter: Rewriter) -> None:
    """Parameters that a forward reads directly become flat constants like all others."""
    tensor = constant_of(node)
    if tensor is None:
        return
    new = rewriter.constant(str(node.target), tensor.detach(), node)
    set_info(new, replace(info(new), source=info(node).source))
    node.replace_all_uses_with(new)
    rewriter.erase(node)


def _name_values(module: fx.GraphModule) -> None:
    """Give each value the key under which its statistics are kept from here on."""
    for node, name in value_names(module.graph).items():
        if node.op not in ("get_attr", "output"):
            set_info(node, replace(info(node), value=name))


