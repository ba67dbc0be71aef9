"""One operator of a shape program: its operands are places of earlier values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fxq.artifact.meta_layers import made
from fxq.artifact.meta_shapes import RULES
from fxq.errors import FxqError
from fxq.runtime.shape_rules import MORE, VIEWS, attention

Shape = tuple[int, ...]


class Refused(FxqError):
    """The float model refuses such shapes: at which line, and why."""


UNKNOWN = object()  # a value whose shape only the call itself can tell
NONE: Mapping[int, Shape] = {}


@dataclass(frozen=True)
class Ref:
    """An earlier value of the program, by its place."""

    place: int


@dataclass(frozen=True)
class Step:
    """One operator: its rule, its function, and its operands as places of earlier values.

    `parts` is how many parts a splitter must give, when the graph reads all of them; `channels`
    how many a part of the channels was cut from.
    """

    place: int
    call: Callable[..., Any] | None  # None: the user's own code, which is never run for shapes
    args: Any
    kwargs: dict[str, Any]
    name: str
    where: str
    parts: int | None = None
    channels: int | None = None

    def result(self, values: Sequence[Any]) -> Any:
        """The shape-only result; raises Refused where float would raise."""
        operands = [fill(a, values) for a in self.args]
        kwargs = {k: fill(v, values) for k, v in self.kwargs.items()}
        if self.call is None or any_unknown(operands) or any_unknown(list(kwargs.values())):
            return UNKNOWN
        try:
            made_ = _result(self.call, operands, kwargs)
            self._check(made_, operands)
        except Exception as error:  # whatever torch raises for these shapes
            text = str(error).strip().split("\n")[0][:300]
            raise Refused("the shapes do not fit", where=self.where,
                          why=f"{self.name}: {text}") from error
        return made_

    def _check(self, result: Any, operands: list[Any]) -> None:
        if self.parts is not None and len(result) != self.parts:
            raise ValueError(f"{len(result)} parts, and the model reads {self.parts}")
        if self.channels is not None and operands[0].shape[1] != self.channels:
            raise ValueError(f"{operands[0].shape[1]} channels, and the model splits "
                             f"{self.channels}")


def fill(value: Any, values: Sequence[Any]) -> Any:
    """The operand, with the values that its references stand for."""
    kind = type(value)
    if kind is Ref:
        return values[value.place]
    if kind is tuple or kind is list:
        return kind([fill(v, values) for v in value])
    if kind is slice:
        return slice(*(fill(v, values) for v in (value.start, value.stop, value.step)))
    return value


def any_unknown(values: Any) -> bool:
    """One of the operands, lists of operands included, is not known yet."""
    return any(v is UNKNOWN or (isinstance(v, list | tuple) and any_unknown(v)) for v in values)


def _map(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`change` on every tensor of a nested value."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, list | tuple):
        return tuple(_map(v, change) for v in value) if isinstance(value, tuple) else [
            _map(v, change) for v in value]
    return value


def _result(call: Callable[..., Any], operands: list[Any], kwargs: dict[str, Any]) -> Any:
    rule: Callable[..., Any] | None = MORE.get(call, RULES.get(call))
    if type(call) is nn.MultiheadAttention:
        rule = partial(attention, call)
    known = rule(*operands, **kwargs) if rule else None
    if known is not None:
        return known
    if call in VIEWS:
        return call(*operands, **kwargs)
    zeros = [_map(v, _zeros) for v in operands]
    result = call(*zeros, **{k: _map(v, _zeros) for k, v in kwargs.items()})
    return _map(result, lambda t: made(t.shape, t.dtype))


def _zeros(value: Tensor) -> Tensor:
    return torch.zeros(value.shape, dtype=value.dtype, device="cpu") if value.is_meta else value
