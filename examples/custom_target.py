"""A target of one's own: an accelerator that has ReLU and convolutions without groups.

    python examples/custom_target.py

What its table lacks stays in float, with the reason from the table. See docs/targets.md for how
another package registers it by name.
"""

from dataclasses import replace

import torch
from torch import nn

import fxq
from fxq.targets import Kernel, Limit
from fxq.targets.base import constant_weight, rank
from fxq.targets.fbgemm import FBGEMM

ONE_GROUP = Limit("the accelerator has no grouped convolutions",
                  lambda node: node.kwargs.get("groups", 1) == 1, source="its data sheet")
TOY = replace(
    FBGEMM, name="toy", summary="convolutions without groups, and ReLU",
    kernels=(Kernel("conv2d", "conv2d", "", (rank(4), constant_weight(), ONE_GROUP)),
             Kernel("conv2d", "conv2d_relu", "relu", (rank(4), constant_weight(), ONE_GROUP)),
             Kernel("relu", "relu")),
    unsupported={"linear": "the accelerator has no linear layers"})

if __name__ == "__main__":
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2),
                        nn.Flatten(), nn.Linear(8 * 144, 4)).eval()
    x = torch.randn(4, 3, 16, 16)
    compiled = fxq.compile(net, target=TOY, example_inputs=(x,), calibration_data=[x])
    print(compiled.report)
    assert {r.op for r in compiled.report.left_in_float} >= {"linear", "conv2d"}
    print(f"SQNR {fxq.sqnr(net(x), compiled(x)):.1f} dB")
