"""Exceptions to a scheme, by module path, type or operator; each must match something."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn

from fxq.errors import ConfigError, did_you_mean
from fxq.ops import OPS


def checked_overrides(model: nn.Module, overrides: Mapping[Any, str]) -> dict[str, str]:
    """Overrides by module path or operator; ConfigError for one that matches nothing."""
    result: dict[str, str] = {}
    for key, scheme in overrides.items():
        if scheme != "fp32":
            raise ConfigError(f"override {key!r} asks for scheme {scheme!r}",
                              fix='the only override today is "fp32": leave it in float')
        result |= dict.fromkeys(_matches(model, key), scheme)
    return result


def _matches(model: nn.Module, key: Any) -> list[str]:
    paths = dict(model.named_modules())
    if isinstance(key, type):
        found = [path for path, module in paths.items() if type(module) is key]
        known = sorted({type(m).__name__ for m in paths.values()})
        name = key.__name__
    else:
        name, known = str(key), [*filter(None, paths), *OPS]
        matched = any(fnmatch.fnmatch(path, name) for path in paths) or name in OPS
        found = [name] if matched else []
    if not found:
        raise ConfigError(f"override {name!r} matches nothing", fix=did_you_mean(name, known[:40]))
    return found
