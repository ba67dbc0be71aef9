"""Compiled variants of torchvision models, each in its own process, turn by turn.

    python benchmarks/race.py [MODEL ...] [--batch 1,8,64] [--threads 1,2] [--busy 0,2]
                              [--variants eager,ov_int8,fxq_native] [--rounds 15]
                              [--iterations 5] [--together 12] [--json FILE]
                              [--markdown docs/benchmarks/race.md]

A worker for each variant builds its model and waits; in each round every worker in turn infers
`--iterations` times, so that no two thread pools compete and a drift of the machine meets all
alike. Wall time and the processor time of the whole process are medians of the rounds, with
minima; ratios are medians over rounds of the other's wall time by that of `fxq_native`. Every
combination of `--batch`, `--threads` and `--busy` is a table; so many `--busy` processes compute
beside the rounds without end. Of more than `--together` variants, so many race at once, each time
with `fxq_native`: where memory is short. Batches are random numbers: times only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

NETS = ("alexnet", "vgg16", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small",
        "mobilenet_v3_large", "shufflenet_v2_x1_0", "efficientnet_b0", "googlenet")
DEFAULT = ("eager", "torchscript", "torch_ao_fbgemm", "torch_ao_x86", "pt2e_inductor", "ort_int8",
           "ov_int8", "executorch_xnnpack", "fxq_qnnpack", "fxq_fbgemm", "fxq_x86", "fxq_native")
SIZE, OWN = 224, "fxq_native"
LINEAR = ("alexnet", "vgg16")  # whose linear layers read most of what they take
CALIBRATION = 4  # images, at least; one batch holds more of large batches


@dataclass(frozen=True)
class Setting:
    """What a table is of."""

    batch: int
    threads: int
    busy: int

    def __str__(self) -> str:
        beside = f"{self.busy} busy processes beside" if self.busy else "nothing beside"
        return f"Batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}, {beside}"


@dataclass
class Times:
    """A variant's (wall, processor) seconds for each round, or why there are none.

    `own` are those of fxq in the same rounds.
    """

    rounds: list[tuple[float, float]] = field(default_factory=list)
    error: str = ""
    own: list[tuple[float, float]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median over rounds of how many times longer it takes than fxq (wall)."""
        return statistics.median(a[0] / b[0] for a, b in zip(
            self.rounds, self.own, strict=True)) if self.rounds and self.own else math.nan


