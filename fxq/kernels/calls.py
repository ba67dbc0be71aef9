"""The one place that knows torch's quantized kernels and their deprecated tensor types.

A kernel takes and gives quantized tensors; `to_quantized`, `integers_of` and `from_quantized`
convert at the border, from and to plain integer or float tensors. Names of `torch.ops.quantized`
are looked up when a graph is lowered, so that targets can be imported (and their rows checked)
where torch lacks these kernels, and using one gives one clear error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.errors import TargetUnavailableError
from fxq.ir.op_functions import getitem
from fxq.quantization.formats import QParams
from fxq.system.torch_state import quiet, using_engine


@dataclass(frozen=True)
class Call:
    """A kernel's function and how its arguments are laid out (a form of `fxq.kernels.arguments`).

    `implementation` is a function, or the name of an operator of `torch.ops.quantized`, which is
    looked up when it is needed; so is `prepack`. Of a kernel with weights, `rank` is how many
    dimensions they have and `axis` the one of their scales.
    """

    name: str
    implementation: str | Callable[..., Any]
    form: str
    prepack: str | Callable[..., Any] = ""
    rank: int = 0
    axis: int = 0

    @property
    def function(self) -> Callable[..., Any]:
        """What a LOWERED graph calls: of a builtin, the resolved operator (the cheapest way)."""
        found: Callable[..., Any] = _resolved(self.implementation, "_op")
        return found

    @property
    def prepack_function(self) -> Callable[..., Any]:
        """What packs weights; its arguments are (weight, bias, *geometry)."""
        found: Callable[..., Any] = _resolved(self.prepack)
        return found


def _resolved(source: str | Callable[..., Any], part: str = "") -> Any:
    if not isinstance(source, str):
        return source
    try:
        found = getattr(torch.ops.quantized, source)
        return getattr(found, part) if part else found
    except AttributeError as error:
        raise TargetUnavailableError(
            "this torch has no quantized CPU kernels", why=str(error),
            fix="use target='reference', or torch 2.11 to 2.15") from error


_ADDING = ("conv2d_add", "conv2d_add_relu")
# name -> dimensions of the weights, and the one of their scales
_WEIGHTED = {"conv1d": (3, 0), "conv2d": (4, 0), "conv3d": (5, 0), "conv_transpose1d": (3, 1),
             "conv_transpose2d": (4, 1), "conv_transpose3d": (5, 1), "linear": (2, 0)}
# Functions of torch that act on quantized tensors.
_SAME: dict[str, Callable[..., Any]] = {
    "relu": torch.relu, "clamp": torch.clamp, "max_pool1d": F.max_pool1d,
    "max_pool2d": torch.max_pool2d, "avg_pool2d": torch._C._nn.avg_pool2d,
    "avg_pool3d": torch._C._nn.avg_pool3d, "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "adaptive_avg_pool3d": F.adaptive_avg_pool3d, "mean": torch.mean, "flatten": torch.flatten,
    "reshape": torch.reshape, "permute": torch.permute, "transpose": torch.transpose,
    "squeeze": torch.squeeze, "unsqueeze": torch.unsqueeze, "narrow": torch.narrow,
    "contiguous": Tensor.contiguous, "channel_shuffle": torch.channel_shuffle,
    "pixel_shuffle": torch.pixel_shuffle, "pixel_unshuffle": torch.pixel_unshuffle,
    "pad": F.pad, "getitem": getitem}


def look_up(input: Tensor, table: Tensor, scale: float, zero_point: int) -> Tensor:
    """An elementwise function as a table of its 256 results (uint8); images are channels_last.

    `take` gives its result in the order of the index, hence the turns; it takes half the time of
    indexing (measured).
    """
    turned = input.permute(0, 2, 3, 1) if input.dim() == 4 else input
    values = torch.take(table, turned.int_repr().long())
    made = torch._make_per_tensor_quantized_tensor(values, scale, zero_point)
    return made.permute(0, 3, 1, 2) if input.dim() == 4 else made


def interpolate(input: Tensor, **attributes: Any) -> Tensor:
    """Nearest on integers; everything else in float between integers.

    torch's own kernel mixes channels up when it enlarges 1x1 images, and its bilinear one is
    slower than float in between (both measured).
    """
    if attributes.get("mode", "nearest") == "nearest" and input.shape[2:] != (1, 1):
        return F.interpolate(input, **attributes)
    values = F.interpolate(torch.dequantize(input), **attributes)
    return torch.quantize_per_tensor(values, input.q_scale(), input.q_zero_point(), input.dtype)


_SAME["interpolate"] = interpolate
_FIXED: dict[str, Callable[..., Any]] = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "hardsigmoid": torch._C._nn.hardsigmoid}
_BUILTIN = {"binary": ("add", "add_relu", "mul", "mul_relu"), "cat": ("cat",),
            "affine": ("batch_norm2d", "batch_norm2d_relu"), "layer_norm": ("layer_norm",),
            "scaled": ("hardswish",), "leaky_relu": ("leaky_relu",), "elu": ("elu",)}


def _calls() -> Iterator[Call]:
    for name, weights in _WEIGHTED.items():
        yield Call(name, name, "weighted", f"{name}_prepack", *weights)
    for name in ("conv1d", "conv2d", "conv3d", "linear"):
        yield Call(f"{name}_relu", f"{name}_relu", "weighted", f"{name}_prepack", *_WEIGHTED[name])
    for name in _ADDING:
        yield Call(name, name, "adding", "conv2d_prepack", *_WEIGHTED["conv2d"])
    for name, relu in (("linear_float", ""), ("linear_relu_float", "relu_")):
        yield Call(name, f"linear_with_input_q_dq_qweight_dq_{relu}output_fp32", "float",
                   "linear_prepack", *_WEIGHTED["linear"])
    for name in ("linear_dynamic", "linear_relu_dynamic"):
        yield Call(name, name, "dynamic", "linear_prepack", *_WEIGHTED["linear"])
    for form, names in _BUILTIN.items():
        yield from (Call(name, name, form) for name in names)
    yield from (Call(name, f, "fixed") for name, f in _FIXED.items())
    yield from (Call(name, f, "same") for name, f in _SAME.items())
    yield Call("function", look_up, "function")


CALLS: Mapping[str, Call] = {call.name: call for call in _calls()}


def get_call(call: str | Call) -> Call:
    """The kernel that a row names, or holds itself. Raises KeyError for an unknown name."""
    return CALLS[call] if isinstance(call, str) else call


@cache
def _names() -> dict[Any, str]:
    names: dict[Any, str] = {}
    for call in (*CALLS.values(), QUANTIZE, DEQUANTIZE):
        with suppress(TargetUnavailableError):
            names[call.function] = call.name
    return names


def kernel_name(target: Any) -> str:
    """The canonical name of a LOWERED node's function, or an empty text."""
    try:
        return _names().get(target, "")
    except TypeError:
        return ""


