"""ONNX nodes for number formats: QuantizeLinear, DequantizeLinear, and what goes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.export.draft import Draft
from fxq.export.site import NoRow, Row, Site
from fxq.ir import integers
from fxq.ir.facts import info, qparams
from fxq.ir.rewriter import constant_of
from fxq.quantization.formats import QParams

_LINEAR = (torch.uint8, torch.int8, torch.int16)  # that QuantizeLinear makes


def quantized(draft: Draft, x: str, format_: QParams) -> str:
    """Real numbers to integers of a format; one that is narrower than its type saturates first."""
    if format_.dtype not in _LINEAR:
        raise NoRow(f"integers of more than 16 bits: {format_}")
    limits = torch.iinfo(format_.dtype)
    if (format_.low, format_.high) != (limits.min, limits.max):
        x = draft.call("Clip", x, *(draft.small(b, torch.float32) for b in format_.bounds()))
    return draft.call("QuantizeLinear", x, *_scale(draft, format_))


def dequantized(draft: Draft, x: str, format_: QParams) -> str:
    """Integers of a format to real numbers."""
    return draft.call("DequantizeLinear", x, *_scale(draft, format_))


def _scale(draft: Draft, format_: QParams) -> tuple[str, str]:
    return (draft.small(format_.scale, torch.float32),
            draft.small(format_.zero_point, format_.dtype))


def _quantize(site: Site) -> str:
    """A table, where there is one, holds what the float function before it gives."""
    return quantized(site.draft, site.x, integers.qparams_argument(site.node))


def _dequantize(site: Site) -> str:
    return dequantized(site.draft, site.x, integers.qparams_argument(site.node))


def _dequantize_weight(site: Site) -> str:
    """Weights and biases: one scale, or one for each of `axis`; biases have no zero point.

    (ONNX Runtime's Gemm on integers asks for those of weights, zeros as they are.)
    """
    values, scales, *zeros = (constant_of(a) for a in site.node.args)
    if values is None or scales is None:
        raise NoRow("weights that are computed")
    one, small, axis = scales.numel() == 1, _nibbles(values), site.node.kwargs["axis"]
    kind = "bias" if values.dtype == torch.int32 else "weight"
    name = f"{info(site.node).path or 'layer'}.{kind}"
    parts = [(name, values, small), (f"{name}_scale", scales.reshape(()) if one else scales, False)]
    if kind == "weight":
        zero = torch.zeros_like(scales) if not zeros or zeros[0] is None else zeros[0]
        zero = (zero.reshape(()) if one else zero).to(values.dtype)
        parts.append((f"{name}_zero", zero, small))
    return site.call("DequantizeLinear", *(site.draft.constant(*part) for part in parts),
                     axis=None if one else axis)


def _nibbles(values: Tensor) -> bool:
    """Signed integers that four bits hold. Larger formats use their range, but for zeros."""
    if values.dtype != torch.int8 or not values.any():
        return False
    return bool(values.min() >= -8 and values.max() <= 7)


def _clamp_on_integers(site: Site) -> str:
    format_ = qparams(site.node)
    assert format_ is not None
    said: Mapping[str, Any] = site.node.kwargs
    bounds = [(said[k] - format_.zero_point) * format_.scale for k in ("low", "high")]
    x = dequantized(site.draft, site.x, format_)
    clipped = site.call("Clip", x, *(site.draft.small(b, torch.float32) for b in bounds))
    return quantized(site.draft, clipped, format_)


def _round_at_run_time(site: Site) -> str:
    if (site.node.kwargs["low"], site.node.kwargs["high"]) != (0, 255):
        raise NoRow("ranges at run time that are not those of uint8")
    parts = site.draft.calls_to("DynamicQuantizeLinear", [site.x], 3)
    return site.call("DequantizeLinear", *parts)


def _to_dtype(site: Site) -> str:
    return site.call("Cast", site.x, to=site.node.kwargs["dtype"])


FORMATS: Mapping[Any, Row] = {
    integers.quantize: _quantize, integers.dequantize: _dequantize,
    integers.dequantize_weight: _dequantize_weight,
    integers.clamp_on_integers: _clamp_on_integers,
    integers.round_at_run_time: _round_at_run_time, integers.to_dtype: _to_dtype}


def is_format(node: Node) -> bool:
    """The node makes, reads or bounds integers."""
    return node.op == "call_function" and node.target in FORMATS
