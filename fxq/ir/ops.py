"""The operator table: every operator that a NORMAL graph may contain, once.

A row gives the canonical name, the function that computes it, its tensor operands, its
attributes with their defaults, and what it does to the *range* of its values. Nothing in
fxq knows a second spelling of an operator: `spellings.py` maps them all to these rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
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
    rank: int = 0  # of layers and pools over images: their number of spatial dimensions
    transposed: bool = False  # its weight is (inputs, outputs / groups, …)
    absorbs: tuple[str, ...] = ()  # the activations that it fuses with
    view: bool = False  # its result may share the memory of its input
    reshapes: bool = False  # a view of all elements
    on_grid: bool = False  # each result is a value of its input, or zero: it needs no rounding
    narrows: bool = False  # its values may span less than its input's, so they are watched apart
    averages: bool = False
    elementwise: bool = False  # each result depends on one value: it can run as a table
    rounds_once: bool = False  # as IEEE 754 says: the same bits on every machine
    fresh: bool = False  # its kernels return new memory, which a later one may write over
    fixed_format: tuple[float, int] | None = None  # scale and zero point of torch's 8-bit kernels
    # What a file may hold of its arguments, by name, where `artifact/signatures.py` does not say.
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[str, ...]:
        return (*self.operands, *self.attributes)

    @property
    def rectified(self) -> bool:
        """Its result went through a ReLU that it absorbed."""
        return self.activation in ("relu", "add_relu")

    @property
    def channel_axis(self) -> int:
        """The dimension of its weight that holds the output channels."""
        return 1 if self.transposed else 0


_CONV = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_TRANSPOSED = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
_MAX_POOL = {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
_AVG_POOL = {"kernel_size": None, "stride": None, "padding": 0, "ceil_mode": False,
             "count_include_pad": True}
_WEIGHTED = ("input", "weight", "bias")
_NORM = ("input", "running_mean", "running_var", "weight", "bias")
_ONE, _TWO = ("input",), ("input", "other")
ACTIVATIONS = ("relu", "clamp")
ABSORBED = (*ACTIVATIONS, "add", "add_relu")  # what a kernel may do besides its own operator

_layer = partial(Op, operands=_WEIGHTED, kind=Kind.MAC, absorbs=ACTIVATIONS, fresh=True)
_function = partial(Op, operands=_ONE, elementwise=True)
_pool = partial(Op, operands=_ONE, kind=Kind.SAME)
_average = partial(_pool, averages=True, narrows=True)
_view = partial(Op, operands=_ONE, kind=Kind.SAME, view=True, on_grid=True)
_reshape = partial(_view, reshapes=True)

_ROWS: tuple[Op, ...] = (
    _layer("conv1d", F.conv1d, attributes=_CONV, rank=1),
    _layer("conv2d", F.conv2d, attributes=_CONV, rank=2),
    _layer("conv3d", F.conv3d, attributes=_CONV, rank=3),
    _layer("conv_transpose1d", F.conv_transpose1d, attributes=_TRANSPOSED, rank=1,
           transposed=True),
    _layer("conv_transpose2d", F.conv_transpose2d, attributes=_TRANSPOSED, rank=2,
           transposed=True),
    _layer("conv_transpose3d", F.conv_transpose3d, attributes=_TRANSPOSED, rank=3,
           transposed=True),
    _layer("linear", F.linear),
    Op("batch_norm", F.batch_norm, _NORM, {"training": False, "momentum": 0.1, "eps": 1e-5}),
    Op("affine", affine, ("input", "scale", "shift"), absorbs=ACTIVATIONS, fresh=True),
    Op("layer_norm", layer_norm, _WEIGHTED, {"normalized_shape": None, "eps": 1e-5}),
    Op("group_norm", group_norm, _WEIGHTED, {"num_groups": 1, "eps": 1e-5}),
    Op("instance_norm", instance_norm, _NORM, {"use_input_stats": True, "momentum": 0.1,
                                               "eps": 1e-5}),
    Op("add", torch.add, _TWO, absorbs=ACTIVATIONS, fresh=True, rounds_once=True),
    Op("sub", torch.sub, _TWO, rounds_once=True),
    Op("rsub", torch.rsub, _TWO, rounds_once=True),
    Op("mul", torch.mul, _TWO, absorbs=ACTIVATIONS, fresh=True, rounds_once=True),
    Op("div", torch.div, _TWO, rounds_once=True),
    _function("pow", torch.pow, attributes={"exponent": None}),
    Op("matmul", torch.matmul, _TWO),
    Op("cat", torch.cat, ("tensors",), {"dim": 0}, Kind.SAME),
    Op("stack", torch.stack, ("tensors",), {"dim": 0}, Kind.SAME),
    Op("relu", torch.relu, _ONE, {}, Kind.SAME, narrows=True, on_grid=True),
    Op("clamp", torch.clamp, _ONE, {"min": None, "max": None}, Kind.SAME, narrows=True),
    Op("hardswish", F.hardswish, _ONE),
    _function("silu", F.silu),
    _function("gelu", F.gelu, attributes={"approximate": "none"}),
    _function("mish", F.mish),
    _function("softplus", F.softplus, attributes={"beta": 1.0, "threshold": 20.0}),
    Op("leaky_relu", F.leaky_relu, _ONE, {"negative_slope": 0.01}),
    Op("elu", F.elu, _ONE, {"alpha": 1.0}),
    _function("prelu", F.prelu, operands=("input", "weight")),
    _function("celu", F.celu, attributes={"alpha": 1.0}),
    _function("selu", F.selu),
    _function("softsign", F.softsign),
    _function("logsigmoid", F.logsigmoid),
    _function("tanhshrink", F.tanhshrink),
    _function("softshrink", F.softshrink, attributes={"lambd": 0.5}),
    _function("hardshrink", F.hardshrink, attributes={"lambd": 0.5}),
    _function("threshold", F.threshold, attributes={"threshold": None, "value": None}),
    _function("abs", torch.abs),
    _function("neg", torch.neg),
    _function("erf", torch.erf),
    _function("sin", torch.sin),
    _function("cos", torch.cos),
    Op("sigmoid", torch.sigmoid, _ONE, {}, Kind.FIXED, fixed_format=(1 / 256, 0)),
    Op("hardsigmoid", F.hardsigmoid, _ONE, {}, Kind.FIXED, fixed_format=(1 / 256, 0)),
    Op("tanh", torch.tanh, _ONE, {}, Kind.FIXED, fixed_format=(2 / 256, 128)),
    Op("softmax", F.softmax, _ONE, {"dim": None}, Kind.FIXED, fixed_format=(1 / 256, 0)),
    Op("log_softmax", F.log_softmax, _ONE, {"dim": None}),
    _pool("max_pool1d", F.max_pool1d, attributes=_MAX_POOL, rank=1, on_grid=True),
    _pool("max_pool2d", F.max_pool2d, attributes=_MAX_POOL, rank=2, on_grid=True),
    _pool("max_pool3d", F.max_pool3d, attributes=_MAX_POOL, rank=3),
    _average("avg_pool1d", F.avg_pool1d, attributes=_AVG_POOL,
             rank=1),
    _average("avg_pool2d", F.avg_pool2d, attributes={**_AVG_POOL, "divisor_override": None},
             rank=2),
    _average("avg_pool3d", F.avg_pool3d, attributes={**_AVG_POOL, "divisor_override": None},
             rank=3),
    _average("adaptive_avg_pool1d", F.adaptive_avg_pool1d, attributes={"output_size": None},
             rank=1),
    _average("adaptive_avg_pool2d", F.adaptive_avg_pool2d, attributes={"output_size": None},
             rank=2),
    _average("adaptive_avg_pool3d", F.adaptive_avg_pool3d, attributes={"output_size": None},
             rank=3),
    _pool("adaptive_max_pool2d", F.adaptive_max_pool2d, attributes={"output_size": None}, rank=2),
    _average("mean", torch.mean, attributes={"dim": None, "keepdim": False}),
    _reshape("flatten", torch.flatten, attributes={"start_dim": 0, "end_dim": -1}),
    _reshape("reshape", torch.reshape, attributes={"shape": None}),
    _reshape("permute", torch.permute, attributes={"dims": None}),
    _reshape("transpose", torch.transpose, attributes={"dim0": None, "dim1": None}),
    _reshape("squeeze", torch.squeeze, attributes={"dim": None}),
    _reshape("unsqueeze", torch.unsqueeze, attributes={"dim": None}),
    _view("narrow", torch.narrow, attributes={"dim": None, "start": None, "length": None}),
    Op("roll", torch.roll, _ONE, {"shifts": None, "dims": ()}, Kind.SAME),
    _reshape("contiguous", Tensor.contiguous),
    Op("pad", F.pad, _ONE, {"pad": None, "mode": "constant", "value": None}, Kind.SAME),
    Op("interpolate", F.interpolate, _ONE, {"size": None, "scale_factor": None, "mode": "nearest",
       "align_corners": None, "recompute_scale_factor": None, "antialias": False}, Kind.SAME,
       narrows=True),
    Op("channel_shuffle", torch.channel_shuffle, _ONE, {"groups": None}, Kind.SAME,
       on_grid=True),
    Op("pixel_shuffle", F.pixel_shuffle, _ONE, {"upscale_factor": None}, Kind.SAME,
       on_grid=True),
    Op("pixel_unshuffle", F.pixel_unshuffle, _ONE, {"downscale_factor": None}, Kind.SAME,
       on_grid=True),
    _view("getitem", getitem, attributes={"index": None}),
    Op("size", size, _ONE, {"dim": None}, Kind.SHAPE),
)


def fuse(base: Op, activation: Op) -> Op:
    """The operator `activation(base(...))`, with the attributes of both."""

    def call(*operands: Any, **attributes: Any) -> Any:
        own = {key: attributes.pop(key) for key in base.attributes if key in attributes}
        return activation.call(base.call(*operands, **own), **attributes)

    name = f"{base.name}_{activation.name}"
    call.__name__ = call.__qualname__ = name
    return replace(base, name=name, call=call, base=base.name, activation=activation.name,
                   attributes={**base.attributes, **activation.attributes}, absorbs=())


_SUMS = tuple(_layer(call.__name__, call, operands=(*_WEIGHTED, "other"), attributes=_CONV,
                     base="conv2d", activation=call.__name__.removeprefix("conv2d_"), rank=2,
                     absorbs=()) for call in (conv2d_add, conv2d_add_relu))


def _table() -> dict[str, Op]:
    rows = {row.name: row for row in (*_ROWS, *_SUMS)}
    for base in _ROWS:
        for activation in base.absorbs:
            fused = fuse(base, rows[activation])
            rows[fused.name] = fused
            setattr(sys.modules[__name__], fused.name, fused.call)
    return rows


OPS: dict[str, Op] = _table()  # it grows: `operator_table.py`
BY_CALL: dict[Any, Op] = {op.call: op for op in OPS.values()}


def op_of(node: Node) -> Op | None:
    """The table row of a node, or None for what fxq leaves as it is."""
    return BY_CALL.get(node.target) if node.op == "call_function" else None


def op_name(node: Node) -> str:
    """The canonical operator name of a node, or an empty text."""
    op = op_of(node)
    return op.name if op else ""


def base_name(node: Node) -> str:
    """The name of the computing operator: `conv2d` for a `conv2d_relu`."""
    op = op_of(node)
    return (op.base or op.name) if op else ""


def channel_axis(node: Node) -> int:
    """The dimension of a layer's weight that holds the output channels."""
    op = op_of(node)
    return op.channel_axis if op else 0


def groups_of(layer: Node) -> int:
    """The number of groups that a layer's channels fall into."""
    op = op_of(layer)
    return attribute(layer, "groups") if op and "groups" in op.attributes else 1


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
