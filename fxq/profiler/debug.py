"""`fxq.debug`: the first node at which a compiled model and float part ways, and why.

Every node is run alone, on float's own values in the formats of its inputs. What it makes is held
to what the float operators make of the same inputs; what is left is rounding, of the node's result
and of its weights, or a fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.artifact.read_graph import from_portable
from fxq.compiler.verify import close, run
from fxq.errors import ArtifactError, ConfigError
from fxq.frontend.batches import batches
from fxq.ir.facts import info, qparams
from fxq.ir.integers import dequantize_weight, round_at_run_time
from fxq.ir.ops import Kind, channel_axis, op_of
from fxq.ir.printer import target_name
from fxq.ir.rewriter import constant_of
from fxq.profiler.compare import fused_graph
from fxq.profiler.expected import (
    HALF,
    MARGIN,
    excess_of,
    rounding_variance,
    too_short,
    weight_steps,
    weight_variance,
)
from fxq.profiler.findings import Findings, NodeFinding
from fxq.profiler.local import Fed, FloatRun, is_float, sources_of, twins_of
from fxq.profiler.rows import namer
from fxq.profiler.values import values_of
from fxq.quantization.sqnr import sqnr, sqnr_of_all
from fxq.quantization.weights import IntegerWeight
from fxq.system.torch_state import isolated, quiet

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel

RUNTIME = ("the model that runs gives other numbers than its own graph: a fault of the runtime or "
           "of a kernel, at no node of the graph")


@dataclass(frozen=True)
class Debugger:
    """A compiled graph and its float side, run on one batch; findings are made node by node."""

    module: fx.GraphModule
    exact: FloatRun
    fed: Fed
    twins: dict[Node, Node]
    weights: dict[str, tuple[IntegerWeight, Node]]  # by the value that a layer makes
    free: dict[Node, Tensor]  # what each node makes when the graph runs by itself

    def judged(self) -> list[Node]:
        """The nodes that make a value, in the order of the graph."""
        return [n for n in self.fed.found if n.op != "placeholder"]

    def given(self, node: Node) -> dict[Node, Tensor]:
        """The inputs that a node gets, as float, by the float nodes that make them."""
        return {self.twins[s]: self.fed.read[s] for s in sources_of(node, self.fed.read)}

    def alone(self, node: Node) -> tuple[Tensor, Tensor]:
        """What float makes of a node's inputs, and the variance that its formats explain."""
        twin, given = self.twins[node], self.given(node)
        region = given | self.exact.region(twin, given)
        ideal = region.get(twin, self.exact.values[twin]).float()
        layers = [n for n in region if n not in given and (op := op_of(n)) is not None
                  and op.kind is Kind.MAC]
        own = rounding_variance(qparams(node), ideal, info(node).dtype)
        if len(layers) != 1:
            return ideal, own
        return ideal, own + self._weight_noise(node, layers[0], region)

    def _weight_noise(self, node: Node, layer: Node, region: Mapping[Node, Tensor]) -> Tensor:
        """Of the weights of the layer that a node runs; zero where they are not rounded."""
        x, weight = (region.get(a, self.exact.values.get(a)) for a in layer.all_input_nodes[:2])
        assert x is not None and weight is not None
        row, dtype = self.weights.get(info(node).value), info(node).dtype
        if row is not None:
            steps = weight_steps(row[0], weight, channel_axis(layer))
            return weight_variance(layer, x, weight, steps, _input_step(row[1], x))
        if dtype in HALF:
            return weight_variance(layer, x, weight, weight.abs() * torch.finfo(dtype).eps)
        return torch.zeros(())

    def finding(self, node: Node, name: str) -> NodeFinding:
        """What is known of one node; see NodeFinding."""
        twin, found, format_ = self.twins[node], self.fed.found[node], qparams(node)
        exact, (ideal, variance) = self.exact.values[twin].float(), self.alone(node)
        low, high = format_.bounds() if format_ else (-math.inf, math.inf)
        excess = excess_of(found - ideal.clamp(low, high), variance)
        outside = float(((exact < low) | (exact > high)).double().mean())
        moves = any(qparams(s) == format_ for s in sources_of(node, self.fed.read))
        short = format_ is not None and not moves and too_short(exact, format_)
        outputs = self.exact.effect(twin, exact + found - ideal)
        return NodeFinding(
            name, info(node).value, target_name(node), info(node).source, str(format_ or "float"),
            _rms(found - ideal), math.sqrt(float(variance.mean())), excess, outside,
            sqnr(exact, self.free.get(node, exact)), sqnr_of_all(self.exact.outputs, outputs),
            _cause(excess, outside, (low, high), short))


