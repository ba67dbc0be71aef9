"""One row per node: what it computes, how large it is, how long it takes, how far from float."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.fx import Node

from fxq.ir.facts import MACS, PACKED_BYTES, info, qparams
from fxq.ir.printer import target_name, value_names
from fxq.ir.rewriter import constant_of
from fxq.ir.sizes import macs
from fxq.kernels.calls import from_quantized
from fxq.profiler.clock import Samples, Timing
from fxq.system.timing import Spread

_CASTS = ("quantize", "dequantize", "enter", "leave", "to_dtype", "contiguous")


@dataclass(frozen=True)
class NodeProfile:
    """One call of a compiled graph.

    Times are medians in microseconds: `us`, `float_us` of the float work of the same region (0 for
    a cast, which float does not need), and `lost_us`, the median over the rounds of the difference.
    `gmacs` are achieved billions of multiply-accumulates per second, `roof` their share of this
    machine's best; `intensity` is multiply-accumulates per byte moved. `spreads` has the 10th and
    90th percentile over the rounds of every figure that was measured, by its name.
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
    share: float
    float_us: float | None
    lost_us: float | None
    gmacs: float
    roof: float
    intensity: float
    sqnr: float | None
    arithmetic: str
    inputs: tuple[int, ...] = ()  # positions of the calls whose results it reads
    cast: bool = False
    spreads: dict[str, Spread] = field(default_factory=dict)

    @property
    def slower(self) -> bool:
        """The region takes longer than float does in nine of ten rounds."""
        return bool(self.float_us) and "lost_us" in self.spreads and (
            self.spreads["lost_us"].low > 0)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self) | {"slower": self.slower, "shape": list(self.shape),
                                 "inputs": list(self.inputs)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in values.items()}


def rows_of(module: fx.GraphModule, timing: Timing, floats: Mapping[Node, Samples],
            quality: Mapping[Node, float], roofs: Mapping[str, float]) -> list[NodeProfile]:
    """The rows of a graph, in its order; `floats` are microseconds by round."""
    name, shares = namer(module.graph), _shares(timing)
    places, rows = {node: i for i, node in enumerate(timing.nodes)}, []
    for position, node in enumerate(timing.nodes):
        work, weights, kind = _macs_of(node), _weight_bytes(node), _arithmetic(node)
        moved = weights + sum(_bytes(n) for n in (node, *_inputs(node)))
        spreads = _spreads(timing.samples[:, position] * 1e6, floats.get(node), work,
                           roofs.get(kind, 0.0))
        spreads["share"] = Spread.of(timing.samples[:, position] / timing.samples.sum(1))
        middle = {name: spread.middle for name, spread in spreads.items()}
        rows.append(NodeProfile(
            name(node), info(node).path, info(node).source,
            timing.kernels.get(node) or target_name(node), _dtype(node),
            info(node).shape or (), weights, _bytes(node), work, middle["us"], shares[position],
            middle.get("float_us"), middle.get("lost_us"),
            middle.get("gmacs", 0.0), middle.get("roof", 0.0), work / moved if moved else 0.0,
            quality.get(node), kind if work else "",
            tuple(places[n] for n in node.all_input_nodes if n in places), is_cast(node), spreads))
    return rows


def _shares(timing: Timing) -> list[float]:
    """Of the sum of all medians, so that they add up to one."""
    middles = np.median(timing.samples, 0)
    return [float(v) for v in middles / (middles.sum() or 1.0)]


def _spreads(us: Samples, float_us: Samples | None, work: int, roof: float) -> dict[str, Spread]:
    """Of each figure that follows from the times of one node."""
    found = {"us": Spread.of(us)}
    if float_us is not None:
        found |= {"float_us": Spread.of(float_us), "lost_us": Spread.of(us - float_us)}
    if work:
        found["gmacs"] = Spread.of(work / np.maximum(us, 1e-3) / 1e3)
    if work and roof:
        found["roof"] = Spread.of(work / np.maximum(us, 1e-3) / 1e3 / roof)
    return found


def raised(roofs: Mapping[str, float], timing: Timing) -> dict[str, float]:
    """The roofs, or what a node has reached: the best that the machine shows is its best."""
    found = dict(roofs)
    for position, node in enumerate(timing.nodes):
        kind, work = _arithmetic(node), _macs_of(node)
        if work and kind in found:
            fastest = max(float(timing.samples[:, position].min()), 1e-9)
            found[kind] = max(found[kind], work / fastest / 1e9)
    return found


def namer(graph: fx.Graph) -> Callable[[Node], str]:
    """Names for a graph's values: the module's path, else where and what they are."""
    names = value_names(graph)

    def name(node: Node) -> str:
        known = info(node).path or info(node).value
        if node not in names:  # a call of a whole program, which is no node of the graph
            return node.name
        return names[node] if not names[node].startswith("%") or not known else (
            f"{known}:{target_name(node)}")

    return name


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


def float_times(compiled: fx.GraphModule, timing: Timing,
                within: Mapping[Node, Node]) -> dict[Node, Samples]:
    """Float microseconds, by round, of each compiled node's region.

    A float node without a counterpart of its own (one that a kernel has absorbed) counts for the
    next that has one; so does a value of which several compiled nodes are made for the first. What
    another node's kernel computes (`within`) counts for that node.
    """
    owners: dict[str, Node] = {}
    for node in compiled.graph.nodes:
        if node.op.startswith("call_") and info(node).value and not is_cast(node):
            owners.setdefault(info(node).value, within.get(node, node))
    nothing = np.zeros(len(timing.samples))
    found: dict[Node, Samples] = {}
    waiting, last = nothing, None
    for position, node in enumerate(timing.nodes):
        waiting = waiting + timing.samples[:, position] * 1e6
        owner = owners.get(info(node).value)
        if owner is not None:
            found[owner] = found.get(owner, nothing) + waiting
            waiting, last = nothing, owner
    if last is not None:
        found[last] = found[last] + waiting
    for node in compiled.graph.nodes:
        if node.op.startswith("call_") and is_cast(node):
            found[node] = nothing
    return found


def is_cast(node: Node) -> bool:
    """It only changes the type of a value: quantize, dequantize, and their layout."""
    return target_name(node) in _CASTS or (
        qparams(node) is None and node.target is from_quantized)
