"""Random small CNN graphs: a recipe of steps that always builds, whatever its numbers are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn


@dataclass(frozen=True)
class Step:
    """One value: what makes it, which variant, and which earlier values it reads."""

    kind: str
    option: int
    source: int
    other: int


@dataclass(frozen=True)
class Recipe:
    """A whole model: its input's shape, its steps, what it returns, and the seed of its weights."""

    channels: int
    height: int
    width: int
    steps: tuple[Step, ...]
    tail: str
    seed: int


def conv(c, option):
    out, kernel = (4, 6, 8, 16)[option % 4], (1, 3, 5)[option // 4 % 3]
    mode = ("zeros", "zeros", "reflect", "circular")[option // 12 % 4] if kernel == 3 else "zeros"
    padding = ("same", kernel // 2)[option // 48 % 2]
    return nn.Conv2d(c, out, kernel, padding=padding, bias=option % 2 == 0, padding_mode=mode), out


def depthwise(c, option):
    kernel = (3, 5, 3)[option % 3]
    return nn.Conv2d(c, c, kernel, padding=kernel // 2, groups=c, bias=option % 2 == 0), c


def grouped(c, option):
    groups = 2 if c % 2 == 0 and option % 2 else 1
    return nn.Conv2d(c, 2 * c, 3, padding=2, dilation=2, groups=groups), 2 * c


def transposed(c, option):
    out, kernel = (4, 8)[option % 2], (2, 3)[option // 2 % 2]
    return nn.Sequential(nn.ConvTranspose2d(c, out, kernel, stride=2, padding=kernel - 2,
                                            output_padding=kernel - 2), nn.MaxPool2d(2)), out


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU,
               lambda: nn.LeakyReLU(0.1), nn.Hardsigmoid, lambda: nn.Hardtanh(-0.5, 0.7), nn.PReLU,
               nn.Mish, nn.Softplus, nn.Softsign, nn.SELU, nn.CELU, nn.Softshrink, nn.Tanhshrink,
               nn.LogSigmoid)  # none that jumps: a step of rounding would become a large one
POOLS = (lambda: nn.MaxPool2d(3, 1, 1), lambda: nn.AvgPool2d(3, 1, 1),
         lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
         lambda: nn.MaxPool2d(3, 1, 1, ceil_mode=True))
# kind -> (channels, option) -> (layer, channels out); functional kinds are in `apply`
LAYERS = {
    "conv": conv, "depthwise": depthwise, "grouped": grouped, "transposed": transposed,
    "norm": lambda c, o: (nn.BatchNorm2d(c, affine=o % 4 > 0, track_running_stats=o % 7 > 0), c),
    "act": lambda c, o: (ACTIVATIONS[o % len(ACTIVATIONS)](), c),
    "pool": lambda c, o: (POOLS[o % 4](), c), "group_norm": lambda c, o: (nn.GroupNorm(1, c), c),
    "gate": lambda c, o: (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1), (
        nn.Sigmoid(), nn.Hardsigmoid())[o % 2]), c),
    "resize": lambda c, o: (nn.Sequential(nn.Upsample(scale_factor=2, mode=(
        "nearest", "bilinear")[o % 2]), nn.AvgPool2d(2)), c),
    "shuffle": lambda c, o: (nn.ChannelShuffle(2) if c % 2 == 0 else nn.Identity(), c),
    "pad": lambda c, o: (nn.Sequential(nn.ZeroPad2d((1, 0, 0, 1)), nn.MaxPool2d(2, 1)), c),
    "dropout": lambda c, o: (nn.Dropout(0.3), c), "linear": lambda c, o: (nn.Linear(c, c), c)}
FUNCTIONAL = ("add", "mul", "cat", "slice", "chunk", "reuse", "inplace", "scale", "turned")
KINDS = (*LAYERS, *FUNCTIONAL)


class FuzzNet(nn.Module):
    """The model of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        torch.manual_seed(recipe.seed)
        self.recipe, widths = recipe, [recipe.channels]
        self.layers, self.plan = nn.ModuleList(), []
        for step in recipe.steps:
            source = step.source % len(widths)
            layer, width, other = self._make(step, widths, source)
            self.layers.append(layer)
            self.plan.append((step.kind, source, other))
            widths.append(width)
        self.head = nn.Linear(widths[-1], 4)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
        self.eval()

    def _make(self, step, widths, source):
        width = widths[source]
        if step.kind in LAYERS:
            layer, out = LAYERS[step.kind](width, step.option)
            return layer, out, 0
        same = [i for i, w in enumerate(widths) if w == width]
        if step.kind in ("add", "mul"):
            return nn.Identity(), width, same[step.other % len(same)]
        if step.kind == "cat":
            other = step.other % len(widths)
            return nn.Identity(), width + widths[other], other
        if step.kind == "reuse":
            fitting = [m for m in self.layers if isinstance(m, nn.Conv2d) and m.in_channels == width]
            layer = fitting[step.other % len(fitting)] if fitting else nn.Identity()
            return layer, getattr(layer, "out_channels", width), 0
        cut = {"slice": max(width - 1, 1), "chunk": width // 2 if width % 2 == 0 else width}
        return nn.Identity(), cut.get(step.kind, width), width

    def forward(self, x):
        values = [x]
        for layer, (kind, source, other) in zip(self.layers, self.plan, strict=True):
            values.append(apply(kind, layer, values, source, other))
        if self.recipe.tail == "head":
            return self.head(torch.flatten(F.adaptive_avg_pool2d(values[-1], 1), 1))
        if self.recipe.tail == "mean":
            return values[-1].mean((2, 3)), values[len(values) // 2]
        if self.recipe.tail == "pooled":
            return F.adaptive_avg_pool2d(values[-1], 1)
        return {"last": values[-1]}


def apply(kind, layer, values, source, other):
    """The value of one step."""
    x = values[source]
    if kind == "add":
        return x + values[other]
    if kind == "mul":
        return x * values[other]
    if kind == "cat":
        return torch.cat([x, values[other]], 1)
    if kind == "slice":
        return x[:, 1:] if other > 1 else x
    if kind == "chunk":
        return x.chunk(2, dim=1)[1] if other % 2 == 0 else x
    if kind == "inplace":
        return F.relu(x * 1.0, inplace=True)
    if kind == "scale":
        return 0.5 * x + 0.25
    if kind == "turned":
        return 1 - x
    if kind == "gate":
        return x * layer(x)
    if kind == "linear":
        return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return layer(x)


numbers = st.integers(0, 999)
recipes = st.builds(
    Recipe, st.sampled_from((3, 4, 5, 8)), st.integers(6, 13), st.integers(6, 13),
    st.lists(st.builds(Step, st.sampled_from(KINDS), numbers, numbers, numbers),
             min_size=1, max_size=9).map(tuple),
    st.sampled_from(("head", "mean", "pooled", "dict")), st.integers(0, 2**16))
