"""The operator table grows: rows from outside, and the tables of other files that follow it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fxq.errors import ConfigError
from fxq.ir import ops
from fxq.ir.ops import Op, fuse

_FOLLOWERS: list[Callable[[Op], None]] = []


def each_operator(follow: Callable[[Op], None]) -> Callable[[Op], None]:
    """Call `follow` with every row of the table, now and whenever one is added.

    Whatever is looked up by operator is filled by such a function, so that no table is built
    before a plugin's operator is there. Lower packages follow first.
    """
    for op in ops.OPS.values():
        follow(op)
    _FOLLOWERS.append(follow)
    return follow


def add_operator(op: Op) -> None:
    """Add a row, and its fused forms (`absorbs`), for the rest of the process.

    Raises ConfigError for a name or a function that the table has already.
    """
    rows = [op, *(fuse(op, ops.OPS[name]) for name in op.absorbs)]
    taken = [row.name for row in rows if row.name in ops.OPS or row.call in ops.BY_CALL]
    if taken or not op.name.isidentifier():
        raise ConfigError(f"operator {op.name!r} cannot be added", fix="give it a name and a "
                          "function of its own", why=f"{', '.join(taken)} is in the table already"
                          if taken else "its name is no Python name")
    for row in rows[1:]:
        setattr(sys.modules[ops.__name__], row.name, row.call)
    for row in rows:
        ops.OPS[row.name] = ops.BY_CALL[row.call] = row
        for follow in _FOLLOWERS:
            follow(row)
