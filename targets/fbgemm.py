"""FBGEMM: int8 inference on x86 servers, through torch's packed quantized kernels.

Facts marked "measured" were found by exact integer tests on torch 2.15 (x86-64 with VNNI);
the conformance tests repeat them.
"""

from __future__ import annotations

from torch.fx import Node

from fxq.info import info
from fxq.ops import attribute
from fxq.qspec import QSpec
from fxq.scheme import Mode
from fxq.targets.base import (
    Kernel,
    Limit,
    Pairing,
    Target,
    broadcast_channels,
    constant_weight,
    nonempty_channels,
    option,
    rank,
    tensors,
)


def _tuple(value: object, length: int) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,) * length


def _depthwise(node: Node) -> bool:
    """The shapes that FBGEMM sends to its depthwise kernels, which add in 16 bits (measured)."""
    shape, weight = (info(n).shape for n in node.args[:2])  # type: ignore[arg-type]
    groups = attribute(node, "groups")
    if weight is None or shape is None or groups != shape[1] or groups == 1:
        return False
    kernel = weight[2:]
    padding = _tuple(attribute(node, "padding"), len(kernel))
    return (shape[1] % 8 == 0 and len(set(kernel)) == 1 and kernel[0] in (3, 5, 7)
            and padding == tuple(k // 2 for k in kernel)
            and set(_tuple(attribute(node, "dilation"), len(kernel))) == {1})


def _neighbours(taps: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, i + 1) for i in range(0, taps - 1, 2))


_IMAGES = "measured: taps (2i, 2i+1) in row-major kernel order share a 16-bit sum"
_DEPTHWISE = Pairing(_depthwise, _neighbours, source=_IMAGES)
_VOLUMES = Pairing(_depthwise, lambda taps: None, source="not measured: any two taps may meet")
_NO_STRING = Limit("padding is not resolved to numbers",
                   lambda node: not isinstance(attribute(node, "padding"), str))
_CONV = (constant_weight(), _NO_STRING, nonempty_channels())
_LINEAR = (constant_weight(), rank(2, 3, 4, 5))
def _direct_path(node: Node) -> bool:
    """Shapes that FBGEMM sends to its direct transposed kernel, which is wrong (measured).

    Off by up to 255 for kernels of height 2 with width up to 6, any stride up to 2, no padding,
    one group, channels divisible by 8 on both sides; exact for all other kernels up to 7x7.
    """
    inputs, outputs, height = (info(node.args[1]).shape or (0, 0, 0))[:3]  # type: ignore[arg-type]
    unpadded = set(_tuple(attribute(node, "padding"), 2)) == {0}
    return (height == 2 and inputs % 8 == 0 and outputs % 8 == 0
            and attribute(node, "groups") == 1 and unpadded)


_NO_DIRECT_PATH = Limit("FBGEMM's direct kernel is wrong for this height of 2",
                        lambda node: not _direct_path(node))
_TRANSPOSED = (constant_weight(), nonempty_channels())
_ZERO_PAD = (option("mode", "constant", reason="only zero padding keeps its meaning on integers"),
             option("value", None, 0, 0.0, reason="only zero padding keeps its meaning"))
_ELEMENTWISE = (tensors(), broadcast_channels())
_SAME_SHAPE = (tensors(), Limit("the kernel adds tensors of one shape only", lambda node: (
    info(node.args[0]).shape == info(node.args[1]).shape)))  # type: ignore[arg-type]
# Measured: from 1x1 input to any larger output the kernel reads beyond its data, off by 255.
_TO_ONE = option("output_size", 1, reason="the kernel is wrong when it enlarges a 1x1 input")

