"""What loading a file costs: to the first answer of a fresh process, and beside packing weights.

    python benchmarks/loading.py [NAME ...] [--markdown docs/benchmarks/loading.md]

First answer: target `native` in a fresh process, from behind `import torch` over `import fxq`,
`fxq.load` with its check, and one call; `by graph` is the same file without its program. Minima and
medians over rounds of wall time, and minima of CPU time, turn by turn.

Beside packing: target `fbgemm`, both sides in one process, turn by turn; medians. Reading is the
file's bytes as tensors, packing the engine's own prepack calls. `runtime="auto"` adds TorchScript
and a race of both runtimes. The last columns are the first load of a fresh process, and what
importing torch took there.
"""

from __future__ import annotations

import argparse
import json
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
from fxq.artifact.container import PROGRAM, pack, unpack
from fxq.kernels import arguments
from fxq.system.files import read_file

NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0",
         "efficientnet_b0")
FIRST = """
import sys, time
import torch
x = torch.zeros(1, 3, 224, 224)
a, b = time.perf_counter(), time.process_time()
import fxq
with torch.inference_mode():
    fxq.load(sys.argv[1])(x)
print(time.perf_counter() - a, time.process_time() - b)
"""
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
    prepack = arguments.calls.prepack

    def keep(*arguments: Any) -> Any:
        calls.append(lambda: prepack(*arguments))
        return prepack(*arguments)

    arguments.calls.prepack = keep
    try:
        fxq.load(path, runtime="python")
    finally:
        arguments.calls.prepack = prepack
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


def without_program(path: Path) -> Path:
    """A file of the same graph, as fxq wrote it before it stored programs."""
    members = {k: v for k, v in unpack(path.read_bytes(), "").items() if k not in PROGRAM}
    manifest = json.loads(members["manifest.json"])
    for name in PROGRAM:
        manifest["members"].pop(name, None)
    members["manifest.json"] = json.dumps(manifest).encode()
    other = path.with_suffix(".graph.fxq")
    other.write_bytes(pack(members))
    return other


def first_answer(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    path = folder / f"{name}.native.fxq"
    x = torch.randn(1, 3, 224, 224)
    fxq.compile(build(name), target="native", example_inputs=(x,), calibration_data=[x]).save(path)
    sides = {"": path, "by graph ": without_program(path)}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for turn in range(rounds + 1):  # the first writes byte code
        for side, file in sides.items():
            done = subprocess.run([sys.executable, "-c", FIRST, str(file)], check=True, text=True,
                                  capture_output=True)
            wall, cpu = (1000 * float(word) for word in done.stdout.split())
            times[side] += [(wall, cpu)] if turn else []
    found: dict[str, Any] = {"model": name, "MB": path.stat().st_size / 1e6}
    for side, values in times.items():
        walls, cpus = zip(*values, strict=True)
        found |= {f"{side}min ms": min(walls), f"{side}median ms": statistics.median(walls),
                  f"{side}min CPU ms": min(cpus)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = [[measure(name, Path(folder), options.rounds) for name in options.names]
                  for measure in (first_answer, row)]
    first, beside = (tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="github")
                     for rows in tables)
    text = f"## First answer\n\n{first}\n\n## Beside packing\n\n{beside}"
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Loading\n\n{environment()}\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
