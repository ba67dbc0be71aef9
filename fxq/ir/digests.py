"""Digests of tensors and graphs: equal exactly when every bit is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxq.ir.printer import format_graph
from fxq.ir.rewriter import constant_of


def digest_tensors(tensors: Sequence[Tensor]) -> str:
    """One digest of shapes, types and contents."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(raw_bytes(tensor))
    return content.hexdigest()


def raw_bytes(tensor: Tensor) -> bytes:
    """The bytes of a tensor in the order of its indices, however it lies in memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)  # sizes of 1 may have any stride
    return flat.view(torch.uint8).numpy().tobytes()


def value_bytes(value: Any) -> bytes:
    """The bytes of an output: a tensor, or a number that was computed from shapes."""
    return raw_bytes(value) if isinstance(value, Tensor) else repr(value).encode()


def digest_graph(module: fx.GraphModule) -> str:
    """The canonical text of a graph and all of its constants."""
    constants = [t for n in module.graph.nodes if (t := constant_of(n)) is not None]
    text = hashlib.sha256(format_graph(module).encode()).hexdigest()
    return hashlib.sha256((text + digest_tensors(constants)).encode()).hexdigest()
