"""What the check of a call's inputs costs, per target.

    python benchmarks/input_guard.py [NAME ...] [--markdown docs/benchmarks/input_guard.md]

`known` is a call with shapes that the model has seen: one look-up, in microseconds, the median
and the minimum over all rounds, less the fastest empty loop. `new` is the first call with some
shapes (here each another batch size), in milliseconds: the graph's shape program runs once.
`two inputs` is a model with two inputs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit
from pathlib import Path
from typing import Any

import torch
from common import build, environment
from tabulate import tabulate
from torch import Tensor, nn

import fxq

NAMES = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "two inputs")
TARGETS = ("fbgemm", "x86", "qnnpack", "reference")
CALLS = 1000  # in one round


class TwoInputs(nn.Module):
    """Two images, one layer each."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.left(x) + self.right(y)


def known(guard: Any, inputs: list[Tensor], rounds: int) -> list[float]:
    """Microseconds a call, one figure for each round."""
    guard(inputs)
    loops = [timeit.timeit(lambda: None, number=CALLS) for _ in range(rounds)]
    calls = [timeit.timeit(lambda: guard(inputs), number=CALLS) for _ in range(rounds)]
    return [(call - min(loops)) / CALLS * 1e6 for call in calls]


def new(guard: Any, inputs: list[Tensor], rounds: int) -> list[float]:
    """Milliseconds for shapes that no call had before."""
    figures = []
    for size in range(2, rounds + 2):
        batch = [torch.empty(size, *x.shape[1:]) for x in inputs]
        start = time.perf_counter()
        guard(batch)
        figures.append((time.perf_counter() - start) * 1e3)
    return figures


def row(name: str, target: str, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = TwoInputs().eval() if name == "two inputs" else build(name)
    inputs = [torch.randn(1, 3, 64, 64) for _ in range(2 if name == "two inputs" else 1)]
    compiled = fxq.compile(model, target=target, example_inputs=tuple(inputs), runtime="python",
                           calibration_data=[tuple(inputs) if len(inputs) > 1 else inputs[0]])
    guard = compiled._takes
    seen, first = known(guard, inputs, rounds), new(guard, inputs, rounds)
    return {"target": target, "model": name, "known us, median": statistics.median(seen),
            "known us, minimum": min(seen), "new ms, median": statistics.median(first),
            "new ms, minimum": min(first)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = [row(name, target, options.rounds) for target in TARGETS for name in options.names]
    text = tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="github")
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Input guard\n\n{environment()}\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
