"""Choose scale and zero point for every value that becomes integers.

Values that one operator only moves (pooling, reshaping, cat) share one format, so they form a
group; the group's statistics are the merged statistics of the values that enter it.
"""

from __future__ import annotations

from functools import reduce

from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.overrides import scheme_of
from fxq.analysis.placement import Placement, rescales
from fxq.errors import CalibrationError
from fxq.ir.facts import info, tensor_inputs
from fxq.ir.ops import Kind, channel_axis, op_name, op_of
from fxq.ir.rewriter import constant_of, label
from fxq.quantization.auto_calibrator import choose_by_output
from fxq.quantization.calibrators import AUTO, get_calibrator
from fxq.quantization.formats import QParams, QSpec
from fxq.quantization.schemes import Scheme
from fxq.quantization.tensor_statistics import TensorStatistics


def choose_qparams(module: fx.GraphModule, placement: Placement,
                   context: Context) -> dict[Node, QParams]:
    """The format of each value that an integer node makes or reads.

    Raises CalibrationError for a value that no observer has seen.
    """
    chosen: dict[Node, QParams] = {}
    for members in format_groups(module, placement):
        qparams = _group_qparams(members, placement, context)
        chosen |= dict.fromkeys(members, qparams)
    return chosen


def format_groups(module: fx.GraphModule, placement: Placement) -> list[list[Node]]:
    """The values that become integers, in the groups that share one format."""
    values = _integer_values(module, placement)
    return _group(values, placement).partition(values)


def value_spec(members: list[Node], placement: Placement, scheme: Scheme) -> QSpec:
    """The integers of a group: the widest that one of its integer readers, or makers, asks for."""
    readers = [u for n in members for u in n.users if u in placement.integer]
    makers = [n for n in members if n in placement.integer]
    return max((scheme_of(n, scheme).activation for n in (readers or makers)),
               key=lambda spec: spec.high - spec.low)


def fixed_format(members: list[Node], spec: QSpec) -> QParams | None:
    """The format of torch's kernels, for a group that a function of fixed range makes."""
    fixed = next(filter(None, map(_fixed_format, sources_of(members))), None)
    if fixed is None or (spec.low, spec.high) != (0, 255):
        return None
    return QParams(*fixed, spec.low, spec.high)


def _fixed_format(node: Node) -> tuple[float, int] | None:
    op = op_of(node)
    return op.fixed_format if op else None


def sources_of(members: list[Node]) -> list[Node]:
    """The members of a group whose values do not come from another member."""
    return [n for n in members if not (
        _kind(n) is Kind.SAME and any(source in members for source in tensor_inputs(n)))]


def _group(values: list[Node], placement: Placement) -> _Groups:
    """Join what must share a format. A cat leaves inputs of a fixed format as they are."""
    groups = _Groups()
    movers = [n for n in values if n in placement.integer and _kind(n) is Kind.SAME
              and not rescales(placement.rows.get(n))]
    for node in (n for n in movers if op_name(n) != "cat"):
        groups.join(tensor_inputs(node)[0], node)
    fixed = {groups.find(n) for n in values if _fixed_format(n)}
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
    known = [f for n in members if (f := context.given.formats.get(info(n).value))]
    if known:
        return known[0]
    spec, sources = value_spec(members, placement, context.scheme), sources_of(members)
    fixed = fixed_format(members, spec)
    if fixed is not None:
        return fixed
    merged = reduce(TensorStatistics.merge, (_statistics(n, context) for n in sources))
    rule = context.scheme.activation_calibrator
    if rule == AUTO:
        return spec.qparams(*choose_by_output(merged, spec, _reader_weights(members))[1])
    return spec.qparams(*get_calibrator(rule)(merged, spec))


def _reader_weights(members: list[Node]) -> list[tuple[Tensor, int]]:
    """The weights of the layers that read a value of the group, with their output axes."""
    layers = dict.fromkeys(u for n in members for u in n.users if _kind(u) is Kind.MAC)
    found = ((constant_of(u.args[1]), channel_axis(u)) for u in layers)
    return [(weight, axis) for weight, axis in found if weight is not None]


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
