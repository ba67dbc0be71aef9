"""The members of a file as they lie in memory, and its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxq.artifact.container import views
from fxq.artifact.manifest import read_manifest
from fxq.errors import ArtifactError
from fxq.system.files import read_buffer


@dataclass(frozen=True)
class File:
    """A file whose digest is right; what its members hold is not looked at yet."""

    where: str
    members: Mapping[str, memoryview]
    manifest: dict[str, Any]

    def check_digests(self, *names: str) -> None:
        """Raise ArtifactError unless these members are what the manifest says of them."""
        for name in names:
            content = self.members[name]
            if self.manifest["members"].get(name) != {
                    "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}:
                raise ArtifactError(f"{self.where}: {name} is not what the manifest says")


def read_members(path: str | Path) -> File:
    """Read a file whole; raises ArtifactError for what is no `.fxq` file, or a damaged one."""
    where = str(path)
    members = views(read_buffer(Path(path)), where)
    manifest = read_manifest(json_object(members["manifest.json"], "manifest.json"), where)
    return File(where, members, manifest)


def json_object(content: memoryview, name: str) -> dict[str, Any]:
    """The JSON object of a member; raises ArtifactError for anything else."""
    try:
        value = json.loads(bytes(content), object_pairs_hook=_no_duplicates,
                           parse_constant=_no_constant)
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
