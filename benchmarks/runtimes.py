"""What a call costs in each runtime: the figures behind `fxq/runtime/decision.py`.

    python benchmarks/runtimes.py [--markdown docs/benchmarks/runtimes.md]

Chains of small layers (8 channels, 4x4), so that nearly all time is the runtime's own. CPU time of
the thread in µs, medians over 300 rounds in which both runtimes take turns: other work on the
machine hardly touches it. In a large network each call finds cold caches, and the difference is
larger.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path

import torch
from common import environment
from tabulate import tabulate
from torch import nn

import fxq
from fxq.runtime.decision import expectation
from fxq.runtime.python import build
from fxq.runtime.torchscript import build_torchscript
from fxq.system.timing import turns
from fxq.system.torch_state import quiet

LAYERS = (1, 2, 4, 8, 16, 32, 64)


def chain(layers: int) -> nn.Module:
    return nn.Sequential(*[nn.Hardswish() if i % 2 else nn.Conv2d(8, 8, 1)
                           for i in range(layers)]).eval()


def measure(layers: int) -> tuple[object, ...]:
    """Calls, µs of both runtimes, µs saved by TorchScript for each call, what is expected."""
    x = torch.randn(1, 8, 4, 4)
    module = fxq.compile(chain(layers), example_inputs=(x,), calibration_data=[x],
                         runtime="python", verify=False).graph_module
    calls = sum(n.op.startswith("call_") for n in module.graph.nodes)
    with quiet(), torch.no_grad():
        functions = (build(module), build_torchscript(module, [x]))
        samples = turns([lambda f=f: f(x) for f in functions], 300, clock=time.thread_time)
    python, script = (statistics.median(s) * 1e6 for s in samples)
    return calls, python, script, (python - script) / calls, expectation(module.graph).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    table = tabulate([measure(n) for n in LAYERS], tablefmt="github", floatfmt=".1f", headers=(
        "calls", "Python µs", "TorchScript µs", "saved by a call", "expected"))
    text = f"# Runtimes\n\n{environment()}\n\n{__doc__}\n{table}\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
