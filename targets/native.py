"""native: fxq's own int8 kernels. They give the bits of `fxq.ir.arithmetic` on every machine.

Nothing saturates on the way: products of 8 bits are added in 32, so that no weights are scaled to
be safe in pairs. Values lie in NHWC, which is why some operators take images only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.fx import Node

from fxq.ir.arithmetic import MOST_TERMS
from fxq.ir.facts import info
from fxq.ir.ops import attribute, op_of
from fxq.kernels.integer_calls import INTEGER_CALLS as CALLS
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode
from fxq.targets.base import (
    ELEMENTWISE_OPS,
    Kernel,
    Limit,
    Target,
    broadcast_channels,
    constant_weight,
    nonempty_channels,
    one_tensor,
    option,
    rank,
    tensors,
)
from fxq.targets.costs import REGIONS

_NUMBERS = Limit("padding is not resolved to numbers",
                 lambda node: not isinstance(attribute(node, "padding"), str))
_CONV = (constant_weight(), _NUMBERS, nonempty_channels())
_TRANSPOSED = (constant_weight(), nonempty_channels())
_IMAGES, _SIGNALS = (rank(4), *_CONV), (rank(3), *_CONV)
_LINEAR = (constant_weight(), rank(2, 3, 4, 5), nonempty_channels())
_ONE_SHAPE = Limit("its operands have several shapes", lambda node: (
    info(node.args[0]).shape == info(node.args[1]).shape))  # type: ignore[arg-type]
_FUNCTION = (one_tensor(),)


def _shapes(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    a, b = (info(n).shape or () for n in node.args[:2])  # type: ignore[arg-type]
    return a, b


def _is_probability(node: Any) -> bool:
    op = op_of(node) if isinstance(node, Node) else None
    if op is None:
        return False
    return op.name == "softmax" or (op.view and _is_probability(node.args[0]))


_MATRICES = (
    tensors(), rank(2, 3, 4),
    # a step of 1/255 is more than most of them are: docs/native.md has the measurement
    Limit("probabilities of 8 bits cost 5 to 6 dB where attention is peaked",
          lambda node: not any(map(_is_probability, node.args))),
    Limit("its operands do not hold as many matrices",
          lambda node: _shapes(node)[0][:-2] == _shapes(node)[1][:-2]),
    Limit("its sums could leave 32 bits", lambda node: _shapes(node)[0][-1] <= MOST_TERMS))


def _inside(node: Node) -> bool:
    padded = attribute(node, "padding") not in (0, (0,), (0, 0))
    return not (attribute(node, "ceil_mode") and attribute(node, "count_include_pad") and padded)


def _over_image(node: Node) -> bool:
    dims, size = attribute(node, "dim"), len(info(node.args[0]).shape or ())  # type: ignore[arg-type]
    dims = dims if isinstance(dims, list | tuple) else (dims,)
    return size in (3, 4) and None not in dims and {d % size for d in dims} == set(range(2, size))


_COUNTED = Limit("it counts padding, but not all of it, at the lower edge", _inside)
_AVERAGE = (rank(4), option("divisor_override", None, reason="it divides by a number of its own"),
            _COUNTED)
_PAD = (option("mode", "constant", reason="only zero padding keeps its meaning on integers"),
        option("value", None, 0, 0.0, reason="only zero padding keeps its meaning"))
_NEAREST = (rank(4), option("mode", "nearest", reason="between pixels, float is more exact"))
_VIEWS = ("flatten", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "narrow",
          "getitem", "contiguous", "roll")
# Operators whose results are functions of one number each, but that the table of operators keeps
# apart, because some engines have a kernel of their own for them.
_FUNCTIONS = ("hardswish", "hardsigmoid", "sigmoid", "tanh", "leaky_relu", "elu")


def _layer(op: str, *limits: Limit) -> tuple[Kernel, ...]:
    return tuple(Kernel(op, CALLS[op], absorbs, limits) for absorbs in ("", "relu"))


def _linear(*limits: Limit) -> tuple[Kernel, ...]:
    return tuple(replace(row, float_call=CALLS["linear_float"],
                         dynamic_call=CALLS["linear_dynamic"])
                 for row in _layer("linear", *limits))


def _average(op: str, *limits: Limit) -> Kernel:
    return Kernel(op, CALLS["average"], limits=limits, float_call=CALLS["average_float"])


_KERNELS: tuple[Kernel, ...] = (
    #         operator            limits
    *_layer("conv1d",           *_SIGNALS),
    *_layer("conv2d",           *_IMAGES),
    *_layer("conv_transpose1d", rank(3), *_TRANSPOSED),
    *_layer("conv_transpose2d", rank(4), *_TRANSPOSED),
    *_linear(*_LINEAR),
    #      operator       call                 absorbs     limits
    Kernel("conv2d",      CALLS["conv2d_add"], "add",      _IMAGES),
    Kernel("conv2d",      CALLS["conv2d_add"], "add_relu", _IMAGES),
    Kernel("add",         CALLS["add"],        "",         (tensors(), _ONE_SHAPE)),
    Kernel("add",         CALLS["add"],        "relu",     (tensors(), _ONE_SHAPE)),
    Kernel("mul",         CALLS["mul"],        "",         (tensors(), broadcast_channels())),
    Kernel("mul",         CALLS["mul"],        "relu",     (tensors(), broadcast_channels())),
    Kernel("affine",      CALLS["affine"],     "",         (rank(4), nonempty_channels())),
    Kernel("affine",      CALLS["affine"],     "relu",     (rank(4), nonempty_channels())),
    Kernel("matmul",      CALLS["matmul"],     "",         _MATRICES,
           float_call=CALLS["matmul_float"]),
    Kernel("cat",         CALLS["cat"]),
    _average("avg_pool1d",          rank(3), _COUNTED),
    _average("adaptive_avg_pool1d", rank(3)),
    _average("avg_pool2d",           *_AVERAGE),
    _average("adaptive_avg_pool2d", rank(4)),
    _average("mean", Limit("it averages over other dimensions than an image's", _over_image)),
    Kernel("relu",        CALLS["select"]),
    Kernel("clamp",       CALLS["select"]),
    Kernel("max_pool1d",  CALLS["select"],     "",         (rank(3),)),
    Kernel("max_pool2d",  CALLS["select"],     "",         (rank(4),)),
    Kernel("interpolate", CALLS["select"],     "",         _NEAREST),
    Kernel("channel_shuffle", CALLS["select"], "",         (rank(4),)),
    Kernel("pixel_shuffle",   CALLS["select"], "",         (rank(4),)),
    Kernel("pixel_unshuffle", CALLS["select"], "",         (rank(4),)),
    Kernel("pad",         CALLS["select"],     "",         _PAD),
    *(Kernel(name, CALLS["select"]) for name in _VIEWS),
    # A table of 256 results, which the quantized graph holds.
    Kernel(ELEMENTWISE_OPS, CALLS["look_up"],  "",         _FUNCTION),
    *(Kernel(name, CALLS["look_up"], "", _FUNCTION) for name in _FUNCTIONS),
    *(Kernel(name, CALLS["look_up"], absorbs, _FUNCTION) for name, absorbs in (
        ("add", ""), ("add", "relu"), ("sub", ""), ("rsub", ""), ("mul", ""), ("mul", "relu"),
        ("div", ""))),
)
_VOLUMES = "its kernels compute images; volumes run in float"
_UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(("conv3d", "conv_transpose3d", "max_pool3d", "avg_pool3d",
                     "adaptive_avg_pool3d"), _VOLUMES),
    "batch_norm": "batch statistics are needed at run time",
    "layer_norm": "statistics of each row are needed at run time",
    "group_norm": "statistics of each group are needed at run time",
    "instance_norm": "statistics of each image are needed at run time",
    "softmax": "probabilities need more than 8 bits",
    "log_softmax": "log-probabilities need more than 8 bits",
    "stack": "its parts have formats of their own",
    "adaptive_max_pool2d": "its windows have several sizes",
}

NATIVE = Target(
    name="native",
    summary="fxq's own int8 kernels: the same bits on every machine",
    engine="native",
    plain=True,
    smallest_dynamic_scale=0.0,  # scales are as small as float32 has them
    activation=QSpec(0, 255),
    weight=QSpec(-128, 127, symmetric=True, per_channel=True),
    bias="int32",
    refused_modes={Mode.HALF: "its kernels are int8; half precision needs another target"},
    kernels=_KERNELS,
    unsupported=_UNSUPPORTED,
    regions=REGIONS,
)
