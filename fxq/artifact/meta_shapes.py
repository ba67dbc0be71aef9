"""What the common operators make, said in shapes.

torch's own shape rules load a second of Python in a fresh process and take up to a millisecond
each. A rule returns None for what it does not cover, and torch's is asked; what it covers, it
refuses where torch would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.artifact.meta_layers import adaptive, convolution, linear, made, pool, transposed
from fxq.ir import integers
from fxq.ir.operator_table import each_operator
from fxq.ir.ops import Op
from fxq.quantization.formats import QParams

Rule = Callable[..., Tensor | None]


def _like(input: Tensor, **attributes: Any) -> Tensor | None:
    """As large as its input, unless bounds are tensors, which may be larger."""
    broadcast = any(isinstance(v, Tensor) for v in attributes.values())
    return None if broadcast else made(input.shape, input.dtype)


def _along(input: Tensor, dim: int | None = None, *_: Any, dtype: torch.dtype | None = None,
           **__: Any) -> Tensor | None:
    """torch's own rule takes any number as a dimension."""
    if dim is None or not input.dim():
        return None
    if not -input.dim() <= dim < input.dim():
        raise ValueError(f"there is no dimension {dim}")
    return made(input.shape, dtype or input.dtype)


def _per_channel(input: Tensor, *parameters: Tensor | None, **_: Any) -> Tensor | None:
    if any(p is not None and tuple(p.shape) != (input.shape[1],) for p in parameters):
        raise ValueError(f"other parameters than one for each of {input.shape[1]} channels")
    same = all(p is None or p.dtype == input.dtype for p in parameters)
    return _like(input) if same else None


def _normalized(input: Tensor, weight: Tensor | None, bias: Tensor | None, *,
                normalized_shape: Sequence[int], **_: Any) -> Tensor | None:
    last = tuple(normalized_shape)
    if not last or any(p is not None and tuple(p.shape) != last for p in (weight, bias)) or (
            tuple(input.shape[-len(last):]) != last):
        raise ValueError(f"{list(input.shape)} cannot be normalized over {list(last)}")
    types = {p.dtype for p in (weight, bias) if p is not None} - {input.dtype}
    if types and (types != {torch.float32} or input.dtype not in (torch.float16, torch.bfloat16)):
        raise ValueError(f"parameters of {types} for {input.dtype}")
    return _like(input)


def _broadcast(input: Any, other: Any, **_: Any) -> Tensor | None:
    tensors = [v for v in (input, other) if isinstance(v, Tensor)]
    if len(tensors) + sum(type(v) in (int, float) for v in (input, other)) != 2 or not all(
            t.is_floating_point() for t in tensors):
        return None
    shape = torch.broadcast_tensors(*tensors)[0].shape  # type: ignore[no-untyped-call]
    return made(shape, torch.result_type(input, other))


def _sum(input: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor,
         **attributes: Any) -> Tensor | None:
    own = convolution(input, weight, bias, **attributes)
    return None if own is None else _broadcast(own, other)


def _shuffled(input: Tensor, *, groups: int, **_: Any) -> Tensor | None:
    return _like(input) if input.dim() == 4 and input.shape[1] % groups == 0 else None


def _mean(input: Tensor, *, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor | None:
    wanted = list(dim) if isinstance(dim, tuple | list) else [dim]
    if not wanted or not all(type(d) is int and -input.dim() <= d < input.dim() for d in wanted):
        return None
    gone = {d % input.dim() for d in wanted}
    if len(gone) != len(wanted):
        raise ValueError(f"dimensions {wanted} are averaged twice")
    shape = [1 if d in gone else n for d, n in enumerate(input.shape) if d not in gone or keepdim]
    return made(shape, input.dtype)


def _cat(tensors: Sequence[Tensor], *, dim: int = 0, **_: Any) -> Tensor | None:
    first = tensors[0]
    if not -first.dim() <= dim < first.dim() or len({t.dtype for t in tensors}) > 1:
        return None
    if any(t.dim() != first.dim() for t in tensors):
        return None
    axis = dim % first.dim()
    if len({(*t.shape[:axis], *t.shape[axis + 1:]) for t in tensors}) > 1:
        raise ValueError("tensors of other shapes are concatenated")
    total = sum(t.shape[axis] for t in tensors)
    return made((*first.shape[:axis], total, *first.shape[axis + 1:]), first.dtype)


def _quantized(input: Tensor, table: Tensor | None = None, **attributes: Any) -> Tensor:
    return made(input.shape, QParams(**attributes).dtype)


def _dequantized(input: Tensor, **_: Any) -> Tensor:
    return made(input.shape, torch.float32)


def _converted(input: Tensor, *, dtype: torch.dtype) -> Tensor:
    return made(input.shape, dtype)


def _weight(weight: Tensor, scales: Tensor, zeros: Tensor | None = None, *, axis: int) -> Tensor:
    for entries in (scales, zeros):
        if entries is not None and entries.numel() not in (1, weight.shape[axis]):
            raise ValueError(f"{entries.numel()} scales for {weight.shape[axis]} channels")
    return made(weight.shape, torch.float32)


_BY_NAME: Mapping[str, Rule] = {
    **dict.fromkeys(("relu", "clamp", "hardswish", "silu", "gelu", "mish", "leaky_relu", "elu",
                     "sigmoid", "hardsigmoid", "tanh", "celu", "selu", "softsign", "logsigmoid",
                     "tanhshrink", "softshrink", "hardshrink", "threshold", "abs", "neg", "erf",
                     "sin", "cos"), _like),
    **dict.fromkeys(("softmax", "log_softmax"), _along),
    **dict.fromkeys(("affine", "batch_norm"), _per_channel),
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div"), _broadcast),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed),
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), pool),
    **dict.fromkeys(("conv2d_add", "conv2d_add_relu"), _sum),
    "linear": linear, "layer_norm": _normalized, "adaptive_avg_pool2d": adaptive,
    "mean": _mean, "channel_shuffle": _shuffled, "cat": _cat}


# Views cost nothing on the meta device, and their integers are the float ones.
def _view(op: Op) -> Rule:
    return lambda *operands, zero_point, **attributes: op.call(*operands, **attributes)


def _of_floats(rule: Rule) -> Rule:
    """For float tensors only: what torch makes of integers, if anything, has another type."""

    def asked(*operands: Any, **attributes: Any) -> Tensor | None:
        first = operands[0][0] if isinstance(operands[0], list | tuple) else operands[0]
        if isinstance(first, Tensor) and not first.is_floating_point():
            return None
        return rule(*operands, **attributes)

    return asked


RULES: dict[Any, Rule] = {
    integers.quantize: _quantized, integers.dequantize: _dequantized,
    integers.dequantize_weight: _weight, integers.round_at_run_time: _like,
    integers.to_dtype: _converted, integers.clamp_on_integers: _like,
    "softmax": _along, F.softmin: _along}


@each_operator
def _follow(op: Op) -> None:
    rule = _BY_NAME.get(op.name) or _BY_NAME.get(op.base)
    if rule is None and op.elementwise and len(op.operands) == 1:
        rule = _like
    if rule:
        RULES[op.call] = _of_floats(rule)
    on_integers = _view(op) if op.view else _BY_NAME.get(op.name)
    if on_integers and op.name in integers.INTEGER_OPS:
        RULES[integers.INTEGER_OPS[op.name]] = on_integers


__all__ = ["RULES"]
