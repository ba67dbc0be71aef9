"""The operator table: every operator that a NORMAL graph may contain, once.

A row gives the canonical name, the function that computes it, its tensor operands, its
attributes with their defaults, and what it does to the *range* of its values. Nothing in
fxq knows a second spelling of an operator: `spellings.py` maps them all to these rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from fxq.ir.op_functions import (
    affine,
    conv2d_add,
    conv2d_add_relu,
    getitem,
    group_norm,
    instance_norm,
    layer_norm,
    size,
)


class Kind(StrEnum):
    """What an operator does to the range of the values that pass through it."""

    MAC = "multiply-accumulates weights; its output has a range of its own"
    RANGE = "computes values with a range of their own"
    FIXED = "computes values whose range the function itself fixes"
    SAME = "moves, selects or averages values: scale and zero point stay"
    SHAPE = "reads sizes only"


@dataclass(frozen=True)
class Op:
    """One operator in its canonical form: tensor operands first, attributes by name."""

    name: str
    call: Callable[..., Any]
    operands: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.RANGE
    base: str = ""  # of a fused operator: the one that computes
    activation: str = ""  # of a fused operator: the one it absorbed

    @property
    def parameters(self) -> tuple[str, ...]:
        return (*self.operands, *self.attributes)


_CONV = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_TRANSPOSED = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
_MAX_POOL = {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_AVG_POOL = {"kernel_size": None, "stride": None, "padding": 0, "ceil_mode": False,
             "count_include_pad": True}
_WEIGHTED = ("input", "weight", "bias")
_NORM = ("input", "running_mean", "running_var", "weight", "bias")
_ONE, _TWO = ("input",), ("input", "other")

_ROWS: tuple[Op, ...] = (
    Op("conv1d", F.conv1d, _WEIGHTED, _CONV, Kind.MAC),
    Op("conv2d", F.conv2d, _WEIGHTED, _CONV, Kind.MAC),
    Op("conv3d", F.conv3d, _WEIGHTED, _CONV, Kind.MAC),
    Op("conv_transpose1d", F.conv_transpose1d, _WEIGHTED, _TRANSPOSED, Kind.MAC),
    Op("conv_transpose2d", F.conv_transpose2d, _WEIGHTED, _TRANSPOSED, Kind.MAC),
    Op("conv_transpose3d", F.conv_transpose3d, _WEIGHTED, _TRANSPOSED, Kind.MAC),
    Op("linear", F.linear, _WEIGHTED, {}, Kind.MAC),
    Op("batch_norm", F.batch_norm, _NORM, {"training": False, "momentum": 0.1, "eps": 1e-5}),
    Op("affine", affine, ("input", "scale", "shift")),
    Op("layer_norm", layer_norm, _WEIGHTED, {"normalized_shape": None, "eps": 1e-5}),
    Op("group_norm", group_norm, _WEIGHTED, {"num_groups": 1, "eps": 1e-5}),
    Op("instance_norm", instance_norm, _NORM, {"use_input_stats": True, "momentum": 0.1,
                                               "eps": 1e-5}),
    Op("add", torch.add, _TWO),
    Op("sub", torch.sub, _TWO),
    Op("rsub", torch.rsub, _TWO),
    Op("mul", torch.mul, _TWO),
    Op("div", torch.div, _TWO),
    Op("pow", torch.pow, ("input",), {"exponent": None}),
    Op("matmul", torch.matmul, _TWO),
    Op("cat", torch.cat, ("tensors",), {"dim": 0}, Kind.SAME),
    Op("stack", torch.stack, ("tensors",), {"dim": 0}, Kind.SAME),
    Op("relu", torch.relu, _ONE, {}, Kind.SAME),
    Op("clamp", torch.clamp, _ONE, {"min": None, "max": None}, Kind.SAME),
    Op("hardswish", F.hardswish, _ONE),
    Op("silu", F.silu, _ONE),
    Op("gelu", F.gelu, _ONE, {"approximate": "none"}),
    Op("mish", F.mish, _ONE),
    Op("softplus", F.softplus, _ONE, {"beta": 1.0, "threshold": 20.0}),
    Op("leaky_relu", F.leaky_relu, _ONE, {"negative_slope": 0.01}),
    Op("elu", F.elu, _ONE, {"alpha": 1.0}),
    Op("prelu", F.prelu, ("input", "weight")),
    Op("celu", F.celu, _ONE, {"alpha": 1.0}),
    Op("selu", F.selu, _ONE),
    Op("softsign", F.softsign, _ONE),
    Op("logsigmoid", F.logsigmoid, _ONE),
    Op("tanhshrink", F.tanhshrink, _ONE),
    Op("softshrink", F.softshrink, _ONE, {"lambd": 0.5}),
    Op("hardshrink", F.hardshrink, _ONE, {"lambd": 0.5}),
    Op("threshold", F.threshold, _ONE, {"threshold": None, "value": None}),
    Op("abs", torch.abs, _ONE),
    Op("neg", torch.neg, _ONE),
    Op("erf", torch.erf, _ONE),
    Op("sin", torch.sin, _ONE),
    Op("cos", torch.cos, _ONE),
    Op("sigmoid", torch.sigmoid, _ONE, {}, Kind.FIXED),
    Op("hardsigmoid", F.hardsigmoid, _ONE, {}, Kind.FIXED),
    Op("tanh", torch.tanh, _ONE, {}, Kind.FIXED),
    Op("softmax", F.softmax, _ONE, {"dim": None}, Kind.FIXED),
    Op("log_softmax", F.log_softmax, _ONE, {"dim": None}),
    Op("max_pool1d", F.max_pool1d, _ONE, _MAX_POOL, Kind.SAME),
    Op("max_pool2d", F.max_pool2d, _ONE, _MAX_POOL, Kind.SAME),
    Op("max_pool3d", F.max_pool3d, _ONE, _MAX_POOL, Kind.SAME),
    Op("avg_pool1d", F.avg_pool1d, _ONE, _AVG_POOL, Kind.SAME),
    Op("avg_pool2d", F.avg_pool2d, _ONE, {**_AVG_POOL, "divisor_override": None}, Kind.SAME),
    Op("avg_pool3d", F.avg_pool3d, _ONE, {**_AVG_POOL, "divisor_override": None}, Kind.SAME),
    Op("adaptive_avg_pool1d", F.adaptive_avg_pool1d, _ONE, {"output_size": None}, Kind.SAME),
    Op("adaptive_avg_pool2d", F.adaptive_avg_pool2d, _ONE, {"output_size": None}, Kind.SAME),
    Op("adaptive_avg_pool3d", F.adaptive_avg_pool3d, _ONE, {"output_size": None}, Kind.SAME),
    Op("adaptive_max_pool2d", F.adaptive_max_pool2d, _ONE, {"output_size": None}, Kind.SAME),
    Op("mean", torch.mean, _ONE, {"dim": None, "keepdim": False}, Kind.SAME),
    Op("flatten", torch.flatten, _ONE, {"start_dim": 0, "end_dim": -1}, Kind.SAME),
    Op("reshape", torch.reshape, _ONE, {"shape": None}, Kind.SAME),
    Op("permute", torch.permute, _ONE, {"dims": None}, Kind.SAME),
    Op("transpose", torch.transpose, _ONE, {"dim0": None, "dim1": None}, Kind.SAME),
    Op("squeeze", torch.squeeze, _ONE, {"dim": None}, Kind.SAME),
    Op("unsqueeze", torch.unsqueeze, _ONE, {"dim": None}, Kind.SAME),
    Op("narrow", torch.narrow, _ONE, {"dim": None, "start": None, "length": None}, Kind.SAME),
    Op("roll", torch.roll, _ONE, {"shifts": None, "dims": ()}, Kind.SAME),
    Op("contiguous", Tensor.contiguous, _ONE, {}, Kind.SAME),
    Op("pad", F.pad, _ONE, {"pad": None, "mode": "constant", "value": None}, Kind.SAME),
    Op("interpolate", F.interpolate, _ONE, {"size": None, "scale_factor": None, "mode": "nearest",
       "align_corners": None, "recompute_scale_factor": None, "antialias": False}, Kind.SAME),
    Op("channel_shuffle", torch.channel_shuffle, _ONE, {"groups": None}, Kind.SAME),
    Op("pixel_shuffle", F.pixel_shuffle, _ONE, {"upscale_factor": None}, Kind.SAME),
    Op("pixel_unshuffle", F.pixel_unshuffle, _ONE, {"downscale_factor": None}, Kind.SAME),
    Op("getitem", getitem, _ONE, {"index": None}, Kind.SAME),
    Op("size", size, _ONE, {"dim": None}, Kind.SHAPE),
)

ACTIVATIONS = ("relu", "clamp")
ABSORBED = (*ACTIVATIONS, "add", "add_relu")  # what a kernel may do besides its own operator
_ABSORBING = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
              "conv_transpose3d", "linear", "affine", "add", "mul")


def _fuse(base: Op, activation: Op) -> Op:
    """The operator `activation(base(...))`, with the attributes of both."""

    def call(*operands: Any, **attributes: Any) -> Any:
        own = {key: attributes.pop(key) for key in base.attributes if key in attributes}
        return activation.call(base.call(*operands, **own), **attributes)

    name = f"{base.name}_{activation.name}"
    call.__name__ = call.__qualname__ = name
    return Op(name, call, base.operands, {**base.attributes, **activation.attributes},
              base.kind, base.name, activation.name)


_SUMS = tuple(Op(call.__name__, call, (*_WEIGHTED, "other"), _CONV, Kind.MAC, "conv2d",
                 call.__name__.removeprefix("conv2d_")) for call in (conv2d_add, conv2d_add_relu))


def _table() -> dict[str, Op]:
    rows = {row.name: row for row in (*_ROWS, *_SUMS)}
    for base in _ABSORBING:
        for activation in ACTIVATIONS:
            fused = _fuse(rows[base], rows[activation])
            rows[fused.name] = fused
            setattr(sys.modules[__name__], fused.name, fused.call)
    return rows


OPS: Mapping[str, Op] = _table()
_BY_CALL: dict[Any, Op] = {op.call: op for op in OPS.values()}


def op_of(node: Node) -> Op | None:
    """The table row of a node, or None for what fxq leaves as it is."""
    return _BY_CALL.get(node.target) if node.op == "call_function" else None


def op_name(node: Node) -> str:
    """The canonical operator name of a node, or an empty text."""
    op = op_of(node)
    return op.name if op else ""


def base_name(node: Node) -> str:
    """The name of the computing operator: `conv2d` for a `conv2d_relu`."""
    op = op_of(node)
    return (op.base or op.name) if op else ""


def attribute(node: Node, name: str) -> Any:
    """An attribute of a canonical node; nodes carry only what differs from the default."""
    op = op_of(node)
    assert op is not None, f"{node} is not canonical"
    return node.kwargs.get(name, op.attributes[name])


def attributes(node: Node) -> dict[str, Any]:
    """All attributes of a canonical node, defaults included, in the order of the table."""
    op = op_of(node)
    return {name: attribute(node, name) for name in op.attributes} if op else {}


def canonical_kwargs(op: Op, values: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that differ from their default, in the order of the table."""
    return {k: values[k] for k, default in op.attributes.items()
            if k in values and not _equal(values[k], default)}


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def base_of(op: Op) -> tuple[Op, Op | None]:
    """The operator that computes, and the activation that was fused with it."""
    return (OPS[op.base], OPS[op.activation]) if op.base else (op, None)


def fused(base: str, activation: str) -> Op | None:
    """The row for `base` followed by `activation`, if there is one."""
    return OPS.get(f"{base}_{activation}")
# Splitters give a tuple; each part that is read becomes a `narrow` of its own.
SPLITTERS: dict[Any, str] = {torch.chunk: "chunks", torch.split: "sections", "chunk": "chunks",
                             "split": "sections"}
