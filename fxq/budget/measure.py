"""Build an assignment, and measure it: against float, turn by turn, and on all images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fxq.budget.judge import Judge, logits_of
from fxq.budget.limits import Assignment, Figures
from fxq.compiler.build import Reference, built
from fxq.compiler.prepare import Prepared
from fxq.frontend.signature import call_with
from fxq.profiler.sensitivity import overrides_of
from fxq.quantization.statistics import Statistics
from fxq.runtime.executable import Executable
from fxq.system.timing import Spread, turns
from fxq.system.torch_state import isolated, quiet

_ROUNDS, _LEAST, _BUDGET = 200, 12, 1.0  # turns of both sides, and seconds for them
_QUIET = 20  # percentile of the rounds: on a busy machine the median is of other people's work


@dataclass(frozen=True)
class Bench:
    """What every assignment is built from, measured against and judged by."""

    prepared: Prepared
    statistics: Statistics
    flat: Sequence[list[Tensor]]  # all batches
    judge: Judge | None
    runtime: str | None = None
    clock: Callable[[], float] = time.perf_counter

    def build(self, assignment: Assignment) -> tuple[Reference, Executable]:
        """Quantize and link."""
        overrides = overrides_of(assignment, self.prepared.context.scheme.name)
        return built(self.prepared.with_overrides(overrides), self.statistics, self.runtime)

    def float_call(self) -> Callable[[], Any]:
        """The float model on the example inputs, as its user calls it."""
        signature = self.prepared.convention.signature
        return lambda: call_with(signature, self.prepared.model, list(self.prepared.inputs))

    def measure(self, assignment: Assignment, float_us: float) -> Figures:
        """The figures of what was built; the speed-up is the lower end of its interval."""
        reference, executable = self.build(assignment)
        with isolated(), quiet():
            faster = self.speedup(executable)
            drop = self.judge.drop(logits_of(executable.function, self.flat)) if (
                self.judge) else None
        return Figures(float_us / faster.middle / 1e3, faster.low, reference.bytes, drop)

    def speedup(self, executable: Executable) -> Spread:
        """Float's time over that of a call; the interval is that of the median over the rounds."""
        inputs = list(self.prepared.inputs)

        def run() -> Any:  # as a compiled model is called: its inputs are checked each time
            executable.takes(inputs)
            return executable.function(*inputs)

        floats = self.float_call()
        with torch.no_grad():  # each runs once right before, so that none finds another's caches
            _, slow, _, fast = turns([floats, floats, run, run], _ROUNDS, budget=_BUDGET,
                                     least=_LEAST, clock=self.clock)
        interval = Spread.of_median(np.divide(slow, fast))
        return replace(interval, middle=float(undisturbed(slow) / undisturbed(fast)))


def undisturbed(seconds: npt.ArrayLike) -> Any:
    """What a run takes while the machine does little else, column by column."""
    return np.percentile(np.asarray(seconds), _QUIET, axis=0)

