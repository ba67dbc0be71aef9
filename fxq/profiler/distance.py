"""How far a compiled model's outputs are from float's, and what to say where that is far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.fx import Node

from fxq.errors import FxqError
from fxq.ir.facts import info
from fxq.ir.printer import target_name
from fxq.ir.rewriter import label
from fxq.profiler.compare import fused_graph
from fxq.profiler.rows import is_cast
from fxq.profiler.values import paired_values
from fxq.quantization.sqnr import sqnr, sqnr_of_all

POOR = 15.0  # dB; in our measurements on real images (docs/benchmarks) predictions change below it
_EXACT = 40.0  # dB, better than which no value of 8 bits is: what a node starts from at most
_WORST = 3


@dataclass(frozen=True)
class Distance:
    """Outputs against float: dB (None where it means nothing), and one sentence on what it hides.

    Integers, empty outputs and constant ones have no meaningful ratio of signal to noise.
    """

    sqnr: float | None
    note: str = ""

    @property
    def poor(self) -> bool:
        return self.sqnr is not None and not self.sqnr >= POOR


def distance_of(exact: Sequence[Any], given: Sequence[Any]) -> Distance:
    """The distance of flat outputs from the float model's; only tensors count."""
    pairs = [(a, b) for a, b in zip(exact, given, strict=True) if isinstance(a, Tensor)]
    exact, given = [a for a, _ in pairs], [b for _, b in pairs]
    floats = [a for a in exact if a.is_floating_point() and a.numel()]
    if not floats:
        return Distance(None, _without_floats(exact, given))
    quality: float | None = sqnr_of_all(exact, given)
    notes = []
    if not any(bool(a.any()) for a in floats):
        notes.append("the float outputs for the example inputs are all zero" + (
            "" if quality == math.inf else ", and those of the compiled model are not"))
        quality = quality if quality == math.inf else None
    elif all(a.numel() > 1 and bool((a == a.flatten()[0]).all()) for a in floats):
        notes.append("the outputs for the example inputs are constant, so that their SQNR does not "
                     "say how well differences are kept")
    if changed := _changed_integers(exact, given):
        notes.append(changed)
    return Distance(quality, "; ".join(notes))


def _without_floats(exact: Sequence[Tensor], given: Sequence[Tensor]) -> str:
    if not any(a.numel() for a in exact):
        return "the outputs for the example inputs are empty"
    return _changed_integers(exact, given) or (
        "the outputs are integers, and equal to the float model's for the example inputs")


def _changed_integers(exact: Sequence[Tensor], given: Sequence[Tensor]) -> str:
    pairs = [(a, b) for a, b in zip(exact, given, strict=True) if not a.is_floating_point()]
    total = sum(a.numel() for a, _ in pairs)
    changed = sum(int((a != b).sum()) if a.shape == b.shape else a.numel() for a, b in pairs)
    return (f"{changed} of {total} integers of the outputs for the example inputs differ from the "
            "float model's") if changed else ""


def why_far(found: Distance, model: Any, module: fx.GraphModule,
            inputs: Sequence[Tensor], repairs: tuple[str, ...] = ()) -> str:
    """Where the distance is poor: the nodes that lose most and what to try; else an empty text."""
    if not found.poor or found.sqnr is None:
        return ""
    worst = worst_nodes(model, module, inputs, repairs)
    names = ", ".join(f"{label(n)} ({target_name(n)}, -{loss:.1f} dB)" for n, loss in worst)
    path = next((info(n).path for n, _ in worst if info(n).path), "")
    tries = ["calibration data that is like real inputs",
             f'overrides={{"{path}": "fp32"}}' if path else "", 'calibrator="auto"',
             "fxq.sensitivity(model, data) for the layers that lose most"]
    return (f"the outputs for the example inputs are only {found.sqnr:.1f} dB close to the float "
            f"model's (below {POOR:.0f} dB predictions change)"
            + (f"; most is lost at {names}" if names else "")
            + f"; try {', '.join(filter(None, tries))}")


def worst_nodes(model: Any, module: fx.GraphModule, inputs: Sequence[Tensor],
                repairs: tuple[str, ...] = ()) -> list[tuple[Node, float]]:
    """The nodes behind which most dB are missing that their inputs still had, worst first."""
    try:
        floats = fused_graph(model, list(inputs), repairs)
    except FxqError:  # a model of which the graph is the only form: nothing to compare with
        return []
    quality = {n: min(sqnr(a, b), _EXACT) for n, (a, b) in paired_values(
        module, floats, inputs).items()}
    losses = [(n, min((_before(i, quality) for i in n.all_input_nodes), default=_EXACT) - own)
              for n, own in quality.items() if not is_cast(n)]
    found = sorted((row for row in losses if row[1] >= 1.0), key=lambda row: -row[1])
    return found[:_WORST]


def _before(node: Node, quality: dict[Node, float]) -> float:
    """The quality of a value, through casts and operators that have no counterpart."""
    while node not in quality or is_cast(node):
        if not node.all_input_nodes:
            return _EXACT
        node = node.all_input_nodes[0]
    return quality[node]
