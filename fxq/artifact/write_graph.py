"""A graph as data: only what the allow-list names, and beside it the code that it cannot hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.artifact.allow_list import METHODS, NAMES
from fxq.artifact.forms import refusal_of
from fxq.artifact.values import encode
from fxq.errors import ArtifactError
from fxq.ir.facts import info, is_on_integers, qparams
from fxq.ir.rewriter import constant_of

Json = dict[str, Any]


@dataclass(frozen=True)
class Portable:
    """A graph that needs no code: rows of JSON, a table of texts, and tensors by name.

    `code` holds what it calls beyond the allow-list, for this process alone; `refusal` then says
    why it cannot be written.
    """

    nodes: tuple[Json, ...]
    texts: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    code: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    refusal: ArtifactError | None = None


class _Code:
    """A module of the model's own as a function, which a graph without modules can call."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.__name__ = module, type(module).__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def to_portable(module: fx.GraphModule, *, strict: bool = False) -> Portable:
    """The graph as data; `refusal` has the user's line where it calls code of the model.

    With `strict`, also where it calls a known function in a way that no file may.

    Raises ArtifactError for arguments that are no data.
    """
    texts: dict[str, int] = {}
    tensors: dict[str, Tensor] = {}
    order: dict[Node, int] = {}
    code: dict[str, Callable[..., Any]] = {}
    rows, refusal = [], None
    for node in module.graph.nodes:
        row = _row(node, order, texts, tensors)
        if row.get("call") == "":
            name = f"code.{len(code)}"
            code[name] = _code_of(node, module)
            refusal = refusal or _refusal(node, code[name])
            row |= {"op": "call_function", "call": name}
        elif strict and "call" in row and (reason := refusal_of(node)):
            refusal = refusal or ArtifactError(
                f"this call of {row['call']} cannot be kept in a file", where=info(node).source,
                why=reason, fix="fxq/artifact/signatures.py lists what a file may hold of it")
        rows.append(row)
        order[node] = len(order)
    return Portable(tuple(rows), tuple(texts), tensors, code, refusal)


def _code_of(node: Node, module: fx.GraphModule) -> Callable[..., Any]:
    if node.op == "call_module":
        return _Code(module.get_submodule(str(node.target)))
    if isinstance(node.target, str):
        return getattr(Tensor, node.target)  # type: ignore[no-any-return]
    return node.target


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
    """The name in the allow-list; empty for code of the model's own."""
    if node.op == "call_method" and node.target in METHODS:
        return str(node.target)
    if node.op == "call_function" and node.target in NAMES:
        return NAMES[node.target]
    return ""


def _refusal(node: Node, code: Callable[..., Any]) -> ArtifactError:
    name = str(getattr(code, "__name__", node.target))
    return ArtifactError(f"{name} cannot be kept in a file", where=info(node).source,
                         why="a file holds no code, and this operator is not in the table",
                         fix="write it with operators of torch that fxq.artifact.allow_list lists")


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
