"""Flatten nested Python values into leaves, and put leaves back into the same nest.

Knows tuples, named tuples, lists, dicts and dataclasses, which is what models take and
return. Anything else is a leaf.
"""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Nest:
    """The shape of a nested value: its kind, the names of its parts, and the parts' own nests.

    `record` is the class of a named tuple, a dataclass, or a dict of the user's own; a nest that
    was read from a file has none, and gives named tuples and plain dicts instead.
    """

    kind: str = "leaf"  # or list, tuple, dict, fields (by keyword), named (by position)
    keys: tuple[Any, ...] = ()
    parts: tuple[Nest, ...] = ()
    name: str = ""
    record: type | None = dataclasses.field(default=None, compare=False)

    def __call__(self, leaves: Iterator[Any]) -> Any:
        """The nested value, with its leaves taken from left to right."""
        if self.kind == "leaf":
            return next(leaves)
        values = [part(leaves) for part in self.parts]
        if self.kind == "list":
            return values
        if self.kind == "tuple":
            return tuple(values)
        if self.kind == "dict":
            items = zip(self.keys, values, strict=True)
            return dict(items) if self.record is None else self.record(items)
        record = self.record or namedtuple(self.name, self.keys)
        if self.kind == "named":
            return record(*values)
        return record(**dict(zip(self.keys, values, strict=True)))


LEAF = Nest()


def flatten(value: Any) -> tuple[list[Any], Nest]:
    """All leaves from left to right, and the nest that rebuilds `value` from others."""
    if isinstance(value, dict):
        own = None if type(value) is dict else type(value)
        return _flatten_all("dict", tuple(value), value.values(), own)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _flatten_all("named", value._fields, value, type(value))
    if isinstance(value, list | tuple):
        return _flatten_all("list" if isinstance(value, list) else "tuple", (), value, None)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(f.name for f in dataclasses.fields(value))
        return _flatten_all("fields", names, (getattr(value, n) for n in names), type(value))
    return [value], LEAF


def _flatten_all(kind: str, keys: tuple[Any, ...], values: Any,
                 record: type | None) -> tuple[list[Any], Nest]:
    parts = [flatten(value) for value in values]
    name = record.__name__ if record and kind != "dict" else ""
    nest = Nest(kind, keys, tuple(nest for _, nest in parts), name, record)
    return [leaf for leaves, _ in parts for leaf in leaves], nest
