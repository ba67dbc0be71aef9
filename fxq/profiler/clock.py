"""Time every node of a graph inside of one run, and the run without the clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.runtime.python import build, source_of

Samples = npt.NDArray[np.float64]


class HostClock:
    """The process's own clock: a stamp is when a call has returned."""

    stamp = staticmethod(time.perf_counter)

    @staticmethod
    def seconds(stamps: Sequence[Any]) -> Samples:
        """Seconds from each stamp to the next."""
        return np.diff(np.array(stamps))


class DeviceClock:
    """Events in the GPU's own queue: a stamp is when the device has reached it."""

    @staticmethod
    def stamp() -> Any:
        """An event behind everything that was launched so far."""
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    @staticmethod
    def seconds(stamps: Sequence[Any]) -> Samples:
        """Seconds from each event to the next, once the device has passed them all."""
        stamps[-1].synchronize()
        return np.array([a.elapsed_time(b) / 1000 for a, b in pairwise(stamps)])


def clock_for(inputs: Sequence[Tensor]) -> type[HostClock] | type[DeviceClock]:
    """The clock of the device that the inputs lie on."""
    return DeviceClock if any(x.is_cuda for x in inputs) else HostClock


@dataclass(frozen=True)
class Timing:
    """Seconds of each call in each round, and of whole runs with and without clocks."""

    nodes: list[Node]
    samples: Samples  # (rounds, nodes)
    plain: Samples

    @property
    def overhead(self) -> float:
        """How much longer the median run takes with the clocks, as a share."""
        return float(np.median(self.samples.sum(1)) / np.median(self.plain)) - 1


def clocked(module: fx.GraphModule,
            stamp: Callable[[], Any]) -> tuple[Callable[..., list[Any]], list[Node]]:
    """A function of flat inputs that returns a stamp before and after each call."""
    source, constants = source_of(module)
    head, *body = source.splitlines()
    calls = [n for n in module.graph.nodes if n.op.startswith("call_")]
    lines = [head, body[0], "        stamps = [clock()]"]
    for line in body[1:]:
        if line.strip().startswith("return") and line.startswith("        "):
            lines.append("        return stamps")
            continue
        lines.append(line)
        if line.startswith("        v") and " = None" not in line:
            lines.append("        stamps.append(clock())")
    namespace: dict[str, Any] = {"clock": stamp}
    exec(compile("\n".join(lines), "<fxq clocks>", "exec"), namespace)
    return namespace["make"](**constants), calls


def time_nodes(module: fx.GraphModule, inputs: Sequence[Tensor], rounds: int,
               budget: float) -> Timing:
    """Both runs take turns, after a warm-up, until `rounds` or `budget` seconds are spent."""
    clock = clock_for(inputs)
    stamps, nodes = clocked(module, clock.stamp)
    plain = build(module)
    samples, whole = [], []
    with torch.no_grad():
        for _ in range(3):
            plain(*inputs)
            stamps(*inputs)
        end = time.perf_counter() + budget
        for turn in range(rounds):
            samples.append(clock.seconds(stamps(*inputs)))
            start = clock.stamp()
            plain(*inputs)
            whole.append(clock.seconds([start, clock.stamp()])[0])
            if turn >= 4 and time.perf_counter() > end:
                break
    return Timing(nodes, np.array(samples), np.array(whole))
