"""What loading a file costs, beside reading its bytes and packing its weights.

    python benchmarks/loading.py [NAME ...] [--markdown docs/benchmarks/loading.md]

Both sides in one process, turn by turn; medians. Reading is the file's bytes as tensors, packing
the engine's own prepack calls. `runtime="auto"` adds TorchScript and a race of both runtimes. The
last columns are the first load of a fresh process, and what importing torch took there.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import build, environment
from safetensors.torch import load as load_tensors
from tabulate import tabulate

import fxq
from fxq.artifact.container import unpack
from fxq.kernels import arguments
from fxq.system.files import read_file

NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0",
         "efficientnet_b0")
FRESH = """
import sys, time
a = time.perf_counter(); import torch
b = time.perf_counter(); import fxq; fxq.load(sys.argv[1], runtime="python")
print(b - a, time.perf_counter() - b)
"""


def milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def packing_calls(path: Path) -> list[Callable[[], Any]]:
    """The prepack calls of one load, to be made again."""
    calls: list[Callable[[], Any]] = []
    prepack = arguments.kernels.prepack

    def keep(*arguments: Any) -> Any:
        calls.append(lambda: prepack(*arguments))
        return prepack(*arguments)

    arguments.kernels.prepack = keep
    try:
        fxq.load(path, runtime="python")
    finally:
        arguments.kernels.prepack = prepack
    return calls


def row(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    path = folder / f"{name}.fxq"
    x = torch.randn(1, 3, 224, 224)
    fxq.compile(build(name), example_inputs=(x,), calibration_data=[x], runtime="python").save(path)
    calls = packing_calls(path)
    sides = {"read": lambda: load_tensors(unpack(read_file(path), "")["weights.safetensors"]),
             "pack": lambda: [call() for call in calls],
             "load": lambda: fxq.load(path, runtime="python"),
             "auto": lambda: fxq.load(path)}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, call in sides.items():
            times[side].append(milliseconds(call))
    read, pack, load, auto = (statistics.median(v) for v in times.values())
    fresh = [subprocess.run([sys.executable, "-c", FRESH, str(path)], check=True, text=True,
                            capture_output=True).stdout.split() for _ in range(3)]
    imported, first = (1000 * statistics.median(map(float, v)) for v in zip(*fresh, strict=True))
    return {"model": name, "MB": path.stat().st_size / 1e6, "read ms": read, "pack ms": pack,
            "load ms": load, "load / (read + pack)": load / (read + pack), "auto ms": auto,
            "fresh process ms": first, "import torch ms": imported}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(name, Path(folder), options.rounds) for name in options.names]
    text = tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="github")
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Loading\n\n{environment()}\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
