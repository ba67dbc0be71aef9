"""The fastest multiply-accumulates that this machine shows, in each arithmetic."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import fx, nn

from fxq.compiler.build import built
from fxq.compiler.calibrate import calibrate
from fxq.compiler.prepare import prepare
from fxq.profiler.clock import Side, side_of, time_together
from fxq.profiler.native import side_for

_CHANNELS, _SIDE = 256, 28


@lru_cache(maxsize=8)
def roof(target: str, arithmetic: str, device: str = "cpu") -> float:
    """GMAC/s of a 3x3 convolution with 256 channels, which keeps every unit busy.

    From the fastest of its rounds: other work on the machine only ever slows it down. `arithmetic`
    is "float", "half" or "integer"; the last asks for a target.
    """
    side, x = _integers(target) if arithmetic == "integer" else _floats(arithmetic, device)
    timing = time_together([side], [x], 30, 0.5)[0][0]
    slowest = float(timing.samples.min(0).max())  # the convolution, not its borders
    return x.shape[0] * _CHANNELS**2 * 9 * _SIDE**2 / slowest / 1e9


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)).eval()


def _floats(arithmetic: str, device: str) -> tuple[Side, torch.Tensor]:
    """One image on a CPU; as many as fill a GPU there."""
    kind = {"dtype": torch.float16 if arithmetic == "half" else torch.float32, "device": device}
    x = torch.randn(1 if device == "cpu" else 64, _CHANNELS, _SIDE, _SIDE, **kind)  # type: ignore[call-overload]
    layout = torch.contiguous_format if device == "cpu" else torch.channels_last
    net = _net().to(**kind).to(memory_format=layout)  # type: ignore[call-overload]
    x = x.to(memory_format=layout)
    return side_of(fx.symbolic_trace(net), [x]), x


def _integers(target: str) -> tuple[Side, torch.Tensor]:
    x = torch.randn(1, _CHANNELS, _SIDE, _SIDE)
    prepared = prepare(_net(), target=target, example_inputs=(x,), verify=False)
    calibrate(prepared, [x])
    return side_for(built(prepared)[1], [x]), x
