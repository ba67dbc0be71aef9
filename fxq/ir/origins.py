"""Where a folded layer came from: the model's own tensors, so that training can undo the fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fxq.quantization.formats import QParams


@dataclass(frozen=True)
class Norm:
    """The tensors and numbers of one batch norm."""

    mean: Tensor
    var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    momentum: float


@dataclass
class Unfolded:
    """A layer (None for a norm that stands alone) and the batch norm that it took.

    No frozen value: erased nodes and copies of graphs share the record, and live in cycles until
    Python's collector comes by. What must be freed at once is freed here.
    """

    weight: Tensor | None
    bias: Tensor | None
    norm: Norm

    def let_layer_go(self) -> None:
        """Free the layer's tensors, where no training follows."""
        self.weight = self.bias = None


@dataclass(frozen=True)
class Dropout:
    """A dropout that inference does without: a module by its path, or a function and its p.

    `shared` when its input had other readers too, which must not see it.
    """

    path: str
    module: str = ""
    function: Callable[..., Any] | None = None
    options: tuple[tuple[str, Any], ...] = ()
    shared: bool = False


class Mark(nn.Module):
    """Passes a value on, and says in which format it was decided to be (None: in float)."""

    def __init__(self, format_: QParams | None) -> None:
        super().__init__()
        self.format = format_

    def forward(self, input: Tensor) -> Tensor:
        return input
