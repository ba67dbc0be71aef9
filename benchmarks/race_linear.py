"""How near a network's linear layers are to what the memory gives: one line.

    python benchmarks/race_linear.py MODEL [--threads 2] [--rounds 25]

For one image each weight is read once. The native program times its linear layers; in turn with
it, as many bytes of other memory are read with torch.dot, on as many threads.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from common import build

import fxq
from fxq.profiler.native import programs

SIZE, PAUSE = 224, 0.005  # seconds, in which the threads of the one before go to sleep


def line(name: str, threads: int, rounds: int) -> str:
    """Bytes of weights, the median time of a call's linear layers, and both rates."""
    torch.set_num_threads(threads)
    x = torch.randn(1, 3, SIZE, SIZE)
    compiled = fxq.compile(build(name), target="native", example_inputs=(x,), calibration_data=[x],
                           verify=False)
    (program,) = programs(compiled.graph_module, [x])
    linear = [i for i, s in enumerate(program.linked.plan.steps) if s.op == "CONV" and s.is_flat]
    steps = [program.linked.plan.steps[i] for i in linear]
    read = sum(s.source.c * s.result.c for s in steps)
    memory = torch.zeros(read // 4 + 1)
    layers, reads = [], []
    for _ in range(rounds):
        time.sleep(PAUSE)
        program(x)
        program(x)
        layers.append(sum(program.seconds()[i] for i in linear))
        time.sleep(PAUSE)
        torch.dot(memory, memory)
        start = time.perf_counter()
        torch.dot(memory, memory)
        reads.append(time.perf_counter() - start)
    own, best = (read / statistics.median(times) / 1e9 for times in (layers, reads))
    return (f"{name}, {threads} thread{'s' * (threads > 1)}: {len(steps)} linear layers read "
            f"{read / 1e6:.1f} MB of weights in {statistics.median(layers) * 1e3:.2f} ms, "
            f"{own:.1f} GB/s; torch.dot reads as many at {best:.1f} GB/s: "
            f"{100 * own / best:.0f} %.")


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    print(line(options.model, options.threads, options.rounds))


if __name__ == "__main__":
    main()
