"""Arguments as JSON: numbers, names and nests of them, references to nodes, dtypes and slices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from fxq.artifact.dtypes import DTYPES
from fxq.errors import ArtifactError

DEEPEST = 32
# What reading a value of the wrong kind raises: each becomes an ArtifactError that says where.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def encode(value: Any, index: Callable[[Node], int]) -> Any:
    """A JSON value that `decode` turns back; raises ArtifactError for what a file cannot hold."""
    if isinstance(value, Node):
        return {"n": index(value)}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and type(value) is int:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, torch.Size | tuple):
        return {"tuple": [encode(v, index) for v in value]}
    if isinstance(value, list):
        return [encode(v, index) for v in value]
    if isinstance(value, slice):
        return {"slice": [encode(v, index) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if value is Ellipsis:
        return {"ellipsis": True}
    raise ArtifactError(f"an argument of type {type(value).__name__} cannot be kept in a file",
                        fix="leave that part of the model out, or compute it beforehand")


def decode(value: Any, nodes: Sequence[Node], depth: int = 0) -> Any:
    """The argument behind a JSON value; raises ArtifactError for anything unexpected."""
    if depth > DEEPEST:
        raise ArtifactError("an argument is nested too deeply")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [decode(v, nodes, depth + 1) for v in value]
    if isinstance(value, dict) and len(value) == 1:
        (kind, content), = value.items()
        if kind in _DECODERS:
            return _DECODERS[kind](content, nodes, depth + 1)
    raise ArtifactError(f"an argument is not understood: {str(value)[:80]}")


def _node(content: Any, nodes: Sequence[Node], depth: int) -> Node:
    if type(content) is not int or not 0 <= content < len(nodes):
        raise ArtifactError(f"a node reads node {content}, which is not before it")
    return nodes[content]


def _many(content: Any, nodes: Sequence[Node], depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise ArtifactError("a nested argument is no list")
    return [decode(v, nodes, depth) for v in content]


def _slice(content: Any, nodes: Sequence[Node], depth: int) -> slice:
    parts = _many(content, nodes, depth)
    if len(parts) != 3:
        raise ArtifactError("a slice has three parts")
    return slice(*parts)


def _dtype(content: Any, nodes: Sequence[Node], depth: int) -> torch.dtype:
    if not isinstance(content, str) or content not in DTYPES:
        raise ArtifactError(f"unknown type {str(content)[:40]!r}")
    return DTYPES[content]


def _float(content: Any, nodes: Sequence[Node], depth: int) -> float:
    if content not in ("inf", "-inf", "nan"):
        raise ArtifactError("a number is not understood")
    return float(content)


_DECODERS: dict[str, Callable[[Any, Sequence[Node], int], Any]] = {
    "n": _node, "tuple": lambda c, n, d: tuple(_many(c, n, d)), "slice": _slice,
    "dtype": _dtype, "float": _float, "ellipsis": lambda c, n, d: Ellipsis}
