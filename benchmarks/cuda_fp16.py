"""Half precision on a GPU: fxq beside eager float32, eager float16 and torch.compile.

    python benchmarks/cuda_fp16.py [--markdown docs/benchmarks/cuda_fp16.md]

Latency is the median of calls timed by device events, all variants in turns; memory is the peak of
one call; the error is the largest difference from float32, relative to its largest output.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import build, environment
from tabulate import tabulate

import fxq


def milliseconds(functions: dict[str, Callable[[], Any]], rounds: int = 50) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end))
    return {name: statistics.median(values) for name, values in times.items()}


def peak(function: Callable[[], Any]) -> float:
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e6


def measure(name: str, batch: int) -> list[tuple[Any, ...]]:
    torch.manual_seed(1)
    model, x = build(name), torch.randn(batch, 3, 224, 224)
    compiled = fxq.compile(model, target="cuda_fp16", scheme="fp16", example_inputs=(x,))
    device = x.cuda()
    single = build(name).cuda()
    half = build(name).cuda().half().to(memory_format=torch.channels_last)
    inputs = device.half().contiguous(memory_format=torch.channels_last)
    fast = torch.compile(half)
    variants = {"float32 eager": lambda: single(device), "float16 eager": lambda: half(inputs),
                "float16 torch.compile": lambda: fast(inputs), "fxq": lambda: compiled(device)}
    with torch.no_grad():
        for function in variants.values():
            for _ in range(5):
                function()
        times, exact = milliseconds(variants), single(device).float()
        return [(name, batch, kind, times[kind], times["float32 eager"] / times[kind],
                 peak(function), ((function().float() - exact).abs().max() / exact.abs().max())
                 .item()) for kind, function in variants.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = [row for name in ("resnet50", "mobilenet_v3_small", "mobilenet_v3_large")
            for batch in (1, 64) for row in measure(name, batch)]
    table = tabulate(rows, tablefmt="github", floatfmt=".4g", headers=(
        "model", "batch", "variant", "ms", "vs float32", "peak MB", "max error"))
    text = (f"# Half precision on a GPU\n\n{torch.cuda.get_device_name()}; {environment()}\n\n"
            f"{__doc__}\n{table}\n")
    print(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
