"""Where a folded layer came from: the model's own tensors, so that training can undo the fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from fxq.errors import TraceError
from fxq.quantization.formats import QParams

_KEY = "fxq.unfolded"


@dataclass(frozen=True)
class Norm:
    """The tensors and numbers of one batch norm."""

    mean: Tensor
    var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    momentum: float


@dataclass(frozen=True)
class Unfolded:
    """A layer (None for a norm that stands alone) and the batch norm that it took."""

    weight: Tensor | None
    bias: Tensor | None
    norm: Norm


def unfolded(node: Node) -> Unfolded | None:
    """What a node was before a batch norm was folded into it, or None."""
    known = node.meta.get(_KEY)
    return known if isinstance(known, Unfolded) else None


def set_unfolded(node: Node, value: Unfolded | None) -> None:
    """Record what a fold took away."""
    node.meta[_KEY] = value


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


_DROPOUTS = "fxq.dropouts"
CARRIED = (_DROPOUTS, "fxq.given")  # what a node that replaces another inherits


def dropouts_behind(node: Node) -> tuple[Dropout, ...]:
    """The dropouts that training applies to a node's value, in order."""
    known: tuple[Dropout, ...] = node.meta.get(_DROPOUTS, ())
    return known


def move_dropouts(old: Node, new: Node) -> None:
    """What follows a value now follows its rounded form."""
    if _DROPOUTS in old.meta:
        new.meta[_DROPOUTS] = old.meta.pop(_DROPOUTS)


def remember_dropout(source: Node, dropout: Dropout) -> None:
    """Record a dropout of this value that inference does without."""
    source.meta[_DROPOUTS] = (*dropouts_behind(source), dropout)


_GIVEN = CARRIED[1]


class Mark(nn.Module):
    """Passes a value on, and says in which format it was decided to be (None: in float)."""

    def __init__(self, format_: QParams | None) -> None:
        super().__init__()
        self.format = format_

    def forward(self, input: Tensor) -> Tensor:
        return input


def set_mark(node: Node, mark: Mark) -> None:
    """Record the format that a value was given."""
    if mark.format is not None:
        node.meta[_GIVEN] = mark.format


def mark_of(node: Node) -> QParams | None:
    """The format that a Mark gave to a node's value, or None."""
    known = node.meta.get(_GIVEN)
    return known if isinstance(known, QParams) else None


_UNTRACEABLE = "fxq.untraceable"


def set_untraceable(node: Node, error: TraceError) -> None:
    """Record why a module is called as it is, instead of being looked into."""
    advice = f"; {error.fix}" if error.fix else ""
    node.meta[_UNTRACEABLE] = f"{error.why} at {error.where}{advice}"


def why_untraceable(node: Node) -> str:
    """Why the node calls a module of the user's own code, or an empty text."""
    return str(node.meta.get(_UNTRACEABLE, ""))
