"""The kinds of argument that a call of a file may take; everything else is refused.

A value is a literal of the file, a node, or what a node gave when the graph was run on shapes. A
node that gives a tensor is one; what any other node gives is known only when the graph is run, so
until then it may stand for anything but a tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.ir.facts import info

LARGEST = 2**31  # of whole numbers; indices may be as large as Python's own "to the end"
WIDEST = 2**20  # of strides, kernels and their kind, which kernels hold in 32 bits
LONGEST = 64  # of lists of numbers
MOST_TENSORS = 4096  # of lists of tensors
_EQUATION = re.compile(r"[A-Za-z. ]{1,60}(,[A-Za-z. ]{1,60}){0,2}(->[A-Za-z. ]{0,60})?")

Test = Callable[[Any], bool]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, Node) and info(value).shape is not None)


def _is_unknown(value: Any) -> bool:
    return isinstance(value, Node) and info(value).shape is None


def _is_int(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST


def _is_scale(value: Any) -> bool:
    limits = torch.finfo(torch.float32)
    return type(value) is float and limits.tiny <= value <= limits.max


def _is_number(value: Any) -> bool:
    return _is_int(value) or type(value) in (float, bool)


def _from(low: int, high: int = LARGEST) -> Test:
    return lambda value: type(value) is int and low <= value <= high


def _many(test: Test) -> Test:
    """A short list whose entries pass, or are known later."""
    return lambda value: isinstance(value, tuple | list) and len(value) <= LONGEST and all(
        _is_unknown(v) or test(v) for v in value)


def _one_or_many(test: Test) -> Test:
    several = _many(test)
    return lambda value: test(value) or several(value)


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= LARGEST


def _are_tensors(value: Any) -> bool:
    return isinstance(value, tuple | list) and 0 < len(value) <= MOST_TENSORS and all(
        map(_is_tensor, value))


def _is_index(value: Any, depth: int = 0) -> bool:
    if isinstance(value, slice):
        return all(_is_unknown(v) or v is None or _is_place(v)
                   for v in (value.start, value.stop, value.step))
    if isinstance(value, tuple | list):
        return depth < 3 and len(value) <= LONGEST and all(_is_index(v, depth + 1) for v in value)
    return value is None or value is Ellipsis or type(value) is bool or _is_place(value) or (
        _is_tensor(value) or _is_unknown(value))


def _is_place(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_container(value: Any) -> bool:
    return _is_tensor(value) or isinstance(value, tuple | list)


KINDS: Mapping[str, Test] = {
    "T": _is_tensor, "tensors": _are_tensors,
    "value": lambda v: _is_tensor(v) or _is_number(v), "number": _is_number,
    "scale": _is_scale,
    "factors": _one_or_many(_is_factor), "int": _is_int, "positive": _from(1),
    "ints": _one_or_many(_is_int), "naturals": _one_or_many(_from(0)),
    "step": _from(1, WIDEST), "steps": _one_or_many(_from(1, WIDEST)),
    "pads": _one_or_many(_from(0, WIDEST)), "list": _many(_is_int),
    "sizes": _one_or_many(lambda v: v is None or _from(0)(v)),
    "none": lambda v: False,  # "none?" takes None alone
    "bool": lambda v: type(v) is bool, "false": lambda v: v is False,
    "dtype": lambda v: isinstance(v, torch.dtype),
    "index": _is_index, "container": _is_container,
    "equation": lambda v: isinstance(v, str) and _EQUATION.fullmatch(v) is not None}


def test_of(kind: str) -> Test:
    """The test behind a kind of the table: `ints`, `int?` (or None), `'same'valid'` (a text),
    `naturals+'same'` (either)."""
    optional, kind = kind.endswith("?"), kind.removesuffix("?")
    texts = tuple(part.strip("'") for part in kind.split("+") if part.startswith("'"))
    tests = [KINDS[part] for part in kind.split("+") if not part.startswith("'")]

    def holds(value: Any) -> bool:
        if value is None:
            return optional
        return _is_unknown(value) or (isinstance(value, str) and value in texts) or any(
            test(value) for test in tests)

    return holds
