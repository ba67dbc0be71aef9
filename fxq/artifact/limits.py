"""How much a graph from a file may make: sizes of results, of lists, and of numbers.

The graph runs on torch's meta device, where nothing is allocated, and every tensor that an
operator makes on its way is looked at: what is too large there is never made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils._python_dispatch import TorchDispatchMode

from fxq.artifact.allow_list import CALLS
from fxq.artifact.bounds import LARGEST_RATIO, LARGEST_RESULT, LARGEST_SUM, most_bytes
from fxq.artifact.kinds import LARGEST, LONGEST
from fxq.artifact.kinds import MOST_TENSORS as MOST_PARTS

MOST_ASKED = 4096  # nodes whose shapes only torch itself knows, a millisecond each


def byte_size(value: Any) -> int:
    """Bytes of all tensors in a value; a view counts as if it were a tensor of its own."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(byte_size, value)) if isinstance(value, tuple | list) else 0


class Limited(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses (ValueError) what is larger than a result of this graph may be."""

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most_bytes(max(map(byte_size, inputs), default=0))
        self.asked = 0

    def ask(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What torch says that a function makes."""
        self.asked += 1
        if self.asked > MOST_ASKED:
            raise ValueError(f"more than {MOST_ASKED} calls whose shapes have no rule here")
        with self:
            return function(*args, **kwargs)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        return self.checked(function(*args, **(kwargs or {})))

    def checked(self, value: Any) -> Any:
        """The value again, if it may be so large."""
        if byte_size(value) > self.most:
            raise ValueError(f"a result of {byte_size(value)} bytes; the most is {self.most}")
        _check_numbers(value)
        return value


def _check_numbers(value: Any) -> None:
    if type(value) is int and abs(value) > LARGEST:
        raise ValueError("a computed number is larger than 2^31")
    if isinstance(value, tuple | list) and not (value and isinstance(value[0], Tensor)):
        if len(value) > LONGEST:
            raise ValueError(f"a list of {len(value)} numbers")
        for entry in value:
            _check_numbers(entry)


def check_alive(dead: Mapping[Node, list[Node]], values: Mapping[Node, Any], most: int) -> None:
    """Raise ValueError when the values that a run holds at once are too many bytes.

    `dead` names, in the order of the run, each node and the values that nobody reads after it.
    """
    alive = 0
    for node, gone in dead.items():
        alive += 0 if node.op == "get_attr" else byte_size(values.get(node))
        if alive > LARGEST_SUM * most:
            raise ValueError(f"values of {alive} bytes at once; the most is {LARGEST_SUM * most}")
        alive -= sum(byte_size(values[n]) for n in gone)


def _power(base: Any, exponent: Any) -> None:
    """Before it is computed: an integer power may take all memory."""
    if type(base) is int and type(exponent) is int and exponent > 0 and (
            exponent * math.log2(abs(base) or 1) > 31):
        raise ValueError("a computed number is larger than 2^31")


def _parts(count: Callable[..., float]) -> Callable[..., None]:
    def check(*args: Any, **kwargs: Any) -> None:
        if count(*args, **kwargs) > MOST_PARTS:
            raise ValueError(f"more than {MOST_PARTS} parts")

    return check


def _sections(input: Tensor, split_size: Any = None, dim: int = 0, *,
              split_size_or_sections: Any = None) -> float:
    wanted = split_size if split_size is not None else split_size_or_sections
    return 0 if isinstance(wanted, tuple | list) else input.shape[dim] / max(wanted, 1)


_BEFORE: Mapping[Any, Callable[..., None]] = {
    CALLS["operator.pow"]: _power,
    **dict.fromkeys((torch.split, "split"), _parts(_sections)),
    **dict.fromkeys((torch.unbind, "unbind"), _parts(lambda input, dim=0: input.shape[dim])),
    **dict.fromkeys((torch.chunk, "chunk"), _parts(lambda input, chunks, dim=0: chunks))}


def check_before(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError for what must not even be computed on shapes."""
    check = _BEFORE.get(target)
    if check is not None:
        check(*args, **kwargs)


__all__ = ["LARGEST_RATIO", "LARGEST_RESULT", "LARGEST_SUM", "Limited", "byte_size",
           "check_alive", "check_before"]
