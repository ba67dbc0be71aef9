"""The peak of what one run allocates, from torch's own record of allocations."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


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
