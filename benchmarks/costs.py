"""The costs behind `targets/costs.py`: engines by shape, and functions as table or in float.

    export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000
    python benchmarks/costs.py [--busy] [--markdown docs/benchmarks/costs.md]

Minima over rounds in which both sides take turns, batch 1, images in channels_last: what else runs
on the machine only ever adds time. A function's figure is the median of three such races. The
variables keep glibc from giving memory back between the rounds: with a heap that ends in free
memory, each large result costs page faults, up to ten times the work itself. With `--busy`, on a
machine that does other work, it is the CPU time of one thread, in medians: two threads wait for
each other there, and no minimum is free of that.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import environment
from tabulate import tabulate

from fxq.ir.ops import OPS
from fxq.kernels import calls
from fxq.system.timing import turns
from fxq.targets.common import COMMON

# inputs, outputs, kernel, groups, side, stride
CONVOLUTIONS = (
    (3, 32, 3, 1, 224, 2), (3, 64, 7, 1, 224, 2), (64, 64, 3, 1, 56, 1), (256, 256, 3, 1, 14, 1),
    (512, 512, 3, 1, 7, 1), (64, 256, 1, 1, 56, 1), (16, 96, 1, 1, 112, 1), (96, 24, 1, 1, 56, 1),
    (32, 192, 1, 1, 28, 1), (192, 32, 1, 1, 28, 1), (64, 384, 1, 1, 14, 1), (384, 64, 1, 1, 14, 1),
    (160, 960, 1, 1, 7, 1), (16, 16, 3, 1, 32, 1), (64, 64, 3, 1, 8, 1), (96, 8, 1, 1, 1, 1),
    (32, 32, 3, 32, 112, 1), (192, 192, 3, 192, 28, 1), (960, 960, 3, 960, 7, 1),
    (240, 240, 5, 240, 14, 1), (58, 58, 3, 58, 28, 1), (256, 256, 3, 32, 14, 1))
SIZES = ((1, 16, 1, 1), (1, 240, 1, 1), (1, 8, 14, 14), (1, 64, 14, 14), (1, 240, 14, 14),
         (1, 96, 28, 28), (1, 32, 112, 112))

BUSY = False  # --busy

EXAMPLES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "threshold": ((), {"threshold": 0.1, "value": 0.0}), "pow": ((), {"exponent": 2}),
    "prelu": ((torch.tensor([0.25]),), {}),
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div"), ((2.5,), {}))}


def image(*shape: int) -> torch.Tensor:
    values = torch.randint(0, 256, shape, dtype=torch.uint8)
    return torch._make_per_tensor_quantized_tensor(
        values.contiguous(memory_format=torch.channels_last), 0.02, 100)


def packed(engine: str, weight: torch.Tensor, stride: int, groups: int) -> Any:
    torch.backends.quantized.engine = engine
    pad = weight.shape[2] // 2
    quantized = torch._make_per_channel_quantized_tensor(
        weight, torch.full((len(weight),), 0.01).double(), torch.zeros(len(weight)).long(), 0)
    return torch.ops.quantized.conv2d_prepack(quantized, torch.zeros(len(weight)), [stride] * 2,
                                              [pad] * 2, [1, 1], groups)


def microseconds(*functions: Callable[[], Any]) -> list[float]:
    with torch.no_grad():
        if BUSY:
            samples = turns(list(functions), 100, budget=1, clock=time.thread_time)
            return [statistics.median(t) * 1e6 for t in samples]
        return [min(t) * 1e6 for t in turns(list(functions), 100, budget=3)]


def engines() -> list[tuple[Any, ...]]:
    rows = []
    for inputs, outputs, kernel, groups, side, stride in CONVOLUTIONS:
        weight = torch.randint(-60, 60, (outputs, inputs // groups, kernel, kernel),
                               dtype=torch.int8)
        x, run = image(1, inputs, side, side), torch.ops.quantized.conv2d_relu._op
        a, b = microseconds(*(partial(run, x, packed(e, weight, stride, groups), 0.05, 0)
                              for e in ("fbgemm", "onednn")))
        area = (side // stride) ** 2
        rows.append((f"{inputs}x{side}x{side} -> {outputs}, {kernel}x{kernel} / {stride}"
                     + (f", {groups} groups" if groups > 1 else ""),
                     outputs * area, weight.numel() * area / 1e6, a, b, a / b))
    return rows


def between(x: torch.Tensor, name: str) -> torch.Tensor:
    """A function in float between integers, as it is lowered."""
    operands, attributes = EXAMPLES.get(name, ((), {}))
    function = calls.IN_PLACE.get(OPS[name].call, OPS[name].call)
    values = function(torch.dequantize(x), *operands, **attributes)
    return torch.quantize_per_tensor(values, 0.02, 10, torch.quint8)


def functions() -> list[dict[str, Any]]:
    """The table, and each function in float, for every size; each pair takes turns."""
    table = torch.randint(0, 256, (256,), dtype=torch.uint8)
    names = list(dict.fromkeys(k.op for k in COMMON if k.call == "function"))
    rows: list[dict[str, Any]] = [{"function": name} for name in ("a table", *names)]
    for shape in SIZES:
        x, size = image(*shape), str(math.prod(shape))
        microseconds(partial(between, x, names[0]))  # the first race of a size is a warm-up
        look_up = partial(calls.look_up, x, table, 0.02, 10)
        pairs = [[statistics.median(times) for times in zip(*(
            microseconds(look_up, partial(between, x, name)) for _ in range(3)), strict=True)]
            for name in names]
        for row, (_, float_us) in zip(rows[1:], pairs, strict=True):
            row[size] = float_us
        rows[0][size] = statistics.median(table_us for table_us, _ in pairs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--busy", action="store_true", help="CPU time of one thread")
    options = parser.parse_args()
    if options.busy:
        globals()["BUSY"] = True
        torch.set_num_threads(1)
    convolutions = tabulate(engines(), tablefmt="github", floatfmt=".1f", headers=(
        "convolution", "outputs", "M MACs", "FBGEMM µs", "oneDNN µs", "FBGEMM / oneDNN"))
    elementwise = tabulate(functions(), tablefmt="github", floatfmt=".1f", headers="keys")
    text = (f"# Costs\n\n{environment()}\n\n{__doc__}\n{convolutions}\n\nFunctions without a "
            "kernel: µs by the number of values, as a table of 256, or in float between integers."
            f"\n\n{elementwise}\n")
    print(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
