"""ONNX nodes for layers, norms and pools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fxq.export.site import NoRow, Row, Site, each
from fxq.ir.facts import info


def _geometry(site: Site, rank: int) -> dict[str, Any]:
    """Strides, pads and dilations of a layer or a pool, one for each dimension."""
    a = site.attributes
    return {"strides": each(a["stride"], rank), "pads": each(a["padding"], rank) * 2,
            # ONNX Runtime's fused averages know none, so that one is left out
            "dilations": each(a["dilation"], rank) if "dilation" in a else None}


def _batched(site: Site, rank: int) -> None:
    if len(site.input_shape) != rank + 2:
        raise NoRow("its input has no batch dimension")


def _conv(rank: int) -> Row:
    def row(site: Site) -> str:
        _batched(site, rank)
        return site.call("Conv", *site.operands[:3], group=site.attributes["groups"],
                         **_geometry(site, rank))
    return row


def _transposed(rank: int) -> Row:
    def row(site: Site) -> str:
        _batched(site, rank)
        return site.call("ConvTranspose", *site.operands[:3], group=site.attributes["groups"],
                         output_padding=each(site.attributes["output_padding"], rank),
                         **_geometry(site, rank))
    return row


def _linear(site: Site) -> str:
    """Gemm for vectors; for more dimensions, a product with the transposed weight."""
    x, weight, bias = site.operands
    if len(site.input_shape) == 2:
        return site.call("Gemm", x, weight, bias, transB=1)
    product = site.call("MatMul", x, site.call("Transpose", weight, perm=[1, 0]))
    return site.call("Add", product, bias) if bias else product


def _affine(site: Site) -> str:
    scale, shift = (site.per_channel(name) for name in site.operands[1:3])
    return site.call("Add", site.call("Mul", site.x, scale), shift)


def _ones(site: Site, weight: str | None, bias: str | None, count: int) -> tuple[str, str]:
    """The scale and shift that ONNX asks for where the model has none."""
    return (weight or site.draft.small([1.0] * count, site.dtype),
            bias or site.draft.small([0.0] * count, site.dtype))


def _batch_norm(site: Site) -> str:
    x, mean, variance, weight, bias = site.operands
    if not (mean and variance) or site.attributes.get("training"):
        raise NoRow("it takes its statistics from the batch")
    scale, shift = _ones(site, weight, bias, site.input_shape[1])
    return site.call("BatchNormalization", x, scale, shift, mean, variance,
                     epsilon=site.attributes["eps"])


def _instance_norm(site: Site) -> str:
    if not site.attributes["use_input_stats"]:
        return _batch_norm(site)
    scale, shift = _ones(site, site.operands[3], site.operands[4], site.input_shape[1])
    return site.call("InstanceNormalization", site.x, scale, shift,
                     epsilon=site.attributes["eps"])


def _group_norm(site: Site) -> str:
    weight, bias = site.operands[1:3]
    scale, shift = _ones(site, weight, bias, site.input_shape[1])
    return site.call("GroupNormalization", site.x, scale, shift,
                     num_groups=site.attributes["num_groups"], epsilon=site.attributes["eps"])


def _layer_norm(site: Site) -> str:
    last = [int(n) for n in site.attributes["normalized_shape"]]
    x, weight, bias = site.operands
    if weight is None:
        weight = site.call("Expand", site.number(1), site.ints(last))
    return site.call("LayerNormalization", x, weight, bias, axis=-len(last),
                     epsilon=site.attributes["eps"])


def _windows(site: Site, rank: int) -> dict[str, Any]:
    """The geometry of a pool. Windows that `ceil_mode` adds become pads behind the image.

    (ONNX adds windows that torch leaves out, and ONNX Runtime's average on integers counts them.)
    """
    a = site.attributes
    _batched(site, rank)
    stride = a["stride"] if a["stride"] not in (None, (), []) else a["kernel_size"]
    found = _geometry(site.then(site.x, {**a, "stride": stride}), rank)
    kernel, pads, steps = each(a["kernel_size"], rank), found["pads"], found["strides"]
    spans = [d * (k - 1) + 1 for d, k in zip(found["dilations"] or [1] * rank, kernel, strict=True)]
    if a["ceil_mode"]:
        ends = [(n - 1) * s + span - size - p for n, s, span, size, p in zip(
            site.shape[2:], steps, spans, site.input_shape[2:], pads, strict=False)]
        found["pads"] = [*pads[:rank], *(max(e, 0) for e in ends)]
    return found | {"kernel_shape": kernel}


def _max_pool(rank: int) -> Row:
    return lambda site: site.call("MaxPool", site.x, **_windows(site, rank))


def _avg_pool(rank: int) -> Row:
    def row(site: Site) -> str:
        options, a, x = _windows(site, rank), site.attributes, site.x
        pads, counts = options["pads"], a["count_include_pad"]
        if counts and a["ceil_mode"]:  # the model's own pads count, those behind them do not
            own = each(a["padding"], rank)
            if any(own):
                x = site.call("Pad", x, site.ints([0, 0, *own] * 2))
            options["pads"] = [0] * rank + [max(e - p, 0) for e, p in zip(
                pads[rank:], own, strict=True)]
            counts = False
        pooled = site.call("AveragePool", x, **options, count_include_pad=int(counts))
        divisor = a.get("divisor_override")
        if divisor is None:
            return pooled
        if any(pads):
            raise NoRow("a divisor of its own, with padding")
        return site.call("Mul", pooled, site.number(math.prod(options["kernel_shape"]) / divisor))
    return row


def _adaptive(op: str, rank: int) -> Row:
    """A global pool, or one whose windows are of one size."""
    def row(site: Site) -> str:
        _batched(site, rank)
        sizes, wanted = site.input_shape[2:], site.shape[2:]
        if set(wanted) == {1}:
            return site.call(f"Global{op}", site.x)
        if any(n % w for n, w in zip(sizes, wanted, strict=True)):
            raise NoRow(f"windows of several sizes: {list(sizes)} to {list(wanted)}")
        kernel = [n // w for n, w in zip(sizes, wanted, strict=True)]
        return site.call(op, site.x, kernel_shape=kernel, strides=kernel)
    return row


def _mean(site: Site) -> str:
    dim = site.attributes["dim"]
    axes = each(dim, 1) if dim is not None else range(len(site.input_shape))
    return site.call("ReduceMean", site.x, site.ints([site.axis(d) for d in axes]),
                     keepdims=int(site.attributes["keepdim"]))


def _matmul(site: Site) -> str:
    if any(not info(n).shape for n in site.node.all_input_nodes):
        raise NoRow("an operand that is no tensor")
    return site.call("MatMul", *site.operands[:2])


LAYERS: Mapping[str, Row] = {
    **{f"conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d": _max_pool(n) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _avg_pool(n) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive("AveragePool", n) for n in (1, 2, 3)},
    "adaptive_max_pool2d": _adaptive("MaxPool", 2), "mean": _mean, "linear": _linear,
    "matmul": _matmul, "affine": _affine, "batch_norm": _batch_norm,
    "instance_norm": _instance_norm, "group_norm": _group_norm, "layer_norm": _layer_norm}
