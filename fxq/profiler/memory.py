"""What a run allocates at its peak, and the arena of a native program, step by step."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.fx import Node
from torch.profiler import ProfilerActivity, profile

from fxq.kernels.native.structs import EXTERNAL, LANE
from fxq.runtime.native.program import Planned


@contextmanager
def _without_chatter() -> Iterator[None]:
    """torch's recorder writes notes of its own to file descriptor 2, past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_bytes(run: Callable[[], Any], device: str = "cpu") -> int:
    """Bytes alive at once at most, beyond what was alive before the run."""
    run()  # what is allocated once and kept is no part of a run
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    activities = [ProfilerActivity.CPU]
    with _without_chatter(), profile(activities=activities, profile_memory=True) as seen:
        kept = run()
    recorder: Any = seen.profiler
    events = [e for e in recorder.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda e: e.start_ns())
    del kept
    return int(max(accumulate((e.nbytes() for e in events), initial=0)))


@dataclass(frozen=True)
class Block:
    """Memory of values in an arena: in use from step `first` to step `last`, bytes at `offset`."""

    name: str
    first: int
    last: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class Arena:
    """Where the values of one image lie in a native program, and when.

    `in_use` are bytes at each of `steps`, borders included; `bytes` is the size of the arena.
    `values_bytes` is what the values would take side by side, without borders. `run_bytes` is what
    a run holds: an arena for each thread that computes images of its own, and the values that all
    images of a batch share.
    """

    steps: tuple[str, ...]
    blocks: tuple[Block, ...]
    in_use: tuple[int, ...]
    bytes: int
    values_bytes: int
    run_bytes: int


def arena_of(linked: Planned, name: Callable[[Node], str]) -> Arena:
    """The arena of a program; `name` gives a node's."""
    steps, images = linked.plan.steps, linked.plan.images
    made = {id(s.result): s.result for s in steps if s.result.storage.space < EXTERNAL}
    writers = {s.result.storage: s.node for s in reversed(steps)}
    blocks = [Block(name(node), s.first, s.last, s.offset, s.bytes)
              for s, node in reversed(writers.items()) if s.space == LANE]
    lane, wide = linked.bytes
    threads = torch.get_num_threads()
    lanes = threads + 1 if 1 < threads <= images else 1  # as run.cpp has them
    return Arena(tuple(name(s.node) for s in steps), tuple(blocks),
                 tuple(sum(b.bytes for b in blocks if b.first <= i <= b.last)
                       for i in range(len(steps))),
                 lane, sum(v.h * v.w * v.c for v in made.values()), lanes * lane + wide * images)
