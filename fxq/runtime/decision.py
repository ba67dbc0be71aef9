"""Which runtime to keep, and the evidence: minima over interleaved rounds, and what to expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

# Python's time less TorchScript's, over the number of calls, is this line (benchmarks/runtimes.py)
SAVED_US, ENTRY_US = 5.0, 14.0
MARGIN = 0.05  # the unexpected runtime must be faster by more than this
RULE = (f"the expected runtime is kept, unless the other's minimum is lower by more than "
        f"{MARGIN:.0%} in the even rounds and in the odd rounds")


@dataclass(frozen=True)
class Expectation:
    """The runtime that the graph itself speaks for, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class RuntimeChoice:
    """The runtime that was kept, and what that rests on; `minima_us` are (runtime, µs)."""

    chosen: str
    expected: str
    why: str  # it was expected
    rounds: int
    minima_us: tuple[tuple[str, float], ...]
    margin: float = MARGIN
    rule: str = RULE

    def __str__(self) -> str:
        minima = ", ".join(f"{name} {us:.0f} µs" for name, us in self.minima_us)
        return (f"{minima} (minima of {self.rounds} rounds each); expected {self.expected}: "
                f"{self.why}; margin {self.margin:.0%}")


def expectation(graph: fx.Graph) -> Expectation:
    """TorchScript, once its cheaper calls pay for entering it."""
    calls = sum(n.op.startswith("call_") for n in graph.nodes)
    saved = calls * SAVED_US - ENTRY_US
    return Expectation("torchscript" if saved > 0 else "python",
                       f"{calls} calls, {SAVED_US:g} µs less for each in TorchScript, "
                       f"{ENTRY_US:g} µs to enter it")


def decide(samples: dict[str, Sequence[float]], expected: Expectation) -> RuntimeChoice:
    """Weigh seconds of interleaved rounds; other work on the machine only ever adds to them.

    A minimum is what the runtime can do. Rounds of one half alone could be disturbed on one side
    only, so both halves must speak against what is expected.
    """
    other = next(name for name in samples if name != expected.name)
    halves = [{name: min(values[start::2]) for name, values in samples.items()}
              for start in (0, 1)]
    against = all(half[other] < half[expected.name] * (1 - MARGIN) for half in halves)
    return RuntimeChoice(
        other if against else expected.name, expected.name, expected.why,
        min(map(len, samples.values())),
        tuple((name, min(values) * 1e6) for name, values in samples.items()))
