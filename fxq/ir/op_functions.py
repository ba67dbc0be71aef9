"""Functions of the operator table that torch has in another form, or not as one call."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def affine(input: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A per-channel multiply and add: what is left of a batch norm on its own."""
    shape = (1, -1) + (1,) * (input.dim() - 2)
    return input * scale.reshape(shape) + shift.reshape(shape)


def layer_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, *,
               normalized_shape: list[int], eps: float = 1e-5) -> Tensor:
    """Layer norm with its operands first, as every row of the table has them."""
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, *,
               num_groups: int = 1, eps: float = 1e-5) -> Tensor:
    """Group norm with its operands first, as every row of the table has them."""
    return F.group_norm(input, num_groups, weight, bias, eps)


def instance_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
                  weight: Tensor | None, bias: Tensor | None, *, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Instance norm; statistics that a row keeps are read, and never updated."""
    if not use_input_stats:
        return F.instance_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return F.instance_norm(input, None, None, weight, bias, True, momentum, eps)


def getitem(input: Any, *, index: Any) -> Any:
    """One element or slice; the index is an attribute because it is no tensor."""
    return input[index]


def size(input: Tensor, dim: int | None = None) -> Any:
    """The shape, or one dimension of it."""
    return input.shape if dim is None else input.shape[dim]


def conv2d_add(input: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor,
               **attributes: Any) -> Tensor:
    """A convolution and the sum that it joins."""
    return F.conv2d(input, weight, bias, **attributes) + other


def conv2d_add_relu(input: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor,
                    **attributes: Any) -> Tensor:
    """A convolution, the sum that it joins, and a ReLU."""
    return torch.relu(conv2d_add(input, weight, bias, other, **attributes))


__all__ = ["affine", "conv2d_add", "conv2d_add_relu", "getitem", "group_norm", "instance_norm",
           "layer_norm", "size"]
