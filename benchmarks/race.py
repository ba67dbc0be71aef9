"""Compiled variants of torchvision models, each in its own process, turn by turn.

    python benchmarks/race.py [MODEL ...] [--batch 1] [--threads 2] [--rounds 15] [--iterations 5]
                              [--variants eager,ov_int8,fxq_native] [--busy 0] [--json FILE]
                              [--markdown docs/benchmarks/race.md]

A worker for each variant builds its model and waits; in each round every worker in turn infers
`--iterations` times, so that no two thread pools compete and a drift of the machine meets all
alike. Wall time and the processor time of the whole process are medians of the rounds, with
minima; ratios are medians over rounds of the other's wall time by that of `fxq_native`.
`--busy` processes that compute without end run beside. Batches are random numbers: times only.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from tabulate import tabulate

NETS = ("alexnet", "vgg16", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small",
        "mobilenet_v3_large", "shufflenet_v2_x1_0", "efficientnet_b0", "googlenet")
DEFAULT = ("eager", "torchscript", "torch_ao_fbgemm", "torch_ao_x86", "ort_int8", "ov_int8",
           "fxq_x86", "fxq_native")
SIZE, OWN = 224, "fxq_native"


def work(options: argparse.Namespace) -> None:
    """Build one variant, then infer as often as each line of stdin says."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tools print must not mix with the answers
    import torch
    from common import build
    from race_variants import VARIANTS

    torch.set_num_threads(options.threads)
    model = build(options.models[0])
    x, *calibration = (torch.randn(options.batch, 3, SIZE, SIZE) for _ in range(5))

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    with torch.no_grad():
        try:
            start = time.perf_counter()
            infer = VARIANTS[options.worker](model, x, calibration, options.threads)
            infer()
        except Exception as error:  # whatever another tool raises is that variant's result
            answer({"error": f"{type(error).__name__}: {error}"[:200]})
            return
        answer({"build": time.perf_counter() - start})
        for line in sys.stdin:
            infer()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(line)):
                infer()
            answer([(time.perf_counter() - wall) / int(line),
                    (time.process_time() - cpu) / int(line)])


class Worker:
    """A variant in a process of its own."""

    def __init__(self, name: str, model: str, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, model, "--worker", name, "--batch",
                   str(options.batch), "--threads", str(options.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=environment)
        self.rounds: list[tuple[float, float]] = []
        first = self._read()
        self.error = "it ended" if first is None else first.get("error", "")

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def turn(self, iterations: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{iterations}\n")
        self.process.stdin.flush()
        self.rounds.append(tuple(self._read()))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def race(model: str, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """(wall, processor) seconds for each round of each variant that could be built."""
    workers = {name: Worker(name, model, options) for name in options.variants.split(",")}
    for name, worker in workers.items():
        if worker.error:
            print(f"{model} {name}: {worker.error}", file=sys.stderr)
    running = {name: w for name, w in workers.items() if not w.error}
    for _ in range(options.rounds):
        for worker in running.values():
            worker.turn(options.iterations)
    for worker in workers.values():
        worker.end()
    return {name: w.rounds for name, w in running.items()}


def ratio(times: dict[str, list[tuple[float, float]]], other: str, own: str) -> float:
    """Median over rounds of how many times longer `other` takes (wall)."""
    if other not in times or own not in times:
        return math.nan
    return statistics.median(a[0] / b[0] for a, b in zip(times[other], times[own], strict=True))


def rows(model: str, times: dict[str, list[tuple[float, float]]]) -> list[list[Any]]:
    """Of the table: a variant's times in ms, and its ratio to fxq's."""
    made = []
    for name, rounds in times.items():
        wall, cpu = ([r[i] * 1e3 for r in rounds] for i in (0, 1))
        made.append([model, name, statistics.median(wall), min(wall), statistics.median(cpu),
                     min(cpu), ratio(times, name, OWN)])
    return made


def page(found: dict[str, dict[str, list[tuple[float, float]]]],
         options: argparse.Namespace) -> str:
    """The table of all models, and the geometric means of the ratios."""
    from common import environment  # torch, which the parent does without while it races

    table = tabulate([row for model, times in found.items() for row in rows(model, times)],
                     ("model", "variant", "wall ms", "min", "CPU ms", "min", "ratio"), "github",
                     floatfmt=".2f")
    means = []
    for name in options.variants.split(","):
        ratios = [r for times in found.values() if not math.isnan(r := ratio(times, name, OWN))]
        if ratios and name != OWN:
            means.append((name, statistics.geometric_mean(ratios), min(ratios), len(ratios)))
    summary = tabulate(means, ("variant", "geometric mean", "least", "models"), "github",
                       floatfmt=".2f")
    setting = (f"Batch {options.batch}, {options.threads} threads, {options.rounds} rounds of "
               f"{options.iterations}, {options.busy} busy processes beside.")
    return (f"# Races\n\n{environment()}\n\n{__doc__}\n{setting} Ratios: a variant's time over "
            f"that of `{OWN}`.\n\n{summary}\n\n{table}\n")


def main() -> None:
    """Race each model; print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", default=list(NETS))
    for name, default in (("batch", 1), ("threads", 2), ("rounds", 15), ("iterations", 5),
                          ("busy", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--variants", default=",".join(DEFAULT))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(options.busy)]
    found = {}
    for model in options.models:
        found[model] = race(model, options)
        print(tabulate(rows(model, found[model]), floatfmt=".2f"), file=sys.stderr, flush=True)
    for process in busy:
        process.kill()
    text = page(found, options)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
