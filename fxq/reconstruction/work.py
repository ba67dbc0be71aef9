"""What a step of the reconstruction works on: one block, and its values for all batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fxq.ir.facts import info
from fxq.reconstruction.activations import LIMIT
from fxq.reconstruction.blocks import Block
from fxq.reconstruction.simulation import Simulation, Values, Weights

ELEMENTS = 1 << 21  # of the largest value in a block, for all images of one step of learning
FEWEST, MOST = 4, 32  # images


@dataclass(frozen=True)
class Learning:
    """How to learn from batches.

    `checkpoints` is a folder that keeps a file of each finished block: the same work, started
    again, goes on behind the last one. `memory` bounds the values between two blocks, in bytes;
    what is beyond it goes to temporary files. `progress` is called with the number of finished
    blocks and of all.
    """

    iterations: int = 100  # of each block
    seed: int = 0
    checkpoints: Path | None = None
    memory: int = LIMIT
    progress: Callable[[int, int], None] | None = None


DEFAULT = Learning()


@dataclass(frozen=True)
class Work:
    """One block: its inputs in float and as compiled, and its outputs in float, of each batch.

    The inputs are not rounded yet: `simulation.rounded` does that, by their formats.
    """

    block: Block
    simulation: Simulation
    exact: list[Values]
    rounded: list[Values]
    targets: list[Values]
    index: int = 0  # of the block
    learning: Learning = DEFAULT

    def error(self, weights: Weights | None = None) -> float:
        """The block's error over all batches, as it is decided, or with other weights."""
        with torch.no_grad():
            errors = [float(error_of(self.simulation.rounded(self.block, inputs, None, weights), t))
                      for inputs, t in zip(self.rounded, self.targets, strict=True)]
        return sum(errors) / len(errors)

    def samples(self, count: int) -> Iterator[tuple[Values, Values, Values]]:
        """(exact, rounded, targets) of `count` random handfuls of images, the same for each seed.

        A handful is one whole batch where some value of the block has no row for each image.
        """
        random = torch.Generator().manual_seed(self.learning.seed * 65537 + self.index)
        groups = self._groups()
        sizes = torch.tensor([len(rows) for rows in groups], dtype=torch.float)
        for _ in range(count):
            rows = groups[int(torch.multinomial(sizes, 1, generator=random))]
            some = torch.randperm(len(rows), generator=random)[:self._handful()]
            chosen = [rows[i] for i in some.tolist()]
            exact, rounded, targets = (
                _take(values, chosen) for values in (self.exact, self.rounded, self.targets))
            yield exact, rounded, targets

    def _groups(self) -> list[list[tuple[int, int]]]:
        """(batch, row) of all images, those of one shape together; row -1 is a whole batch."""
        groups: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        for index, (inputs, outputs) in enumerate(zip(self.exact, self.targets, strict=True)):
            values = [*inputs.values(), *outputs.values()]
            heads = {v.shape[:1] if isinstance(v, Tensor) else None for v in values}
            if len(heads) != 1 or heads & {None, ()}:
                groups[(index,)] = [(index, -1)]
                continue
            rows = ((index, row) for row in range(len(values[0])))
            groups.setdefault(tuple(v.shape[1:] for v in values), []).extend(rows)
        return list(groups.values())

    def _handful(self) -> int:
        """So many images that the largest value in the block has about ELEMENTS numbers."""
        nodes = (*self.block.inputs, *self.block.nodes)
        each = max(math.prod((info(n).shape or ())[1:]) for n in nodes)
        return min(max(ELEMENTS // max(each, 1), FEWEST), MOST)


def error_of(outputs: Values, targets: Values) -> Tensor:
    """The mean squared error of a block's outputs."""
    return sum((((outputs[n] - t) ** 2).mean() for n, t in targets.items()
                if isinstance(t, Tensor) and t.is_floating_point()), torch.zeros(()))


def _take(batches: list[Values], chosen: list[tuple[int, int]]) -> Values:
    if chosen[0][1] < 0:
        return batches[chosen[0][0]]
    return {n: torch.stack([batches[b][n][row] for b, row in chosen]) for n in batches[0]}
