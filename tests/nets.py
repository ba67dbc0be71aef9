"""Micro networks, each with the one feature that its name says, and deterministic inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def ramp(*shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    """A tensor whose values rise evenly from low to high."""
    count = int(torch.tensor(shape).prod())
    return torch.linspace(low, high, count).reshape(shape)


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with batch-norm statistics that differ from the identity."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


class Fn(nn.Module):
    """A module from layers and a function of (self, *inputs)."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def conv_bn_relu(channels: int = 4) -> nn.Module:
    return lively(nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU()))


class Residual(nn.Module):
    """conv-bn-relu, conv-bn, add, relu."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return F.relu(y)


class SqueezeExcite(nn.Module):
    """A gate from the mean of each channel, as in MobileNetV3."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.Conv2d(channels, 4, 1)
        self.up = nn.Conv2d(4, channels, 1)

    def forward(self, x):
        x = F.hardswish(self.body(x))
        gate = F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return gate * x


class Classifier(nn.Module):
    """conv-bn-relu6, max pool, residual, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
                                  nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.block = Residual(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.block(self.pool(self.stem(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(torch.flatten(x, 1))
