"""Time every node of a graph inside of one run, and the run without the clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.runtime.python import build, source_of

Samples = npt.NDArray[np.float64]


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


def clocked(module: fx.GraphModule) -> tuple[Callable[..., list[float]], list[Node]]:
    """A function of flat inputs that returns a time stamp before and after each call."""
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
    namespace: dict[str, Any] = {"clock": time.perf_counter}
    exec(compile("\n".join(lines), "<fxq clocks>", "exec"), namespace)
    return namespace["make"](**constants), calls


def time_nodes(module: fx.GraphModule, inputs: Sequence[Tensor], rounds: int,
               budget: float) -> Timing:
    """Both runs take turns, after a warm-up, until `rounds` or `budget` seconds are spent."""
    stamps, nodes = clocked(module)
    plain = build(module)
    samples, whole = [], []
    with torch.no_grad():
        for _ in range(3):
            plain(*inputs)
            stamps(*inputs)
        end = time.perf_counter() + budget
        for turn in range(rounds):
            samples.append(np.diff(stamps(*inputs)))
            start = time.perf_counter()
            plain(*inputs)
            whole.append(time.perf_counter() - start)
            if turn >= 4 and time.perf_counter() > end:
                break
    return Timing(nodes, np.array(samples), np.array(whole))
