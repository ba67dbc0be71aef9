"""Measurements of this machine that later processes read: one JSON file for each kind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fxq.errors import ConfigError
from fxq.system.files import write_file


def cache_file(kind: str, facts: Sequence[str]) -> Path:
    """Where such measurements are kept; `facts` are all that they depend on."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    digest = hashlib.sha256("|".join(facts).encode()).hexdigest()
    return folder / "fxq" / f"{kind}-{digest[:16]}.json"


def read_cache(path: Path) -> dict[str, Any]:
    """What is kept there; nothing where there is no cache, or a broken one."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def keep_cache(path: Path, values: Mapping[str, Any]) -> None:
    """Write it in one step; a folder that cannot be written costs time only."""
    try:
        write_file(path, json.dumps(values, sort_keys=True).encode())
    except (OSError, ConfigError):
        return
