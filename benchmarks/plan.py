"""How far off `fxq plan` is: its milliseconds beside those of the compiled graph.

    python benchmarks/plan.py [NAME ...] [--markdown docs/benchmarks/plan.md]

The nodes of the first models fill the cache that later ones read; the last column is the error of
the forecast against the median run of the lowered graph without clocks.
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
from fxq import kernels, planning
from fxq.isolation import isolated
from fxq.profiler.clock import time_nodes

NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1",
         "shufflenet_v2_x1_0", "efficientnet_b0", "googlenet", "regnet_y_400mf", "mnasnet1_0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows, x = [], torch.randn(1, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        planning.cache_file = lambda: Path(folder) / "times.json"
        for name in options.names or NAMES:
            model = build(name)
            found = fxq.plan(model, example_inputs=(x,), targets=("x86",),
                             schemes=("int8_static",)).rows[0]
            compiled = fxq.compile(model, target="x86", example_inputs=(x,),
                                   calibration_data=[x], verify=False, runtime="python")
            with isolated(), kernels.quiet():
                plain = time_nodes(compiled.graph_module, [x], 40, 4.0).plain
            truth = statistics.median(plain) * 1e6
            rows.append((name, found.us / 1e3, truth / 1e3, 100 * (found.us / truth - 1)))
    table = tabulate(rows, headers=("model", "forecast ms", "measured ms", "error %"),
                     tablefmt="github", floatfmt=".2f")
    print(table)
    if options.markdown:
        options.markdown.write_text(f"# Forecasts\n\n{environment()}\n\n{__doc__}\n{table}\n")


if __name__ == "__main__":
    main()
