"""A program as plain numbers: no graph behind it, no machine chosen yet.

It is what a planned segment becomes, what a file can hold, and what is linked to kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.kernels.native.structs import EXTERNAL, SLACK, Instruction, View

CODE = tuple(name for name, *_ in Instruction._fields_)
VIEW = tuple(name for name, *_ in View._fields_)


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

    @property
    def image_strides(self) -> tuple[int, int, int, int]:
        """Bytes from one image, row and pixel to the next, 0 where there is only one; and from one
        channel to the next, as if dense where there is only one."""
        n, c, *space = (0 if size == 1 else stride * self.element
                        for size, stride in zip(self.shape, self.strides, strict=True))
        row, pixel = (0, 0, *space)[-2:]
        return n, row, pixel, c if self.shape[1] > 1 else self.element


def outside(shape: Sequence[int], element: int, given: bool = False) -> Outside:
    """A dense tensor as programs give them: floats as torch lays them, integers channels_last.

    All that a caller has `given` lies as torch lays it.
    """
    order = range(len(shape)) if given or element == 4 else (0, *range(2, len(shape)), 1)
    strides, step = [0] * len(shape), 1
    for place in reversed(order):
        strides[place], step = step, step * shape[place]
    return Outside(tuple(shape), tuple(strides), element)


@dataclass(frozen=True, eq=False)
class Weighted:
    """The numbers of a step with weights: see `library.Layer`."""

    weight: Tensor
    bias: Tensor
    multiplier: Tensor
    groups: int
    zero_in: int
    transposed: bool
    addend: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Assembly:
    """The rows of `native.h`, their fields in order, and the tensors of a call.

    `lane` and `wide` are bytes of one image's memory; `order` are the places of the segment's
    outputs among `outputs`. Each weighted step names a row of `layers`, each table one of `tables`
    (uint8, 256 results).
    """

    code: tuple[tuple[float, ...], ...]
    views: tuple[tuple[int, ...], ...]
    layers: tuple[Weighted, ...]
    tables: tuple[Tensor, ...]
    lane: int
    wide: int
    images: int
    inputs: tuple[Outside, ...]
    outputs: tuple[Outside, ...]
    order: tuple[int, ...]

    @property
    def turned(self) -> tuple[int, ...]:
        """The inputs of integers that are copied, to be channels_last with slack behind."""
        return tuple(i for i, about in enumerate(self.inputs) if about.element == 1
                     and about.strides == outside(about.shape, 1).strides)

    @property
    def sizes(self) -> list[int]:
        """Bytes behind each address of a call: the inputs, then the outputs."""
        slack = [SLACK * (i in self.turned) for i in range(len(self.inputs))]
        return [about.bytes + more for about, more in zip(
            (*self.inputs, *self.outputs), (*slack, *[0] * len(self.outputs)), strict=True)]

    @property
    def is_whole(self) -> bool:
        """One step reads all of an input, and one writes all of an output: else a caller would see
        old memory."""
        sides = (("in", self.inputs, EXTERNAL), ("out", self.outputs, EXTERNAL + len(self.inputs)))
        return all(any(_is_whole(view, place, about, self.images) for view in self._used(side))
                   for side, tensors, first in sides for place, about in enumerate(tensors, first))

    @property
    def keeps_inputs(self) -> bool:
        """No step writes into a tensor that the caller gives."""
        inputs = range(EXTERNAL, EXTERNAL + len(self.inputs))
        return not any(view["space"] in inputs for view in self._used("out"))

    def _used(self, side: str) -> list[dict[str, int]]:
        """The views that steps read first, or write."""
        return [dict(zip(VIEW, self.views[int(step[CODE.index(side)])], strict=True))
                for step in self.code]


def _is_whole(view: dict[str, int], space: int, about: Outside, images: int) -> bool:
    """The view is all of a tensor of the caller."""
    n, c, *rest = about.shape
    h, w = (1, 1, *rest)[-2:]
    size = (view["h"], view["w"], view["c"], view["element"])
    strides = [view[name] if count > 1 else 0 for name, count in (
        ("image", n), ("row", h), ("pixel", w))] + [view["channel"]]
    return (view["space"] == space and view["offset"] == 0 and n == images
            and size == (h, w, c, about.element) and tuple(strides) == about.image_strides)


def key_of(tensors: Sequence[Tensor]) -> tuple[tuple[torch.Size, tuple[int, ...]], ...]:
    """Shapes and strides, by which programs are kept."""
    return tuple([(t.shape, t.stride()) for t in tensors])
