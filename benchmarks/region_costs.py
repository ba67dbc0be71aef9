"""What a region on integers costs beside float: prints `REGIONS` of `targets/costs.py` anew.

    python benchmarks/region_costs.py [--rounds 60]

Each layer runs alone, between float values, on one thread: as torch's float operator, and as a
native program whose own clocks tell its steps apart. Times are minima over rounds, turn by turn.
The coefficients are least squares of relative errors, none below zero.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from common import environment
from tabulate import tabulate
from torch import nn

import fxq
from fxq.profiler.native import programs

# inputs, outputs, kernel, groups, side; 0: a linear layer of `groups` rows
LAYERS = (
    (3, 16, 3, 1, 56), (3, 32, 3, 1, 112), (8, 64, 1, 1, 56), (64, 8, 1, 1, 56),
    (32, 32, 3, 1, 28), (64, 64, 3, 1, 56), (64, 256, 1, 1, 28), (256, 64, 1, 1, 28),
    (256, 256, 3, 1, 14), (128, 512, 1, 1, 14), (512, 128, 1, 1, 7), (16, 16, 3, 1, 14),
    (32, 32, 3, 32, 56), (64, 64, 3, 64, 28), (192, 192, 3, 192, 14), (96, 96, 7, 96, 28),
    (128, 128, 3, 32, 28), (576, 576, 5, 576, 7),
    (64, 64, 1, 50, 0), (96, 384, 1, 784, 0), (384, 96, 1, 784, 0), (768, 768, 1, 197, 0),
    (512, 512, 1, 1, 0), (1024, 1000, 1, 1, 0), (64, 64, 1, 1, 0))


def layer(inputs: int, outputs: int, kernel: int, groups: int, side: int) -> tuple[Any, Any]:
    """A layer, and its input."""
    if not side:
        shape = (1, groups, inputs) if groups > 1 else (1, inputs)
        return nn.Linear(inputs, outputs).eval(), torch.randn(shape)
    made = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups).eval()
    return made, torch.randn(1, inputs, side, side)


class Between(nn.Module):
    """A layer whose result is read in float."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.inner(x), 1)


def measured(row: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Sizes of a layer, and microseconds of float, of the program, and of its parts."""
    inner, x = layer(*row)
    compiled = fxq.compile(Between(inner), target="native", example_inputs=(x,),
                           calibration_data=[x], verify=False, overrides={"inner": "int8_static"})
    program, = programs(compiled.graph_module, [x])
    float_us, whole_us, steps = [], [], []
    with torch.no_grad():
        for _ in range(rounds):
            for samples, call in ((float_us, inner), (whole_us, program)):
                call(x)
                start = time.perf_counter()
                call(x)
                samples.append((time.perf_counter() - start) * 1e6)
            steps.append(program.seconds())
        out = inner(x)
    names = [kernel.split()[0] for kernel in program.kernels]
    parts = dict(zip(names, np.min(steps, 0) * 1e6, strict=True))
    work = parts.get("conv", 0) + parts.get("depthwise", 0)
    weights = inner.weight.numel()
    macs = weights * out.numel() / inner.weight.shape[0]
    grouped = getattr(inner, "groups", 1) > 1
    return {"macs": macs * (not grouped), "grouped": macs * grouped, "results": out.numel(),
            "weights": weights, "inputs": x.numel(), "float": min(float_us), "work": work,
            "enter": parts["enter"], "leave": parts.get("leave", 0.0),
            "call": min(whole_us) - sum(parts.values())}


def fitted(rows: list[dict[str, float]], time_of: str, *sizes: str) -> dict[str, float]:
    """Coefficients of `sizes` (1: a constant), in nanoseconds; none is negative."""
    kept = list(sizes)
    while True:
        table = np.array([[1.0 if s == "1" else r[s] for s in kept] for r in rows])
        times = np.array([r[time_of] for r in rows])
        found, *_ = np.linalg.lstsq(table / times[:, None], np.ones(len(rows)), rcond=None)
        if (found >= 0).all():
            return dict.fromkeys(sizes, 0.0) | dict(zip(kept, found * 1e3, strict=True))
        kept.pop(int(found.argmin()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = [measured(row, options.rounds) for row in LAYERS]
    print(environment())
    print(tabulate(rows, "keys", "github", floatfmt=".1f"))
    sizes = ("macs", "grouped", "results", "weights")
    print("float", fitted(rows, "float", "1", *sizes))
    print("int8 ", fitted(rows, "work", *sizes))
    print("enter", fitted(rows, "enter", "inputs"))
    print("leave", fitted([r for r in rows if r["leave"]], "leave", "results"))
    print("call ", fitted(rows, "call", "1", "inputs", "results"))


if __name__ == "__main__":
    main()
