"""Rows of target tables: which call computes an operator, and the one that a node was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir.facts import ROW, info, is_on_integers
from fxq.ir.integers import is_integer_operator
from fxq.ir.rewriter import label
from fxq.kernels.calls import Call
from fxq.kernels.limits import Limit
from fxq.quantization.weights import Arrange

ELEMENTWISE_OPS = "elementwise"  # of a row: every operator of that kind without a row of its own


@dataclass(frozen=True)
class Pairing:
    """Which weights a kernel multiplies and adds in 16 bits, where 255·|w0+w1| may saturate.

    `when` selects the nodes that take this kernel path; `arrange` lays a weight out as (output
    channels, n) so that neighbours (2i, 2i+1) meet, and is None where the pairing is not known
    (any two may meet). Most kernels add in 32 bits on CPUs with VNNI, a few in 16 even there.
    """

    when: Callable[[Node], bool]
    arrange: Arrange
    limit: int = 128
    even_with_vnni: bool = False
    source: str = ""


@dataclass(frozen=True)
class Kernel:
    """One row: an operator, what it absorbs, the call that computes both, and its limits.

    A call is a name in `fxq.kernels.calls`, or a `Call` of one's own. Of several rows for one
    operator the first whose limits hold is taken. `engine_sensitive`: the result (or its speed)
    depends on torch's process-wide quantized engine at the time of the call. `engine` is the one
    that weights are packed for, where it is not the target's.
    """

    op: str
    call: str | Call
    absorbs: str = ""
    limits: tuple[Limit, ...] = ()
    pairings: tuple[Pairing, ...] = ()
    engine_sensitive: bool = False
    float_call: str | Call = ""  # integers in, float out: for values read in float only
    dynamic_call: str | Call = ""  # float in, float out; measures its input at each call
    engine: str = ""
    engine_required: bool = False  # it fails under any other engine of the process
    expand_groups: bool = False  # pack as one group, zeros between: where groups are slow

    def __str__(self) -> str:
        return f"{self.op}+{self.absorbs}" if self.absorbs else self.op


def keep_row(node: Node, row: Kernel | None) -> None:
    """Record the row that was chosen for a node; None where its target has none for it."""
    ROW.set(node, row)


def row_of(node: Node) -> Kernel | None:
    """The row that a node was given, or None where none fits and for nodes in float.

    Raises VerificationError for a node on integers for which nothing was chosen.
    """
    row = ROW.of(node)
    if isinstance(row, Kernel):
        return row
    if not ROW.is_set(node) and (is_on_integers(node) or is_integer_operator(node)):
        raise VerificationError(f"no kernel was chosen for {label(node)}", where=info(node).source,
                                fix="a pass that puts an operator on integers chooses its kernel: "
                                    "fxq.analysis.kernel_rows.choose_row(node, context.target)")
    return None
