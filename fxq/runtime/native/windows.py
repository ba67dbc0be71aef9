"""The geometry of kernels that slide over an image: fields of an `Instruction`, and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fxq.runtime.native.values import Value


def window(kernel: Any, stride: Any, padding: Any, dilation: Any, rank: int) -> dict[str, Any]:
    """Numbers of an operator with `rank` dimensions of space; one alone lies along the width."""
    fields = {}
    for (first, second), value, absent in ((("kh", "kw"), kernel, 1), (("sh", "sw"), stride, 1),
                                           (("ph", "pw"), padding, 0), (("dh", "dw"), dilation, 1)):
        numbers = [value] * rank if isinstance(value, int) else list(value)
        fields[first], fields[second] = numbers if len(numbers) == 2 else (absent, *numbers)
    return fields


ONE_PIXEL = window(1, 1, 0, 1, 2)  # a linear layer is a convolution of single pixels


def pooled(source: Value, g: Mapping[str, int], ceil_mode: bool = False) -> tuple[int, int]:
    """Height and width of what the kernel gives."""
    return (_span(source.h, g["kh"], g["sh"], g["ph"], g["dh"], ceil_mode),
            _span(source.w, g["kw"], g["sw"], g["pw"], g["dw"], ceil_mode))


def _span(size: int, kernel: int, stride: int, padding: int, dilation: int,
          ceil_mode: bool) -> int:
    rest = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return rest // stride + 1
    count = -(-rest // stride) + 1
    # the last window starts inside the image or the padding before it (torch, pooling_shape.h)
    return count - 1 if (count - 1) * stride >= size + padding else count


def spread(source: Value, g: Mapping[str, int], more: Mapping[str, int]) -> tuple[int, int]:
    """Height and width of what a transposed convolution gives; `more` is padded to the output."""
    h = (source.h - 1) * g["sh"] - 2 * g["ph"] + (g["kh"] - 1) * g["dh"] + 1
    w = (source.w - 1) * g["sw"] - 2 * g["pw"] + (g["kw"] - 1) * g["dw"] + 1
    return h + more["ph"], w + more["pw"]


def border(source: Value, g: Mapping[str, int], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """How many pixels beyond its input's edges a convolution reads: top, left, bottom, right."""
    bottom, right = ((n - 1) * g[s] + (g[k] - 1) * g[d] + 1 - whole - g[p]
                     for n, whole, s, k, d, p in ((size[0], source.h, "sh", "kh", "dh", "ph"),
                                                  (size[1], source.w, "sw", "kw", "dw", "pw")))
    return g["ph"], g["pw"], max(bottom, 0), max(right, 0)
