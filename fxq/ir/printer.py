"""The canonical text of a graph: what goldens compare, dumps hold and errors show.

    conv1          u8[1,64,56,56] s=0.023123 z=0 = conv2d_relu(%1)  stride=2  w=s8[64,3,7,7]/ch

A value is named by its module's path where a module's call made it (with `@2` for the second
call), else by an order number. Names of torch.fx never appear: they differ between releases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir.facts import KERNEL, PACKED, info, qparams
from fxq.ir.ops import op_of
from fxq.ir.rewriter import constant_of

_DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.uint8: "u8",
           torch.int8: "s8", torch.int16: "s16", torch.int32: "s32", torch.int64: "s64",
           torch.bool: "bool", torch.float64: "f64", torch.quint8: "u8", torch.qint8: "s8"}


def value_names(graph: fx.Graph) -> dict[Node, str]:
    """A stable name for every value: inputs, module paths, then order numbers."""
    names: dict[Node, str] = {}
    calls: dict[str, int] = {}
    count = inputs = 0
    for node in graph.nodes:
        if node.op == "placeholder":
            names[node] = f"input{inputs}"
            inputs += 1
        elif node.op == "get_attr" or node.op == "output":
            names[node] = str(node.target)
        elif info(node).is_module and info(node).path:
            path = info(node).path
            calls[path] = calls.get(path, 0) + 1
            names[node] = path if calls[path] == 1 else f"{path}@{calls[path]}"
        else:
            names[node] = f"%{count}"
            count += 1
    return names


def format_graph(module: fx.GraphModule) -> str:
    """The whole graph, one line per value, ending with what it returns."""
    names = value_names(module.graph)
    rows = [_row(node, names) for node in module.graph.nodes if node.op != "get_attr"]
    width = min(40, max((len(left) for left, _ in rows), default=0))
    return "".join(f"{left:<{width}} {right}".rstrip() + "\n" for left, right in rows)


def format_node(node: Node) -> str:
    """One line for one node, as `format_graph` prints it."""
    return " ".join(_row(node, value_names(node.graph)))


def _row(node: Node, names: dict[Node, str]) -> tuple[str, str]:
    if node.op == "output":
        return "return", _value(node.args[0], names)
    left, kind = names[node], _type(node)
    if node.op == "placeholder":
        return left, f"{kind} = input"
    return left, f"{kind} = {_call(node, names)}".lstrip()


def _type(node: Node) -> str:
    known = info(node)
    if known.shape is None:
        return ""
    assert known.dtype is not None
    shape = ",".join(map(str, known.shape))
    text = f"{_DTYPES.get(known.dtype, str(known.dtype))}[{shape}]"
    quantized = qparams(node)
    return f"{text} {quantized}" if quantized else text


def _call(node: Node, names: dict[Node, str]) -> str:
    inputs, constants = [], []
    labels = _operand_labels(node)
    for position, argument in enumerate(shown_arguments(node)):
        tensor = constant_of(argument)
        if isinstance(argument, Node) and (packed := PACKED.of(argument)):
            constants.append(f"w={packed}")
        elif tensor is None:
            inputs.append(_value(argument, names))
        else:
            constants.append(f"{labels(position)}={_constant(tensor)}")
    options = [f"{key}={_value(value, names)}" for key, value in node.kwargs.items()]
    return "  ".join([f"{target_name(node)}({', '.join(inputs)})", *options, *constants])


def shown_arguments(node: Node) -> tuple[Any, ...]:
    """The arguments, without a kernel's output format, which stands before the equals sign."""
    known = qparams(node)
    if known is None or not KERNEL.of(node):
        return node.args
    hidden = (known.scale, known.zero_point)
    args = tuple(a for a in node.args if not isinstance(a, torch.dtype))
    place = next((i for i in range(len(args)) if args[i:i + 2] == hidden), len(args))
    return args[:place] + args[place + 2:]


def _operand_labels(node: Node) -> Any:
    op = op_of(node)
    short = {"weight": "w", "bias": "b"}
    names = [short.get(n, n) for n in op.operands] if op else []
    return lambda i: names[i] if i < len(names) else f"c{i}"


def target_name(node: Node) -> str:
    """The operator, kernel or module class that a call node runs."""
    op = op_of(node)
    if op:
        return op.name
    if node.op == "call_module":
        owner = node.graph.owning_module
        assert owner is not None
        return type(owner.get_submodule(str(node.target))).__name__
    if node.op == "call_method":
        return f".{node.target}"
    return KERNEL.of(node) or str(getattr(node.target, "__name__", node.target))


def _constant(tensor: Tensor) -> str:
    return f"{_DTYPES.get(tensor.dtype, str(tensor.dtype))}[{','.join(map(str, tensor.shape))}]"


def _value(value: Any, names: dict[Node, str]) -> str:
    if isinstance(value, Node):
        tensor = constant_of(value)
        return names[value] if tensor is None else _constant(tensor)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v, names) for v in value) + "]"
    if isinstance(value, slice):
        return ":".join("" if v is None else _value(v, names)
                        for v in (value.start, value.stop, value.step))
    if isinstance(value, float):
        return str(np.float32(value))
    return str(value)
