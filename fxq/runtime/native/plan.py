"""The values and steps of a program, as the rows of `emit.py` add them node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import info, qparams
from fxq.ir.rewriter import constant_of
from fxq.kernels.native.assembly import Outside
from fxq.kernels.native.structs import EXTERNAL, LANE, WIDE, WIDE_STEP
from fxq.runtime.native.memory import place, side_by_side
from fxq.runtime.native.steps import Step, Unplanned
from fxq.runtime.native.values import Storage, Value


@dataclass
class Plan:
    """A segment's values, in the order of its nodes. `images` is the batch that all inputs hold.

    `writers` are the functions that compute into memory of their own: those can write into a part
    of a concatenation, and take the table that alone reads them.
    """

    nodes: Sequence[Node]
    outputs: Sequence[Node]
    images: int
    writers: frozenset[Any]
    rows: bool = False
    steps: list[Step] = field(default_factory=list)
    values: dict[Node, Value] = field(default_factory=dict)
    externals: list[Outside] = field(default_factory=list)
    measured: dict[Any, tuple[Value, Value]] = field(default_factory=dict)  # range, integers

    def __post_init__(self) -> None:
        self.order = {n: i for i, n in enumerate(self.nodes)}
        self.tables = {n: t for n in self.nodes if (t := self._table_behind(n))}
        self.absorbed = set(self.tables.values())
        self.parts: dict[Node, tuple[Node, int]] = {}
        for node in reversed(self.nodes):
            if node.target is arithmetic.concatenate:
                self._place_parts(node)

    def _table_behind(self, node: Node) -> Node | None:
        """The table that alone reads a node's result."""
        reader = next(iter(node.users), None)
        alone = len(node.users) == 1 and node not in self.outputs and reader in self.order
        return reader if alone and node.target in self.writers and (
            reader is not None and reader.target is arithmetic.look_up) else None

    def _place_parts(self, node: Node) -> None:
        start = 0
        parts: Any = node.args[0]
        for part in parts:
            writes = part.target in self.writers or part.target is arithmetic.look_up
            if writes and part in self.order and part not in self.parts:
                self.parts[part] = (node, start)
            start += channels_of(part)

    def source(self, node: Node) -> Value:
        """A node's first operand."""
        return self.values[node.args[0]]  # type: ignore[index]

    def rank(self, node: Node) -> int:
        """The dimensions of a node's value; rows of channels have two."""
        return 2 if self.rows else len(info(node).shape or ())

    def last(self, node: Node) -> Node:
        """The node whose value a step gives: the table behind it, where it takes one."""
        return self.tables.get(node, node)

    def external(self, shape: Sequence[int], strides: Sequence[int], element: int,
                 zero: int = 0, as_it_lies: bool = True) -> Value:
        """A tensor of the caller; strides are in elements, as torch gives them.

        One that does not stay as it lies is channels_last, without gaps.
        """
        (h, w), c = space_of(shape), shape[1]
        outside = Outside(tuple(shape), tuple(strides), element)
        at = outside.image_strides if as_it_lies else (h * w * c, w * c, c, 1)
        storage = Storage(h, w, c, element, EXTERNAL + len(self.externals), at)
        self.externals.append(outside)
        return Value(storage, h, w, shape[1], zero, rank=len(shape))

    def floats(self, shape: tuple[int, ...]) -> Value:
        """A contiguous float tensor of the caller."""
        return self.external(shape, torch.empty(shape, device="meta").stride(), 4)

    def fresh(self, node: Node, h: int, w: int, c: int) -> Value:
        """Where a node's result goes: a part of a concatenation, or a storage of its own."""
        rank = self.rank(node)
        if node not in self.parts:
            return Value(Storage(h, w, c), h, w, c, zero_of(node), rank=rank)
        whole, start = self.parts[node]
        if whole not in self.values:
            self.values[whole] = self.fresh(whole, h, w, channels_of(whole))
        target = self.values[whole]
        if (target.h, target.w) != (h, w):
            raise Unplanned("parts of a concatenation differ in size")
        return replace(target.channels(start, c), rank=rank)

    def add(self, op: str, node: Node, source: Value, size: tuple[int, int, int],
            other: Value | None = None, over: Node | None = None, **fields: Any) -> None:
        """Append a step whose result has height, width and channels `size`.

        `over` names an operand whose memory the result takes.
        """
        last = self.last(node)
        if over is None:
            result = self.fresh(last, *size)
        else:
            result = replace(self.values[over], zero=zero_of(last),
                             rank=self.rank(last))
        table = self.tables.get(node)
        self.append(op, node, source, result, other, _table(table) if table else None, **fields)
        self.values[last] = self.values[node] = result

    def append(self, op: str, node: Node, source: Value, result: Value,
               other: Value | None = None, table: Tensor | None = None, **fields: Any) -> None:
        """Append a step as it is."""
        self.steps.append(Step(op, node, source, result, other, table, fields))

    def over(self, node: Node, size: tuple[int, int, int], *operands: Node) -> Node | None:
        """An operand that only `node` still reads, as large as its result: pixel for pixel, the
        result can take its memory."""
        if self.last(node) in self.parts:
            return None
        return next((n for n in operands if (v := self.values[n]).whole and (
            (v.h, v.w, v.c) == size) and self._is_last_use(v.storage, node)), None)

    def _is_last_use(self, storage: Storage, reader: Node) -> bool:
        holders = [n for n, v in self.values.items() if v.storage is storage]
        now = self.order[reader]
        return storage.space == LANE and not any(
            n in self.outputs or n in self.parts for n in holders) and all(
            u is reader or u in self.absorbed or self.order.get(u, len(self.order)) < now
            for n in holders for u in n.users)

    def finish(self) -> tuple[int, int]:
        """Decide which steps take all images at once, and place the storages.

        Returns the bytes of an arena, and those of one image's part of the memory for all.
        """
        start = len(self.steps)
        while self.images > 1 and start and self.steps[start - 1].is_flat:
            start -= 1
        if self.measured and self.images > 1 and start:
            raise Unplanned("a range of images that are computed one by one")
        storages: dict[Storage, None] = {}
        for position, step in enumerate(self.steps):
            inner = [v.storage for v in step.values if v.storage.space < EXTERNAL]
            storages |= dict.fromkeys(inner)
            for storage in inner:
                storage.used(position)
                storage.space = WIDE if position >= start else storage.space
            if position >= start:
                step.fields["flags"] = step.fields.get("flags", 0) | WIDE_STEP
        lane = place([s for s in storages if s.space == LANE])
        return lane, side_by_side([s for s in storages if s.space == WIDE])


def _table(node: Node) -> Tensor:
    table = constant_of(node.args[1])
    assert table is not None
    return table


def zero_of(node: Node) -> int:
    """The zero point of a node's value; 0 for floats."""
    format_ = qparams(node)
    return format_.zero_point if format_ else 0


def channels_of(node: Node) -> int:
    """The channels of a value, which no input changes."""
    return (info(node).shape or (0, 0))[1]


def space_of(shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of a value with up to two dimensions of space."""
    if not 2 <= len(shape) <= 4:
        raise Unplanned(f"a value of {len(shape)} dimensions")
    h, w = (1, 1, *shape[2:])[-2:]
    return (1, shape[2]) if len(shape) == 3 else (h, w)


def images_of(values: Mapping[Node, Tensor]) -> int:
    """The images that all inputs of a segment hold."""
    counts = {t.shape[0] if t.dim() else 0 for t in values.values()}
    if len(counts) != 1:
        raise Unplanned("its inputs hold different numbers of images")
    return counts.pop()
