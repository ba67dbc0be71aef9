"""Modules that round values in training, and pass gradients straight through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fxq.errors import CalibrationError
from fxq.quantization.formats import QParams, QSpec, least_scale

# Weight of the newest batch in the running extremes: Krishnamoorthi 2018, "Quantizing deep
# convolutional networks for efficient inference", section 3.1.3, averages over many batches.
NEWEST = 0.01


class FakeQuantize(nn.Module):
    """Rounds a value to the integers of a format, and back to float.

    Inside of the range the gradient passes unchanged, outside it is zero. The range is the
    running average of the batches' extremes until `observing` is switched off; with `learned`,
    the scale is a parameter (LSQ: Esser et al. 2020, "Learned Step Size Quantization"). Works in
    float32 whatever comes in, and gives back the type that came.
    """

    low: Tensor
    high: Tensor

    def __init__(self, key: str, spec: QSpec, fixed: QParams | None = None,
                 learned: bool = False) -> None:
        super().__init__()
        self.key, self.spec, self.fixed = key, spec, fixed
        self.observing = fixed is None
        self.register_buffer("low", torch.tensor(torch.inf))
        self.register_buffer("high", torch.tensor(-torch.inf))
        self.scale = nn.Parameter(torch.tensor(0.0)) if learned and fixed is None else None

    def set_range(self, low: float, high: float) -> None:
        """Start from a range that is known, and keep it."""
        self.low.fill_(low)
        self.high.fill_(high)
        self.observing = False
        self._start_learning()

    def forward(self, x: Tensor, observe: bool = True) -> Tensor:
        usable = self._look_at(x.detach().float(), observe) if self.training and x.numel() else None
        scale, zero = self.format()
        if usable is not None:  # rounding would turn NaN into a number, and hide that all is lost
            scale = torch.where(usable, scale, torch.nan)
        low, high = self.spec.low, self.spec.high
        with torch.autocast(x.device.type, enabled=False):
            if self.scale is not None:
                step = 1 / (max(x.numel(), 1) * high) ** 0.5  # LSQ, section 2.2
                rounded = torch._fake_quantize_learnable_per_tensor_affine(
                    x.float(), scale.reshape(1), zero.float().reshape(1), low, high, step)
            else:
                rounded = torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, low, high)
        return rounded.to(x.dtype)

    def _look_at(self, x: Tensor, observe: bool) -> Tensor:
        """Follow the extremes of a batch; says whether all of it is finite."""
        lowest, highest = torch.aminmax(x)
        usable = torch.isfinite(lowest) & torch.isfinite(highest)
        if observe and self.observing:
            self._follow(lowest, highest, usable)
        return usable

    def _follow(self, lowest: Tensor, highest: Tensor, usable: Tensor) -> None:
        first = self.low > self.high
        for running, seen in ((self.low, lowest), (self.high, highest)):
            moved = torch.where(first, seen, running + NEWEST * (seen - running))
            running.copy_(torch.where(usable, moved, running))
        if self.scale is not None:
            self.observing = False  # from the first batch on, the scale is learned
            self._start_learning()

    def _start_learning(self) -> None:
        if self.scale is not None:
            with torch.no_grad():
                self.scale.copy_(self.spec.scales(self.low, self.high)[0])

    def format(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point as tensors. Raises CalibrationError before anything was seen."""
        if self.fixed is not None:
            device = self.low.device
            return (torch.tensor(self.fixed.scale, device=device),
                    torch.tensor(self.fixed.zero_point, dtype=torch.int32, device=device))
        if self.observing and bool(self.low > self.high):
            raise CalibrationError(f"{self.key} was never observed in training",
                                   why="its range is unknown until a training batch went through",
                                   fix="train first, or pass statistics= to fxq.prepare_qat")
        scale, zero = self.spec.scales(self.low, self.high)
        if self.scale is None:
            return scale, zero
        return self.scale.clamp(min=least_scale(torch.maximum(-self.low, self.high))), zero

    def qparams(self) -> QParams:
        """The format as it is now, for the compiled model."""
        scale, zero = self.format()
        return QParams(float(scale), int(zero), self.spec.low, self.spec.high)

    def get_extra_state(self) -> dict[str, Any]:
        return {"observing": self.observing}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.observing = bool(state["observing"])


class RoundHalf(nn.Module):
    """Rounds a value to half precision and back; the gradient passes unchanged."""

    def __init__(self, key: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.key, self.dtype = key, dtype
        self.observing = False

    def forward(self, x: Tensor, observe: bool = True) -> Tensor:
        return straight_through(x, x.detach().to(self.dtype).to(x.dtype))


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The rounded value, with the gradient of `x`."""
    return x + (rounded - x).detach()
