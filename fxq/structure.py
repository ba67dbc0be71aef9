"""Flatten nested Python values into leaves, and put leaves back into the same nest.

Knows tuples, named tuples, lists, dicts and dataclasses, which is what models take and
return. Anything else is a leaf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

Rebuild = Callable[[Iterator[Any]], Any]


def flatten(value: Any) -> tuple[list[Any], Rebuild]:
    """All leaves from left to right, and the function that rebuilds `value` from others."""
    if isinstance(value, dict):
        keys, kind = list(value), type(value)
        leaves, rebuilds = _flatten_all(value.values())
        return leaves, lambda it: _as_dict(kind, zip(keys, [r(it) for r in rebuilds], strict=True))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named = type(value)
        leaves, rebuilds = _flatten_all(value)
        return leaves, lambda it: named(*[r(it) for r in rebuilds])
    if isinstance(value, list | tuple):
        sequence = list if isinstance(value, list) else tuple
        leaves, rebuilds = _flatten_all(value)
        return leaves, lambda it: sequence(r(it) for r in rebuilds)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        record = type(value)
        leaves, rebuilds = _flatten_all(getattr(value, name) for name in names)
        return leaves, lambda it: record(**{n: r(it) for n, r in zip(names, rebuilds, strict=True)})
    return [value], next


def _as_dict(kind: type, items: Any) -> Any:
    return dict(items) if kind is dict else kind(items)


def _flatten_all(values: Any) -> tuple[list[Any], list[Rebuild]]:
    parts = [flatten(value) for value in values]
    return [leaf for leaves, _ in parts for leaf in leaves], [rebuild for _, rebuild in parts]
