"""Exceptions to a scheme, by module path, type or operator; each must match something."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.fx import Node

from fxq.errors import ConfigError, did_you_mean
from fxq.ir.facts import info
from fxq.ir.ops import OPS, base_name
from fxq.ir.rewriter import label
from fxq.quantization.schemes import Scheme, get_scheme


def checked_overrides(model: nn.Module, overrides: Mapping[Any, str]) -> dict[str, str]:
    """Overrides by module path or operator; ConfigError for one that matches nothing."""
    result: dict[str, str] = {}
    for key, name in overrides.items():
        scheme = get_scheme(name)
        if scheme.trained or scheme.overrides:
            raise ConfigError(f"override {key!r} asks for scheme {scheme.name!r}",
                              fix="overrides take schemes that are not trained")
        for path in _matches(model, key):
            result.pop(path, None)  # so that the order stays that of the last mention
            result[path] = scheme.name
    return result


def scheme_of(node: Node, scheme: Scheme) -> Scheme:
    """The scheme for one node: that of the last override that matches it, else the whole one's."""
    if not scheme.overrides:
        return scheme
    keys = (*_with_parents(info(node).path), label(node), base_name(node))
    names = [name for pattern, name in scheme.overrides.items()
             if any(fnmatch.fnmatchcase(key, pattern) for key in keys)]
    return get_scheme(names[-1]) if names else scheme


def _with_parents(path: str) -> list[str]:
    """A module's path and those of all modules around it: an override covers what is inside."""
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _matches(model: nn.Module, key: Any) -> list[str]:
    paths = dict(model.named_modules())
    if isinstance(key, type):
        found = [path for path, module in paths.items() if type(module) is key]
        known = sorted({type(m).__name__ for m in paths.values()})
        name = key.__name__
    else:
        name, known = str(key), [*filter(None, paths), *OPS]
        matched = any(fnmatch.fnmatchcase(path, name) for path in paths) or name in OPS
        found = [name] if matched else []
    if not found:
        raise ConfigError(f"override {name!r} matches nothing", fix=did_you_mean(name, known[:40]))
    return found
