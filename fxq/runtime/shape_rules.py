"""Shape rules of calls that no file's table covers: products, attention, views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fxq.artifact.meta_layers import made
from fxq.artifact.meta_shapes import RULES
from fxq.ir.ops import OPS


def attention(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor,
               key_padding_mask: Tensor | None = None, need_weights: bool = True,
               attn_mask: Tensor | None = None, average_attn_weights: bool = True,
               **_: Any) -> tuple[Tensor, Tensor | None] | None:
    """torch's own module: queries and keys of the same batch, and a result like the queries."""
    width, (batch, length) = module.embed_dim, (0, 1) if module.batch_first else (1, 0)
    if query.dim() != 3 or 0 in query.shape or key_padding_mask is not None or (
            attn_mask is not None) or not module._qkv_same_embed_dim:
        return None
    if query.shape[2] != width or any(
            v.shape != (*query.shape[:length], key.shape[length], *query.shape[length + 1:])
            for v in (key, value)):
        raise ValueError(f"attention of width {width} over {list(query.shape)}, "
                         f"{list(key.shape)} and {list(value.shape)}")
    sizes = (query.shape[batch], query.shape[length], key.shape[length])
    heads = sizes if average_attn_weights else (sizes[0], module.num_heads, *sizes[1:])
    return made(query.shape, query.dtype), made(heads, query.dtype) if need_weights else None


def _normalized(input: Tensor, *parameters: Tensor | None, **attributes: Any) -> Tensor | None:
    """A batch norm, which asks nothing of a tensor without elements (as torch's)."""
    if 0 in input.shape:
        return made(input.shape, input.dtype)
    return RULES[OPS["affine"].call](input, *parameters, **attributes)


def _matmul(input: Tensor, other: Tensor) -> Tensor | None:
    """Matrices in the last two dimensions, the others broadcast."""
    if input.dim() < 2 or other.dim() < 2 or input.dtype != other.dtype:
        return None
    if input.shape[-1] != other.shape[-2]:
        raise ValueError(f"{list(input.shape)} times {list(other.shape)}")
    batch = torch.broadcast_shapes(input.shape[:-2], other.shape[:-2])  # type: ignore[no-untyped-call]
    return made((*batch, input.shape[-2], other.shape[-1]), input.dtype)


VIEWS = {op.call for op in OPS.values() if op.view and op.name != "getitem"} | {
    OPS["size"].call, getattr}
MORE: Mapping[Any, Callable[..., Tensor | None]] = {
    OPS["matmul"].call: _matmul, OPS["batch_norm"].call: _normalized,
    **{op.call: _normalized for op in OPS.values() if (op.base or op.name) == "affine"}}
