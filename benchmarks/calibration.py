"""What calibration and compilation cost, as ratios in one run.

    python benchmarks/calibration.py [--markdown docs/benchmarks/calibration.md]

Calibration: the same batches through the float model, through fxq's observed graph, and
through torch.ao's prepared model, turn by turn. Compilation: everything but the calibration
batches and the choice of a runtime.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from common import build, environment, race, speedup
from tabulate import tabulate

import fxq
from fxq.runtime.python import build as generate

MODELS = (("resnet18", 8), ("resnet50", 8), ("mobilenet_v2", 8), ("mobilenet_v3_small", 8),
          ("resnet50", 1), ("mobilenet_v2", 1))


def calibration_row(name: str, batch: int, rounds: int) -> dict[str, object]:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    model, x = build(name), torch.randn(batch, 3, 224, 224)
    observed = generate(fxq.prepare(model, example_inputs=(x,), verify=False).graph_module)
    torch.backends.quantized.engine = "fbgemm"
    peer = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping("fbgemm"), (x,))
    times = race({"float": lambda: model(x), "fxq": lambda: observed(x),
                  "torch.ao": lambda: peer(x)}, rounds, repeats=2)
    return {"model": name, "batch": batch, "fxq / float": 1 / speedup(times, "float", "fxq"),
            "torch.ao / float": 1 / speedup(times, "float", "torch.ao")}


def compile_seconds(name: str, repeats: int = 5) -> float:
    """Median seconds of prepare and convert, without calibration and runtime selection."""
    model, x, seconds = build(name), torch.randn(1, 3, 224, 224), []
    for _ in range(repeats):
        start = time.perf_counter()
        prepared = fxq.prepare(model, example_inputs=(x,))
        pause = time.perf_counter()
        fxq.calibrate(prepared, [x])
        resumed = time.perf_counter()
        fxq.convert(prepared, runtime="python")
        seconds.append(time.perf_counter() - resumed + pause - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = [calibration_row(name, batch, options.rounds) for name, batch in MODELS]
    seconds = [{"model": n, "compile s": compile_seconds(n)} for n in ("resnet18", "resnet50")]
    tables = [tabulate(part, headers="keys", floatfmt=".2f", tablefmt="github")
              for part in (rows, seconds)]
    text = "\n\n".join(tables)
    print(text)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(
            f"# Cost of calibration\n\n{environment()}\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
