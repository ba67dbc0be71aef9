"""Which shapes of convolutions take which paths in FBGEMM and oneDNN, as both tables need it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir.facts import info
from fxq.ir.ops import Kind, attribute, op_of
from fxq.targets.base import Limit, Pairing, constant_weight, nonempty_channels


def as_tuple(value: object, length: int) -> tuple[object, ...]:
    """One entry per dimension."""
    return value if isinstance(value, tuple) else (value,) * length


def shapes(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a layer's input and weight."""
    source, weight = (info(n).shape for n in node.args[:2])  # type: ignore[arg-type]
    return source or (), weight or ()


def is_depthwise(node: Node) -> bool:
    """One group per channel."""
    source, op = shapes(node)[0], op_of(node)
    return op is not None and op.kind is Kind.MAC and op.rank > 0 and len(source) > 2 and (
        1 != attribute(node, "groups") == source[1])


def fbgemm_depthwise(node: Node) -> bool:
    """The shapes that FBGEMM sends to its depthwise kernels, which add in 16 bits (measured)."""
    source, weight = shapes(node)
    if not is_depthwise(node) or len(weight) < 4:
        return False
    kernel = weight[2:]
    padding = as_tuple(attribute(node, "padding"), len(kernel))
    return (source[1] % 8 == 0 and len(set(kernel)) == 1 and kernel[0] in (3, 5, 7)
            and padding == tuple(k // 2 for k in kernel)
            and set(as_tuple(attribute(node, "dilation"), len(kernel))) == {1})


def _even(weight: Tensor, dim: int) -> Tensor:
    """A zero more where a dimension is odd: the last weight then meets nothing."""
    missing = list(weight.shape)
    missing[dim] = weight.shape[dim] % 2
    return torch.cat([weight, weight.new_zeros(missing)], dim)


def taps(weight: Tensor) -> Tensor:
    """Taps in row-major kernel order."""
    return _even(weight.flatten(1), 1)


def channels_flat(weight: Tensor) -> Tensor:
    """The flattened (taps, channels): with odd channels, pairs cross taps."""
    return _even(weight.movedim(1, -1).flatten(1), 1)


def channels_in_tap(weight: Tensor) -> Tensor:
    """Input channels within one tap."""
    return _even(weight, 1).movedim(1, -1).flatten(1)


def _plain(node: Node) -> bool:
    op = op_of(node)
    return op is None or not op.transposed


IMAGES = Pairing(lambda node: fbgemm_depthwise(node) and len(shapes(node)[0]) == 4, taps,
                 even_with_vnni=True,
                 source="measured: taps (2i, 2i+1) in row-major kernel order share a 16-bit sum")
VOLUMES = Pairing(lambda node: fbgemm_depthwise(node) and len(shapes(node)[0]) == 5,
                  None, even_with_vnni=True,
                  source="not measured: any two taps may meet")
FBGEMM_DENSE = Pairing(lambda node: _plain(node) and not fbgemm_depthwise(node), channels_flat,
                       source="measured: neighbours of the flattened (kh, kw, channels)")
FBGEMM_TRANSPOSED = Pairing(lambda node: True, None,
                            source="not measured: any two weights of a channel may meet")
ONEDNN_DENSE = Pairing(lambda node: _plain(node) and not is_depthwise(node), channels_in_tap,
                       source="measured: channels (2i, 2i+1) within a tap; depthwise is exact")

NO_STRING = Limit("padding is not resolved to numbers",
                  lambda node: not isinstance(attribute(node, "padding"), str))
CONV = (constant_weight(), NO_STRING, nonempty_channels())
TRANSPOSED = (constant_weight(), nonempty_channels())
