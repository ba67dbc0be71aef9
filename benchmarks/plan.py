"""How far off `fxq plan` is: its milliseconds beside those of the compiled graph.

    python benchmarks/plan.py [NAME ...] [--markdown docs/benchmarks/plan.md]

The nodes of the first models fill the cache that later ones read; measured is the median run of the
lowered graph without clocks. All of it three times, each with an empty cache: medians, and the
largest of the three errors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from common import build, environment
from tabulate import tabulate

import fxq
from fxq.profiler import forecast
from fxq.profiler.clock import time_nodes
from fxq.system.torch_state import isolated, quiet

NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1",
         "shufflenet_v2_x1_0", "efficientnet_b0", "googlenet", "regnet_y_400mf", "mnasnet1_0")


PASSES = 3


def forecast_and_truth(name: str) -> tuple[float, float]:
    """Milliseconds, both for one image on x86 in int8."""
    model, x = build(name), torch.randn(1, 3, 224, 224)
    found = fxq.plan(model, example_inputs=(x,), targets=("x86",), schemes=("int8_static",)).rows[0]
    compiled = fxq.compile(model, target="x86", example_inputs=(x,), calibration_data=[x],
                           verify=False, runtime="python")
    with isolated(), quiet():
        plain = time_nodes(compiled.graph_module, [x], 40, 4.0).plain
    assert found.us is not None
    return found.us / 1e3, statistics.median(plain) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    names = options.names or NAMES
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(PASSES):
        with tempfile.TemporaryDirectory() as folder:
            forecast.cache_file = lambda folder=folder: Path(folder) / "times.json"
            for name in names:
                seen[name].append(forecast_and_truth(name))
    rows = []
    for name, pairs in seen.items():
        predicted, truth = (statistics.median(side) for side in zip(*pairs, strict=True))
        worst = max((f / t - 1 for f, t in pairs), key=abs)
        rows.append((name, predicted, truth, 100 * (predicted / truth - 1), 100 * worst))
    table = tabulate(rows, headers=("model", "forecast ms", "measured ms", "error %",
                                    "largest error %"), tablefmt="github", floatfmt=".2f")
    print(table)
    if options.markdown:
        options.markdown.write_text(f"# Forecasts\n\n{environment()}\n\n{__doc__}\n{table}\n")


if __name__ == "__main__":
    main()
