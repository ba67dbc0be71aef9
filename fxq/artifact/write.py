"""Write a compiled model: the same model always gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, fx

from fxq.artifact.compact import compact
from fxq.artifact.container import pack
from fxq.artifact.manifest import FORMAT
from fxq.artifact.read_graph import from_portable
from fxq.artifact.signature import to_json
from fxq.artifact.validate import validate
from fxq.artifact.write_graph import Json, Portable
from fxq.errors import ArtifactError
from fxq.frontend.convention import Convention
from fxq.ir.digests import value_bytes
from fxq.ir.facts import info
from fxq.ir.stages import Stage
from fxq.system.files import write_file
from fxq.system.machine import cpu_facts
from fxq.version import __version__

Range = tuple[int, int]
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_WIDEST = 65535  # so that the recorded check's products stay far below 2^63


@dataclass(frozen=True)
class Input:
    """Shape and type of an input; for integers, the range that the model is known to take."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    range: Range | None = None


@dataclass(frozen=True)
class Content:
    """What a file holds of a compiled model: its graph as data, or why it cannot be data."""

    portable: Portable | ArtifactError
    stage: Stage
    engine: str | None
    ranges: tuple[Range | None, ...] = ()  # of the inputs, in order; empty when none is known


def inputs_of(module: fx.GraphModule, ranges: Sequence[Range | None] = ()) -> list[Input]:
    """What a graph takes, with the known ranges of its integers."""
    places = [n for n in module.graph.nodes if n.op == "placeholder"]
    return [Input(info(n).shape or (), info(n).dtype or torch.float32, known)
            for n, known in zip_longest(places, ranges)]


def read_ranges(check: Any, inputs: int) -> tuple[Range | None, ...]:
    """The ranges in a file's manifest; raises ArtifactError for anything else."""
    rows = check.get("ranges", []) if isinstance(check, dict) else None
    if not isinstance(rows, list) or len(rows) not in (0, inputs) or not all(
            row is None or _is_range(row) for row in rows):
        raise ArtifactError("the recorded check of this file is malformed")
    return tuple(row and (row[0], row[1]) for row in rows)


def _is_range(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(type(v) is int for v in row) and (
        -(2**63) <= row[0] <= row[1] <= min(row[0] + _WIDEST, 2**63 - 1))


def to_bytes(content: Content, convention: Convention, report: Json, check: Json) -> bytes:
    """The whole file. Raises ArtifactError for a model with code of its own in the graph."""
    if isinstance(content.portable, ArtifactError):
        raise content.portable
    portable = content.portable
    if portable.refusal is not None:
        raise portable.refusal
    graph = _json({**compact(portable.nodes), "texts": portable.texts, "call": to_json(convention)})
    weights = save_tensors(_separate(portable), {"fxq": "1"})
    members = {"graph.json": graph, "weights.safetensors": weights}
    manifest = {
        "format": FORMAT, "fxq": __version__, "torch": str(torch.__version__),
        "target": report["target"], "engine": content.engine, "stage": str(content.stage),
        "cpu": cpu_facts(), "report": _without_times(report), "check": check,
        "members": {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    for name, data in members.items()}}
    return pack({**members, "manifest.json": _json(manifest)})


def save(path: Path, content: Content, convention: Convention, report: Json,
         check: dict[str, Any]) -> None:
    """Write the file in one step; raises ArtifactError or ConfigError, and leaves an old one."""
    data = to_bytes(content, convention, report, check)
    assert isinstance(content.portable, Portable)  # else it was refused above
    try:  # what cannot be read again is not written
        validate(from_portable(content.portable), content.stage)
    except ArtifactError as error:
        raise ArtifactError("this model cannot be kept in a file", why=error.why or error.what,
                            fix="leave out operators whose result depends on values: torch.where "
                                "with one argument, nonzero, unique") from error
    write_file(path, data)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _separate(portable: Portable) -> dict[str, Tensor]:
    """Tensors that own their memory densely, as safetensors wants them."""
    return {name: tensor.detach().contiguous().clone()
            for name, tensor in portable.tensors.items()}


def _without_times(report: Json) -> Json:
    """The report without the story of the passes, and without times."""
    return {name: value for name, value in report.items() if name not in (
        "configuration", "seconds", "runtime_choice", "runtime", "passes", "coverage", "steps",
        "tuning")}


def check_of(function: Any, inputs: Sequence[Input]) -> dict[str, Any]:
    """The digest of what a model gives for inputs that every machine can make again.

    Empty when the model refuses such inputs: then nothing is recorded.
    """
    for ranges in _attempts(inputs):
        try:
            outputs = run_check(function, [replace(x, range=r)
                                           for x, r in zip(inputs, ranges, strict=True)])
        except Exception:  # an index out of its table, offsets that fall: whatever it may raise
            continue
        known = {"ranges": [list(r) if r else None for r in ranges]} if any(ranges) else {}
        return known | {"outputs": _digest(outputs)}
    return {}


def _attempts(inputs: Sequence[Input]) -> Iterator[list[Range | None]]:
    """The integers that were seen in the examples, then only the least of them."""
    yield [x.range for x in inputs]
    if any(x.range for x in inputs):
        yield [x.range and (x.range[0], x.range[0]) for x in inputs]


def _digest(outputs: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for value in outputs:
        if isinstance(value, Tensor):
            digest.update(str((tuple(value.shape), value.dtype)).encode())
        digest.update(value_bytes(value))
    return digest.hexdigest()


def run_check(function: Any, inputs: Sequence[Input]) -> list[Any]:
    """Outputs for numbers that are scattered over their ranges, the same everywhere."""
    with torch.no_grad():
        return [v.cpu() if isinstance(v, Tensor) else v for v in function(*map(invented, inputs))]


def invented(about: Input) -> Tensor:
    """Integers 0, 1, 2, … scattered over [-1, 1), or over the input's own range of integers."""
    count = math.prod(about.shape)
    steps = (torch.arange(count, dtype=torch.int64) * 40503) % 65536
    if about.range is None:
        return (steps.reshape(about.shape) / 32768 - 1).to(about.dtype)
    low, high = about.range
    return (steps.reshape(about.shape) * (high - low + 1) // 65536 + low).to(about.dtype)


def range_of(example: Tensor) -> Range | None:
    """The least and the largest integer of an example input; None for other types."""
    if example.dtype not in _INTEGERS or not example.numel():
        return None
    low, high = int(example.min()), int(example.max())
    return (low, min(high, low + _WIDEST))
