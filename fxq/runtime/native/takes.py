"""Which nodes a program can compute, whatever sizes their inputs have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.ir.facts import info
from fxq.ir.ops import OPS
from fxq.ir.rewriter import constant_of, is_constant
from fxq.runtime.native.emit import EMIT
from fxq.runtime.native.plan import zero_of

_IMAGE = (2, 3, 4)  # dimensions of a value: batch, channels, and up to two of space


def takes(node: Any) -> bool:
    """A program has a step for the node: its function, its types and its options.

    Numbers that are computed at run time, like sizes, are no operands of programs.
    """
    if not isinstance(node, Node) or node.op != "call_function" or node.target not in EMIT:
        return False
    if node.target is arithmetic.linear_dynamic:
        return measures(node)
    if node.target in _PRODUCTS:
        return multiplies(node)
    condition = _CONDITIONS.get(node.target, _always)
    operands = [n for n in node.all_input_nodes if constant_of(n) is None]
    return all(_is_image(n, node.target) for n in (node, *operands)) and bool(condition(node))


def measures(node: Node) -> bool:
    """A layer of 8 bits that measures its input, a float tensor of any number of dimensions."""
    known = info(node.args[0])  # type: ignore[arg-type]
    return bool(known.shape) and known.dtype is torch.float32 and bool(_eight_bits(node)) and (
        0 <= int(node.kwargs["low"]) < int(node.kwargs["high"]) <= 255)  # type: ignore[arg-type]


def multiplies(node: Node) -> bool:
    """A product of matrices of bytes, in two to four dimensions."""
    if node.target not in _PRODUCTS or any(map(is_constant, node.all_input_nodes)):
        return False
    shapes = [info(n).shape for n in node.args]  # type: ignore[arg-type]
    types = {info(n).dtype for n in node.args}  # type: ignore[arg-type]
    return types == {torch.uint8} and info(node).dtype in (torch.uint8, torch.float32) and all(
        shape and 2 <= len(shape) <= 4 for shape in shapes)


_PRODUCTS = (arithmetic.matmul, arithmetic.matmul_float)


def _is_image(node: Node, function: Any) -> bool:
    """Up to two dimensions of space; integers, but for what crosses the border to floats."""
    known = info(node)
    types = (torch.uint8, torch.float32) if function in _BORDER else (torch.uint8,)
    return known.shape is not None and len(known.shape) in _IMAGE and known.dtype in types


def _always(_: Node) -> object:
    return True


_BORDER = (arithmetic.enter, arithmetic.leave, arithmetic.linear_float, arithmetic.average_float)


def _shape(node: Any) -> tuple[int, ...]:
    return info(node).shape or ()


def _eight_bits(node: Node) -> object:
    weight = constant_of(node.args[1])
    return weight is not None and weight.dtype is torch.int8


def _flat(node: Node) -> object:
    """It joins all channels and pixels of each image."""
    before, after = _shape(node.args[0]), _shape(node)
    return len(after) == 2 and after[0] == before[0] and node.kwargs.get("start_dim", 1) == 1


def _reshaped(node: Node) -> object:
    """The same, said with sizes: the batch, and all the rest."""
    shape: Any = node.kwargs["shape"]
    return _flat(node) and len(shape) == 2 and all(isinstance(size, int) for size in shape)


def _squeezed(node: Node) -> object:
    before, after = _shape(node.args[0]), _shape(node)
    return len(after) == 2 and after == before[:2] and set(before[2:]) == {1}


def _nearest(node: Node) -> object:
    return node.kwargs.get("mode", "nearest") == "nearest" and len(_shape(node)) == 4 and not any(
        isinstance(v, Node) for v in node.kwargs.values()) and not node.kwargs.get("antialias")


def _channels(node: Node) -> object:
    return node.kwargs.get("dim", 0) == 1 and not any(
        isinstance(node.kwargs.get(k), Node) for k in ("start", "length"))


def _joins_channels(node: Node) -> object:
    return node.kwargs.get("dim", 0) in (1, 1 - len(_shape(node)))


def _same_or_pixel(node: Node) -> object:
    """A program repeats the pixel of one operand, and no other dimension."""
    a, b = (_shape(n) for n in node.args)
    return len(a) == len(b) and a[:2] == b[:2]


def _zero_pad(node: Node) -> object:
    pad: Any = node.kwargs.get("pad", ())
    return (len(pad) in (2, 4) and all(isinstance(p, int) for p in pad)
            and len(pad) // 2 <= len(_shape(node)) - 2
            and node.kwargs.get("mode", "constant") == "constant"
            and node.kwargs.get("value") == zero_of(node))


def _pools_images(node: Node) -> object:
    return len(_shape(node)) == (3 if node.target is arithmetic.max_pool1d else 4)


def _averages_space(node: Node) -> object:
    """Over windows, or over all of the space."""
    dims: Any = node.kwargs.get("dims")
    rank = len(_shape(node.args[0]))
    if rank == 2 or node.kwargs.get("divisor_override"):
        return False
    return dims is None or sorted(d % rank for d in dims) == list(range(2, rank))


def _whole_image(node: Node) -> object:
    return len(_shape(node.args[0])) == 2


_MOVES: Mapping[str, Callable[[Node], object]] = {
    "flatten": _flat, "reshape": _reshaped, "squeeze": _squeezed, "narrow": _channels,
    "pad": _zero_pad}
_CONDITIONS: Mapping[Any, Callable[[Node], object]] = {
    arithmetic.conv: _eight_bits, arithmetic.conv_add: _eight_bits,
    arithmetic.conv_transpose: _eight_bits,
    arithmetic.linear: _whole_image, arithmetic.linear_float: _whole_image,
    arithmetic.add: _same_or_pixel, arithmetic.multiply: _same_or_pixel,
    arithmetic.concatenate: _joins_channels, arithmetic.average: _averages_space,
    arithmetic.average_float: _averages_space,
    arithmetic.max_pool1d: _pools_images, arithmetic.max_pool2d: _pools_images,
    arithmetic.nearest: _nearest,
    **{OPS[name].call: condition for name, condition in _MOVES.items()}}
