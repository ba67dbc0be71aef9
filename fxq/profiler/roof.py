"""The fastest multiply-accumulates that this machine shows, in each arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from fxq.profiler.clock import time_nodes
from fxq.timing import race

_CHANNELS, _SIDE = 256, 28


@lru_cache(maxsize=8)
def roof(target: str, scheme: str) -> float:
    """GMAC/s of a 3x3 convolution with 256 channels, which keeps every unit busy."""
    import fxq

    net = nn.Sequential(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)).eval()
    x = torch.randn(1, _CHANNELS, _SIDE, _SIDE)
    if scheme == "fp32":
        with torch.no_grad():
            return _rate(lambda: net(x))
    compiled = fxq.compile(net, target=target, scheme=scheme, example_inputs=(x,),
                           calibration_data=[x], runtime="python", verify=False)
    timing = time_nodes(compiled.graph_module, [x], 30, 0.5)
    slowest = float(np.median(timing.samples, 0).max())  # the convolution, not its borders
    return _CHANNELS**2 * 9 * _SIDE**2 / slowest / 1e9


def _rate(function: Callable[[], Any]) -> float:
    seconds, = race([function], 30, budget=0.5)
    return _CHANNELS**2 * 9 * _SIDE**2 / seconds / 1e9
