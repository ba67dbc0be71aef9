"""Flatten nested Python values into leaves, and put leaves back into the same nest.

Knows tuples, named tuples (also torch's own, as `torch.max(x, 1)` gives), lists, dicts and
dataclasses, which is what models take and return. Anything else is a leaf.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict, namedtuple
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from fxq.errors import ConfigError


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
    record: Any = dataclasses.field(default=None, compare=False)

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
        record: Any = self.record or namedtuple(self.name, self.keys)
        if self.kind == "named":
            return record._make(values) if hasattr(record, "_make") else record(values)
        given = dict(zip(self.keys, values, strict=True))
        return _dataclass(record, given) if self.record else record(**given)


LEAF = Nest()


@dataclasses.dataclass(frozen=True)
class Opened:
    """The parts of one container, and what rebuilds it from others."""

    kind: str
    values: tuple[Any, ...]
    keys: tuple[Any, ...] = ()
    record: Any = None

    def nest(self, parts: Iterable[Nest]) -> Nest:
        """The nest of a container like this, whose parts have the given nests."""
        name = self.record.__name__ if self.kind in ("fields", "named") else ""
        return Nest(self.kind, self.keys, tuple(parts), name, self.record)


def open_container(value: Any) -> Opened | None:
    """The parts of a tuple, list, dict or dataclass; None for a leaf."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(f.name for f in dataclasses.fields(value))
        return Opened("fields", tuple(getattr(value, n) for n in names), names, type(value))
    if isinstance(value, dict):
        return Opened("dict", tuple(value.values()), tuple(value), _dict_record(value))
    if isinstance(value, tuple) and (names := field_names(type(value))):
        return Opened("named", tuple(value), names, type(value))
    if isinstance(value, list | tuple):
        return Opened("list" if isinstance(value, list) else "tuple", tuple(value))
    return None


def field_names(kind: type) -> tuple[str, ...]:
    """The names of a named tuple's parts, or of what `torch.max(x, 1)` gives; () for others."""
    names: tuple[str, ...] = getattr(kind, "_fields", ())
    return names or (getattr(kind, "__match_args__", ()) if hasattr(kind, "n_fields") else ())


def flatten(value: Any) -> tuple[list[Any], Nest]:
    """All leaves from left to right, and the nest that rebuilds `value` from others."""
    opened = open_container(value)
    if opened is None:
        return [value], LEAF
    parts = [flatten(part) for part in opened.values]
    return [leaf for leaves, _ in parts for leaf in leaves], opened.nest(n for _, n in parts)


def parts(value: Any, count: int) -> Any:
    """The same sequence, if it has as many parts as when the model was compiled.

    Raises ConfigError for another number: the call's outputs would not be the model's.
    """
    if len(value) != count:
        raise ConfigError(f"an output of the model has {len(value)} parts in this call, and had "
                          f"{count} when it was compiled", why="their number depends on the shape",
                          fix="compile again with example inputs like this call")
    return value


def _dict_record(value: dict[Any, Any]) -> Any:
    if isinstance(value, defaultdict):
        return partial(type(value), value.default_factory)
    return None if type(value) is dict else type(value)


def _dataclass(record: Any, given: dict[str, Any]) -> Any:
    """A dataclass from all of its fields, also those that its constructor does not take."""
    taken = {f.name for f in dataclasses.fields(record) if f.init}
    made = record(**{name: value for name, value in given.items() if name in taken})
    for name in given.keys() - taken:
        object.__setattr__(made, name, given[name])
    return made
