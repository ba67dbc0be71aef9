"""A model and data that use all of it.

    fxq compile fxq_toy.net:make --data fxq_toy.net:batches --target toy --pass fuse-silu
"""

import torch
from torch import Tensor, nn

from fxq_toy.operator import Bump, bump


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.bump = Bump(0.5)
        self.second = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardswish())
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = bump(self.bump(self.first(x)), sharpness=0.25)
        x = self.second(x)
        return self.last(x * torch.sigmoid(x))


def make() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def batches() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 12, 12)]
