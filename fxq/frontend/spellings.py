"""Every way in which a model can spell an operator, mapped to its one canonical name.

Three tables, one for each form that torch.fx records: functions, tensor methods, modules.
A spelling names the operator, the parameters in the order in which *this* form takes them
(when it differs from the canonical order), and attributes that the spelling itself fixes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fxq.ir.origins import Mark

IDENTITY = "identity"  # dropout and its kind in eval mode: the value itself
ASSERTION = "assertion"  # checks of the user's own code, which tracing has passed
_ACT = "input inplace"
_MAX = "input kernel_size stride padding dilation ceil_mode return_indices"


@dataclass(frozen=True)
class Spelling:
    """How one form of a call binds to the canonical operator."""

    op: str
    parameters: str = ""  # in this form's order; empty: the canonical order
    fixed: Mapping[str, Any] = field(default_factory=dict)
    in_place: bool = False
    variadic: str = ""  # the parameter that may be given as *args (view, permute)
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _same(*names: str) -> dict[str, Spelling]:
    return {name: Spelling(name) for name in names}


_S = Spelling
_BATCH_NORM = "input running_mean running_var weight bias training momentum eps"
_INSTANCE_NORM = "input running_mean running_var weight bias use_input_stats momentum eps"
_RELU6 = {"min": 0.0, "max": 6.0}
_HARDTANH = {"min": -1.0, "max": 1.0}

FUNCTIONS: dict[Callable[..., Any], Spelling] = {
    F.conv1d: _S("conv1d"), F.conv2d: _S("conv2d"), F.conv3d: _S("conv3d"),
    F.conv_transpose1d: _S("conv_transpose1d"), F.conv_transpose2d: _S("conv_transpose2d"),
    F.conv_transpose3d: _S("conv_transpose3d"), F.linear: _S("linear"),
    F.batch_norm: _S("batch_norm", _BATCH_NORM),
    F.layer_norm: _S("layer_norm", "input normalized_shape weight bias eps"),
    F.group_norm: _S("group_norm", "input num_groups weight bias eps"),
    F.relu: _S("relu", _ACT), torch.relu: _S("relu"), F.relu_: _S("relu", in_place=True),
    torch.relu_: _S("relu", in_place=True), F.relu6: _S("clamp", _ACT, _RELU6),
    F.hardtanh: _S("clamp", "input min max inplace", defaults=_HARDTANH),
    F.hardtanh_: _S("clamp", "input min max", defaults=_HARDTANH, in_place=True),
    torch.clamp: _S("clamp"), torch.clamp_: _S("clamp", in_place=True),
    torch.clip: _S("clamp"),
    F.hardswish: _S("hardswish", _ACT), F.silu: _S("silu", _ACT), F.mish: _S("mish", _ACT),
    F.hardsigmoid: _S("hardsigmoid", _ACT), torch.sigmoid: _S("sigmoid"),
    F.sigmoid: _S("sigmoid"), torch.tanh: _S("tanh"), F.tanh: _S("tanh"),
    F.gelu: _S("gelu"), F.leaky_relu: _S("leaky_relu", "input negative_slope inplace"),
    F.leaky_relu_: _S("leaky_relu", in_place=True), F.elu: _S("elu", "input alpha inplace"),
    F.elu_: _S("elu", in_place=True), F.prelu: _S("prelu"), torch.prelu: _S("prelu"),
    F.softplus: _S("softplus"), F.celu: _S("celu", "input alpha inplace"),
    F.selu: _S("selu", _ACT), F.softsign: _S("softsign"), F.logsigmoid: _S("logsigmoid"),
    F.tanhshrink: _S("tanhshrink"), F.softshrink: _S("softshrink"),
    F.hardshrink: _S("hardshrink"), torch.hardshrink: _S("hardshrink"),
    F.threshold: _S("threshold", "input threshold value inplace"),
    torch.abs: _S("abs"), torch.neg: _S("neg"), operator.neg: _S("neg"), torch.erf: _S("erf"),
    torch.sin: _S("sin"), torch.cos: _S("cos"),
    torch.square: _S("pow", "input", {"exponent": 2}),
    F.instance_norm: _S("instance_norm", _INSTANCE_NORM),
    F.softmax: _S("softmax", "input dim _stacklevel dtype"),
    torch.softmax: _S("softmax", "input dim dtype"),
    F.log_softmax: _S("log_softmax", "input dim _stacklevel dtype"),
    torch.log_softmax: _S("log_softmax", "input dim dtype"),
    operator.add: _S("add"), operator.iadd: _S("add", in_place=True),
    torch.add: _S("add", "input other alpha out"), operator.sub: _S("sub"),
    operator.isub: _S("sub", in_place=True), torch.sub: _S("sub", "input other alpha out"),
    torch.rsub: _S("rsub", "input other alpha"),
    operator.mul: _S("mul"), operator.imul: _S("mul", in_place=True), torch.mul: _S("mul"),
    torch.multiply: _S("mul"), operator.truediv: _S("div"),
    operator.itruediv: _S("div", in_place=True),
    torch.div: _S("div", "input other rounding_mode"), operator.pow: _S("pow"),
    torch.pow: _S("pow"), operator.matmul: _S("matmul"), torch.matmul: _S("matmul"),
    torch.bmm: _S("matmul"), torch.cat: _S("cat"), torch.concat: _S("cat"),
    torch.stack: _S("stack"),
    F.max_pool1d: _S("max_pool1d", _MAX), F.max_pool2d: _S("max_pool2d", _MAX),
    F.max_pool3d: _S("max_pool3d", _MAX), torch.max_pool2d: _S("max_pool2d"),
    F.avg_pool1d: _S("avg_pool1d"), F.avg_pool2d: _S("avg_pool2d"),
    F.avg_pool3d: _S("avg_pool3d"), F.adaptive_avg_pool1d: _S("adaptive_avg_pool1d"),
    F.adaptive_avg_pool2d: _S("adaptive_avg_pool2d"),
    F.adaptive_avg_pool3d: _S("adaptive_avg_pool3d"),
    F.adaptive_max_pool2d: _S("adaptive_max_pool2d", "input output_size return_indices"),
    torch.mean: _S("mean", "input dim keepdim dtype"), torch.flatten: _S("flatten"),
    torch.reshape: _S("reshape"), torch.permute: _S("permute"),
    torch.transpose: _S("transpose"), torch.swapaxes: _S("transpose"),
    torch.squeeze: _S("squeeze"), torch.unsqueeze: _S("unsqueeze"),
    torch.roll: _S("roll"), torch.narrow: _S("narrow"),
    F.pad: _S("pad"), F.interpolate: _S("interpolate"),
    F.upsample: _S("interpolate", "input size scale_factor mode align_corners"),
    torch.channel_shuffle: _S("channel_shuffle"), F.pixel_shuffle: _S("pixel_shuffle"),
    F.pixel_unshuffle: _S("pixel_unshuffle"),
    operator.getitem: _S("getitem"),
    F.dropout: _S(IDENTITY, "input p training inplace"),
    F.dropout1d: _S(IDENTITY, "input p training inplace"),
    F.dropout2d: _S(IDENTITY, "input p training inplace"),
    F.dropout3d: _S(IDENTITY, "input p training inplace"),
    F.alpha_dropout: _S(IDENTITY, "input p training inplace"),
    torch.dropout: _S(IDENTITY, "input p training"),
    torch._assert: _S(ASSERTION),
}

# Functions of optional libraries, by qualified name so that they need not be imported.
NAMED: dict[str, Spelling] = {
    "torchvision.ops.stochastic_depth.stochastic_depth":
        _S(IDENTITY, "input p mode training"),
}

METHODS: dict[str, Spelling] = {
    **_same("relu", "clamp", "sigmoid", "tanh", "matmul", "flatten", "transpose", "squeeze",
            "unsqueeze", "roll", "narrow", "size", "contiguous", "abs", "neg", "erf", "sin",
            "cos"),
    "square": _S("pow", "input", {"exponent": 2}),
    "relu_": _S("relu", in_place=True), "clamp_": _S("clamp", in_place=True),
    "clip": _S("clamp"), "sigmoid_": _S("sigmoid", in_place=True),
    "tanh_": _S("tanh", in_place=True),
    "add": _S("add", "input other alpha"), "add_": _S("add", "input other alpha", in_place=True),
    "sub": _S("sub", "input other alpha"), "sub_": _S("sub", "input other alpha", in_place=True),
    "mul": _S("mul"), "mul_": _S("mul", in_place=True),
    "div": _S("div", "input other rounding_mode"),
    "div_": _S("div", "input other rounding_mode", in_place=True), "pow": _S("pow"),
    "bmm": _S("matmul"), "swapaxes": _S("transpose"),
    "softmax": _S("softmax", "input dim dtype"),
    "log_softmax": _S("log_softmax", "input dim dtype"),
    "mean": _S("mean", "input dim keepdim dtype", variadic="dim"),
    "view": _S("reshape", variadic="shape"), "reshape": _S("reshape", variadic="shape"),
    "permute": _S("permute", variadic="dims"),
    "__getitem__": _S("getitem"),
    "detach": _S(IDENTITY, "input"), "clone": _S(IDENTITY, "input memory_format"),
}

MODULES: dict[type[nn.Module], Spelling] = {
    nn.ReLU: _S("relu", "inplace"), nn.ReLU6: _S("clamp", "inplace", _RELU6),
    nn.Hardtanh: _S("clamp", "min=min_val max=max_val inplace"),
    nn.Hardswish: _S("hardswish", "inplace"), nn.SiLU: _S("silu", "inplace"),
    nn.Mish: _S("mish", "inplace"), nn.Hardsigmoid: _S("hardsigmoid", "inplace"),
    nn.Sigmoid: _S("sigmoid"), nn.Tanh: _S("tanh"), nn.GELU: _S("gelu", "approximate"),
    nn.LeakyReLU: _S("leaky_relu", "negative_slope inplace"), nn.ELU: _S("elu", "alpha inplace"),
    nn.Softplus: _S("softplus", "beta threshold"), nn.Softmax: _S("softmax", "dim"),
    nn.LogSoftmax: _S("log_softmax", "dim"), nn.PReLU: _S("prelu"),
    nn.Softmax2d: _S("softmax", "", {"dim": -3}), nn.CELU: _S("celu", "alpha inplace"),
    nn.SELU: _S("selu", "inplace"), nn.Softsign: _S("softsign"), nn.LogSigmoid: _S("logsigmoid"),
    nn.Tanhshrink: _S("tanhshrink"), nn.Softshrink: _S("softshrink", "lambd"),
    nn.Hardshrink: _S("hardshrink", "lambd"),
    nn.Threshold: _S("threshold", "threshold value inplace"),
    **{kind: _S("instance_norm", "momentum eps") for kind in (
        nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)},
    nn.MaxPool1d: _S("max_pool1d", "kernel_size stride padding dilation ceil_mode return_indices"),
    nn.MaxPool2d: _S("max_pool2d", "kernel_size stride padding dilation ceil_mode return_indices"),
    nn.MaxPool3d: _S("max_pool3d", "kernel_size stride padding dilation ceil_mode return_indices"),
    nn.AvgPool1d: _S("avg_pool1d", "kernel_size stride padding ceil_mode count_include_pad"),
    nn.AvgPool2d: _S("avg_pool2d", "kernel_size stride padding ceil_mode count_include_pad"
                                   " divisor_override"),
    nn.AvgPool3d: _S("avg_pool3d", "kernel_size stride padding ceil_mode count_include_pad"
                                   " divisor_override"),
    nn.AdaptiveAvgPool1d: _S("adaptive_avg_pool1d", "output_size"),
    nn.AdaptiveAvgPool2d: _S("adaptive_avg_pool2d", "output_size"),
    nn.AdaptiveAvgPool3d: _S("adaptive_avg_pool3d", "output_size"),
    nn.AdaptiveMaxPool2d: _S("adaptive_max_pool2d", "output_size return_indices"),
    nn.Flatten: _S("flatten", "start_dim end_dim"),
    nn.ZeroPad2d: _S("pad", "pad=padding"),
    nn.ReflectionPad2d: _S("pad", "pad=padding", {"mode": "reflect"}),
    nn.ReplicationPad2d: _S("pad", "pad=padding", {"mode": "replicate"}),
    nn.ConstantPad2d: _S("pad", "pad=padding value"),
    nn.CircularPad2d: _S("pad", "pad=padding", {"mode": "circular"}),
    nn.Upsample: _S("interpolate", "size scale_factor mode align_corners"
                                   " recompute_scale_factor"),
    nn.UpsamplingNearest2d: _S("interpolate", "size scale_factor", {"mode": "nearest"}),
    nn.UpsamplingBilinear2d: _S("interpolate", "size scale_factor",
                                {"mode": "bilinear", "align_corners": True}),
    nn.ChannelShuffle: _S("channel_shuffle", "groups"),
    nn.PixelShuffle: _S("pixel_shuffle", "upscale_factor"),
    nn.PixelUnshuffle: _S("pixel_unshuffle", "downscale_factor"),
    nn.LayerNorm: _S("layer_norm", "normalized_shape eps"),
    nn.GroupNorm: _S("group_norm", "num_groups eps"),
    nn.Linear: _S("linear"), nn.BatchNorm1d: _S("batch_norm", "momentum eps"),
    nn.BatchNorm2d: _S("batch_norm", "momentum eps"),
    nn.BatchNorm3d: _S("batch_norm", "momentum eps"),
    nn.SyncBatchNorm: _S("batch_norm", "momentum eps"),
    nn.Conv1d: _S("conv1d", "stride padding dilation groups"),
    nn.Conv2d: _S("conv2d", "stride padding dilation groups"),
    nn.Conv3d: _S("conv3d", "stride padding dilation groups"),
    nn.ConvTranspose1d: _S("conv_transpose1d", "stride padding output_padding groups dilation"),
    nn.ConvTranspose2d: _S("conv_transpose2d", "stride padding output_padding groups dilation"),
    nn.ConvTranspose3d: _S("conv_transpose3d", "stride padding output_padding groups dilation"),
    nn.Identity: _S(IDENTITY), nn.Dropout: _S(IDENTITY), nn.Dropout1d: _S(IDENTITY),
    nn.Dropout2d: _S(IDENTITY), nn.Dropout3d: _S(IDENTITY), nn.AlphaDropout: _S(IDENTITY),
    nn.FeatureAlphaDropout: _S(IDENTITY), Mark: _S(IDENTITY),
}


# Modules of torch that are looked into: what they call has a row, or is kept as it is, by name.
TRANSPARENT: frozenset[type[nn.Module]] = frozenset((
    nn.GLU, nn.LocalResponseNorm, nn.LPPool2d, nn.Unfold, nn.Fold, nn.Unflatten,
    nn.RMSNorm, nn.Softmin, nn.CosineSimilarity, nn.Embedding))


def function_spelling(target: Any) -> Spelling | None:
    """The row for a called function, looked up by identity, then by qualified name."""
    try:
        known = FUNCTIONS.get(target)
    except TypeError:  # an unhashable callable
        return None
    if known is not None:
        return known
    return NAMED.get(f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', '')}")
