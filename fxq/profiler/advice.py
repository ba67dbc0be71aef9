"""What to do about a profile: exact nodes, a predicted effect, and a second measurement of it."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fxq.ir.ops import OPS
from fxq.kernels.calls import from_quantized, quantized_dtype, to_quantized
from fxq.profiler.rows import NodeProfile
from fxq.quantization.formats import QParams
from fxq.runtime.python import build
from fxq.system.timing import Spread, turns

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel

Recompile = Callable[[Mapping[str, str]], "CompiledModel"]
CastTime = Callable[[str, tuple[int, ...]], Spread]
_INTEGERS = ("uint8", "int8")
MOST = 3  # proposals: each is compiled and measured when that is asked for


@dataclass(frozen=True)
class Proposal:
    """One node that float would run faster, its casts included; microseconds saved by a run.

    `predicted_us` follows from this profile; `remeasured_us` is the median difference, with its
    95 % interval, between the model and one that was compiled with the override, turn by turn.
    """

    node: str
    overrides: dict[str, str]
    predicted_us: Spread
    remeasured_us: Spread | None = None

    @property
    def confirmed(self) -> bool | None:
        """The second measurement agrees that a run gets faster; None without one."""
        return None if self.remeasured_us is None else self.remeasured_us.low > 0

    def __str__(self) -> str:
        predicted = f"predicted to save {self.predicted_us.shown(1)} µs of a run"
        if self.remeasured_us is None:
            return (f"{self.node}: overrides={self.overrides} is {predicted}; NOT CONFIRMED, it "
                    "was not measured (profile with recompile=, or --confirm)")
        found = f"re-measured {self.remeasured_us.shown(1)} µs"
        verdict = "confirmed" if self.confirmed else "NOT CONFIRMED, so leave it as it is"
        return f"{self.node}: overrides={self.overrides} was {predicted}, {found}: {verdict}"


def proposals(rows: Sequence[NodeProfile], noise_us: float,
              cast_time: CastTime) -> tuple[Proposal, ...]:
    """The nodes that lose against float by more than their casts and the noise of a run."""
    found = []
    for position, row in enumerate(rows):
        pattern = exact_pattern(row, rows)
        if not row.slower or row.cast or pattern is None or not _on_integers(row, rows):
            continue
        predicted = net_effect(position, rows, cast_time)
        if predicted.low > 0 and predicted.middle > noise_us:
            found.append(Proposal(row.name, {pattern: "fp32"}, predicted))
    return tuple(sorted(found, key=lambda p: -p.predicted_us.middle)[:MOST])


def exact_pattern(row: NodeProfile, rows: Sequence[NodeProfile]) -> str | None:
    """The override that matches this node and no other, or None.

    A function in the forward of a block has the path of the block, which covers all that is inside.
    """
    covered = [r for r in rows if not r.cast and f"{r.path}.".startswith(f"{row.path}.")]
    if not row.path or row.path in OPS or len(covered) != 1:
        return None
    return glob.escape(row.path)


def net_effect(position: int, rows: Sequence[NodeProfile], cast_time: CastTime) -> Spread:
    """Microseconds that a run would save with this node in float.

    What it loses against float, plus casts that fall away, less casts that are then needed. The
    ends of the interval assume the worst of every part.
    """
    row, readers = rows[position], _readers(rows)
    effect = row.spreads["lost_us"]
    for source in row.inputs:
        if rows[source].dtype not in _INTEGERS:
            continue
        if rows[source].cast and readers[source] == [position]:
            effect = _plus(effect, rows[source].spreads["us"])
        else:
            effect = _less(effect, cast_time("dequantize", rows[source].shape))
    if row.dtype not in _INTEGERS:
        return effect
    if all(rows[r].cast for r in readers[position]):
        for reader in readers[position]:
            effect = _plus(effect, rows[reader].spreads["us"])
        return effect
    return _less(effect, cast_time("quantize", row.shape))


_FORMAT = QParams(0.02, 10)


def measured_cast(kind: str, shape: tuple[int, ...]) -> Spread:
    """Microseconds of one cast of this shape by torch, measured."""
    values = torch.zeros(shape)
    arguments = (0.02, 10, quantized_dtype(_FORMAT))
    integers = to_quantized(values, *arguments)
    call = (lambda: from_quantized(integers)) if kind == "dequantize" else (
        lambda: to_quantized(values, *arguments))
    samples, = turns([call], 40, budget=0.2, least=5)
    return Spread.of(samples, 1e6)


def confirmed(found: Sequence[Proposal], model: CompiledModel, inputs: Sequence[Tensor],
              recompile: Recompile, rounds: int, budget: float) -> tuple[Proposal, ...]:
    """Each proposal, compiled and measured beside the model as it is, both in the same rounds."""
    return tuple(replace(p, remeasured_us=saved(
        _runner(model, inputs), _runner(recompile(p.overrides), inputs), rounds, budget))
        for p in found)


def saved(before: Callable[[], Any], after: Callable[[], Any], rounds: int,
          budget: float, **options: Any) -> Spread:
    """Microseconds that `after` saves: the median over rounds, with its 95 % interval."""
    for run in (before, after):
        run()
    with torch.no_grad():
        slow, fast = turns([before, after], rounds, budget=budget, least=12, **options)
    return Spread.of_median(np.subtract(slow, fast), 1e6)


def _runner(model: CompiledModel, inputs: Sequence[Tensor]) -> Callable[[], Any]:
    native = model.report.runtime == "native"  # which generated Python does not stand for
    function = model._function if native else build(model.graph_module)
    return lambda: function(*inputs)


def _on_integers(row: NodeProfile, rows: Sequence[NodeProfile]) -> bool:
    return row.dtype in _INTEGERS or any(rows[i].dtype in _INTEGERS for i in row.inputs)


def _readers(rows: Sequence[NodeProfile]) -> list[list[int]]:
    return [[i for i, r in enumerate(rows) if p in r.inputs] for p in range(len(rows))]


def _plus(a: Spread, b: Spread) -> Spread:
    return Spread(a.low + b.low, a.middle + b.middle, a.high + b.high)


def _less(a: Spread, b: Spread) -> Spread:
    return Spread(a.low - b.high, a.middle - b.middle, a.high - b.low)
