"""Every operator with the parameters that matter: one small net each, and its inputs' shapes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tests.nets import Fn


@dataclass(frozen=True)
class Case:
    """A net whose interesting operator runs on integers, the shapes, and the kernel to find.

    `absent`: targets where the operator stays in float, by its table.
    """

    name: str
    make: object
    shapes: tuple
    kernel: str
    absent: tuple = ()


def _conv(kernel, *args, rank=2, size=9, absent=(), **options):
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    shape = (2, args[0], *((size, size + 2, size - 2)[:rank]))
    text = ",".join(map(str, args)) + "".join(f" {k}={v}" for k, v in options.items())
    return Case(f"{kernel} {text}", lambda: nn.Sequential(layer(*args, **options)), (shape,),
                kernel, absent)


def _transposed(rank, *args, absent=(), **options):
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    kernel = f"conv_transpose{rank}d"
    text = ",".join(map(str, args)) + "".join(f" {k}={v}" for k, v in options.items())
    return Case(f"{kernel} {text}", lambda: nn.Sequential(layer(*args, **options)),
                ((2, args[0], *((5, 7, 4)[:rank])),), kernel, absent)


def _one(name, function, kernel=None, channels=7, size=(9, 5), absent=()):
    """conv -> function -> conv, so that both sides are integers."""
    def make():
        return Fn(lambda s, x: s.b(function(s.a(x))), a=nn.Conv2d(3, channels, 1),
                  b=nn.LazyConv2d(4, 1))

    return Case(name, make, ((2, 3, *size),), kernel or name.split()[0], absent)


def _two(name, function, kernel, shapes=((2, 3, 9, 5), (2, 3, 9, 5)), absent=()):
    def make():
        return Fn(lambda s, x, y: s.c(function(s.a(x), s.b(y))), a=nn.Conv2d(3, 7, 1),
                  b=nn.Conv2d(3, 7, 1), c=nn.LazyConv2d(4, 1))

    return Case(name, make, shapes, kernel, absent)


def _residual(name, function, kernel):
    def make():
        return Fn(lambda s, x: s.c(function(s.b(s.a(x)), s.a2(x))), a=nn.Conv2d(3, 16, 1),
                  a2=nn.Conv2d(3, 16, 3, padding=1), b=nn.Conv2d(16, 16, 3, padding=1),
                  c=nn.Conv2d(16, 4, 1))

    return Case(name, make, ((1, 3, 66, 62),), kernel, ("fbgemm", "qnnpack"))


class LayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 13), nn.LayerNorm(13), nn.Linear(13, 5)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def _linear(*options, relu=False):
    layers = [nn.Linear(13, 7), *([nn.ReLU()] if relu else []), nn.Linear(7, 4)]
    return nn.Sequential(*layers)



def _swapped(v):
    first, second = v.chunk(2, 1)
    return torch.cat([second, first], 1)


CASES = (
    _conv("conv1d", 5, 7, 3, rank=1, padding=1),
    _conv("conv1d", 6, 4, 3, rank=1, stride=2, groups=2),
    _conv("conv2d", 3, 8, 3),
    _conv("conv2d", 5, 7, 3, padding=1),
    _conv("conv2d", 5, 7, (3, 1), padding="same"),
    _conv("conv2d", 6, 9, 3, padding=1, groups=3),
    _conv("conv2d", 8, 8, 2, stride=2, bias=False),
    _conv("conv2d", 5, 6, 3, dilation=2, padding=2),
    _conv("conv2d", 4, 6, 3, padding=1, padding_mode="reflect"),
    _conv("conv2d", 4, 6, 3, padding=1, padding_mode="circular"),
    _conv("conv2d", 7, 7, 3, padding=1, groups=7),
    _conv("conv2d", 8, 8, 3, padding=1, groups=8),
    _conv("conv2d", 5, 10, 3, groups=5, dilation=2),
    _conv("conv2d", 16, 32, 5, padding=2, groups=16, stride=2),
    _conv("conv2d", 72, 72, 5, padding=2, groups=72, stride=2, size=7),  # T63
    _conv("conv2d", 33, 65, 1, size=31),
    _conv("conv3d", 3, 5, 3, rank=3, padding=1, absent=("native",)),
    _conv("conv3d", 4, 4, 3, rank=3, groups=2, absent=("native",)),
    _transposed(1, 5, 6, 3, stride=2),
    _transposed(2, 5, 6, 3),
    _transposed(2, 4, 6, 3, stride=2, padding=1, output_padding=1),
    _transposed(2, 4, 6, 3, groups=2, dilation=2, padding=1),
    _transposed(3, 3, 4, 3, stride=2, absent=("qnnpack", "native")),
    Case("linear", _linear, ((5, 13),), "linear"),
    Case("linear relu", lambda: _linear(relu=True), ((5, 13),), "linear_relu"),
    Case("linear of 3 dimensions", _linear, ((2, 3, 13),), "linear"),
    Case("layer_norm", LayerNorm, ((3, 4, 6),), "layer_norm", ("native",)),
    Case("conv2d relu", lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1)),
         ((2, 3, 9, 7),), "conv2d_relu"),
    Case("conv2d relu6", lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Conv2d(5, 4, 1)),
         ((2, 3, 9, 7),), "conv2d"),
    _residual("conv2d_add", torch.add, "conv2d_add"),
    _residual("conv2d_add_relu", lambda a, b: F.relu(a + b), "conv2d_add_relu"),
    _two("add", torch.add, "add"),
    _one("add of a pool", lambda v: F.max_pool2d(v, 3, 1, 1) + v, "add"),
    _two("add_relu", lambda a, b: F.relu(a + b), "add_relu"),
    _two("mul", torch.mul, "mul"),
    _two("mul_relu", lambda a, b: F.relu(a * b), "mul_relu"),
    _two("mul of one per channel", torch.mul, "mul", ((2, 3, 9, 5), (2, 3, 1, 1))),
    _two("cat", lambda a, b: torch.cat([a, b], 1), "cat"),
    _two("cat of rows", lambda a, b: torch.cat([a, b], 2), "cat"),
    Case(
        "batch_norm2d", lambda: nn.Sequential(
            nn.Conv2d(3, 7, 1), nn.MaxPool2d(2), nn.BatchNorm2d(7), nn.Conv2d(7, 4, 1)),
        ((2, 3, 9, 5),), "batch_norm2d"),
    *(_one(name, getattr(F, name, None) or getattr(torch, name)) for name in (
        "hardswish", "hardsigmoid", "sigmoid", "tanh", "leaky_relu", "elu")),
    _one("silu table", F.silu, "function", size=(3, 2)),
    _one("gelu table", F.gelu, "function", size=(3, 2)),
    _one("mish table", F.mish, "function", size=(3, 2)),
    _one("softplus table", F.softplus, "function", size=(3, 2)),
    _one("a number times", lambda v: 2.5 * v - 1, "function", size=(3, 2)),
    *(_one(f"{name} table", getattr(F, name), "function", size=(3, 2)) for name in (
        "celu", "selu", "softsign", "logsigmoid", "tanhshrink", "softshrink", "hardshrink")),
    *(_one(f"{name} table", getattr(torch, name), "function", size=(3, 2)) for name in (
        "abs", "neg", "erf", "sin", "cos")),
    _one("threshold table", lambda v: F.threshold(v, 0.1, -0.5), "function", size=(3, 2)),
    _one("a number minus", lambda v: 3 - v, "function", size=(3, 2)),
    _one("silu in float", F.silu, "quantize", size=(41, 37)),
    Case("prelu", lambda: nn.Sequential(nn.Conv2d(3, 7, 1), nn.PReLU(7), nn.Conv2d(7, 4, 1)),
         ((2, 3, 9, 5),), "quantize"),
    _one("max_pool2d", lambda v: F.max_pool2d(v, 3, 2, 1)),
    _one("max_pool2d ceil", lambda v: F.max_pool2d(v, 2, ceil_mode=True)),
    _one("max_pool2d dilated", lambda v: F.max_pool2d(v, 2, 1, dilation=2)),
    _one("avg_pool2d", lambda v: F.avg_pool2d(v, 3, 2)),
    _one("avg_pool2d ceil", lambda v: F.avg_pool2d(v, 2, ceil_mode=True), absent=("qnnpack",)),
    _one("avg_pool2d padded", lambda v: F.avg_pool2d(v, 3, 1, 1)),
    _one("avg_pool2d not counting", lambda v: F.avg_pool2d(v, 3, 1, 1, count_include_pad=False),
         absent=("qnnpack",)),
    _one("adaptive_avg_pool2d", lambda v: F.adaptive_avg_pool2d(v, 1)),
    _one("mean", lambda v: v.mean((2, 3), keepdim=True)),
    _one("interpolate nearest", lambda v: F.interpolate(v, scale_factor=2)),
    _one("interpolate to a size", lambda v: F.interpolate(v, size=(11, 8))),
    _one("interpolate 1x1", lambda v: F.interpolate(v, size=(3, 3)), size=(1, 1)),
    _one("interpolate bilinear",
         lambda v: F.interpolate(v, scale_factor=2, mode="bilinear"), "interpolate",
         absent=("native",)),
    _one("channel_shuffle", lambda v: F.channel_shuffle(v, 2), channels=8),
    _one("pixel_shuffle", lambda v: F.pixel_shuffle(v, 2), channels=8),
    _one("pad", lambda v: F.pad(v, (1, 2, 0, 1))),
    _one("chunks", _swapped, "cat", channels=8),
)
