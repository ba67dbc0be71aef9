"""fxq.toml: the keys of the Python arguments, for the command line; flags on it win."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fxq.errors import ConfigError, did_you_mean


def read_configuration(path: Path, known: list[str]) -> dict[str, Any]:
    """Values by option name; raises ConfigError for an unreadable file or an unknown key."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror or "") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML", why=str(error)) from error
    renamed = {key.replace("-", "_"): value for key, value in values.items()}
    if "overrides" in renamed:
        renamed["override"] = _overrides(renamed.pop("overrides"), path)
    for key in renamed:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}", fix=did_you_mean(key, known))
    return renamed


def _overrides(value: Any, path: Path) -> list[str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ConfigError(f"{path}: overrides is no table of PATTERN = \"scheme\"")
    return [f"{pattern}={scheme}" for pattern, scheme in value.items()]
