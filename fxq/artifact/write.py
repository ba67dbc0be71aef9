"""Write a compiled model: the same model always gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, fx

from fxq.artifact.check import Input, Range
from fxq.artifact.compact import compact
from fxq.artifact.container import pack
from fxq.artifact.manifest import FORMAT
from fxq.artifact.read_graph import from_portable
from fxq.artifact.signature import to_json
from fxq.artifact.stored_program import to_members
from fxq.artifact.validate import validate
from fxq.artifact.write_graph import Json, Portable
from fxq.errors import ArtifactError
from fxq.frontend.convention import Convention
from fxq.ir.facts import info
from fxq.ir.stages import Stage
from fxq.kernels.native.assembly import Assembly
from fxq.system.files import write_file
from fxq.system.machine import cpu_facts
from fxq.version import __version__


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


def to_bytes(content: Content, convention: Convention, report: Json, check: Json,
             program: Assembly | None = None) -> bytes:
    """The whole file. Raises ArtifactError for a model with code of its own in the graph."""
    if isinstance(content.portable, ArtifactError):
        raise content.portable
    portable = content.portable
    if portable.refusal is not None:
        raise portable.refusal
    graph = _json({**compact(portable.nodes), "texts": portable.texts, "call": to_json(convention)})
    tensors = _separate(portable)
    members = {"graph.json": graph, "weights.safetensors": save_tensors(tensors, {"fxq": "1"})}
    members |= to_members(program, tensors, members) if program else {}
    manifest = {
        "format": FORMAT, "fxq": __version__, "torch": str(torch.__version__),
        "target": report["target"], "engine": content.engine, "stage": str(content.stage),
        "cpu": cpu_facts(), "report": _without_times(report), "check": check,
        "members": {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    for name, data in members.items()}}
    return pack({**members, "manifest.json": _json(manifest)})


def save(path: Path, content: Content, convention: Convention, report: Json,
         check: dict[str, Any], program: Assembly | None = None) -> None:
    """Write the file in one step; raises ArtifactError or ConfigError, and leaves an old one."""
    data = to_bytes(content, convention, report, check, program)
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
        "tuning", "budget")}
