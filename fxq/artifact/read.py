"""Read a file, checking everything; nothing in it is ever executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, fx

from fxq.artifact.check import Input, Range, read_ranges
from fxq.artifact.compact import expand
from fxq.artifact.container import unpack
from fxq.artifact.manifest import read_manifest
from fxq.artifact.read_graph import from_portable
from fxq.artifact.signature import from_json
from fxq.artifact.validate import validate
from fxq.artifact.write import inputs_of
from fxq.artifact.write_graph import Portable
from fxq.errors import ArtifactError, inert
from fxq.frontend.convention import Convention
from fxq.ir.stages import Stage
from fxq.system.files import read_file


@dataclass(frozen=True)
class Opened:
    """A file whose digests, graph and signature were checked; nothing is packed yet."""

    manifest: dict[str, Any]
    portable: Portable
    module: fx.GraphModule
    convention: Convention
    stage: Stage
    ranges: tuple[Range | None, ...] = ()

    def inputs(self) -> list[Input]:
        """What the graph takes, with ranges that it is known to take."""
        return inputs_of(self.module, self.ranges)


def open_artifact(path: str | Path) -> Opened:
    """Read and check a file without running it; raises ArtifactError."""
    where = str(path)
    members = unpack(read_file(Path(path)), where)
    manifest = read_manifest(_object(members["manifest.json"], "manifest.json"), where)
    for name in ("graph.json", "weights.safetensors"):
        said = manifest["members"].get(name)
        if said != {"bytes": len(members[name]),
                    "sha256": hashlib.sha256(members[name]).hexdigest()}:
            raise ArtifactError(f"{where}: {name} is not what the manifest says")
    graph = _object(members["graph.json"], "graph.json")
    if set(graph) != {"texts", "nodes", "table", "call"} or not all(
            isinstance(graph[k], list) for k in ("texts", "nodes", "table")):
        raise ArtifactError(f"{where}: graph.json has other entries than it should")
    if not all(isinstance(t, str) for t in graph["texts"]):
        raise ArtifactError(f"{where}: graph.json is malformed")
    texts = tuple(inert(text) for text in graph["texts"])
    portable = Portable(tuple(expand(graph)), texts,
                        _tensors(members["weights.safetensors"], where))
    module = from_portable(portable)
    stage = Stage(manifest["stage"])
    validate(module, stage)
    convention = from_json(graph["call"], module)
    ranges = read_ranges(manifest["check"], len(convention.signature.names))
    return Opened(manifest, portable, module, convention, stage, ranges)


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is no JSON", why=str(error)[:200]) from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{name} is no JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _tensors(content: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{where}: the weights cannot be read", why=str(error)) from error
