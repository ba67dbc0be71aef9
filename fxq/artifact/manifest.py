"""The manifest of a file: which entries it has, and of what type each must be."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from fxq.errors import ArtifactError, all_inert
from fxq.ir.stage import Stage

FORMAT = 2
STAGES = (Stage.FUSED, Stage.REFERENCE, Stage.LOWERED)
LONGEST = 4096  # characters of a text


class Member(TypedDict):
    """What the manifest says of another member of the file."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """All entries, as `save` writes them."""

    format: int
    fxq: str
    torch: str
    target: str
    engine: str | None
    stage: str
    cpu: dict[str, bool]
    report: dict[str, Any]  # `compiler/report.py` reads it
    check: dict[str, str | tuple[tuple[int, int] | None, ...]]
    members: dict[str, Member]


def read_manifest(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The manifest, every entry of its type and every text inert; raises ArtifactError."""
    _check_format(content, where)
    if set(content) != set(Manifest.__annotations__):
        raise ArtifactError(f"{where}: the manifest has other entries than it should")
    wrong = [name for name, value in content.items() if not fits(value, _hints(Manifest)[name])]
    if wrong:
        raise ArtifactError(f"{where}: the manifest's {wrong[0]} is malformed",
                            why=f"it is {str(content[wrong[0]])[:80]!r}")
    if content["stage"] not in STAGES:
        raise ArtifactError(f"{where}: unknown stage {content['stage'][:40]!r}")
    return all_inert(content)  # type: ignore[no-any-return]


def _check_format(content: Mapping[str, Any], where: str) -> None:
    version = content.get("format")
    if type(version) is not int or version < 1:
        raise ArtifactError(f"{where} has no format version")
    if version > FORMAT:
        raise ArtifactError(f"{where} has format {version}, and this fxq reads up to {FORMAT}",
                            why=f"it was written by fxq {str(content.get('fxq'))[:20]}",
                            fix="install that version of fxq, or a newer one")


def fits(value: Any, hint: Any) -> bool:
    """A JSON value is one of this type: records are objects, tuples are lists."""
    if hint is str:
        return type(value) is str and len(value) <= LONGEST
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e300
    if hint is Any:
        return True
    if dataclasses.is_dataclass(hint) or is_typeddict(hint):
        return _is_record(value, hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list) and _are(value, parts)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(k, str) and fits(v, parts[1]) for k, v in value.items())
    return type(value) is hint


def _are(values: list[Any], parts: tuple[Any, ...]) -> bool:
    if parts[-1] is Ellipsis:
        return all(fits(v, parts[0]) for v in values)
    return len(values) == len(parts) and all(map(fits, values, parts))


def _is_record(value: Any, kind: Any) -> bool:
    """An object with entries of this class; those with a default may be missing."""
    hints = _hints(kind)
    needed = set(hints) if is_typeddict(kind) else {
        f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    return isinstance(value, dict) and needed <= set(value) <= set(hints) and all(
        fits(v, hints[name]) for name, v in value.items())


_hints = cache(get_type_hints)


__all__ = ["FORMAT", "Manifest", "fits", "read_manifest"]