def debug(compiled: CompiledModel, model: nn.Module, batch: Any) -> Findings:
    """Name the nodes at which a compiled model is further from float than its formats explain.

    `batch` is what calibration takes. Memory is several times the values of one batch, and time
    about one float run for every node: a few images are enough. Raises ConfigError for a model of
    another signature, or a scheme that rounds nothing.
    """
    inputs = next(iter(batches([batch], compiled._signature, None)), None)
    if inputs is None:
        raise ConfigError("there is nothing to debug with: the batch is empty")
    with isolated(), quiet(), torch.no_grad():
        found = debugger(compiled, model, inputs)
        name = namer(compiled.graph_module.graph)
        nodes = tuple(found.finding(n, name(n)) for n in found.judged())
        mine = compiled._flat(inputs)
        same = all(close(a, b) for a, b in zip(run(compiled.graph_module, inputs), mine,
                                                strict=True) if isinstance(a, Tensor))
        return Findings(nodes, sqnr_of_all(found.exact.outputs, mine), _together(nodes),
                        "" if same else RUNTIME)


def debugger(compiled: CompiledModel, model: nn.Module, inputs: list[Tensor]) -> Debugger:
    """Both graphs, run on flat inputs."""
    module = compiled.graph_module
    exact = FloatRun(fused_graph(model, inputs, compiled.report.repairs), inputs)
    fed, twins = fed_with(module, exact, inputs)
    return Debugger(module, exact, fed, twins, _weights(compiled), values_of(module, inputs))


def fed_with(module: fx.GraphModule, exact: FloatRun,
             inputs: list[Tensor]) -> tuple[Fed, dict[Node, Node]]:
    """A graph with the values of float, run; and the float node of each of its own."""
    twins = {n: t for n, t in twins_of(module, exact.order).items()
             if is_float(exact.values[t]) and info(n).shape is not None}
    fed = Fed(module, {n: exact.values[t] for n, t in twins.items()}, _repeats(twins))
    fed.run(*(x.clone() for x in inputs))
    return fed, twins


def _repeats(twins: Mapping[Node, Node]) -> set[Node]:
    """The nodes that hand on what another one has made, as float or in the same format."""
    return {n for n, t in twins.items() if any(
        twins[s] is t and s.op != "placeholder" and qparams(n) in (None, qparams(s))
        for s in sources_of(n, twins))}


def _weights(compiled: CompiledModel) -> dict[str, tuple[IntegerWeight, Node]]:
    """The integer weights, and what their layer reads, by the value that it makes."""
    portable = compiled._insides().content.portable
    if isinstance(portable, ArtifactError):
        raise portable
    found = {}
    for node in from_portable(portable).graph.nodes:
        weight = node.args[1] if len(node.args) > 1 else None
        if isinstance(weight, Node) and weight.target is dequantize_weight:
            values, scales = (constant_of(a) for a in weight.args[:2])
            assert values is not None and scales is not None
            found[info(node).value] = IntegerWeight(values, scales), node.args[0]
    return found


def _input_step(reads: Node, x: Tensor) -> float:
    """The step of an input that is rounded at run time, by its own range; else 0."""
    if reads.target is not round_at_run_time:
        return 0.0
    levels = int(reads.kwargs["high"]) - int(reads.kwargs["low"])  # type: ignore[arg-type]
    return (max(float(x.max()), 0.0) - min(float(x.min()), 0.0)) / levels


def _cause(excess: float, outside: float, bounds: tuple[float, float], short: bool) -> str:
    if short:
        return (f"{outside:.2%} of its values are outside of its range, {bounds[0]:.4g} to "
                f"{bounds[1]:.4g}: a range that holds all would lose less")
    if excess > MARGIN:
        return (f"its results are {excess:.1f} times as far from float as rounding explains "
                f"(at most {MARGIN:.0f})")
    return ""


def _together(nodes: Sequence[NodeFinding]) -> float:
    """dB of all errors at the outputs, as if they were independent."""
    noise = sum(10 ** (-n.effect / 10) for n in nodes)
    return -10 * math.log10(noise) if noise else math.inf


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt()) if values.numel() else 0.0
