"""How a model is called: flat tensors from its arguments, its own outputs from flat ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fxq.frontend.nests import LEAF, Nest
from fxq.frontend.signature import Signature

PLACE = object()


@dataclass(frozen=True)
class Convention:
    """The signature of a model, and how to rebuild its outputs; it knows no graph."""

    signature: Signature
    rebuild_output: Nest
    fixed_outputs: tuple[Any, ...]  # one entry per output leaf; PLACE where the graph gives it

    @property
    def single(self) -> bool:
        """The model returns one tensor, in no structure."""
        return self.rebuild_output == LEAF and self.fixed_outputs == (PLACE,)

    def outputs(self, flat: Iterator[Any]) -> Any:
        """The model's own output structure, from the graph's flat outputs."""
        leaves = [next(flat) if v is PLACE else v for v in self.fixed_outputs]
        return self.rebuild_output(iter(leaves))
