"""Where the time of a native program goes: layer by layer, beside oneDNN and the processor's peak.

    python benchmarks/layers.py [--model resnet50] [--threads 1,2] [--rounds 25]
                                [--markdown docs/benchmarks/layers.md]

One image. In each round the program runs as it is, then with a clock behind each step, then oneDNN
computes the same layers (`layers_onednn.py`), then as many threads as the program has multiply on
registers alone, with the instructions of the kernels' best set: the peak. Times are medians of the
rounds in microseconds, minima beside them; ratios are medians over rounds of oneDNN's time by the
program's. FXQ_NATIVE_ISA and ONEDNN_MAX_CPU_ISA lower the instruction sets.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import build, environment
from layers_onednn import LAYERS, Chain
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor

import fxq
from fxq.kernels.native import library
from fxq.profiler.native import programs
from fxq.runtime.native.segments import with_calls
from fxq.runtime.native.steps import Step
from fxq.runtime.python import build as function_of

SIZE = 224
PAUSE = 0.005  # seconds, in which the threads of the one before go to sleep
WORK = 10**10  # multiply-accumulates of a thread to find the peak: some milliseconds
HEADERS = ("step", "from", "to", "window", "kernel", "M MACs", "µs", "min", "GMAC/s", "% of peak",
           "oneDNN µs", "min", "ratio", "oneDNN's kernel")


Samples = NDArray[np.float64]


class Rounds:
    """The samples of a model with a number of threads; `steps` by `rounds`, in seconds."""

    def __init__(self, model: str, threads: int, rounds: int) -> None:
        torch.set_num_threads(threads)
        x = torch.randn(1, 3, SIZE, SIZE)
        compiled = fxq.compile(build(model), target="native", example_inputs=(x,),
                               calibration_data=[x], verify=False)
        clocked = programs(compiled.graph_module, [x])
        shell: Any = with_calls(compiled.graph_module, [c.part for c in clocked], clocked)
        timed = function_of(shell)
        self.threads = threads
        self.steps = [s for c in clocked for s in c.linked.plan.steps]
        chain = Chain(self.steps)

        def native(image: Tensor) -> list[float]:
            timed(image)
            return [s for c in clocked for s in c.seconds()]

        samples: list[list[Any]] = [[] for _ in range(4)]
        with torch.no_grad(), ThreadPoolExecutor(threads) as pool:
            turns: tuple[Callable[[], Any], ...] = (
                lambda: _wall(lambda: compiled(x)), lambda: native(x), chain.seconds,
                lambda: peak(pool, threads))
            for _ in range(rounds):
                for turn, kept in zip(turns, samples, strict=True):
                    time.sleep(PAUSE)
                    turn()  # its caches are cold
                    kept.append(turn())
        self.whole, self.native, self.onednn, self.peaks = (np.array(s) for s in samples)
        self.kernels = [k for c in clocked for k in c.kernels]
        self.others = chain.kernels


def _wall(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak(pool: ThreadPoolExecutor, threads: int) -> float:
    """Multiply-accumulates per second of all threads together, on registers alone."""
    rounds = WORK // library.peak(1)
    start = time.perf_counter()
    done = sum(pool.map(library.peak, [rounds] * threads))
    return done / (time.perf_counter() - start)


def macs(step: Step) -> int:
    """Multiply-accumulates of a layer."""
    f = step.fields
    return math.prod(step.result.size) * step.source.c // f["groups"] * f["kh"] * f["kw"]


def _size(value: Any) -> str:
    return "x".join(map(str, value.size))


def _window(step: Step) -> str:
    f = step.fields
    parts = [f"{f['kh']}x{f['kw']}", f"/{f['sh']}" if f["sh"] > 1 else "",
             f" d{f['dh']}" if f["dh"] > 1 else "", f" g{f['groups']}" if f["groups"] > 1 else "",
             " + table" if step.table is not None else "", " + sum" if step.other else ""]
    return "".join(parts)


def _times(native: Samples, work: int, roof: float, onednn: Samples | None) -> list[Any]:
    """From "M MACs" to "ratio"."""
    own = [np.median(native) * 1e6, native.min() * 1e6]
    if onednn is None:
        return [None, *own, *[None] * 5]
    speed = work / np.median(native)
    return [work / 1e6, *own, speed / 1e9, 100 * speed / roof, np.median(onednn) * 1e6,
            onednn.min() * 1e6, np.median(onednn / native)]


def table(rounds: Rounds) -> str:
    """A row for each step; then the sums."""
    roof, rows = float(rounds.peaks.max()), list[list[Any]]()
    layers = [i for i, s in enumerate(rounds.steps) if s.op in LAYERS]
    for i, step in enumerate(rounds.steps):
        place = layers.index(i) if i in layers else None
        work, other, name = (0, None, "") if place is None else (
            macs(step), rounds.onednn[:, place], rounds.others[place])
        rows.append([step.node.name, _size(step.source), _size(step.result),
                     "" if place is None else _window(step), rounds.kernels[i],
                     *_times(rounds.native[:, i], work, roof, other), name])
    work, own = sum(macs(rounds.steps[i]) for i in layers), rounds.native[:, layers].sum(1)
    everything = rounds.native.sum(1)
    sums: Sequence[tuple[str, Any, Any]] = (
        ("all layers", own, rounds.onednn.sum(1)), ("other steps", everything - own, None),
        ("all steps", everything, None), ("one call, without clocks", rounds.whole, None))
    rows += [[f"**{name}**", "", "", "", "", *_times(s, work, roof, other), ""]
             for name, s, other in sums]
    share = 100 * work / np.median(rounds.whole) / roof
    return (f"## {rounds.threads} thread{'s' * (rounds.threads > 1)}\n\nPeak of `{library.isa()}`: "
            f"{roof / 1e9:.0f} GMAC/s. The whole program reaches {share:.0f} % of it.\n\n"
            + tabulate(rows, HEADERS, "github", floatfmt=".1f", missingval=""))


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    tables = [table(Rounds(options.model, int(threads), options.rounds))
              for threads in options.threads.split(",")]
    limits = ", ".join(f"{name}={os.environ[name]}" for name in (
        "FXQ_NATIVE_ISA", "ONEDNN_MAX_CPU_ISA") if name in os.environ)
    where = environment() + (f", {limits}" if limits else "")
    text = "\n\n".join([f"# Layers of {options.model}", where,
                        (__doc__ or "").strip(), f"{options.rounds} rounds.", *tables])
    print(text)
    if options.markdown:
        options.markdown.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
