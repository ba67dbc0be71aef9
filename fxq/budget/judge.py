"""Points of top-1 that are lost: measured on images, or predicted from noise of the margins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxq.frontend.batches import Transform
from fxq.profiler.chance import LEVEL, guessing_probability
from fxq.profiler.sensitivity import chance_of_flip

_MOST = 1e12  # variance of margins beyond which every answer is noise


@dataclass(frozen=True)
class Judge:
    """Float's logits for all images, and their classes where they are known.

    Without labels, a point is lost for each hundredth of the images whose class is not float's.
    """

    logits: Tensor
    labels: Tensor | None = None
    doubt: str = ""  # why labels that were given do not count

    @property
    def how(self) -> str:
        """What a drop means here."""
        count = len(self.logits)
        if self.labels is not None:
            return f"top-1 by the labels of {count} calibration images"
        reason = self.doubt or "there are no labels"
        return f"agreement with float on {count} calibration images: {reason}"

    def drop(self, logits: Tensor) -> float:
        """Percentage points that these logits lose."""
        found, exact = logits.argmax(1), self.logits.argmax(1)
        if self.labels is None:
            return 100 * float((found != exact).double().mean())
        lost = (exact == self.labels).double() - (found == self.labels).double()
        return 100 * float(lost.mean())

    def predicted(self, variance: float) -> float:
        """The expected drop when margins move by noise of this variance."""
        best = self.logits.topk(2, 1)
        margins = (best.values[:, 0] - best.values[:, 1]).double()
        chance = chance_of_flip(margins, variance)
        if self.labels is None:
            return 100 * float(chance.mean())
        first, second = ((best.indices[:, i] == self.labels).double() for i in (0, 1))
        return 100 * float((chance * (first - second)).mean())

    def variance_for(self, drop: float) -> float:
        """The most noise whose expected drop is within `drop`, by bisection."""
        low, high = 1e-12, _MOST
        if self.predicted(high) <= drop:
            return high
        for _ in range(120):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.predicted(middle) <= drop else (low, middle)
        return low


def judge_of(logits: Tensor, labels: Tensor | None) -> Judge | None:
    """None for outputs that are no classes. Labels that guessing would fit as well do not count."""
    if logits.dim() != 2 or logits.shape[1] < 2:
        return None
    if labels is None:
        return Judge(logits)
    if bool(((labels < 0) | (labels >= logits.shape[1])).any()):
        return Judge(logits, doubt="the labels are no classes of the model")
    hits = int((logits.argmax(1) == labels).sum())
    chance = guessing_probability(hits, torch.bincount(labels).tolist())
    if chance > LEVEL:
        return Judge(logits, doubt=f"by the labels float is right on {hits} of {len(labels)} "
                                   "only, which guessing reaches")
    return Judge(logits, labels)


def labels_of(items: Iterable[Any], transform: Transform | None, inputs: int,
              sizes: Sequence[int]) -> Tensor | None:
    """The class numbers of all images, where each batch is (input, label); else None."""
    found = []
    for item, size in zip(items, sizes, strict=True):
        pair = transform(item) if transform else item
        if not isinstance(pair, tuple | list) or len(pair) != 2 or inputs != 1:
            return None
        labels = torch.as_tensor(pair[1])
        if labels.is_floating_point() or labels.shape != (size,):
            return None
        found.append(labels.long())
    return torch.cat(found) if found else None


def logits_of(function: Callable[..., Any], flat: Iterable[Sequence[Tensor]]) -> Tensor:
    """The first float output for all batches."""
    with torch.no_grad():
        return torch.cat([next(v for v in function(*x) if isinstance(v, Tensor)
                               and v.is_floating_point()) for x in flat])
