"""`fxq.lock`: everything that a compiled model came from, as digests, and what differs between two.

A rebuild from the same model, data and versions has the same lock and the same file. When it does
not, the first entry that differs says where the builds parted: the model, a batch of the data, the
statistics, or the first pass whose graph is another one.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxq.analysis.context import Context
from fxq.errors import ArtifactError
from fxq.ir.digests import digest_tensors
from fxq.quantization.statistics_file import to_bytes
from fxq.system.files import write_file
from fxq.system.machine import cpu_facts
from fxq.version import __version__

# In the order in which a build uses them, so that the first difference is the cause.
ORDER = ("fxq", "plugins", "torch", "python", "cpu", "threads", "target", "scheme", "seed", "model",
         "weights", "batches", "statistics", "slower", "overrides", "passes")
Lock = dict[str, Any]
_LATER: Lock = {"plugins": [], "slower": [], "overrides": {}}  # what the first locks did not say


def identity_of(model: nn.Module) -> Lock:
    """What a lock says of a model: digests of its modules, as printed, and of its tensors."""
    return {"model": hashlib.sha256(str(model).encode()).hexdigest(),
            "weights": digest_tensors(list(model.state_dict().values()))}


def make_lock(context: Context, identity: Lock, batches: Sequence[str], seed: int,
              passes: Sequence[tuple[str, str]], plugins: Sequence[str]) -> Lock:
    """The provenance of one compilation, as plain values."""
    return {
        "fxq": __version__, "plugins": list(plugins), "torch": str(torch.__version__),
        "python": platform.python_version(), "cpu": cpu_facts(),
        "threads": torch.get_num_threads(), "target": context.target.name,
        "scheme": hashlib.sha256(repr(context.scheme).encode()).hexdigest(), "seed": seed,
        **identity, "batches": list(batches),
        "statistics": hashlib.sha256(to_bytes(
            context.statistics.values, context.statistics.repairs)).hexdigest(),
        "slower": sorted(context.slower), "overrides": dict(context.scheme.overrides),
        "passes": [list(row) for row in passes]}


def write_lock(path: str | Path, lock: Lock) -> None:
    """Write a lock as JSON, in one step."""
    write_file(Path(path), (json.dumps(lock, indent=1) + "\n").encode())


def read_lock(path: str | Path) -> Lock:
    """Read a lock; raises ArtifactError for anything else."""
    try:
        lock = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is no lock of fxq", why=str(error)[:200]) from error
    if not isinstance(lock, dict) or {*lock, *_LATER} != set(ORDER) or not _are_texts(
            lock.get("slower", [])) or not _are_overrides(lock.get("overrides", {})):
        raise ArtifactError(f"{path} is no lock of fxq", fix="write it again with --lock")
    return {**_LATER, **lock}


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) for v in values)


def _are_overrides(values: Any) -> bool:
    return isinstance(values, dict) and _are_texts(list(values.values()))


def first_difference(before: Lock, after: Lock) -> str:
    """Where two builds part, in one sentence; empty when they are the same."""
    for name in ORDER:
        if before[name] == after[name]:
            continue
        if name in ("batches", "passes"):
            return _first_row(name, before[name], after[name])
        if name == "plugins":
            return f"plugins differ: {_names(before[name])} was {_names(after[name])}"
        return f"{name} differs: {str(before[name])[:60]} was {str(after[name])[:60]}" if name in (
            "fxq", "torch", "python", "threads", "target", "seed", "cpu") else f"{name} differs"
    return ""


def _names(plugins: Sequence[str]) -> str:
    return ", ".join(map(str, plugins))[:200] or "none"


def _first_row(name: str, before: Sequence[Any], after: Sequence[Any]) -> str:
    for position, (a, b) in enumerate(zip(before, after, strict=False)):
        if a != b:
            what = f"pass {b[0]} is the first whose graph" if name == "passes" else (
                f"batch {position} of the data")
            return f"{what} differs"
    return f"{len(before)} {name} were {len(after)}"
