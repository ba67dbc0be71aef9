"""Choose scale and zero point for every value that becomes integers.

Values that one operator only moves (pooling, reshaping, cat) share one format, so they form a
group; the group's statistics are the merged statistics of the values that enter it.
"""

from __future__ import annotations

from functools import reduce

from torch import fx
from torch.fx import Node

from fxq.calibrators import get_calibrator
from fxq.context import Context
from fxq.errors import CalibrationError
from fxq.info import info, tensor_inputs
from fxq.ops import Kind, op_name, op_of
from fxq.placement import Placement
from fxq.qspec import QParams
from fxq.rewrite import label
from fxq.statistics import TensorStatistics

# Functions whose range needs no measuring; the formats are those of torch's kernels.
FIXED: dict[str, tuple[float, int]] = {
    "sigmoid": (1 / 256, 0), "hardsigmoid": (1 / 256, 0), "softmax": (1 / 256, 0),
    "tanh": (2 / 256, 128)}


def choose_qparams(module: fx.GraphModule, placement: Placement,
                   context: Context) -> dict[Node, QParams]:
    """The format of each value that an integer node makes or reads.

    Raises CalibrationError for a value that no observer has seen.
    """
    values = _integer_values(module, placement)
    groups = _group(values, placement)
    chosen: dict[Node, QParams] = {}
    for members in groups.partition(values):
        qparams = _group_qparams(members, placement, context)
        chosen |= dict.fromkeys(members, qparams)
    return chosen


def _group(values: list[Node], placement: Placement) -> _Groups:
    """Join what must share a format. A cat leaves inputs of a fixed format as they are."""
    groups = _Groups()
    movers = [n for n in values if n in placement.integer and _kind(n) is Kind.SAME]
    for node in (n for n in movers if op_name(n) != "cat"):
        groups.join(tensor_inputs(node)[0], node)
    fixed = {groups.find(n) for n in values if op_name(n) in FIXED}
    for node in (n for n in movers if op_name(n) == "cat"):
        for source in tensor_inputs(node):
            if groups.find(source) not in fixed:
                groups.join(source, node)
    return groups


def _integer_values(module: fx.GraphModule, placement: Placement) -> list[Node]:
    made = placement.integer - placement.float_output
    return [n for n in module.graph.nodes if n.op != "get_attr" and info(n).is_float_tensor and (
        n in made or any(u in placement.integer for u in n.users))]


def _kind(node: Node) -> Kind | None:
    op = op_of(node)
    return op.kind if op else None


def _group_qparams(members: list[Node], placement: Placement, context: Context) -> QParams:
    sources = [n for n in members if not (
        _kind(n) is Kind.SAME and any(source in members for source in tensor_inputs(n)))]
    spec = context.target.activation
    fixed = next((op_name(n) for n in sources if op_name(n) in FIXED), None)
    if fixed and spec.low == 0 and spec.high == 255:
        scale, zero_point = FIXED[fixed]
        return QParams(scale, zero_point, spec.low, spec.high)
    merged = reduce(TensorStatistics.merge, (_statistics(n, context) for n in sources))
    return spec.qparams(*get_calibrator(context.scheme.activation_calibrator)(merged, spec))


def _statistics(node: Node, context: Context) -> TensorStatistics:
    key = info(node).value
    known = context.statistics.get(key)
    if known is None and _kind(node) is Kind.SAME:  # it moves values: its inputs were observed
        return reduce(TensorStatistics.merge,
                      (_statistics(n, context) for n in tensor_inputs(node)))
    if known is None or not known.seen:
        raise CalibrationError(f"{label(node)} was never reached by the calibration data",
                               where=info(node).source, why=f"no statistics for value {key!r}",
                               fix="pass calibration data that runs this part of the model")
    return known


class _Groups:
    """Union-find over nodes."""

    def __init__(self) -> None:
        self.parent: dict[Node, Node] = {}

    def find(self, node: Node) -> Node:
        while (up := self.parent.get(node, node)) is not node:
            node = up
        return node

    def join(self, a: Node, b: Node) -> None:
        self.parent[self.find(b)] = self.find(a)

    def partition(self, nodes: list[Node]) -> list[list[Node]]:
        parts: dict[Node, list[Node]] = {}
        for node in nodes:
            parts.setdefault(self.find(node), []).append(node)
        return list(parts.values())
