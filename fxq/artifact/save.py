"""Write a compiled model: the same model always gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

import fxq
from fxq.artifact.compact import compact
from fxq.artifact.container import pack, write_file
from fxq.artifact.manifest import FORMAT
from fxq.artifact.portable import Portable
from fxq.artifact.signature import to_json
from fxq.digests import raw_bytes
from fxq.errors import ArtifactError
from fxq.report import Report
from fxq.stage import Stage
from fxq.trace import Traced

Input = tuple[tuple[int, ...], torch.dtype]  # shape and type


@dataclass(frozen=True)
class Content:
    """What a file holds of a compiled model: its graph as data, or why it cannot be data."""

    portable: Portable | ArtifactError
    stage: Stage
    engine: str | None


def to_bytes(content: Content, traced: Traced, report: Report, check: dict[str, Any]) -> bytes:
    """The whole file. Raises ArtifactError for a model with code of its own in the graph."""
    if isinstance(content.portable, ArtifactError):
        raise content.portable
    portable = content.portable
    if portable.refusal is not None:
        raise portable.refusal
    graph = _json({**compact(portable.nodes), "texts": portable.texts, "call": to_json(traced)})
    weights = save_tensors(_separate(portable), {"fxq": "1"})
    members = {"graph.json": graph, "weights.safetensors": weights}
    manifest = {
        "format": FORMAT, "fxq": fxq.__version__, "torch": str(torch.__version__),
        "target": report.target, "engine": content.engine, "stage": str(content.stage),
        "cpu": cpu_facts(), "report": _without_times(report), "check": check,
        "members": {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    for name, data in members.items()}}
    return pack({**members, "manifest.json": _json(manifest)})


def save(path: Path, content: Content, traced: Traced, report: Report,
         check: dict[str, Any]) -> None:
    """Write the file in one step; raises ArtifactError or ConfigError, and leaves an old one."""
    write_file(path, to_bytes(content, traced, report, check))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _separate(portable: Portable) -> dict[str, Tensor]:
    """Tensors that own their memory densely, as safetensors wants them."""
    return {name: tensor.detach().contiguous().clone()
            for name, tensor in portable.tensors.items()}


def cpu_facts() -> dict[str, bool]:
    """What results of float operators, and of saturating kernels, depend on."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {name: bool(known.get(name)) for name in ("avx2", "avx512_f", "avx512_vnni",
                                                     "avx512_bf16")}


def _without_times(report: Report) -> dict[str, Any]:
    """The report as data, without the story of the passes, and without times."""
    values = report.to_dict()
    for name in ("configuration", "seconds", "runtime_times", "runtime", "passes", "coverage"):
        del values[name]
    return values


def check_of(function: Any, inputs: Sequence[Input]) -> dict[str, Any]:
    """The digest of what a model gives for inputs that every machine can make again."""
    outputs = run_check(function, inputs)
    digest = hashlib.sha256()
    for value in outputs:
        digest.update(str((tuple(value.shape), value.dtype)).encode())
        digest.update(raw_bytes(value))
    return {"outputs": digest.hexdigest()}


def run_check(function: Any, inputs: Sequence[Input]) -> list[Tensor]:
    """Outputs for integers 0, 1, 2, … scattered over [-1, 1), the same everywhere."""
    made = []
    for shape, dtype in inputs:
        count = torch.tensor(shape).prod().item() if shape else 1
        steps = (torch.arange(int(count), dtype=torch.int64) * 40503) % 65536
        made.append((steps.reshape(shape) / 32768 - 1).to(dtype))
    with torch.no_grad():
        return [v.cpu() for v in function(*made) if isinstance(v, Tensor)]
