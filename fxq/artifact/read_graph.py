"""Data back to a graph, everything checked: only what the allow-list names."""

from __future__ import annotations

import re
from typing import Any

from torch import fx, nn
from torch.fx import Node

from fxq.artifact.allow_list import CALLS, METHODS
from fxq.artifact.dtypes import DTYPES
from fxq.artifact.kinds import KINDS
from fxq.artifact.values import MALFORMED, decode
from fxq.artifact.write_graph import Portable
from fxq.errors import ArtifactError
from fxq.ir.facts import Info, place_on_integers, set_info, set_qparams
from fxq.ir.graph_module import LateGraphModule
from fxq.quantization.formats import QParams

MOST_NODES = 20_000
MOST_DIMENSIONS = 32
LARGEST_SIZE = 2**31
LONGEST = 1024  # characters of a text
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_]{1,256}")


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
        if tensor.dtype not in DTYPES.values():
            raise ArtifactError(f"tensor {name} has the type {tensor.dtype}")
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


def _make(graph: fx.Graph, row: dict[str, Any], nodes: list[Node], portable: Portable,
          position: int) -> Node:
    kind = row["op"]
    if kind == "placeholder":
        return graph.placeholder(f"x{position}")
    if kind == "get_attr":
        if row["tensor"] not in portable.tensors:
            raise ArtifactError(f"there is no tensor {str(row['tensor'])[:40]!r}")
        return graph.get_attr(row["tensor"])
    args = tuple(decode(a, nodes) for a in row["args"])
    kwargs = {_name(k): decode(v, nodes) for k, v in row.get("kwargs", {}).items()}
    if kind == "output" and position == len(portable.nodes) - 1 and len(args) == 1:
        if not all(isinstance(value, Node) for value in args[0]):
            raise ArtifactError("an output is no value of the graph")
        made: Node = graph.output(tuple(args[0]))
        return made
    if kind == "call_function" and row["call"] in CALLS:
        return graph.call_function(CALLS[row["call"]], args, kwargs)
    if kind == "call_function" and row["call"] in portable.code:
        return graph.call_function(portable.code[row["call"]], args, kwargs)
    if kind == "call_method" and row["call"] in METHODS and args:
        return graph.call_method(row["call"], args, kwargs)
    raise ArtifactError(f"node {position} calls {str(row.get('call', kind))[:40]!r}",
                        why="this version of fxq does not know it, so it is not called",
                        fix="name the plugins that it may call: fxq.load(…, operators=(…,)), or "
                            "fxq --plugin NAME")


def _name(text: str) -> str:
    if not (text.isascii() and text.isidentifier()):
        raise ArtifactError(f"{text[:40]!r} is no name of an argument")
    return text


def _restore(node: Node, row: dict[str, Any], texts: tuple[str, ...]) -> None:
    """What the node knew about itself."""
    def text(key: str) -> str:
        place = row.get(key)
        if place is None:
            return ""
        if type(place) is not int or not 0 <= place < len(texts):
            raise ArtifactError(f"a text is missing: {str(place)[:40]}")
        return texts[place][:LONGEST]

    shape, dtype = row.get("shape"), row.get("dtype")
    if shape is not None and not (len(shape) <= MOST_DIMENSIONS and all(
            type(s) is int and 0 <= s <= LARGEST_SIZE for s in shape)):
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
    if not KINDS["scale"](scale) or not whole or (
            not -(2**31) <= low <= zero <= high < 2**31 or low == high):
        raise ArtifactError(f"no number format: {str(values)[:80]}")
    return QParams(scale, zero, low, high)
