"""Digests of tensors and graphs: equal exactly when every bit is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor, fx

from fxq.ir.printer import format_graph
from fxq.ir.rewriter import constant_of
from fxq.system.raw import raw_bytes


def digest_tensors(tensors: Sequence[Tensor]) -> str:
    """One digest of shapes, types and contents."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(raw_bytes(tensor))
    return content.hexdigest()


def digest_graph(module: fx.GraphModule) -> str:
    """The canonical text of a graph and all of its constants."""
    constants = [t for n in module.graph.nodes if (t := constant_of(n)) is not None]
    text = hashlib.sha256(format_graph(module).encode(errors="backslashreplace")).hexdigest()
    return hashlib.sha256((text + digest_tensors(constants)).encode()).hexdigest()
