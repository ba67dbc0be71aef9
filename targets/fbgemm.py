"""FBGEMM: int8 inference on x86 servers, through torch's packed quantized kernels."""

from __future__ import annotations

from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.ops import attribute
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode
from fxq.targets.base import Kernel, Limit, Target, constant_weight, rank
from fxq.targets.common import COMMON, UNSUPPORTED
from fxq.targets.costs import LARGEST_EXPANSION
from fxq.targets.x86_shapes import (
    CONV,
    FBGEMM_DENSE,
    FBGEMM_TRANSPOSED,
    IMAGES,
    TRANSPOSED,
    VOLUMES,
    as_tuple,
    fbgemm_depthwise,
    is_depthwise,
    shapes,
)

_DENSE = (FBGEMM_DENSE,)


def _direct_path(node: Node) -> bool:
    """Shapes that FBGEMM sends to its direct transposed kernel, which is wrong (measured).

    Off by up to 255 for kernels of height 2 with width up to 6, any stride up to 2, no padding,
    one group, channels divisible by 8 on both sides; exact for all other kernels up to 7x7.
    """
    inputs, outputs, height = (info(node.args[1]).shape or (0, 0, 0))[:3]  # type: ignore[arg-type]
    unpadded = set(as_tuple(attribute(node, "padding"), 2)) == {0}
    return (height == 2 and inputs % 8 == 0 and outputs % 8 == 0
            and attribute(node, "groups") == 1 and unpadded)


_NO_DIRECT_PATH = Limit("FBGEMM's direct kernel is wrong for this height of 2",
                        lambda node: not _direct_path(node))
# Measured: 10 to 50 times slower than the same layer as one group with zeros between.
_SLOW = (rank(4), *CONV, Limit(
    "groups of one channel have a fast kernel", lambda node: is_depthwise(node)
    and not fbgemm_depthwise(node) and shapes(node)[0][1] <= LARGEST_EXPANSION))
_LINEAR = (constant_weight(), rank(2, 3, 4, 5))
_T = (FBGEMM_TRANSPOSED,)

LAYERS: tuple[Kernel, ...] = (
    #      operator            call                absorbs  limits                    pairings
    Kernel("conv1d",           "conv1d",           "",      (rank(3), *CONV), _DENSE),
    Kernel("conv1d",           "conv1d_relu",      "relu",  (rank(3), *CONV), _DENSE),
    # A zero meets each weight in the expanded form, so that no pair can saturate.
    Kernel("conv2d",           "conv2d",           "",      _SLOW, expand_groups=True),
    Kernel("conv2d",           "conv2d_relu",      "relu",  _SLOW, expand_groups=True),
    Kernel("conv2d",           "conv2d",           "",      (rank(4), *CONV), (IMAGES, *_DENSE)),
    Kernel("conv2d",           "conv2d_relu",      "relu",  (rank(4), *CONV), (IMAGES, *_DENSE)),
    Kernel("conv3d",           "conv3d",           "",      (rank(5), *CONV), (VOLUMES, *_DENSE)),
    Kernel("conv3d",           "conv3d_relu",      "relu",  (rank(5), *CONV), (VOLUMES, *_DENSE)),
    Kernel("conv_transpose1d", "conv_transpose1d", "",      (rank(3), *TRANSPOSED), _T),
    Kernel("conv_transpose2d", "conv_transpose2d", "",
           (rank(4), *TRANSPOSED, _NO_DIRECT_PATH), _T),
    Kernel("conv_transpose3d", "conv_transpose3d", "",      (rank(5), *TRANSPOSED), _T),
    Kernel("linear",           "linear",           "",      _LINEAR, _DENSE,
           float_call="linear_float", dynamic_call="linear_dynamic"),
    Kernel("linear",           "linear_relu",      "relu",  _LINEAR, _DENSE,
           float_call="linear_relu_float", dynamic_call="linear_relu_dynamic"),
)

FBGEMM = Target(
    name="fbgemm",
    summary="int8 on x86 servers (AVX2, AVX-512, VNNI)",
    engine="fbgemm",
    activation=QSpec(0, 255),
    weight=QSpec(-128, 127, symmetric=True, per_channel=True),
    refused_modes={Mode.HALF: "FBGEMM's kernels are int8; half precision needs another target"},
    # FBGEMM's transposed convolutions refuse per-channel weights (measured).
    per_tensor_weights=frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}),
    kernels=(*LAYERS, *COMMON),
    unsupported=UNSUPPORTED,
)
