"""Rows of nodes as short lists: what repeats from node to node is written once, in a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fxq.errors import ArtifactError

_SHARED = ("op", "call", "kwargs", "shape", "dtype", "format")
_OWN = ("args", "path", "source", "value", "tensor", "module", "integers")
LARGEST_ENTRY = 1024  # values
COLUMNS = (*_SHARED, *_OWN)


def compact(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"table": values, "nodes": lists}; a column that a node lacks is null, or cut at the end."""
    table: dict[str, int] = {}
    nodes = [_cut([_shared(row, column, table) for column in _SHARED]
                  + [row.get(column) for column in _OWN]) for row in rows]
    return {"table": [json.loads(text) for text in table], "nodes": nodes}


def _shared(row: dict[str, Any], column: str, table: dict[str, int]) -> int | None:
    if column not in row:
        return None
    return table.setdefault(json.dumps(row[column], sort_keys=True), len(table))


def _cut(values: list[Any]) -> list[Any]:
    while values and values[-1] is None:
        values.pop()
    return values


def expand(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows again; raises ArtifactError for lists that are no rows."""
    table, nodes = content["table"], content["nodes"]
    if any(_size(entry) > LARGEST_ENTRY for entry in table):
        raise ArtifactError("an entry of the table is too large", why="every node may repeat it")
    rows = []
    for position, values in enumerate(nodes):
        if not isinstance(values, list) or len(values) > len(COLUMNS):
            raise ArtifactError(f"node {position} is no row")
        row = {c: v for c, v in zip(COLUMNS, values, strict=False) if v is not None}
        for column in _SHARED:
            if column in row:
                row[column] = _entry(table, row[column], position)
        rows.append(row)
    return rows


def _size(entry: Any) -> int:
    """How many values an entry holds, its nests included."""
    inner = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    return 1 + sum(map(_size, inner))


def _entry(table: list[Any], place: Any, position: int) -> Any:
    if type(place) is not int or not 0 <= place < len(table):
        raise ArtifactError(f"node {position} names entry {str(place)[:40]}, which is not there")
    return table[place]
