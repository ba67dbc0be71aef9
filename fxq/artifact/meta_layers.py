"""What layers and pools make, said in shapes: the arithmetic of torch's documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def made(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor on torch's meta device: a shape and a type, no memory."""
    if min(shape, default=0) < 0:
        raise ValueError(f"a result of shape {list(shape)}")
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _wide(value: Any, rank: int) -> list[int]:
    numbers = list(value) if isinstance(value, tuple | list) else [value] * rank
    if len(numbers) != rank or not all(type(n) is int for n in numbers):
        raise ValueError(f"{str(value)[:40]} is no size for {rank} dimensions")
    return numbers


def _check_weights(input: Tensor, weight: Tensor, bias: Tensor | None, outputs: int) -> None:
    if weight.dtype != input.dtype or (bias is not None and (
            tuple(bias.shape) != (outputs,) or bias.dtype != input.dtype)):
        raise ValueError("weights, bias and input do not fit together")


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Any = 1,
                 padding: Any = 0, dilation: Any = 1, groups: int = 1, **_: Any) -> Tensor | None:
    """From N×C×sizes and O×C/groups×kernel; raises ValueError where torch would."""
    rank = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():
        return None
    if input.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ValueError(f"{input.shape[1]} channels, {groups} groups and weights of "
                         f"{list(weight.shape)}")
    _check_weights(input, weight, bias, weight.shape[0])
    sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(
        input.shape[2:], weight.shape[2:], *(_wide(v, rank) for v in (stride, padding, dilation)),
        strict=True)]
    if min(sizes) < 1:
        raise ValueError("the kernel is larger than its input")
    return made((input.shape[0], weight.shape[0], *sizes), input.dtype)


def transposed(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Any = 1,
               padding: Any = 0, output_padding: Any = 0, groups: int = 1,
               dilation: Any = 1, **_: Any) -> Tensor | None:
    """From N×C×sizes and C×O/groups×kernel; raises ValueError where torch would, or should."""
    rank = weight.dim() - 2
    if input.dim() != weight.dim():
        return None
    if input.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise ValueError(f"{input.shape[1]} channels, {groups} groups and weights of "
                         f"{list(weight.shape)}")
    _check_weights(input, weight, bias, weight.shape[1] * groups)
    wide = (_wide(v, rank) for v in (stride, padding, output_padding, dilation))
    each = list(zip(input.shape[2:], weight.shape[2:], *wide, strict=True))
    if any(more >= max(s, d) for _, _, s, _, more, d in each) or 0 in input.shape[1:]:
        raise ValueError("output padding is not below stride and dilation, or nothing is there")
    sizes = [(n - 1) * s - 2 * p + d * (k - 1) + more + 1 for n, k, s, p, more, d in each]
    if min(sizes) < 1:
        return None
    return made((input.shape[0], weight.shape[1] * groups, *sizes), input.dtype)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, **_: Any) -> Tensor | None:
    """The last dimension becomes the weights' first; raises ValueError where torch would."""
    if weight.dim() != 2 or not input.dim():
        return None
    if input.shape[-1] != weight.shape[1]:
        raise ValueError(f"{input.shape[-1]} features and weights of {list(weight.shape)}")
    _check_weights(input, weight, bias, weight.shape[0])
    return made((*input.shape[:-1], weight.shape[0]), input.dtype)


def pool(input: Tensor, *, kernel_size: Any, stride: Any = None, padding: Any = 0,
          dilation: Any = 1, ceil_mode: bool = False, **_: Any) -> Tensor | None:
    """Windows over N×C×H×W; raises ValueError where torch would."""
    if input.dim() != 4 or 0 in input.shape:
        return None
    kernel = _wide(kernel_size, 2)
    strides = kernel if stride is None or stride in ((), []) else _wide(stride, 2)
    pads = _wide(padding, 2)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError("padding is more than half of the kernel")
    sizes = [_pooled(*v, ceil_mode) for v in zip(
        input.shape[2:], kernel, strides, pads, _wide(dilation, 2), strict=True)]
    if min(sizes) < 1:
        raise ValueError("the window is larger than its input")
    return made((*input.shape[:2], *sizes), input.dtype)


def _pooled(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool) -> int:
    room = size + 2 * pad - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + pad else count


def adaptive(input: Tensor, *, output_size: Any, **_: Any) -> Tensor | None:
    """N×C and the sizes that are asked for; None keeps one."""
    if input.dim() != 4 or 0 in input.shape:
        return None
    wanted = list(output_size) if isinstance(output_size, tuple | list) else [output_size] * 2
    sizes = [n if w is None else w for n, w in zip(input.shape[2:], wanted, strict=True)]
    return made((*input.shape[:2], *_wide(sizes, 2)), input.dtype)


__all__ = ["adaptive", "convolution", "linear", "made", "pool", "transposed"]
