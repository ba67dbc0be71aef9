"""What compiling costs: time beside float inference, memory beside the weights, growth with size.

    python benchmarks/compile_cost.py [NAME ...] [--before PYTHON]
                                      [--markdown docs/benchmarks/compile_cost.md]

Every figure is of a fresh process: the first compilation there with `runtime="python"` and given
statistics, after a network of one layer was compiled, and one float forward of 16 images (median
of three). CPU is processor time of the process, which other load hardly moves; seconds are the
wall's. `rows %` is the sum of the report's table as a share of `compiled in`. `peak MB` is the
highest resident size during compilation less that before it, `activations MB` the outputs of the
layers (activations and batch norms aside) for the example input, and the last column is
(peak - activations) / weights. Chains repeat conv, batch norm, ReLU, add; `worst pass` is the row
whose processor time grows fastest from a quarter of the longest chain to the whole, of those that
take 20 ms and more, and `power` its growth as a power of the number of nodes: 1 is linear.
Python's garbage collector is off for chains: its full collections would fall into single rows.
`--before` is the Python of an environment with another fxq: both take turns.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import build, environment
from tabulate import tabulate
from torch import Tensor, nn

import fxq

NAMES = ("resnet18", "mobilenet_v2", "resnet50")
LENGTHS = (250, 500, 1000, 2000)
X = torch.zeros(1, 3, 224, 224)
FLAT = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Dropout)


class Chain(nn.Module):
    """Four nodes per block: conv, batch norm, ReLU, add; positive values stay as they are."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 1, bias=False) for _ in range(nodes // 4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in self.layers)
        for layer in self.layers:
            layer.weight.data.copy_(0.5 * torch.eye(4)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = layer(x)
            x = y + torch.relu(norm(y))
        return x


def high_water(reset: bool = False) -> tuple[int, int]:
    """Bytes resident now, and at most since the last reset."""
    if reset:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, most = (int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, most


def activations_of(model: nn.Module, x: Tensor) -> int:
    sizes: list[int] = []
    for module in model.modules():
        if not list(module.children()) and not isinstance(module, FLAT):
            module.register_forward_hook(lambda _m, _i, y: sizes.append(y.numel() * y.itemsize))
    with torch.no_grad():
        model(x)
    return sum(sizes)


def forward_of_16(model: nn.Module) -> tuple[float, float]:
    images, walls, cpus = X.expand(16, 3, 224, 224).contiguous(), [], []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.no_grad():
            model(images)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def measure(model: nn.Module, x: Tensor, seen: Any, zoo: bool) -> dict[str, Any]:
    """One compilation in this process."""
    small, one = nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), torch.zeros(1, 3, 8, 8)
    fxq.compile(small, example_inputs=(one,), calibration_data=[one], runtime="python")
    if not zoo:  # a full collection would fall into one row or another
        gc.collect()
        gc.freeze()
        gc.disable()
    before, _ = high_water(reset=True)
    wall, cpu = time.perf_counter(), time.process_time()
    report = fxq.compile(model, example_inputs=(x,), statistics=seen, runtime="python").report
    found: dict[str, Any] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu,
                             "peak": high_water()[1] - before, "seconds": report.seconds}
    found["weights"] = sum(p.numel() * p.itemsize for p in model.parameters())
    rows = {p.name: p.milliseconds + getattr(p, "check_milliseconds", 0.0) for p in report.passes}
    rows |= {f"({name})": ms for name, ms in getattr(report, "steps", ())}
    found["rows"] = rows
    if zoo:
        found["forward wall"], found["forward cpu"] = forward_of_16(model)
        found["activations"] = activations_of(model, x)
    return found


def child(name: str, seen: str) -> dict[str, Any]:
    if not name.isdigit():
        return measure(build(name), X, seen, True)
    time.perf_counter = time.process_time  # a row of a chain has few milliseconds
    return measure(Chain(int(name)).eval(), torch.rand(1, 4, 8, 8), seen, False)


def in_process(python: str, name: str, seen: Path) -> dict[str, Any]:
    command = [python, __file__, "--child", name, str(seen)]
    text = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    return json.loads(text.splitlines()[-1])  # type: ignore[no-any-return]


def statistics_for(name: str, folder: Path) -> Path:
    model, x = (Chain(int(name)).eval(), torch.rand(1, 4, 8, 8)) if name.isdigit() else (
        build(name), X)
    seen = fxq.calibrate(fxq.prepare(model, example_inputs=(x,), verify=False), [x])
    seen.save(folder / f"{name}.json")
    return folder / f"{name}.json"


def zoo_row(side: str, name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    weights, activations = middle("weights"), middle("activations")
    rows = statistics.median(sum(run["rows"].values()) / run["seconds"] / 10 for run in runs)
    return {"model": name, "fxq": side, "CPU s": middle("cpu"), "s": middle("wall"),
            "16 images CPU s": middle("forward cpu"), "16 images s": middle("forward wall"),
            "CPU limit s": 1.5 * middle("forward cpu") + 1, "rows %": rows,
            "peak MB": middle("peak") / 1e6, "weights MB": weights / 1e6,
            "activations MB": activations / 1e6,
            "peak / weights": (middle("peak") - activations) / weights}


def chain_row(side: str, lengths: list[int], runs: dict[int, list[dict[str, Any]]]) -> Any:
    def milliseconds(length: int, row: str) -> float:
        return min(run["rows"].get(row, 0.0) for run in runs[length])

    last = lengths[-1]
    first = max(n for n in lengths if n <= last / 4)
    slow = [r for r in runs[last][0]["rows"] if milliseconds(last, r) >= 20]
    growth = {r: math.log(milliseconds(last, r) / max(milliseconds(first, r), 0.1))
              / math.log(last / first) for r in slow}
    worst = max(growth, key=lambda r: growth[r])
    ms = {f"{n} nodes CPU ms/node": 1e3 * min(run["cpu"] for run in runs[n]) / n for n in lengths}
    return {"fxq": side, **ms, "worst pass": worst, "power": growth[worst]}, {
        row: [milliseconds(n, row) for n in lengths] + [growth[row]] for row in slow}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", help="the Python of an environment with another fxq")
    parser.add_argument("--lengths", nargs="*", type=int, default=LENGTHS)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    sides = ({"before": options.before} if options.before else {}) | {"now": sys.executable}
    names = [*options.names, *map(str, options.lengths)]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        seen = {name: statistics_for(name, Path(folder)) for name in names}
        for _ in range(options.rounds):
            for name in names:
                for side, python in sides.items():
                    runs.setdefault((side, name), []).append(in_process(python, name, seen[name]))
    zoo = [zoo_row(side, n, runs[side, n]) for n in options.names for side in sides]
    chains = {side: chain_row(side, options.lengths, {n: runs[side, str(n)] for n in
                                                      options.lengths}) for side in sides}
    now = [[row, *values] for row, values in chains["now"][1].items()]
    headers = ["pass or step", *(f"{n} nodes, CPU ms" for n in options.lengths), "power"]
    tables = [tabulate(zoo, headers="keys", floatfmt=".2f", tablefmt="github"),
              tabulate([row for row, _ in chains.values()], headers="keys", floatfmt=".2f",
                       tablefmt="github"),
              tabulate(now, headers=headers, floatfmt=".2f", tablefmt="github")]
    print("\n\n".join(tables))
    if options.markdown:
        text = "\n\n".join(["# What compiling costs", environment(), str(__doc__), *tables])
        options.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
