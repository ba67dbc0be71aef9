"""Measure on this machine how each step of a model's programs is computed best; bits stay.

All variants of a program run turn by turn, and the engine's own clocks say what each step took. A
step leaves the rule where another variant's minimum is lower in the even rounds and in the odd
ones. Then the whole program is held to the same: what is not faster as a whole is not kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from fxq.errors import VerificationError
from fxq.kernels.native import library
from fxq.kernels.native.structs import ISAS, SPLITS
from fxq.runtime.executable import Executable
from fxq.runtime.native.program import Planned
from fxq.runtime.native.run import build_native, seen
from fxq.runtime.native.variants import keep
from fxq.system.torch_state import isolated, quiet

Times = npt.NDArray[np.float64]
BUDGET = 8.0  # seconds for all programs of a model
MARGIN, LEAST_US = 0.03, 0.3  # a step must gain more than both
_LEAST, _MOST = 6, 24  # rounds


@dataclass(frozen=True)
class Tuned:
    """What tuning changed: of how many steps, and microseconds of all programs before and after."""

    changed: int
    steps: int
    before_us: float
    after_us: float

    def __str__(self) -> str:
        if not self.changed:
            return f"tuned none of {self.steps} steps: the rules are best here"
        return (f"tuned {self.changed} of {self.steps} steps: {self.before_us / 1e3:.2f} -> "
                f"{self.after_us / 1e3:.2f} ms")


def tune(module: fx.GraphModule, inputs: Sequence[Tensor], budget: float = BUDGET) -> Tuned:
    """Measure a LOWERED graph's programs for such inputs, and keep the best variants."""
    parts = seen(module, inputs)
    found = []
    for segment, tensors in parts:
        linked = segment.link(tensors)
        bench = _Bench(linked, budget / len(parts))
        linked.program = bench  # type: ignore[assignment]
        with torch.no_grad():
            segment.through(linked, tensors)
        keep(linked.digest, bench.chosen)
        found.append(bench)
    return Tuned(sum(bool(v) for b in found for v in b.chosen), sum(len(b.chosen) for b in found),
                 sum(b.before_us for b in found), sum(b.after_us for b in found))


def tuned(executable: Executable, inputs: Sequence[Tensor]) -> tuple[Executable, Tuned]:
    """The same with the best variants, and what they changed. Raises VerificationError."""
    with isolated(), quiet():
        found = tune(executable.graph_module, inputs)
        function = build_native(executable.graph_module)
        same = all(map(torch.equal, executable.function(*inputs), function(*inputs)))
    if not same:
        raise VerificationError("a variant of the native kernels gives other bits",
                                fix="this is a fault of fxq; please report it, and compile without "
                                    "tune=True")
    return replace(executable, function=function), found


def candidates(isa: str) -> list[int]:
    """The rule first; then the best kernels and the next lower ones, by splits and panels."""
    kernels = (0, ISAS.index(isa)) if isa != "plain" else (0,)  # 1 + the next lower set
    return [kernel | split << 8 | panel << 16 for kernel in kernels
            for split in range(len(SPLITS)) for panel in (0, 1)]


class _Bench:
    """Stands in for a program: its one run measures all variants on the caller's tensors."""

    def __init__(self, linked: Planned, budget: float) -> None:
        self.link, self.steps, self.budget = linked.link, len(linked.plan.steps), budget
        self.chosen, self.before_us, self.after_us = [0] * self.steps, 0.0, 0.0

    def run(self, pointers: Sequence[int], threads: int) -> None:
        variants, start = candidates(library.isa()), time.perf_counter()
        programs = [self.link([v] * self.steps) for v in variants]
        made = time.perf_counter() - start
        times = measured(programs, pointers, threads, max(self.budget - made, 0) * 0.7)
        chosen = choose(times, variants)
        if any(chosen):
            self._hold_to_it(programs[0], chosen, (pointers, threads))

    def _hold_to_it(self, rule: library.Program, chosen: list[int],
                    call: tuple[Sequence[int], int]) -> None:
        """Keep what is faster as a whole."""
        whole = measured([rule, self.link(chosen)], *call, self.budget * 0.2).sum(2)
        if (_halves(whole)[:, 1] < _halves(whole)[:, 0]).all():
            self.chosen = chosen
        self.before_us, self.after_us = whole.min(1)


def measured(programs: Sequence[library.Program], pointers: Sequence[int], threads: int,
             budget: float) -> Times:
    """Microseconds of (program, round, step). Each runs twice in its turn: its memory is cold."""
    rounds: list[list[list[float]]] = []
    start = time.perf_counter()
    while len(rounds) < _LEAST or (
            len(rounds) < _MOST and time.perf_counter() - start < budget):
        turn = []
        for program in programs:
            program.run(pointers, threads)
            turn.append([wall / 1e3 for _, wall in program.profile(pointers, threads)])
        rounds.append(turn)
    return np.array(rounds).swapaxes(0, 1)


def choose(times: Times, variants: Sequence[int]) -> list[int]:
    """The variant of each step, of microseconds by (variant, round, step); the rule is first."""
    best = times.min(1).argmin(0)
    columns = np.arange(times.shape[2])
    halves = _halves(times)
    rule, other = halves[:, 0], halves[:, best, columns]
    gains = np.where((other < rule * (1 - MARGIN) - LEAST_US).all(0), best, 0)
    return [variants[b] for b in gains]


def _halves(times: Times) -> Times:
    """Minima of the even rounds, and of the odd ones."""
    return np.stack([times[:, start::2].min(1) for start in (0, 1)])
