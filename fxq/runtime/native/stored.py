"""A file's program: runs for inputs like the example's, and leaves all others to its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fxq.errors import ArtifactError, FxqError
from fxq.kernels.native.assembly import Assembly, key_of, outside
from fxq.runtime.executable import Entry
from fxq.runtime.native.linked import Linked, layer_of

if TYPE_CHECKING:
    from fxq.runtime.shape_program import Outcome


def link_stored(program: Assembly) -> Linked:
    """The program on this machine; raises ArtifactError for one that is none."""
    try:
        linked = Linked(program, [layer_of(row, borrow=True) for row in program.layers])
    except FxqError as error:
        raise ArtifactError("the program of this file cannot run", why=error.why) from error
    if not program.is_whole:
        raise ArtifactError("the program of this file cannot run",
                            why="it does not use all of an input or output")
    if not program.keeps_inputs:
        raise ArtifactError("the program of this file cannot run",
                            why="it writes into an input")
    return linked


class Stored:
    """Calls of a stored program; `rest` gives the Entry for all other inputs.

    Its inputs are plain tensors, shaped like the example and without gaps: what float takes of
    such was settled when the file was written.
    """

    def __init__(self, program: Assembly, linked: Linked, rest: Callable[[], Entry]) -> None:
        self.linked, self.rest = linked, rest
        self._shapes = tuple((torch.Size(about.shape), about.dtype, torch.strided,
                              torch.device("cpu"), Tensor) for about in program.inputs)
        self._key = tuple((torch.Size(about.shape), outside(about.shape, 4).strides)
                          for about in program.inputs)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if key_of(tensors) == self._key:
            return self.linked(*tensors)
        return self.rest().function(*tensors)  # type: ignore[no-any-return]

    def takes(self, inputs: Sequence[Tensor]) -> Outcome | None:
        """What an InputGuard says."""
        try:
            known = tuple([(x.shape, x.dtype, x.layout, x.device, type(x)) for x in inputs])
        except RuntimeError:  # nested tensors have no shape
            known = ()
        return None if known == self._shapes else self.rest().takes(inputs)

    def entry(self) -> Entry:
        """What a compiled model calls."""
        return Entry(function=self, takes=self.takes, bare=True)


__all__ = ["Stored", "link_stored"]
