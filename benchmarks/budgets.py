"""Budgets: what is predicted against what is measured, and whether what is said to be met is.

    FXQ_DATA=../shared/data python benchmarks/budgets.py [NAME ...] [--images 1000] [--threads 2]
                                   [--cpu-time] [--markdown docs/benchmarks/budgets.md]

Ten budgets on each of three nets with real weights, for target native. They are shares of what the
table of the net says can be had: speed-ups of the fastest, megabytes of the smallest, drops of int8
for all layers. The last asks for twice the fastest, and must be refused. `drop` is disagreement
with float, in points: predicted and verified on calibration images, and measured once more on
validation images, which the search never sees (`unseen`). `again` is a second measurement of the
speed-up.
`--cpu-time` counts the time of one thread, for a machine on which others work.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from accuracy import CifarResNet, cifar, imagenet, load
from common import environment
from scipy.stats import spearmanr
from tabulate import tabulate

import fxq
from fxq.budget.assign import bench_for
from fxq.budget.candidates import measured_table
from fxq.budget.judge import Judge, logits_of
from fxq.budget.limits import Limits
from fxq.budget.measure import Bench
from fxq.budget.search import Point, search
from fxq.budget.solve import Bounds, solve
from fxq.budget.table import Table
from fxq.profiler import clock
from fxq.profiler.native import Clocked

NAMES = ("mobilenet_v2", "squeezenet1_1", "cifar10_resnet20")
COLUMNS = ("model", "budget", "schemes", "pred. ms", "ms", "off", "pred. MB", "MB", "pred. drop",
           "drop", "unseen", "speed-up", "again", "verdict")
BATCHES = 2  # of calibration images that errors are predicted and drops are verified on


def budgets(table: Table) -> Iterator[Limits]:
    """Ten of them."""
    fastest, smallest = (table.figures(solve(table, Bounds(), o)) for o in ("us", "bytes"))
    whole = table.figures(dict.fromkeys(table.mixed.paths, table.base))
    largest = table.figures(dict.fromkeys(table.mixed.paths, "fp32")).bytes / 1e6
    speed, least, drop = fastest.speedup, smallest.bytes / 1e6, whole.drop
    yield from (Limits(min_speedup=share * speed) for share in (0.8, 0.6, 0.4))
    yield from (Limits(max_mb=least + share * (largest - least)) for share in (0.02, 0.3))
    yield from (Limits(max_drop=share * drop) for share in (1.5, 0.6, 0.3))
    yield Limits(max_drop=2 * drop, min_speedup=0.5 * speed, max_mb=least + 0.5 * (largest - least))
    yield Limits(min_speedup=2 * speed)


def row(name: str, limits: Limits, table: Table, bench: Bench,
        unseen: tuple[Judge, list[list[torch.Tensor]]]) -> list[Any]:
    """One budget, as it was answered."""
    asked = ", ".join(f"{n}={v:.3g}" for n, v in vars(limits).items() if v is not None)
    measure = partial(bench.measure, float_us=table.float_us)
    try:
        point, missed = search(table, limits, measure)
    except fxq.BudgetError as error:
        return [name, asked, "", *[None] * 10, f"refused: {error.why.splitlines()[0]}"]
    return [name, asked, point.name, *figures(point, bench, table, unseen),
            f"met, try {len(missed) + 1}"]


def figures(point: Point, bench: Bench, table: Table,
            unseen: tuple[Judge, list[list[torch.Tensor]]]) -> list[Any]:
    """Predicted and measured; the speed-up twice."""
    expected, found = point.predicted, point.measured
    assignment = dict.fromkeys(table.mixed.paths, table.base) | dict(point.overrides)
    executable = bench.build(assignment)[1]
    judge, images = unseen
    drop = judge.drop(logits_of(executable.function, images))
    again = bench.speedup(executable)
    return [expected.ms, found.ms, expected.ms / found.ms - 1, expected.bytes / 1e6,
            found.bytes / 1e6, expected.drop, found.drop, drop, found.speedup, again.middle]


def rows(name: str, options: argparse.Namespace) -> Iterator[list[Any]]:
    data = Path(os.environ["FXQ_DATA"])
    small = name.startswith("cifar")
    model = load(CifarResNet(int(name[14:])) if small else torchvision.models.get_model(
        name, weights=None), data, name)
    images, _, calibration = cifar(data) if small else imagenet(data)
    start = time.perf_counter()
    prepared = fxq.prepare(model, target="native", example_inputs=(images[:1],))
    seen = fxq.calibrate(prepared, calibration)
    bench = bench_for(prepared, seen, calibration[:BATCHES * (4 if small else 1)])
    if options.cpu_time:
        bench = replace(bench, clock=time.thread_time)
    table = measured_table(bench)
    print(f"{name}: the table took {time.perf_counter() - start:.0f} s", flush=True)
    count = options.images * (10 if small else 1)
    parts = [[part] for part in images[:count].split(50)]
    with torch.no_grad():
        exact = torch.cat([model(part[0]) for part in parts])
    for limits in budgets(table):
        yield row(name, limits, table, bench, (Judge(exact), parts))


def summary(found: list[list[Any]]) -> str:
    """The claims, as far as the rows carry them."""
    met = [r for r in found if r[4] is not None]
    off = [abs(r[5]) for r in met]
    refused = len(found) - len(met)
    ranks = [spearmanr([r[8] for r in met], [r[k] for r in met]).statistic for k in (9, 10)]
    exact = sum(round(r[6] * 1e6) == round(r[7] * 1e6) for r in met)
    return (f"{len(found)} budgets: {len(met)} met, {refused} refused. Latency is predicted within "
            f"{np.median(off):.1%} (median; worst {max(off):.1%}), bytes exactly in {exact} of "
            f"{len(met)}; rank correlation of the predicted drop with the one on the same images "
            f"{ranks[0]:.2f}, on unseen images {ranks[1]:.2f}.")


def count_cpu_time() -> None:
    """Clocks that stand still while others have the processor."""
    clock.HostClock.stamp = staticmethod(time.thread_time)
    Clocked.seconds = lambda self: [cpu / 1e9 for cpu, _ in self._times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--images", type=int, default=1000, help="of ImageNet; CIFAR has 10 times")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1 if options.cpu_time else options.threads)
    if options.cpu_time:
        count_cpu_time()
    found = []
    for name in options.names:
        for answer in rows(name, options):
            found.append(answer)
            print(*(f"{v:.3f}" if isinstance(v, float) else v for v in answer), flush=True)
    text = "\n\n".join([f"# Budgets\n\n{environment()}", __doc__, summary(found), tabulate(
        found, COLUMNS, "github", floatfmt=".3f")])
    print(text)
    if options.markdown:
        options.markdown.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
