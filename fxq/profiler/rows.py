"""One row a node: what it computes, how large it is, how long it takes, how far from float."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir.facts import MACS, PACKED_BYTES, info, qparams
from fxq.ir.printer import target_name, value_names
from fxq.ir.rewriter import constant_of
from fxq.ir.sizes import macs
from fxq.kernels.calls import from_quantized
from fxq.profiler.clock import Timing

_BINS = 40


@dataclass(frozen=True)
class NodeProfile:
    """One call of a compiled graph.

    Times are microseconds: the median, the distance between the quartiles, and `float_us`, the
    float work of the same region (0 for a cast, which float does not need). `gmacs` are achieved
    billions of multiply-accumulates a second, `roof` their share of this machine's best;
    `intensity` is multiply-accumulates a byte moved.
    """

    name: str
    path: str
    source: str
    kernel: str
    dtype: str
    shape: tuple[int, ...]
    weight_bytes: int
    activation_bytes: int
    macs: int
    us: float
    iqr_us: float
    share: float
    float_us: float | None
    gmacs: float
    roof: float
    intensity: float
    sqnr: float | None
    arithmetic: str
    inputs: tuple[int, ...] = ()  # positions of the calls whose results it reads
    cast: bool = False

    @property
    def slower(self) -> bool:
        """The region takes longer than float does, by more than both spreads explain."""
        return self.float_us is not None and self.float_us > 0 and (
            self.us - self.iqr_us > self.float_us)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self) | {"slower": self.slower, "shape": list(self.shape),
                                 "inputs": list(self.inputs)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in values.items()}


def rows_of(module: fx.GraphModule, timing: Timing, floats: Mapping[Node, float],
            quality: Mapping[Node, float], roofs: Mapping[str, float]) -> list[NodeProfile]:
    """The rows of a graph, in its order."""
    names, total = value_names(module.graph), float(np.median(timing.samples, 0).sum())
    places, rows = {node: i for i, node in enumerate(timing.nodes)}, []
    for position, node in enumerate(timing.nodes):
        low, middle, high = np.percentile(timing.samples[:, position], [25, 50, 75]) * 1e6
        work, weights = _macs_of(node), _weight_bytes(node)
        moved = weights + sum(_bytes(n) for n in (node, *_inputs(node)))
        kind, rate = _arithmetic(node), work / max(middle, 1e-3) / 1e3
        rows.append(NodeProfile(
            _name(node, names), info(node).path, info(node).source, target_name(node),
            _dtype(node), info(node).shape or (), weights, _bytes(node), work, float(middle),
            float(high - low), float(middle) / (total * 1e6) if total else 0.0,
            floats.get(node), rate, rate / roofs[kind] if work and roofs.get(kind) else 0.0,
            work / moved if moved else 0.0, quality.get(node), kind if work else "",
            tuple(places[n] for n in node.all_input_nodes if n in places), is_cast(node)))
    return rows


def _name(node: Node, names: Mapping[Node, str]) -> str:
    """The module's path; values that no module made are named by where and what they are."""
    known = info(node).path or info(node).value
    return names[node] if not names[node].startswith("%") or not known else (
        f"{known}:{target_name(node)}")


def _macs_of(node: Node) -> int:
    return MACS.of(node) or macs(node)


def _arithmetic(node: Node) -> str:
    if MACS.of(node) is not None:
        return "integer"
    return "half" if info(node).dtype in (torch.float16, torch.bfloat16) else "float"


def _dtype(node: Node) -> str:
    known = info(node).dtype
    return "" if known is None else str(known).removeprefix("torch.")


def _inputs(node: Node) -> list[Node]:
    return [n for n in node.all_input_nodes if n.op != "get_attr"]


def _bytes(node: Node) -> int:
    known = info(node)
    if known.shape is None or known.dtype is None:
        return 0
    return math.prod(known.shape) * known.dtype.itemsize


def _weight_bytes(node: Node) -> int:
    total = 0
    for source in node.all_input_nodes:
        tensor = constant_of(source)
        total += PACKED_BYTES.of(source) or 0
        total += tensor.numel() * tensor.element_size() if tensor is not None else 0
    return total


class Values(fx.Interpreter):
    """Runs a graph and keeps what each node made, as float."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.seen: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op.startswith("call_"):
            self.seen[n] = (from_quantized(value) if value.is_quantized else value).detach().clone()
        return value


def values_of(module: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[Node, Tensor]:
    """What each call of a graph makes, dequantized."""
    runner = Values(module)
    with torch.no_grad():
        runner.run(*inputs)
    return runner.seen


def counterparts(compiled: fx.GraphModule, floats: fx.GraphModule) -> dict[Node, Node]:
    """The float node that makes the same value as a compiled one, by the value's canonical key."""
    known: dict[str, Node] = {}
    for node in floats.graph.nodes:
        if node.op.startswith("call_") and info(node).value:
            known[info(node).value] = node  # the last: behind a clamp that saturates
    return {n: known[info(n).value] for n in compiled.graph.nodes
            if n.op.startswith("call_") and info(n).value in known}


def paired_values(compiled: fx.GraphModule, floats: fx.GraphModule,
                  inputs: Sequence[Tensor]) -> dict[Node, tuple[Tensor, Tensor]]:
    """(float, compiled) of each value that both graphs make."""
    mine, theirs = values_of(compiled, inputs), values_of(floats, inputs)
    return {a: (theirs[b].float(), mine[a].float())
            for a, b in counterparts(compiled, floats).items()
            if a in mine and b in theirs and mine[a].shape == theirs[b].shape
            and theirs[b].is_floating_point()}


@dataclass(frozen=True)
class Histogram:
    """How often values lie in each of equal bins from `low` to `high`, and the integers' range."""

    low: float
    high: float
    counts: tuple[int, ...]
    range_low: float
    range_high: float


def histogram_of(node: Node, values: Tensor) -> Histogram | None:
    """The float values of a node whose results are integers, beside the range it got."""
    format_ = qparams(node)
    if format_ is None or not values.numel():
        return None
    low, high = (float(v) for v in torch.aminmax(values))
    counts = torch.histc(values, _BINS, low, high) if high > low else torch.zeros(_BINS)
    return Histogram(low, high, tuple(int(c) for c in counts), *format_.bounds())


def float_times(compiled: fx.GraphModule, timing: Timing) -> dict[Node, float]:
    """Float microseconds of each compiled node's region.

    A float node without a counterpart of its own (one that a kernel has absorbed) counts for the
    next that has one; so does a value of which several compiled nodes are made for the first.
    """
    owners: dict[str, Node] = {}
    for node in compiled.graph.nodes:
        if node.op.startswith("call_") and info(node).value and not is_cast(node):
            owners.setdefault(info(node).value, node)
    found: dict[Node, float] = {}
    waiting, last = 0.0, None
    for position, node in enumerate(timing.nodes):
        waiting += float(np.median(timing.samples[:, position])) * 1e6
        owner = owners.get(info(node).value)
        if owner is not None:
            found[owner] = found.get(owner, 0.0) + waiting
            waiting, last = 0.0, owner
    if last is not None:
        found[last] += waiting
    for node in compiled.graph.nodes:
        if node.op.startswith("call_") and is_cast(node):
            found[node] = 0.0
    return found


def is_cast(node: Node) -> bool:
    """It only changes the type of a value: quantize, dequantize, and their layout."""
    return target_name(node) in ("quantize", "dequantize", "to_dtype", "contiguous") or (
        qparams(node) is None and node.target is from_quantized)
