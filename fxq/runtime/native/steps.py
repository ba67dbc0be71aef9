"""One step of a program, before it has an address: its operands are values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.runtime.native.values import Value


class Unplanned(Exception):
    """A segment cannot run as a program for these inputs; its message says why."""


@dataclass(frozen=True)
class Outside:
    """A tensor of the caller: an input, or an output that each call allocates."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.element == 4 else torch.uint8

    @property
    def bytes(self) -> int:
        """From its first to its last element."""
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.element


@dataclass
class Step:
    """An `Instruction` whose operands are values; `node` is what it computes."""

    op: str
    node: Node
    source: Value
    result: Value
    other: Value | None
    table: Tensor | None
    fields: dict[str, Any]

    @property
    def values(self) -> tuple[Value, ...]:
        """Its operands and its result."""
        return (self.source, self.result) + ((self.other,) if self.other else ())

    @property
    def is_flat(self) -> bool:
        """It works on single pixels, so that the images of a batch are its rows."""
        return all(v.h == v.w == 1 for v in self.values)
