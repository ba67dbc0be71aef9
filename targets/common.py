"""Rows that every engine of torch shares: its kernels for these do not look at packed weights.

Facts marked "measured" were found by exact integer tests on torch 2.15 (x86-64 with VNNI); the
conformance tests repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping

from fxq.ir.facts import info
from fxq.targets.base import (
    ELEMENTWISE_OPS,
    Kernel,
    Limit,
    broadcast_channels,
    one_tensor,
    option,
    rank,
    tensors,
)

ZERO_PAD = (option("mode", "constant", reason="only zero padding keeps its meaning on integers"),
            option("value", None, 0, 0.0, reason="only zero padding keeps its meaning"))
ELEMENTWISE = (tensors(), broadcast_channels())
SAME_SHAPE = (tensors(), Limit("the kernel adds tensors of one shape only", lambda node: (
    info(node.args[0]).shape == info(node.args[1]).shape)))  # type: ignore[arg-type]
# Measured: from 1x1 input to any larger output the kernel reads beyond its data, off by 255.
TO_ONE = option("output_size", 1, reason="the kernel is wrong when it enlarges a 1x1 input")
RESIZE = (rank(4), option("mode", "nearest", "bilinear"),
          option("antialias", False, reason="torch has no integer kernel with antialiasing"))

# `engine_sensitive` is the fifth column: under another engine of the process they give other bits.
COMMON: tuple[Kernel, ...] = (
    #      operator            call                     absorbs  limits
    Kernel("affine",           "batch_norm2d",          "",      (rank(4),)),
    Kernel("affine",           "batch_norm2d_relu",     "relu",  (rank(4),)),
    Kernel("layer_norm",       "layer_norm"),
    Kernel("add",              "add",                   "",      SAME_SHAPE, (), True),
    Kernel("add",              "add_relu",              "relu",  SAME_SHAPE, (), True),
    Kernel("mul",              "mul",                   "",      ELEMENTWISE, (), True),
    Kernel("mul",              "mul_relu",              "relu",  ELEMENTWISE, (), True),
    Kernel("cat",              "cat",                   "",      (), (), True),
    Kernel("hardswish",        "hardswish",             "",      (), (), True),
    Kernel("hardsigmoid",      "hardsigmoid",           "",      (), (), True),
    Kernel("sigmoid",          "sigmoid",               "",      (), (), True),
    Kernel("tanh",             "tanh",                  "",      (), (), True),
    Kernel("leaky_relu",       "leaky_relu",            "",      (), (), True),
    Kernel("elu",              "elu",                   "",      (), (), True),
    Kernel("relu",             "relu",                  "",      (), (), True),
    Kernel("clamp",            "clamp",                 "",      (), (), True),
    Kernel("max_pool1d",       "max_pool1d",            "",      (), (), True),
    Kernel("max_pool2d",       "max_pool2d",            "",      (rank(4),), (), True),
    Kernel("avg_pool2d",       "avg_pool2d",            "",      (rank(4),), (), True),
    Kernel("avg_pool3d",       "avg_pool3d",            "",      (rank(5),), (), True),
    Kernel("adaptive_avg_pool2d", "adaptive_avg_pool2d", "", (rank(4), TO_ONE), (), True),
    Kernel("adaptive_avg_pool3d", "adaptive_avg_pool3d", "", (rank(5), TO_ONE), (), True),
    Kernel("mean",             "mean",                  "",      (), (), True),
    Kernel("interpolate",      "interpolate",           "",      RESIZE, (), True),
    Kernel("flatten",          "flatten"),
    Kernel("reshape",          "reshape"),
    Kernel("permute",          "permute"),
    Kernel("transpose",        "transpose"),
    Kernel("squeeze",          "squeeze"),
    Kernel("unsqueeze",        "unsqueeze"),
    Kernel("narrow",           "narrow"),
    Kernel("getitem",          "getitem"),
    Kernel("contiguous",       "contiguous"),
    Kernel("channel_shuffle",  "channel_shuffle",       "",      (rank(4),), (), True),
    Kernel("pixel_shuffle",    "pixel_shuffle",         "",      (rank(4),)),
    Kernel("pixel_unshuffle",  "pixel_unshuffle",       "",      (rank(4),)),
    Kernel("pad",              "pad",                   "",      ZERO_PAD),
    # No kernel: a table of 256 entries, or float between; `fxq/kernels/lookup_tables.py` chooses.
    # This row stands for each elementwise operator that has none of its own.
    Kernel(ELEMENTWISE_OPS,    "function"),
    Kernel("add",              "function",              "",      (one_tensor(),)),
    Kernel("add",              "function",              "relu",  (one_tensor(),)),
    Kernel("sub",              "function",              "",      (one_tensor(),)),
    Kernel("rsub",             "function",              "",      (one_tensor(),)),
    Kernel("mul",              "function",              "",      (one_tensor(),)),
    Kernel("mul",              "function",              "relu",  (one_tensor(),)),
    Kernel("div",              "function",              "",      (one_tensor(),)),
)

UNSUPPORTED: Mapping[str, str] = {
    "batch_norm": "batch statistics are needed at run time",
    "group_norm": "its kernel rounds twice; float keeps the accuracy",
    "instance_norm": "statistics of each image are needed at run time",
    "softmax": "probabilities need more than 8 bits",
    "log_softmax": "log-probabilities need more than 8 bits",
    "matmul": "products of two activations are not worth 8 bits here",
    "stack": "torch's integer stack keeps only the first input's format",
    "roll": "torch has no integer kernel for roll",
    "adaptive_max_pool2d": "torch has no integer kernel for adaptive max pooling",
    "max_pool3d": "not needed by any known classifier; runs in float",
    "avg_pool1d": "torch's integer kernel differs from the float operator in shape rules",
    "adaptive_avg_pool1d": "torch has no stable integer kernel for it",
}