def work(options: argparse.Namespace) -> None:
    """Build one variant, then infer as often as each line of stdin says."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tools print must not mix with the answers
    import torch
    from common import build
    from race_variants import VARIANTS

    batch, threads = int(options.batch), int(options.threads)
    torch.set_num_threads(threads)
    x, *calibration = (torch.randn(batch, 3, SIZE, SIZE)
                       for _ in range(1 + max(1, CALIBRATION // batch)))

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    with torch.no_grad():
        try:
            infer = VARIANTS[options.worker](build(options.models[0]), x, calibration, threads)
            infer()
        except ModuleNotFoundError as error:
            answer({"error": f"not installed: {error.name}"})
            return
        except Exception as error:  # whatever another tool raises is that variant's result
            answer({"error": f"{type(error).__name__}: {error}".replace("\n", " ")[:200]})
            return
        del calibration
        gc.collect()  # the float model, where the variant does without it
        ctypes.CDLL(None).malloc_trim(0)
        answer({})
        for line in sys.stdin:
            infer()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(line)):
                infer()
            answer([(time.perf_counter() - wall) / int(line),
                    (time.process_time() - cpu) / int(line)])


class Worker:
    """A variant in a process of its own."""

    def __init__(self, name: str, model: str, setting: Setting) -> None:
        command = [sys.executable, __file__, model, "--worker", name, "--batch",
                   str(setting.batch), "--threads", str(setting.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(setting.threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=environment)
        first = self._read()
        self.times = Times(error="it ended" if first is None else first.get("error", ""))

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def turn(self, iterations: int) -> None:
        """Infer; a worker that ends has no times."""
        if self.times.error:
            return
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{iterations}\n")
            self.process.stdin.flush()
            self.times.rounds.append(tuple(self._read()))
        except (BrokenPipeError, TypeError):
            self.times = Times(error=f"it ended in round {len(self.times.rounds) + 1}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def beside(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def race(model: str, setting: Setting, options: argparse.Namespace) -> dict[str, Times]:
    """The times of each variant."""
    names, times = options.variants.split(","), dict[str, Times]()
    others = [name for name in names if name != OWN]
    for start in range(0, max(1, len(others)), options.together):
        group = others[start:start + options.together]
        times |= together(model, setting, [*group, OWN] if OWN in names else group, options)
    return {name: times[name] for name in names}


def together(model: str, setting: Setting, names: list[str],
             options: argparse.Namespace) -> dict[str, Times]:
    """Build a group of variants, and let them take turns."""
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            workers[name] = Worker(name, model, setting)
        with beside(setting.busy):
            for _ in range(options.rounds):
                for worker in workers.values():
                    worker.turn(options.iterations)
    finally:
        for worker in workers.values():
            worker.end()
    for worker in workers.values():
        worker.times.own = workers[OWN].times.rounds if OWN in workers else []
    return {name: w.times for name, w in workers.items()}


def rows(model: str, times: dict[str, Times]) -> list[list[Any]]:
    """Of the table: a variant's times in ms, and its ratio to fxq's; or why it has none."""
    made: list[list[Any]] = []
    for name, found in times.items():
        if found.error:
            made.append([model, name, found.error, *[None] * 4])
            continue
        wall, cpu = ([r[i] * 1e3 for r in found.rounds] for i in (0, 1))
        numbers = (statistics.median(wall), min(wall), statistics.median(cpu), min(cpu),
                   found.ratio)
        made.append([model, name, *(f"{n:.2f}" for n in numbers)])
    return made


def section(setting: Setting, found: dict[str, dict[str, Times]], notes: list[str]) -> str:
    """The geometric means of the ratios, and the table of all models."""
    names = dict.fromkeys(name for times in found.values() for name in times)
    means = []
    for name in names:
        ratios = [t[name].ratio for t in found.values() if not math.isnan(t[name].ratio)]
        if ratios and name != OWN:
            means.append((name, statistics.geometric_mean(ratios), min(ratios), len(ratios)))
    summary = tabulate(means, ("variant", "geometric mean", "least", "models"), "github",
                       floatfmt=".2f")
    table = tabulate([row for model, times in found.items() for row in rows(model, times)],
                     ("model", "variant", "wall ms", "min", "CPU ms", "min", "ratio"), "github",
                     disable_numparse=True, missingval="")
    return "\n\n".join([f"## {setting}", summary, table, *notes])


def linear_layers(model: str, setting: Setting) -> str:
    """The line that `race_linear.py` prints."""
    command = [sys.executable, str(Path(__file__).with_name("race_linear.py")), model, "--threads",
               str(setting.threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(setting.threads)}
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True,
                          env=environment).stdout.strip()


def main() -> None:
    """Race each model in each setting; print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", default=list(NETS))
    for name, default in (("batch", "1"), ("threads", "2"), ("busy", "0")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--together", type=int, default=len(DEFAULT))
    parser.add_argument("--variants", default=",".join(DEFAULT))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    lists = [map(int, text.split(",")) for text in (options.batch, options.threads, options.busy)]
    sections, everything = [], {}
    for setting in itertools.starmap(Setting, itertools.product(*lists)):
        found: dict[str, dict[str, Times]] = {}
        for model in options.models:
            found[model] = race(model, setting, options)
            print(setting, tabulate(rows(model, found[model])), sep="\n", file=sys.stderr,
                  flush=True)
        notes = [linear_layers(m, setting) for m in options.models if m in LINEAR] if (
            setting.batch == 1 and not setting.busy) else []
        sections.append(section(setting, found, notes))
        everything[str(setting)] = {m: {n: asdict(t) for n, t in times.items()}
                                    for m, times in found.items()}
    from common import environment  # torch, which the parent does without while it races

    text = "\n\n".join(["# Races", environment(), (__doc__ or "").strip(),
                        f"{options.rounds} rounds of {options.iterations}.", *sections])
    print(text)
    if options.markdown:
        options.markdown.write_text(f"{text}\n")
    if options.json:
        options.json.write_text(json.dumps(everything))


if __name__ == "__main__":
    main()
