"""One layer in training: batch norm live, weights rounded as the folded weights will be.

    weight' = round((w · f) / s) · s / f        f = γ / sqrt(running variance + eps)
    y = norm(conv(x, weight', b))

A convolution is linear in its weights, so that dividing them by f again leaves the norm with
what it would see without folding, while the rounding is that of the folded weights. The batch
statistics stay live, and nothing depends on the batch but them (Jacob et al. 2018, section
3.2, folds with batch statistics, which makes the rounding jitter from batch to batch).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.ir.ops import Op, base_of
from fxq.qat.fake_quantize import straight_through
from fxq.quantization.formats import QSpec, least_scale
from fxq.quantization.weights import IntegerWeight, per_output, safe_scales, weight_scales
from fxq.targets.base import Pairing


@dataclass(frozen=True)
class NormNames:
    """Paths of a batch norm's tensors in the model; `module` when it is a module of torch."""

    module: str
    mean: str
    var: str
    weight: str
    bias: str
    eps: float
    momentum: float


@dataclass(frozen=True)
class Layer:
    """What one layer of the graph computes, by the paths of its tensors in the model.

    `spec` is None where the weights stay as they are; `half` names a half precision instead.
    """

    key: str  # of the value that it makes
    op: Op
    attributes: dict[str, Any] = field(hash=False)
    weight: str
    bias: str
    norm: NormNames | None
    spec: QSpec | None
    rule: str
    axis: int | None
    pairing: Pairing | None
    half: torch.dtype | None = None


def run_layer(layer: Layer, model: nn.Module, x: Tensor, learned: Tensor | None,
              norm_frozen: bool) -> Tensor:
    """Convolve with rounded weights, normalize, activate."""
    weight, bias = tensor_at(model, layer.weight), tensor_at(model, layer.bias)
    assert weight is not None
    base, activation = base_of(layer.op)
    own = {k: v for k, v in layer.attributes.items() if k in base.attributes}
    y = base.call(x, rounded_weight(layer, model, weight, learned), bias, **own)
    if layer.norm is not None:
        y = run_norm(layer.norm, model, y, norm_frozen)
    if activation is None:
        return y  # type: ignore[no-any-return]
    rest = {k: v for k, v in layer.attributes.items() if k in activation.attributes}
    return activation.call(y, **rest)  # type: ignore[no-any-return]


def tensor_at(model: nn.Module, path: str) -> Tensor | None:
    """A parameter or buffer by its dotted path; None for an empty one."""
    if not path:
        return None
    owner, _, name = path.rpartition(".")
    value = getattr(model.get_submodule(owner), name)
    return value if isinstance(value, Tensor) else None


def rounded_weight(layer: Layer, model: nn.Module, weight: Tensor,
                   learned: Tensor | None) -> Tensor:
    """The weights that the compiled layer will have, seen from before the fold."""
    factor = fold_factor(layer, model, weight)
    folded = weight if factor is None else weight * factor
    if layer.half is not None:
        rounded = straight_through(folded, folded.detach().to(layer.half).to(folded.dtype))
    elif layer.spec is None:
        return weight
    else:
        rounded = _fake_quantize(layer, layer.spec, folded.float(), learned)
    return rounded if factor is None else rounded / factor


def _fake_quantize(layer: Layer, spec: QSpec, folded: Tensor, learned: Tensor | None) -> Tensor:
    scales, zeros = layer_scales(layer, folded, learned)
    with torch.autocast(folded.device.type, enabled=False):
        if learned is not None:
            step = 1 / (folded.numel() / scales.numel() * spec.high) ** 0.5
            return torch._fake_quantize_learnable_per_channel_affine(
                folded, scales, zeros.float(), layer.axis or 0, spec.low, spec.high, step)
        values = folded.detach()
        # the range follows the weights, so all of them learn: torch's own gradient is zero for
        # the largest of each channel, which a symmetric scale saturates by half a step
        if scales.numel() == 1:
            return straight_through(folded, torch.fake_quantize_per_tensor_affine(
                values, scales.reshape(()), zeros.reshape(()), spec.low, spec.high))
        return straight_through(folded, torch.fake_quantize_per_channel_affine(
            values, scales, zeros, layer.axis or 0, spec.low, spec.high))


def integer_weight(layer: Layer, folded: Tensor, learned: Tensor | None) -> IntegerWeight:
    """The very integers that training rounds to, on the CPU."""
    assert layer.spec is not None
    scales, zeros = layer_scales(layer, folded, learned)
    rounded = _fake_quantize(layer, layer.spec, folded, learned)
    shape = [1] * folded.dim()
    if scales.numel() > 1:
        shape[layer.axis or 0] = -1
    steps = torch.round(rounded / scales.reshape(shape)) + zeros.reshape(shape)
    values = steps.clamp(layer.spec.low, layer.spec.high).to(layer.spec.dtype)
    return IntegerWeight(values.cpu(), scales.detach().cpu(),
                         None if layer.spec.symmetric else zeros.cpu())


def layer_scales(layer: Layer, folded: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scales and zero points of the folded weights, pairs that saturate kept apart."""
    assert layer.spec is not None
    if learned is not None:
        scales = learned.clamp(min=least_scale(folded.detach().abs().amax()))
        return scales, torch.zeros_like(scales, dtype=torch.int32)
    with torch.no_grad():
        scales, zeros = weight_scales(folded.detach(), layer.axis, layer.spec, layer.rule)
        if layer.pairing is not None:
            scales = safe_scales(folded.detach(), scales, layer.pairing.limit,
                                 layer.pairing.arrange, layer.spec)
    return scales, zeros


def fold_factor(layer: Layer, model: nn.Module, weight: Tensor) -> Tensor | None:
    """γ / σ of the running statistics in the shape of the weight; channels of γ = 0 take 1."""
    if layer.norm is None or (layer.spec is None and layer.half is None):
        return None
    with torch.no_grad():
        var, gamma = (tensor_at(model, n) for n in (layer.norm.var, layer.norm.weight))
        assert var is not None
        factor = torch.rsqrt(var.double() + layer.norm.eps)
        factor = factor if gamma is None else factor * gamma.double()
        factor = torch.where(factor == 0, 1.0, factor).to(weight.dtype)
        groups = layer.attributes.get("groups", 1)
        return per_output(factor, layer.op.transposed, groups, weight)


def run_norm(names: NormNames, model: nn.Module, y: Tensor, frozen: bool) -> Tensor:
    """The model's own batch norm module, or its functional form, live or frozen."""
    if names.module:
        return model.get_submodule(names.module)(y)  # type: ignore[no-any-return]
    mean, var, weight, bias = (tensor_at(model, n) for n in (names.mean, names.var, names.weight,
                                                             names.bias))
    return F.batch_norm(y, mean, var, weight, bias, model.training and not frozen, names.momentum,
                        names.eps)
