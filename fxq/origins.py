"""Where a folded layer came from: the model's own tensors, so that training can undo the fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

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
    return node.meta.get(_DROPOUTS, ())


def move_dropouts(old: Node, new: Node) -> None:
    """What follows a value now follows its rounded form."""
    if _DROPOUTS in old.meta:
        new.meta[_DROPOUTS] = old.meta.pop(_DROPOUTS)


def remember_dropout(source: Node, dropout: Dropout) -> None:
    source.meta[_DROPOUTS] = (*dropouts_behind(source), dropout)
