"""A graph as JSON and tensors, and back: only what the allow-list names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.artifact.calls import CALLS, DTYPES, METHODS, NAMES
from fxq.artifact.values import MALFORMED, decode, encode
from fxq.errors import ArtifactError
from fxq.graph_module import LateGraphModule
from fxq.info import (
    Info,
    info,
    is_on_integers,
    place_on_integers,
    qparams,
    set_info,
    set_qparams,
)
from fxq.qspec import QParams
from fxq.rewrite import constant_of

MOST_NODES = 100_000
LONGEST = 1024
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_]{1,256}")
Json = dict[str, Any]


@dataclass(frozen=True)
class Portable:
    """A graph that needs no code: rows of JSON, a table of texts, and tensors by name."""

    nodes: tuple[Json, ...]
    texts: tuple[str, ...]
    tensors: Mapping[str, Tensor]


def to_portable(module: fx.GraphModule) -> Portable:
    """The graph as data; raises ArtifactError, with the user's line, for code of the model."""
    texts: dict[str, int] = {}
    tensors: dict[str, Tensor] = {}
    order: dict[Node, int] = {}
    rows = []
    for node in module.graph.nodes:
        rows.append(_row(node, order, texts, tensors))
        order[node] = len(order)
    return Portable(tuple(rows), tuple(texts), tensors)


def _row(node: Node, order: dict[Node, int], texts: dict[str, int],
         tensors: dict[str, Tensor]) -> Json:
    row: Json = {"op": node.op} | _record(node, texts)
    if node.op == "placeholder":
        return row
    if node.op == "get_attr":
        tensor = constant_of(node)
        assert tensor is not None
        name = re.sub(r"\W", "_", str(node.target))
        tensors[name] = tensor
        return row | {"tensor": name}
    if node.op != "output":
        row["call"] = _call_name(node)
    try:
        row["args"] = [encode(a, order.__getitem__) for a in node.args]
        if node.kwargs:
            row["kwargs"] = {k: encode(v, order.__getitem__) for k, v in node.kwargs.items()}
    except ArtifactError as error:
        raise ArtifactError(error.what, where=info(node).source, fix=error.fix) from None
    return row


def _call_name(node: Node) -> str:
    if node.op == "call_method" and node.target in METHODS:
        return str(node.target)
    if node.op == "call_function" and node.target in NAMES:
        return NAMES[node.target]
    name = str(getattr(node.target, "__name__", node.target))
    raise ArtifactError(f"{name} cannot be kept in a file", where=info(node).source,
                        why="a file holds no code, and this operator is not in the table",
                        fix="write it with operators of torch that fxq.artifact.calls lists")


def _record(node: Node, texts: dict[str, int]) -> Json:
    known, format_ = info(node), qparams(node)
    row: Json = {}
    for key, text in (("path", known.path), ("source", known.source), ("value", known.value)):
        if text:
            row[key] = texts.setdefault(text, len(texts))
    if known.shape is not None and known.dtype is not None:
        row["shape"], row["dtype"] = list(known.shape), str(known.dtype).removeprefix("torch.")
    if known.is_module:
        row["module"] = True
    if format_ is not None:
        row["format"] = [format_.scale, format_.zero_point, format_.low, format_.high]
    if is_on_integers(node):
        row["integers"] = True
    return row


def from_portable(portable: Portable) -> fx.GraphModule:
    """The graph that the data describes; raises ArtifactError for anything it should not be."""
    if len(portable.nodes) > MOST_NODES:
        raise ArtifactError(f"the graph has {len(portable.nodes)} nodes", why=f"the most that fxq "
                            f"reads is {MOST_NODES}")
    graph, root = fx.Graph(), nn.Module()
    nodes: list[Node] = []
    for name, tensor in portable.tensors.items():
        if not _TENSOR_NAME.fullmatch(name) or hasattr(root, name):
            raise ArtifactError(f"a tensor is called {name[:40]!r}")
        root.register_buffer(name, tensor)
    for position, row in enumerate(portable.nodes):
        try:
            node = _make(graph, row, nodes, portable, position)
            _restore(node, row, portable.texts)
        except MALFORMED as error:
            raise ArtifactError(f"node {position} is malformed", why=str(error)) from error
        nodes.append(node)
    if not nodes or nodes[-1].op != "output":
        raise ArtifactError("the graph returns nothing")
    return LateGraphModule(root, graph)


def _make(graph: fx.Graph, row: Json, nodes: list[Node], portable: Portable,
          position: int) -> Node:
    kind = row["op"]
    if kind == "placeholder":
        return graph.placeholder(f"x{position}")
    if kind == "get_attr":
        if row["tensor"] not in portable.tensors:
            raise ArtifactError(f"there is no tensor {str(row['tensor'])[:40]!r}")
        return graph.get_attr(row["tensor"])
    args = tuple(decode(a, nodes) for a in row["args"])
    kwargs = {str(k): decode(v, nodes) for k, v in row.get("kwargs", {}).items()}
    if kind == "output" and position == len(portable.nodes) - 1 and len(args) == 1:
        made: Node = graph.output(tuple(args[0]))
        return made
    if kind == "call_function" and row["call"] in CALLS:
        return graph.call_function(CALLS[row["call"]], args, kwargs)
    if kind == "call_method" and row["call"] in METHODS and args:
        return graph.call_method(row["call"], args, kwargs)
    raise ArtifactError(f"node {position} calls {str(row.get('call', kind))[:40]!r}",
                        why="this version of fxq does not know it, so it is not called")


def _restore(node: Node, row: Json, texts: tuple[str, ...]) -> None:
    """What the node knew about itself."""
    def text(key: str) -> str:
        place = row.get(key)
        if place is None:
            return ""
        if type(place) is not int or not 0 <= place < len(texts):
            raise ArtifactError(f"a text is missing: {str(place)[:40]}")
        return texts[place][:LONGEST]

    shape, dtype = row.get("shape"), row.get("dtype")
    if shape is not None and not all(type(s) is int and s >= 0 for s in shape):
        raise ArtifactError("a shape is no list of sizes")
    if dtype is not None and dtype not in DTYPES:
        raise ArtifactError(f"unknown type {str(dtype)[:40]!r}")
    set_info(node, Info(None if shape is None else tuple(shape), DTYPES.get(dtype or ""),
                        text("path"), text("source"), text("value"), row.get("module") is True))
    if "format" in row:
        set_qparams(node, _format(row["format"]))
    if row.get("integers") is True:
        place_on_integers(node)


def _format(values: Any) -> QParams:
    """Scale and zero point, if they are such."""
    if not isinstance(values, list) or len(values) != 4:
        raise ArtifactError("a number format has four entries")
    scale, zero, low, high = values
    whole = all(type(v) is int for v in (zero, low, high))
    if not isinstance(scale, float) or not 0 < scale < torch.inf or not whole or (
            not -(2**31) <= low <= zero <= high < 2**31 or low == high):
        raise ArtifactError(f"no number format: {str(values)[:80]}")
    return QParams(scale, zero, low, high)
