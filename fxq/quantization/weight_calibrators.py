"""Rules that choose the range of each weight channel: "minmax", "sigma:3", "mse" and others.

Each rule takes weights as (channels, elements) and gives the lowest and highest real number
that a channel shall keep, one each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fxq.errors import ConfigError, did_you_mean
from fxq.quantization.formats import QSpec

Bounds = tuple[Tensor, Tensor]
WeightRule = Callable[[Tensor, QSpec], Bounds]
_SHRINK = tuple(1 - 0.025 * i for i in range(29))  # from all of the range to 30 % of it


def minmax() -> WeightRule:
    """The extremes of each channel."""
    return lambda rows, spec: (rows.amin(1), rows.amax(1))


def sigma(count: float = 3.0) -> WeightRule:
    """Mean ± `count` standard deviations of each channel, inside of its extremes."""
    if not count > 0:
        raise ValueError("the number of standard deviations must be positive")

    def choose(rows: Tensor, spec: QSpec) -> Bounds:
        wide = rows.double()  # squares of small weights underflow in float32
        mean, reach = wide.mean(1), count * wide.std(1, correction=0)
        return (torch.maximum(rows.amin(1), (mean - reach).float()),
                torch.minimum(rows.amax(1), (mean + reach).float()))

    return choose


def percentile(share: float = 99.9) -> WeightRule:
    """The range that holds this percentage of a channel, as much cut off on either side."""
    if not 50 < share <= 100:
        raise ValueError("a percentile lies between 50 and 100")

    def choose(rows: Tensor, spec: QSpec) -> Bounds:
        ordered = rows.sort(1).values
        cut = int((100 - share) / 200 * rows.shape[1])
        return ordered[:, cut], ordered[:, rows.shape[1] - 1 - cut]

    return choose


def mse() -> WeightRule:
    """The range with the smallest squared rounding error: all shrunk ranges are tried."""

    def choose(rows: Tensor, spec: QSpec) -> Bounds:
        low, high = rows.amin(1), rows.amax(1)
        best = torch.full_like(low, torch.inf, dtype=torch.float64)
        kept = torch.ones_like(low)
        for share in _SHRINK:
            scale, zero = spec.scales(low * share, high * share)
            scale, zero = scale[:, None], zero[:, None]
            steps = (torch.round(rows / scale) + zero).clamp(spec.low, spec.high)
            error = ((steps - zero) * scale - rows).double().square().sum(1)
            kept = torch.where(error < best, share, kept)
            best = torch.minimum(error, best)
        return low * kept, high * kept

    return choose


WEIGHT_RULES: Mapping[str, Callable[..., WeightRule]] = {
    "minmax": minmax, "sigma": sigma, "percentile": percentile, "mse": mse}


def get_weight_rule(name: str) -> WeightRule:
    """Look a rule up by name; raises ConfigError with the legal names."""
    base, *parameters = name.split(":")
    if base not in WEIGHT_RULES:
        raise ConfigError(f"unknown weight calibrator {name!r}",
                          fix=did_you_mean(base, WEIGHT_RULES))
    try:
        return WEIGHT_RULES[base](*(float(p) for p in parameters))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"weight calibrator {name!r} cannot be built", why=str(error),
                          fix='write it like "sigma:3" or "percentile:99.9"') from None
