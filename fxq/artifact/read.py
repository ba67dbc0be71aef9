"""Read a file, checking everything; nothing in it is ever executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, fx

from fxq.artifact.check import Input, Range, read_ranges
from fxq.artifact.compact import expand
from fxq.artifact.members import File, json_object, read_members
from fxq.artifact.read_graph import from_portable
from fxq.artifact.signature import from_json
from fxq.artifact.validate import validate
from fxq.artifact.write import inputs_of
from fxq.artifact.write_graph import Portable
from fxq.errors import ArtifactError, inert
from fxq.frontend.convention import Convention
from fxq.ir.facts import info
from fxq.ir.stages import Stage


@dataclass(frozen=True)
class Opened:
    """A file whose digests, graph and signature were checked; nothing is packed yet."""

    manifest: dict[str, Any]
    portable: Portable
    module: fx.GraphModule
    convention: Convention
    stage: Stage
    ranges: tuple[Range | None, ...]
    file: File

    def inputs(self) -> list[Input]:
        """What the graph takes, with ranges that it is known to take."""
        return inputs_of(self.module, self.ranges)


def open_artifact(path: str | Path) -> Opened:
    """Read and check a file without running it; raises ArtifactError."""
    return open_members(read_members(path))


def open_members(file: File) -> Opened:
    """Check the members of a file, all but its program; raises ArtifactError."""
    where, manifest, members = file.where, file.manifest, file.members
    file.check_digests(*(name for name in members if name != "manifest.json"))
    graph = json_object(members["graph.json"], "graph.json")
    if set(graph) != {"texts", "nodes", "table", "call"} or not all(
            isinstance(graph[k], list) for k in ("texts", "nodes", "table")):
        raise ArtifactError(f"{where}: graph.json has other entries than it should")
    if not all(isinstance(t, str) for t in graph["texts"]):
        raise ArtifactError(f"{where}: graph.json is malformed")
    texts = tuple(inert(text) for text in graph["texts"])
    portable = Portable(tuple(expand(graph)), texts,
                        _tensors(bytes(members["weights.safetensors"]), where))
    module = from_portable(portable)
    stage = Stage(manifest["stage"])
    validate(module, stage)
    convention = from_json(graph["call"], *_ends(module))
    ranges = read_ranges(manifest["check"], len(convention.signature.names))
    return Opened(manifest, portable, module, convention, stage, ranges, file)


def _ends(module: fx.GraphModule) -> tuple[list[Any], int]:
    """The dtypes of what the graph takes, and how many values it gives."""
    returned: Any = next(n for n in module.graph.nodes if n.op == "output").args[0]
    return [info(n).dtype for n in module.graph.nodes if n.op == "placeholder"], len(returned)


def _tensors(content: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{where}: the weights cannot be read", why=str(error)) from error
