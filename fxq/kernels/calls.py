"""The one place that knows torch's quantized kernels and their deprecated tensor types.

A kernel takes and gives quantized tensors; `to_quantized`, `integers_of` and `from_quantized`
convert at the border, from and to plain integer or float tensors. Everything is probed when a
target is first used, so that a torch without these kernels gives one clear error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.errors import ConfigError, TargetUnavailableError
from fxq.quantization.formats import QParams
from fxq.system.torch_state import quiet, using_engine


@dataclass(frozen=True)
class Call:
    """A kernel's function and how its arguments are laid out (see `passes/lower.py`).

    Of a kernel with weights, `rank` is how many dimensions they have and `axis` the one of their
    scales.
    """

    name: str
    function: Callable[..., Any]
    form: str
    prepack: str = ""
    rank: int = 0
    axis: int = 0


def _op(name: str) -> Any:
    """The resolved builtin behind `torch.ops.quantized.<name>` (the cheapest way to call it)."""
    return getattr(torch.ops.quantized, name)._op


# form -> kernel names. "same" rows are torch functions that act on quantized tensors.
_ADDING = ("conv2d_add", "conv2d_add_relu")
# name -> dimensions of the weights, and the one of their scales
_WEIGHTED = {"conv1d": (3, 0), "conv2d": (4, 0), "conv3d": (5, 0), "conv_transpose1d": (3, 1),
             "conv_transpose2d": (4, 1), "conv_transpose3d": (5, 1), "linear": (2, 0)}
_SAME: dict[str, Callable[..., Any]] = {
    "relu": torch.relu, "clamp": torch.clamp, "max_pool1d": F.max_pool1d,
    "max_pool2d": torch.max_pool2d, "avg_pool2d": torch._C._nn.avg_pool2d,
    "avg_pool3d": torch._C._nn.avg_pool3d, "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "adaptive_avg_pool3d": F.adaptive_avg_pool3d, "mean": torch.mean, "flatten": torch.flatten,
    "reshape": torch.reshape, "permute": torch.permute, "transpose": torch.transpose,
    "squeeze": torch.squeeze, "unsqueeze": torch.unsqueeze, "narrow": torch.narrow,
    "contiguous": Tensor.contiguous, "channel_shuffle": torch.channel_shuffle,
    "pixel_shuffle": torch.pixel_shuffle, "pixel_unshuffle": torch.pixel_unshuffle,
    "pad": F.pad}


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


def _calls() -> dict[str, Call]:
    rows = [Call(n, _op(n), "weighted", f"{n}_prepack", *w) for n, w in _WEIGHTED.items()]
    rows += [Call(f"{n}_relu", _op(f"{n}_relu"), "weighted", f"{n}_prepack", *_WEIGHTED[n])
             for n in ("conv1d", "conv2d", "conv3d", "linear")]
    rows += [Call(n, _op(n), "adding", "conv2d_prepack", *_WEIGHTED["conv2d"]) for n in _ADDING]
    rows += [Call(n, _op(f"linear_with_input_q_dq_qweight_dq_{relu}output_fp32"), "float",
                  "linear_prepack", *_WEIGHTED["linear"])
             for n, relu in (("linear_float", ""), ("linear_relu_float", "relu_"))]
    rows += [Call(n, _op(n), "dynamic", "linear_prepack", *_WEIGHTED["linear"])
             for n in ("linear_dynamic", "linear_relu_dynamic")]
    rows += [Call(n, _op(n), "binary") for n in ("add", "add_relu", "mul", "mul_relu")]
    rows += [Call(n, _op(n), "affine") for n in ("batch_norm2d", "batch_norm2d_relu")]
    rows += [Call("layer_norm", _op("layer_norm"), "layer_norm"),
             Call("function", look_up, "function")]
    rows += [Call("cat", _op("cat"), "cat"), Call("hardswish", _op("hardswish"), "scaled"),
             Call("leaky_relu", _op("leaky_relu"), "leaky_relu"), Call("elu", _op("elu"), "elu")]
    rows += [Call("sigmoid", torch.sigmoid, "fixed"), Call("tanh", torch.tanh, "fixed"),
             Call("hardsigmoid", torch._C._nn.hardsigmoid, "fixed")]
    rows += [Call(n, f, "same") for n, f in _SAME.items()]
    return {row.name: row for row in rows}


_CALLS: dict[str, Call] = {}
_NAMES: dict[Any, str] = {}


def add_call(call: Call) -> Call:
    """Make a kernel of one's own known to target tables; raises ConfigError for a name that is
    taken."""
    if get_calls().setdefault(call.name, call) != call:
        raise ConfigError(f"two kernels are called {call.name!r}", fix="give it another name")
    _NAMES[call.function] = call.name
    return call


def get_call(name: str) -> Call:
    """A kernel by the name that target tables use."""
    return get_calls()[name]


def get_calls() -> dict[str, Call]:
    """All kernels by name; raises TargetUnavailableError for a torch without them."""
    if not _CALLS:
        try:
            _CALLS.update(_calls())
        except AttributeError as error:
            raise TargetUnavailableError(
                "this torch has no quantized CPU kernels", why=str(error),
                fix="use target='reference', or torch 2.11 to 2.15") from error
        _NAMES.update({c.function: c.name for c in _CALLS.values()})
        _NAMES.update({to_quantized: "quantize", from_quantized: "dequantize"})
    return _CALLS


def kernel_name(target: Any) -> str:
    """The canonical name of a LOWERED node's function, or an empty text."""
    try:
        return _NAMES.get(target, "")
    except TypeError:
        return ""


# Float functions that may overwrite what only they read (a value fresh from a dequantize).
IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    F.silu: torch._C._nn.silu_, torch.relu: torch.relu_, torch.sigmoid: torch.sigmoid_,
    torch.tanh: torch.tanh_}
to_quantized = torch.quantize_per_tensor  # (float tensor, scale, zero point, torch.quint8)
from_quantized = torch.dequantize


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
        return getattr(torch.ops.quantized, call.prepack)(packed, bias, *geometry)


def require_engine(engine: str) -> None:
    """Raise TargetUnavailableError unless torch was built with this engine."""
    supported = list(torch.backends.quantized.supported_engines)
    if engine not in supported:
        raise TargetUnavailableError(
            f"the engine {engine!r} is not available on this machine",
            why=f"torch offers: {', '.join(map(str, supported))}",
            fix="choose one of these as target, or target='reference'")