FBGEMM = Target(
    name="fbgemm",
    summary="int8 on x86 servers (AVX2, AVX-512, VNNI)",
    engine="fbgemm",
    activation=QSpec(0, 255),
    weight=QSpec(-128, 127, symmetric=True, per_channel=True),
    refused_modes={Mode.HALF: "FBGEMM's kernels are int8; half precision needs another target"},
    # FBGEMM's transposed convolutions refuse per-channel weights (measured).
    per_tensor_weights=frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}),
    kernels=(
        #      operator            call                     absorbs  limits
        Kernel("conv1d",           "conv1d",                "",      (rank(3), *_CONV)),
        Kernel("conv1d",           "conv1d_relu",           "relu",  (rank(3), *_CONV)),
        Kernel("conv2d",           "conv2d",                "",      (rank(4), *_CONV), _DEPTHWISE),
        Kernel("conv2d",           "conv2d_relu",           "relu",  (rank(4), *_CONV), _DEPTHWISE),
        Kernel("conv3d",           "conv3d",                "",      (rank(5), *_CONV), _VOLUMES),
        Kernel("conv3d",           "conv3d_relu",           "relu",  (rank(5), *_CONV), _VOLUMES),
        Kernel("conv_transpose1d", "conv_transpose1d",      "",      (rank(3), *_TRANSPOSED)),
        Kernel("conv_transpose2d", "conv_transpose2d",      "",
               (rank(4), *_TRANSPOSED, _NO_DIRECT_PATH)),
        Kernel("conv_transpose3d", "conv_transpose3d",      "",      (rank(5), *_TRANSPOSED)),
        Kernel("linear",           "linear",                "",      _LINEAR,
               float_call="linear_float", dynamic_call="linear_dynamic"),
        Kernel("linear",           "linear_relu",           "relu",  _LINEAR,
               float_call="linear_relu_float", dynamic_call="linear_relu_dynamic"),
        Kernel("affine",           "batch_norm2d",          "",      (rank(4),)),
        Kernel("affine",           "batch_norm2d_relu",     "relu",  (rank(4),)),
        Kernel("add",              "add",                   "",      _SAME_SHAPE, None, True),
        Kernel("add",              "add_relu",              "relu",  _SAME_SHAPE, None, True),
        Kernel("mul",              "mul",                   "",      _ELEMENTWISE, None, True),
        Kernel("mul",              "mul_relu",              "relu",  _ELEMENTWISE, None, True),
        Kernel("cat",              "cat",                   "",      (), None, True),
        Kernel("hardswish",        "hardswish",             "",      (), None, True),
        Kernel("hardsigmoid",      "hardsigmoid",           "",      (), None, True),
        Kernel("sigmoid",          "sigmoid",               "",      (), None, True),
        Kernel("tanh",             "tanh",                  "",      (), None, True),
        Kernel("leaky_relu",       "leaky_relu",            "",      (), None, True),
        Kernel("elu",              "elu",                   "",      (), None, True),
        Kernel("relu",             "relu",                  "",      (), None, True),
        Kernel("clamp",            "clamp",                 "",      (), None, True),
        Kernel("max_pool1d",       "max_pool1d",            "",      (), None, True),
        Kernel("max_pool2d",       "max_pool2d",            "",      (rank(4),), None, True),
        Kernel("avg_pool2d",       "avg_pool2d",            "",      (rank(4),), None, True),
        Kernel("avg_pool3d",       "avg_pool3d",            "",      (rank(5),), None, True),
        Kernel("adaptive_avg_pool2d", "adaptive_avg_pool2d", "",
               (rank(4), _TO_ONE), None, True),
        Kernel("adaptive_avg_pool3d", "adaptive_avg_pool3d", "",
               (rank(5), _TO_ONE), None, True),
        Kernel("mean",             "mean",                  "",      (), None, True),
        Kernel("flatten",          "flatten"),
        Kernel("reshape",          "reshape"),
        Kernel("permute",          "permute"),
        Kernel("transpose",        "transpose"),
        Kernel("squeeze",          "squeeze"),
        Kernel("unsqueeze",        "unsqueeze"),
        Kernel("narrow",           "narrow"),
        Kernel("getitem",          "getitem"),
        Kernel("contiguous",       "contiguous"),
        Kernel("channel_shuffle",  "channel_shuffle",       "",      (rank(4),), None, True),
        Kernel("pixel_shuffle",    "pixel_shuffle",         "",      (rank(4),)),
        Kernel("pixel_unshuffle",  "pixel_unshuffle",       "",      (rank(4),)),
        Kernel("pad",              "pad",                   "",      _ZERO_PAD),
    ),
    unsupported={
        "batch_norm": "batch statistics are needed at run time",
        "interpolate": "its kernel mixes up channels when a call brings a 1x1 input",
        "layer_norm": "its kernel rounds twice; float keeps the accuracy",
        "group_norm": "its kernel rounds twice; float keeps the accuracy",
        "softmax": "probabilities need more than 8 bits",
        "log_softmax": "log-probabilities need more than 8 bits",
        "gelu": "its kernel keeps the input's scale, which wastes the output's range",
        "silu": "torch has no integer kernel for silu",
        "mish": "torch has no integer kernel for mish",
        "softplus": "torch has no integer kernel for softplus",
        "prelu": "its kernel quantizes the slope with a format that must hold 1.0",
        "sub": "torch has no integer kernel for a difference",
        "div": "torch has no integer kernel for a quotient",
        "pow": "torch has no integer kernel for powers",
        "matmul": "products of two activations are not worth 8 bits here",
        "stack": "torch's integer stack keeps only the first input's format",
        "roll": "torch has no integer kernel for roll",
        "adaptive_max_pool2d": "torch has no integer kernel for adaptive max pooling",
        "max_pool3d": "not needed by any known classifier; runs in float",
        "avg_pool1d": "torch's integer kernel differs from the float operator in shape rules",
        "adaptive_avg_pool1d": "torch has no stable integer kernel for it",
    },
)
