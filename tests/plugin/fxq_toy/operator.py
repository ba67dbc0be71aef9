"""An operator: bump(x) = x·exp(-sharpness·x²), as a function and as a module."""

import torch
from torch import Tensor, nn
from torch.overrides import wrap_torch_function

from fxq.frontend.operators import Operator
from fxq.frontend.spellings import Spelling
from fxq.ir.ops import Op


@wrap_torch_function(lambda input, sharpness=1.0: (input,))  # so that torch.fx sees the call
def bump(input: Tensor, sharpness: float = 1.0) -> Tensor:
    return input * torch.exp(-sharpness * input * input)


class Bump(nn.Module):
    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        return bump(x, self.sharpness)


BUMP = Operator(Op("bump", bump, ("input",), {"sharpness": 1.0}, elementwise=True),
                modules={Bump: Spelling("bump", "sharpness")})
