"""QNNPACK: int8 on ARM phones and boards; it runs on x86 too, so that a phone's bits can be seen.

Biases are int32 at the scale of the sums; weights have one scale per channel. Facts marked
"measured" were found by exact integer tests on torch 2.15 (x86-64).
"""

from __future__ import annotations

from fxq.ir.ops import attribute
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode
from fxq.targets.base import Kernel, Limit, Target, constant_weight, option, rank
from fxq.targets.common import COMMON, UNSUPPORTED
from fxq.targets.x86_shapes import CONV, TRANSPOSED

_LINEAR = (constant_weight(), rank(2, 3, 4, 5))
# Measured: averages over padding that is not to be counted come out wrong; pytorch#77511.
_PLAIN_AVERAGE = (
    rank(4),
    Limit("its average counts padding even when it must not",
          lambda node: attribute(node, "padding") in (0, (0, 0))
          or attribute(node, "count_include_pad")),
    option("ceil_mode", False, reason="its average pool fails with ceil_mode"),
)
_OWN = {"clamp", "avg_pool2d"}

QNNPACK = Target(
    name="qnnpack",
    summary="int8 on ARM: phones and boards",
    engine="qnnpack",
    activation=QSpec(0, 255),
    weight=QSpec(-128, 127, symmetric=True, per_channel=True),
    refused_modes={Mode.HALF: "QNNPACK's kernels are int8; half precision needs another target"},
    # Measured: per-channel transposed weights fail with more than one group.
    per_tensor_weights=frozenset({"conv_transpose1d", "conv_transpose2d"}),
    bias="int32",
    kernels=(
        #      operator            call                absorbs  limits
        Kernel("conv1d",           "conv1d",           "",      (rank(3), *CONV)),
        Kernel("conv1d",           "conv1d_relu",      "relu",  (rank(3), *CONV)),
        Kernel("conv2d",           "conv2d",           "",      (rank(4), *CONV)),
        Kernel("conv2d",           "conv2d_relu",      "relu",  (rank(4), *CONV)),
        Kernel("conv3d",           "conv3d",           "",      (rank(5), *CONV)),
        Kernel("conv3d",           "conv3d_relu",      "relu",  (rank(5), *CONV)),
        Kernel("conv_transpose1d", "conv_transpose1d", "",      (rank(3), *TRANSPOSED)),
        Kernel("conv_transpose2d", "conv_transpose2d", "",      (rank(4), *TRANSPOSED)),
        Kernel("linear",           "linear",           "",      _LINEAR,
               dynamic_call="linear_dynamic"),
        Kernel("linear",           "linear_relu",      "relu",  _LINEAR,
               dynamic_call="linear_relu_dynamic"),
        Kernel("avg_pool2d",       "avg_pool2d",       "",      _PLAIN_AVERAGE, (), True),
        *(row for row in COMMON if row.op not in _OWN),
    ),
    unsupported={
        **UNSUPPORTED,
        "conv_transpose3d": "QNNPACK's transposed 3-d convolution is wrong (measured)",
        "clamp": "QNNPACK's clamp is wrong for images in channels_last (measured)",
    },
)
