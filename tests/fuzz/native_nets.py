"""Random small CNNs for the native engine: each step is drawn, and kept where float computes it."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 60_000  # numbers in a value of two images
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 70)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.Sigmoid, nn.GELU, nn.Hardsigmoid,
               lambda: nn.LeakyReLU(0.1), lambda: nn.Hardtanh(-0.5, 0.7), nn.ELU, nn.Tanh)
CONV = {3: nn.Conv1d, 4: nn.Conv2d}
TRANSPOSED = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d}
MAX_POOL = {3: nn.MaxPool1d, 4: nn.MaxPool2d}
AVERAGE_POOL = {3: nn.AvgPool1d, 4: nn.AvgPool2d}
NORM = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


def divisors(*numbers):
    return [d for d in range(1, min(numbers) + 1) if not any(n % d for n in numbers)]


def several(draw, x, *choices):
    """One number for each dimension of space."""
    return tuple(draw.choice(choices) for _ in range(x.dim() - 2))


def conv(draw, x):
    outputs, kernel = draw.choice(CHANNELS), several(draw, x, 1, 1, 1, 2, 3, 3, 3, 4, 5, 7)
    if draw.random() < 0.3:
        kernel = (1,) * (x.dim() - 2)
    groups = draw.choice(divisors(x.shape[1], outputs)) if draw.random() < 0.3 else 1
    mode = draw.choice(("zeros",) * 9 + ("reflect",))
    return CONV[x.dim()](x.shape[1], outputs, kernel, several(draw, x, 1, 1, 2, 3),
                         tuple(draw.randint(0, k) for k in kernel), several(draw, x, 1, 1, 1, 2, 3),
                         groups, draw.random() < 0.7, mode)


def same_conv(draw, x, outputs=None, groups=1):
    kernel = several(draw, x, 1, 3, 5)
    return CONV[x.dim()](x.shape[1], outputs or x.shape[1], kernel,
                         padding=tuple(k // 2 for k in kernel), groups=groups)


def depthwise(draw, x):
    kernel = several(draw, x, 1, 2, 3, 3, 3, 5, 5, 7)
    return CONV[x.dim()](x.shape[1], x.shape[1] * draw.choice((1, 1, 1, 2, 3)), kernel,
                         several(draw, x, 1, 1, 2, 3), tuple(draw.randint(0, k) for k in kernel),
                         several(draw, x, 1, 1, 1, 2), x.shape[1], draw.random() < 0.7)


def transposed(draw, x):
    outputs, stride = draw.choice(CHANNELS[:12]), several(draw, x, 1, 2, 2, 3)
    return TRANSPOSED[x.dim()](
        x.shape[1], outputs, several(draw, x, 1, 2, 3, 4), stride, several(draw, x, 0, 1, 2),
        tuple(draw.randint(0, s - 1) for s in stride), draw.choice(divisors(x.shape[1], outputs)),
        draw.random() < 0.7, several(draw, x, 1, 1, 2))


def block(draw, x):
    """Convolution, norm and activation, as networks have them."""
    layer = draw.choice((conv, depthwise, same_conv))(draw, x)
    return nn.Sequential(layer, NORM[x.dim()](layer.out_channels), activation(draw, x))


def activation(draw, x):
    return draw.choice(ACTIVATIONS)()


def residual(draw, x):
    """x + f(x) or f(x) + x, which an activation may follow."""
    layer, first = draw.choice((block_of_same, same_conv))(draw, x), draw.random() < 0.5
    last = draw.choice((nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU))()
    return Joined((layer, last), lambda f, g, v: g(v + f(v)) if first else g(f(v) + v))


def block_of_same(draw, x):
    depth = draw.random() < 0.4
    return nn.Sequential(same_conv(draw, x, groups=x.shape[1] if depth else 1),
                         NORM[x.dim()](x.shape[1]), activation(draw, x), same_conv(draw, x))


def gate(draw, x):
    """Squeeze and excitation."""
    c, first = max(1, x.shape[1] // draw.choice((1, 2, 4))), draw.random() < 0.5
    layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(x.shape[1], c, 1), nn.ReLU(),
                           nn.Conv2d(c, x.shape[1], 1), draw.choice((nn.Sigmoid, nn.Hardsigmoid))())
    return Joined((layers,), lambda f, v: v * f(v) if first else f(v) * v)


class Joined(nn.Module):
    """Layers, and how a value goes through them."""

    def __init__(self, layers: tuple[nn.Module, ...], call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layers, self.call = nn.ModuleList(layers), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(*self.layers, x)


def max_pool(draw, x):
    kernel = several(draw, x, 1, 2, 3, 3, 5)
    return MAX_POOL[x.dim()](kernel, several(draw, x, 1, 2, 2, 3),
                             tuple(draw.randint(0, k // 2) for k in kernel),
                             several(draw, x, 1, 1, 2), ceil_mode=draw.random() < 0.5)


def average_pool(draw, x):
    kernel = several(draw, x, 1, 2, 3, 3, 5)
    return AVERAGE_POOL[x.dim()](kernel, several(draw, x, 1, 2, 2, 3),
                                 tuple(draw.randint(0, k // 2) for k in kernel),
                                 draw.random() < 0.5, draw.random() < 0.5)


def pad(draw, x):
    numbers = tuple(draw.choice((-2, -1, 0, 0, 1, 1, 2, 3)) for _ in range(2 * (x.dim() - 2)))
    return lambda v: F.pad(v, numbers)


def resize(draw, x):
    if draw.random() < 0.5:
        factor = draw.choice((2, 3, (1, 2), 2.0))
        return lambda v: F.interpolate(v, scale_factor=factor)
    size = (draw.randint(1, 19), draw.randint(1, 19))
    return lambda v: F.interpolate(v, size=size)


def shuffle(draw, x):
    return nn.ChannelShuffle(draw.choice(divisors(x.shape[1])))


def shuffle_by_views(draw, x):
    groups = draw.choice(divisors(x.shape[1]))

    def call(v):
        n, c, h, w = v.shape
        return v.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
    return call


def part(draw, x):
    start = draw.randrange(x.shape[1])
    length = draw.randint(1, x.shape[1] - start)
    return draw.choice((lambda v: v[:, start:start + length], lambda v: v.narrow(1, start, length)))


def parts(draw, x):
    count = draw.choice(divisors(x.shape[1]))
    if draw.random() < 0.5:
        return lambda v: v.chunk(count, 1)
    return lambda v: torch.split(v, v.shape[1] // count, 1)


def flat(draw, x):
    return draw.choice((lambda v: torch.flatten(v, 1), lambda v: v.reshape(v.shape[0], -1),
                        lambda v: v.view(v.size(0), -1), lambda v: v.flatten(2)))


def mean(draw, x):
    keep = draw.random() < 0.5
    return draw.choice((nn.AdaptiveAvgPool2d(1), lambda v: v.mean((2, 3), keepdim=keep),
                        lambda v: v.mean([-1, -2]), nn.AdaptiveAvgPool2d((2, 2))))


def linear(draw, x):
    layer = nn.Linear(x.shape[-1], draw.choice(CHANNELS), bias=draw.random() < 0.7)
    return nn.Sequential(layer, activation(draw, x)) if draw.random() < 0.5 else layer


def island(draw, x):
    """What computes in float between programs."""
    return draw.choice((lambda v: F.softmax(v, 1), lambda v: F.softmax(v, -1),
                        nn.LayerNorm(x.shape[-1]), nn.GroupNorm(1, x.shape[1]),
                        lambda v: v.cumsum(1) * 0.1, lambda v: 0.5 * v + 0.25, lambda v: 1 - v,
                        lambda v: v.clamp(-0.3, 0.9)))


def attention(draw, x):
    """Scores of tokens or of channels; some behind a softmax."""
    width = x.shape[-1]
    across, soft = draw.random() < 0.6, draw.random() < 0.4

    def call(f, g, v):
        a, b = f(v), g(v)
        scores = a @ b.transpose(-2, -1) if across else a.transpose(-2, -1) @ b
        return F.softmax(scores, -1) if soft else scores * 0.2
    return Joined((nn.Linear(width, width), nn.Linear(width, width)), call)


def either(*calls):
    return lambda draw, *x: draw.choice(calls)


# kind -> (how often, dimensions of what it reads, what draws it); those of two values are below
ONE = {
    conv: (8, (3, 4)), depthwise: (5, (3, 4)), block: (10, (3, 4)), residual: (5, (3, 4)),
    transposed: (2, (3, 4)), activation: (4, (2, 3, 4)), gate: (3, (4,)), max_pool: (3, (3, 4)),
    average_pool: (3, (3, 4)), pad: (3, (3, 4)), resize: (2, (4,)), shuffle: (2, (4,)),
    shuffle_by_views: (1, (4,)), part: (3, (2, 3, 4)), parts: (2, (2, 3, 4)),
    flat: (1, (3, 4)), mean: (1, (4,)), linear: (4, (2, 3)), attention: (2, (3, 4)),
    island: (2, (2, 3, 4))}
ADD = either(lambda a, b: a + b, lambda a, b: b + a, lambda a, b: F.relu(a + b), lambda a, b: a + a)
MULTIPLY = either(lambda a, b: a * b, lambda a, b: b * a, lambda a, b: a * a)
JOIN = either(lambda *v: torch.cat(v, 1), lambda *v: torch.cat([*v, v[0]], 1),
              lambda *v: F.relu(torch.cat(v, 1)))


class NativeNet(nn.Module):
    """The model of a seed; `inputs` are examples of what it takes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        draw = random.Random(seed)
        space = [draw.randint(1, 17) for _ in range(draw.choice((1, 2, 2, 2, 2, 2)))]
        channels = draw.choice((1, 3, 3, 3, 4, 5, 8, 17))
        self.inputs = [torch.randn(2, channels, *space)
                       for _ in range(draw.choice((1, 1, 1, 1, 1, 2)))]
        self.layers, self.steps = nn.ModuleList(), []
        values = list(self.inputs)
        wanted, tries = draw.randint(3, 13), 0
        while len(self.steps) < wanted and tries < 100:
            tries += 1
            self._step(draw, values)
        last = range(len(self.inputs), len(values))
        self.outputs = list(dict.fromkeys([len(values) - 1, *draw.sample(last, min(
            len(last), draw.choice((0, 0, 0, 1, 2))))]))
        self.eval()

    def _step(self, draw, values):
        sources, call = self._draw(draw, values)
        layer = call if isinstance(call, nn.Module) else nn.Identity()
        _lively(layer, draw)
        try:
            with torch.no_grad():
                made = call(*(values[s] for s in sources))
        except (RuntimeError, ValueError, IndexError, TypeError):
            return
        several = len(made) if isinstance(made, list | tuple) else 0
        made = list(made) if several else [made]
        if not all(0 < v.numel() <= LARGEST and torch.isfinite(v).all() for v in made):
            return
        self.layers.append(layer)
        self.steps.append((None if call is layer else call, tuple(sources), several))
        values += made

    def _draw(self, draw, values):
        """(what it reads, the call)"""
        place = len(values) - 1 if draw.random() < 0.6 else draw.randrange(len(values))
        x = values[place]
        if draw.random() < 0.25:
            same = [i for i, v in enumerate(values) if v.shape == x.shape]
            space = [i for i, v in enumerate(values) if v.shape[2:] == x.shape[2:]]
            kind = draw.choice((ADD, ADD, MULTIPLY, JOIN, JOIN, JOIN))
            more = draw.choices(space, k=draw.randint(1, 3)) if kind is JOIN else [draw.choice(same)]
            return [place, *more], kind(draw)
        fitting = {k: often for k, (often, dims) in ONE.items() if x.dim() in dims}
        kind = draw.choices(list(fitting), list(fitting.values()))[0] if fitting else island
        return [place], kind(draw, x)

    def forward(self, *inputs):
        values = list(inputs)
        for layer, (call, sources, several) in zip(self.layers, self.steps, strict=True):
            made = (call or layer)(*[values[s] for s in sources])
            values += [made[i] for i in range(several)] if several else [made]
        return tuple([values[i] for i in self.outputs])


def _lively(layer, draw):
    for module in layer.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(-0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    layer.eval()
