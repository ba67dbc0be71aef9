"""An ONNX graph while it is written: calls and constants as data, names that nothing else has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

LONGEST = 128  # characters of a name


@dataclass(frozen=True)
class Call:
    """One ONNX node; its name is that of its first output."""

    op: str
    inputs: tuple[str, ...]  # an empty text for an operand that is left out
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Constant:
    """An initializer; with `nibbles`, its integers are kept in four bits each."""

    name: str
    tensor: Tensor
    nibbles: bool = False


@dataclass(frozen=True)
class Port:
    """An input or an output: its type, and its sizes, texts where they are free, if it has any."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...] | None


@dataclass
class Draft:
    """What becomes a file; `place` is the module path that new names begin with."""

    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    place: str = ""
    _counts: dict[str, int] = field(default_factory=dict)
    _small: dict[Any, str] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        """`wanted` in characters that every reader takes, with a number where it is taken."""
        base = re.sub(r"[^A-Za-z0-9_./-]", "_", wanted)[:LONGEST] or "value"
        found = base
        while found in self._counts:
            self._counts[base] += 1
            found = f"{base}_{self._counts[base]}"
        self._counts[found] = 0
        return found

    def calls_to(self, op: str, inputs: Iterable[str | None], outputs: int = 1,
                 **attributes: Any) -> tuple[str, ...]:
        """The names of what a new node gives; attributes that are None are left out."""
        operands = [name or "" for name in inputs]
        while operands and not operands[-1]:
            operands.pop()
        names = tuple(self.name(f"{self.place}/{op}" if self.place else op)
                      for _ in range(outputs))
        said = {key: value for key, value in attributes.items() if value is not None}
        self.calls.append(Call(op, tuple(operands), names, said))
        return names

    def call(self, op: str, *inputs: str | None, **attributes: Any) -> str:
        """The name of the one value that a new node gives."""
        return self.calls_to(op, inputs, **attributes)[0]

    def constant(self, wanted: str, tensor: Tensor, nibbles: bool = False) -> str:
        """The name of a tensor of the model's own."""
        name = self.name(wanted)
        self.constants.append(Constant(name, tensor.detach().cpu().contiguous(), nibbles))
        return name

    def small(self, value: Any, dtype: torch.dtype = torch.int64) -> str:
        """The name of a number or a list of numbers; equal ones are kept once."""
        tensor = torch.tensor(value, dtype=dtype)
        key = (dtype, tuple(tensor.shape), tuple(tensor.flatten().tolist()))
        if key not in self._small:
            self._small[key] = self.constant("constant", tensor)
        return self._small[key]
