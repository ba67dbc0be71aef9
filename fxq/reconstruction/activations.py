"""The values between two blocks for all calibration batches: in memory, and on disk beyond it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.reconstruction.blocks import Block
from fxq.reconstruction.simulation import Values

LIMIT = 256 << 20  # bytes in memory


class Store:
    """Keeps tensors in memory up to a limit, and in files of a private folder beyond it.

    A context manager: the folder, and what is in it, is gone when it is left in any way.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.held = limit, 0
        self._temporary = tempfile.TemporaryDirectory(prefix="fxq-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self._files: dict[int, Path | None] = {}  # by the address of what is kept

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    @property
    def spilled(self) -> int:
        """The bytes that lie on disk."""
        return sum(f.stat().st_size for f in self._files.values() if f)

    def keep(self, value: Any) -> Any:
        """The value, in memory of its own or mapped from a file."""
        if not isinstance(value, Tensor) or not value.numel() or value.data_ptr() in self._files:
            return value
        if self.held + value.nbytes <= self.limit:
            self.held += value.nbytes
            kept, file = value.contiguous(), None
        else:
            handle, name = tempfile.mkstemp(dir=self.folder)
            os.close(handle)
            kept = torch.from_file(name, shared=True, size=value.numel(), dtype=value.dtype)
            kept, file = kept.view(value.shape).copy_(value), Path(name)
        self._files[kept.data_ptr()] = file
        return kept

    def drop(self, value: Any) -> None:
        """Free what `keep` returned; nobody may read it any more."""
        if not isinstance(value, Tensor) or value.data_ptr() not in self._files:
            return
        file = self._files.pop(value.data_ptr())
        if file is None:
            self.held -= value.nbytes
        else:
            file.unlink()


class Activations:
    """The values that are still to be read, of each batch, on one way through the graph."""

    def __init__(self, store: Store, batches: Iterable[Values]) -> None:
        self.store, self.batches = store, list(batches)

    def run(self, block: Block, function: Callable[[Block, Values], Values]) -> list[Values]:
        """The block's outputs of each batch, kept."""
        return [{n: self.store.keep(v) for n, v in function(block, values).items()}
                for values in self.inputs_of(block)]

    def inputs_of(self, block: Block) -> list[Values]:
        """What the block reads of each batch."""
        return [{n: batch[n] for n in block.inputs} for batch in self.batches]

    def advance(self, outputs: list[Values], dead: Iterable[Node]) -> None:
        """Add a block's outputs, and let go of what no later block reads."""
        gone = list(dead)
        for batch, new in zip(self.batches, outputs, strict=True):
            batch |= new
            for node in gone:
                self.store.drop(batch.pop(node, None))
