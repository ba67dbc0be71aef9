"""x86: oneDNN's kernels where they are faster, FBGEMM's for the rest, in one graph.

A packed weight remembers its engine, so that kernels of both can be mixed freely (measured:
`bits independent of the engine that is current`). Thresholds are in `targets/costs.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.sizes import macs
from fxq.targets.base import Kernel, Limit, rank
from fxq.targets.costs import ONEDNN_MACS, ONEDNN_OUTPUTS
from fxq.targets.fbgemm import FBGEMM
from fxq.targets.x86_shapes import CONV, ONEDNN_DENSE, is_depthwise


def _pays(node: Node) -> bool:
    """oneDNN computes faster and starts slower than FBGEMM; its depthwise kernels always win."""
    batch, *image = info(node).shape or (1,)
    work = macs(node) // max(batch, 1)
    return is_depthwise(node) or math.prod(image) >= ONEDNN_OUTPUTS or work >= ONEDNN_MACS


_PAYS = Limit("FBGEMM is faster for so small a convolution", _pays,
              source="measured by benchmarks/costs.py")
_LIMITS = (rank(4), *CONV, _PAYS)


def _onednn(call: str, absorbs: str) -> Kernel:
    return Kernel("conv2d", call, absorbs, _LIMITS, (ONEDNN_DENSE,), engine="onednn",
                  engine_required="add" in absorbs)


X86 = replace(
    FBGEMM,
    name="x86",
    summary="int8 on x86: oneDNN and FBGEMM mixed, whichever is faster for a shape",
    engine="x86",
    kernels=(
        _onednn("conv2d", ""),
        _onednn("conv2d_relu", "relu"),
        _onednn("conv2d_add", "add"),  # writes into the memory of what it adds to
        _onednn("conv2d_add_relu", "add_relu"),
        *(replace(row, engine="fbgemm") if row.pairings else row for row in FBGEMM.kernels),
    ),
)
