"""Time every node of a graph inside of one run, and the run without the clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
class Side:
    """What is timed: `plain` is a run, `timed` one that returns the seconds of each of `nodes`.

    `kernels` are the names of what computes a node, where its own name does not say it. Nodes of
    `within` are computed by another one's kernel, and take no time of their own.
    """

    nodes: list[Node]
    plain: Callable[..., Any]
    timed: Callable[..., Samples]
    kernels: Mapping[Node, str] = field(default_factory=dict)
    within: Mapping[Node, Node] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Seconds of each call in each round, and of whole runs with and without clocks.

    Graphs that were timed together share their rounds: row i of one is from the same moment as
    row i of the other, so that differences and ratios by round are free of drift.
    """

    nodes: list[Node]
    samples: Samples  # (rounds, nodes)
    plain: Samples  # (rounds,)
    kernels: Mapping[Node, str] = field(default_factory=dict)  # see Side
    within: Mapping[Node, Node] = field(default_factory=dict)

    @property
    def overhead(self) -> Samples:
        """How much longer each round's run takes with the clocks, as a share."""
        return np.asarray(self.samples.sum(1) / self.plain - 1, np.float64)

    @property
    def coverage(self) -> float:
        """The medians of the nodes together, as a share of the median run without clocks."""
        return float(np.median(self.samples, 0).sum() / np.median(self.plain))


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
    return namespace["make"](*constants.values()), calls


def time_nodes(module: fx.GraphModule, inputs: Sequence[Tensor], rounds: int,
               budget: float) -> Timing:
    """One graph: see `time_together`."""
    return time_together([side_of(module, inputs)], inputs, rounds, budget)[0][0]


def side_of(module: fx.GraphModule, inputs: Sequence[Tensor]) -> Side:
    """A graph as generated Python runs it, with a clock after each call."""
    clock = clock_for(inputs)
    stamps, nodes = clocked(module, clock.stamp)
    return Side(nodes, build(module), lambda *given: clock.seconds(stamps(*given)))


def time_together(sides: Sequence[Side], inputs: Sequence[Tensor], rounds: int,
                  budget: float, others: Sequence[Callable[[], Any]] = (),
                  ) -> tuple[list[Timing], list[Samples]]:
    """Each side with and without clocks, and the seconds of `others`; all take turns.

    Whatever is timed runs once right before, so that no side finds the caches of another.
    It ends after `rounds`, or once `budget` seconds are spent on five rounds or more.
    """
    clock = clock_for(inputs)
    found: list[tuple[list[Samples], list[float]]] = [([], []) for _ in sides]
    whole: list[list[float]] = [[] for _ in others]

    def seconds(run: Callable[[], Any]) -> float:
        start = clock.stamp()
        run()
        return float(clock.seconds([start, clock.stamp()])[0])

    with torch.no_grad():
        for _ in range(3):
            for side in sides:
                side.plain(*inputs)
                side.timed(*inputs)
            for run in others:
                run()
        end = time.perf_counter() + budget
        for turn in range(rounds):
            for side, (nodes, runs) in zip(sides, found, strict=True):
                side.plain(*inputs)
                nodes.append(side.timed(*inputs))
                runs.append(seconds(lambda side=side: side.plain(*inputs)))  # type: ignore[misc]
            for run, kept in zip(others, whole, strict=True):
                run()
                kept.append(seconds(run))
            if turn >= 4 and time.perf_counter() > end:
                break
    return ([Timing(side.nodes, np.array(nodes), np.array(runs), side.kernels, side.within)
             for side, (nodes, runs) in zip(sides, found, strict=True)],
            [np.array(kept) for kept in whole])