# Float functions that may overwrite what only they read (a value fresh from a dequantize).
IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    F.silu: torch._C._nn.silu_, torch.relu: torch.relu_, torch.sigmoid: torch.sigmoid_,
    torch.tanh: torch.tanh_}
to_quantized = torch.quantize_per_tensor  # (float tensor, scale, zero point, torch.quint8)
from_quantized = torch.dequantize
QUANTIZE = Call("quantize", to_quantized, "border")
DEQUANTIZE = Call("dequantize", from_quantized, "border")


def quantized_dtype(qparams: QParams) -> torch.dtype:
    """The tensor type that the kernels want for this format."""
    return torch.quint8 if qparams.low >= 0 else torch.qint8


def with_qparams(values: Tensor, qparams: QParams) -> Tensor:
    """A quantized tensor that holds exactly these integers."""
    with quiet():
        return torch._make_per_tensor_quantized_tensor(values, qparams.scale, qparams.zero_point)


def integers_of(value: Tensor) -> Tensor:
    """The plain integers of a quantized tensor."""
    return value.int_repr()


def prepack(call: Call, engine: str, weight: Tensor, scales: Tensor, axis: int,
            bias: Tensor | None, geometry: tuple[Any, ...]) -> Any:
    """Pack integer weights for one engine; `geometry` is what the prepack function wants."""
    with quiet(), using_engine(engine):
        if scales.numel() == 1:
            packed = torch._make_per_tensor_quantized_tensor(weight, float(scales.item()), 0)
        else:
            zeros = torch.zeros(scales.numel(), dtype=torch.int64)
            packed = torch._make_per_channel_quantized_tensor(weight, scales.double(), zeros, axis)
        return call.prepack_function(packed, bias, *geometry)


def require_engine(engine: str) -> None:
    """Raise TargetUnavailableError unless torch was built with this engine."""
    supported = list(torch.backends.quantized.supported_engines)
    if engine not in supported:
        raise TargetUnavailableError(
            f"the engine {engine!r} is not available on this machine",
            why=f"torch offers: {', '.join(map(str, supported))}",
            fix="choose one of these as target, or target='reference'")


