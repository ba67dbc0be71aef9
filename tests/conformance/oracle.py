"""What each integer operator must give, in numpy integers and float64: torch's kernels not used.

A value is `Q(integers, scale, zero_point)`. Every function takes the arguments of a lowered node.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Q:
    """A quantized value as plain integers with their format."""

    values: np.ndarray
    scale: float
    zero: int

    @property
    def real(self):
        return self.scale * (self.values.astype(np.float64) - self.zero)


@dataclass(frozen=True)
class Packed:
    """An unpacked layer: integer weights, one scale per channel, float bias, and its geometry."""

    weight: np.ndarray
    scales: np.ndarray
    bias: np.ndarray | None
    stride: tuple = ()
    padding: tuple = ()
    output_padding: tuple = ()
    dilation: tuple = ()
    groups: int = 1


def rounded(real, scale, zero):
    """Round half to even, add the zero point, saturate."""
    return np.clip(np.rint(real / scale) + zero, 0, 255).astype(np.uint8)


def windows(x, kernel, stride, dilation):
    """(N, C, *out, *kernel) views of a padded array."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in stride),
             *(slice(None, None, d) for d in dilation))
    return view[steps]


def sums(x, layer):
    """Exact integer accumulators of a convolution."""
    steps = x.values.astype(np.int64) - x.zero
    padded = np.pad(steps, ((0, 0), (0, 0), *((p, p) for p in layer.padding)))
    view = windows(padded, layer.weight.shape[2:], layer.stride, layer.dilation)
    rank = len(layer.stride)
    n, c = view.shape[:2]
    grouped = view.reshape(n, layer.groups, c // layer.groups, *view.shape[2:])
    weight = layer.weight.astype(np.int64).reshape(layer.groups, -1, *layer.weight.shape[1:])
    inner = "ijk"[:rank]
    acc = np.einsum(f"ngcxyz{inner},gfc{inner}->ngfxyz".replace("xyz", "xyz"[:rank]),
                    grouped, weight, optimize=True)
    return acc.reshape(n, -1, *acc.shape[3:])


def transposed_sums(x, layer):
    """A transposed convolution is a convolution of the input with zeros between."""
    steps = x.values.astype(np.int64) - x.zero
    kernel, rank = layer.weight.shape[2:], len(layer.stride)
    wide = np.zeros((*steps.shape[:2], *((s - 1) * t + 1 for s, t in zip(
        steps.shape[2:], layer.stride, strict=True))), np.int64)
    wide[(slice(None), slice(None), *(slice(None, None, t) for t in layer.stride))] = steps
    reach = [d * (k - 1) - p for k, d, p in zip(kernel, layer.dilation, layer.padding, strict=True)]
    wide = np.pad(wide, ((0, 0), (0, 0), *(
        (max(r, 0), max(r + o, 0)) for r, o in zip(reach, layer.output_padding, strict=True))))
    crop = tuple(slice(-r if r < 0 else 0, None) for r in reach)
    wide = wide[(slice(None), slice(None), *crop)]
    flipped = layer.weight[(slice(None), slice(None), *[slice(None, None, -1)] * rank)]
    per_group = flipped.reshape(layer.groups, -1, *flipped.shape[1:]).swapaxes(1, 2)
    plain = Packed(per_group.reshape(-1, *per_group.shape[2:]), layer.scales, layer.bias,
                   (1,) * rank, (0,) * rank, (), layer.dilation, layer.groups)
    return sums(Q(wide, x.scale, 0), plain)


def weighted(x, acc, layer):
    """Accumulators as real numbers, with the bias."""
    shape = (1, -1) + (1,) * (acc.ndim - 2)
    real = acc * (x.scale * layer.scales.astype(np.float64)).reshape(
        shape if layer.scales.size > 1 else (1,) * acc.ndim)
    return real if layer.bias is None else real + layer.bias.astype(np.float64).reshape(shape)


def linear_sums(x, layer):
    return (x.values.astype(np.int64) - x.zero) @ layer.weight.astype(np.int64).T


def linear(x, layer):
    real = linear_sums(x, layer) * (x.scale * layer.scales.astype(np.float64))
    return real if layer.bias is None else real + layer.bias.astype(np.float64)


def pooled(x, kernel, stride, padding, dilation, ceil, fill, reduce):
    """Windows over a padded image, reduced; `ceil` adds windows that begin inside."""
    pads = []
    for size, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        span, extra = d * (k - 1) + 1, 0
        if ceil:
            count = -(-(size + 2 * p - span) // s) + 1
            count -= (count - 1) * s >= size + p
            extra = max((count - 1) * s + span - size - 2 * p, 0)
        pads.append((p, p + extra))
    padded = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)
    view = windows(padded, kernel, stride, dilation)
    return reduce(view.reshape(*view.shape[:2 + len(kernel)], -1), -1)


def averaged(x, kernel, stride, padding, ceil, count_padding):
    """Means over windows; elements beyond the padding never count."""
    ones, rank = np.ones_like(x, np.float64), len(kernel)
    if count_padding:
        ones = np.pad(ones, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=1.0)
        x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
        padding = (0,) * rank
    take = (kernel, stride, padding, (1,) * rank, ceil, 0.0, np.sum)
    return pooled(x, *take) / pooled(ones, *take)


def layer_norm(real, shape, weight, bias, eps):
    axes = tuple(range(real.ndim - len(shape), real.ndim))
    centred = real - real.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + eps) * weight + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0), "sigmoid": sigmoid, "tanh": np.tanh,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": lambda x: np.logaddexp(0, x),
}


def nearest(values, size):
    index = [np.floor(np.arange(o) * (i / o)).astype(int)
             for o, i in zip(size, values.shape[2:], strict=True)]
    return values[:, :, index[0]][:, :, :, index[1]]


def shuffled(values, groups):
    n, c = values.shape[:2]
    return values.reshape(n, groups, c // groups, -1).swapaxes(1, 2).reshape(values.shape)

