"""A program on this machine: kernels chosen, weights packed, called with tensors of torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fxq.kernels.native import library
from fxq.kernels.native.assembly import CODE, VIEW, Assembly, Weighted
from fxq.kernels.native.structs import SLACK
from fxq.runtime.native.variants import digest_of, known


class Linked:
    """A program and the tensors of its calls: the inputs, then the outputs that each allocates.

    `layers` are those of the assembly's rows. `link` makes the same program with other variants of
    its steps. Raises FxqError for a program that is refused.
    """

    def __init__(self, assembly: Assembly, layers: Sequence[library.Layer]) -> None:
        self.bytes, self.turned = (assembly.lane, assembly.wide), assembly.turned
        code = [library.Instruction(**dict(zip(CODE, row, strict=True))) for row in assembly.code]
        views = [library.View(**dict(zip(VIEW, row, strict=True))) for row in assembly.views]
        self.digest = digest_of(code, views, assembly.images)

        def link(variants: Sequence[int]) -> library.Program:
            for instruction, variant in zip(code, variants, strict=True):
                instruction.variant = variant
            return library.Program(code, views, layers, assembly.tables, assembly.lane,
                                   assembly.wide, assembly.images, assembly.sizes)

        self.link = link
        self.program = link(known(self.digest, len(code)))
        self.outputs = [(o.shape, o.strides, o.dtype) for o in assembly.outputs]
        self.order = assembly.order

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.turned:
            tensors = tuple([channels_last(t) if i in self.turned else t
                             for i, t in enumerate(tensors)])
        made = [torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
                for shape, strides, dtype in self.outputs]
        plain = [_resolved(t) if t.is_neg() else t for t in tensors]
        self.program.run([t.data_ptr() for t in (*plain, *made)], torch.get_num_threads())
        return tuple([made[i] for i in self.order])


def layer_of(row: Weighted, borrow: bool = False) -> library.Layer:
    """A row's weights as programs use them; see `library.Layer`. Raises FxqError."""
    return library.Layer(row.weight, row.bias, row.multiplier, groups=row.groups,
                         zero_in=row.zero_in, transposed=row.transposed,
                         addend=row.addend, borrow=borrow)


def _resolved(tensor: Tensor) -> Tensor:
    """The numbers of a view that leaves its sign to its readers, in the same strides."""
    memory = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return memory.copy_(tensor)


def channels_last(tensor: Tensor) -> Tensor:
    """Integers with their channels side by side and slack behind, as kernels read them."""
    if tensor.dtype is not torch.uint8:
        return tensor
    turned = tensor.movedim(1, -1)
    memory = torch.empty(tensor.numel() + SLACK, dtype=torch.uint8)
    return memory[:tensor.numel()].view(turned.shape).copy_(turned).movedim(-1, 1)
