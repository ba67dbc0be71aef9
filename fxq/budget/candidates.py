"""The table of a network: every scheme measured on this machine, node by node, and its noise.

Each scheme is built once for all layers. Their nodes are timed in the same rounds, beside whole
runs and the float model; a run is longer than its nodes by what the runtime costs, so that nodes
are scaled to the whole. What crossing between integers and float costs in a mixture shows in one
that crosses at every other layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.legality import check_legal
from fxq.budget.judge import logits_of
from fxq.budget.limits import Assignment
from fxq.budget.measure import Bench, undisturbed
from fxq.budget.table import FLOAT, Table, crossings, is_layer
from fxq.compiler.build import Reference
from fxq.errors import ConfigError
from fxq.ir.facts import MACS, info, tensor_inputs
from fxq.ir.rewriter import constant_of
from fxq.ir.sizes import macs
from fxq.profiler.advice import measured_cast
from fxq.profiler.clock import Timing, time_together
from fxq.profiler.first_order import (
    MARGIN,
    Effects,
    Rounding,
    first_order,
    form_of,
    formats_for,
    fused_graph_of,
    weight_form,
)
from fxq.profiler.native import native_cast, side_for
from fxq.profiler.rows import is_cast
from fxq.profiler.sensitivity import Mixtures, some
from fxq.quantization.schemes import Mode, Scheme, get_scheme
from fxq.runtime.executable import Executable
from fxq.system.torch_state import isolated, quiet
from fxq.targets import Target

# Beside the scheme that is asked for; a target's kernels take some of them.
SCHEMES = (FLOAT, "int8_weight_only", "W4A8", "int8_static", "int16_static")
IMAGES = 64  # of which errors are predicted
_ROUNDS, _BUDGET = 60, 1.5  # turns of all sides, and seconds for each
_LEAST_SCALE, _MOST_SCALE = 0.2, 5.0  # of crossings in a mixture, against single ones
Costs = dict[tuple[str, str], float]
Built = Mapping[str, tuple[Reference, Executable]]


def schemes_for(target: Target, whole: Scheme) -> tuple[str, ...]:
    """The schemes that layers of one model may have on a target, that of the whole first."""
    names = dict.fromkeys((whole.name, *(() if whole.mode is Mode.HALF else SCHEMES), FLOAT))
    return tuple(n for n in names if n == whole.name or _is_legal(target, whole, n))


def _is_legal(target: Target, whole: Scheme, name: str) -> bool:
    if get_scheme(name).weight.bits < target.weight.bits and not target.simulates:
        return False  # kernels keep and multiply whole bytes: fewer bits win nothing
    try:
        check_legal(target, replace(whole, overrides={"x": name}))
    except ConfigError:
        return False
    return True


def measured_table(bench: Bench) -> Table:
    """Everything that the solver needs to know, measured on the example inputs and the batches."""
    prepared, statistics = bench.prepared, bench.statistics
    module = fused_graph_of(prepared)
    mixed = Mixtures(module, prepared, statistics)
    names = schemes_for(prepared.context.target, mixed.context.scheme)
    uniform = {n: dict.fromkeys(mixed.paths, n) for n in names}
    done: Built = {n: bench.build(a) for n, a in uniform.items()}
    placements = {n: mixed.placement(a) for n, a in uniform.items()}
    table = Table(mixed, names, placements, {}, {}, {}, {}, {}, 0.0, bench.judge)
    table = _with_times(_with_bytes(table, done), done, bench)
    if bench.judge is not None:
        chosen = some(bench.flat, IMAGES)
        with isolated(), quiet():
            formats = formats_for(prepared, statistics, module, [
                n for n in names if n != FLOAT])
            effects = first_order(prepared, statistics, chosen, formats, module)
        table = replace(table, noise=_noise(table, effects, done, chosen))
    return table


class _Owners:
    """Which value of the FUSED graph a node of a compiled one stands for."""

    def __init__(self, table: Table, compiled: fx.GraphModule) -> None:
        self.twins = {info(n).value: n for n in table.nodes()}
        self.made = {info(n).value for n in compiled.graph.nodes if n.op.startswith("call_")}

    def of(self, node: Node) -> str:
        """Empty for none. A layer that has absorbed a sum makes the sum's value, and is a layer."""
        twin = self.twins.get(info(node).value)
        if twin is not None and not is_layer(twin) and (MACS.of(node) or macs(node)):
            layers = [s for s in tensor_inputs(twin)
                      if is_layer(s) and info(s).value not in self.made]
            twin = next(iter(layers), twin)
        return "" if twin is None else info(twin).value


def _with_bytes(table: Table, done: Built) -> Table:
    """Bytes of each node's constants; what is left of the exact count belongs to no node."""
    found, fixed = dict[tuple[str, str], int](), 0
    for name, (reference, _) in done.items():
        own = dict[str, int]()
        for key, size in _constants(reference.graph_module, table):
            own[key] = own.get(key, 0) + size
        uniform = dict.fromkeys(table.mixed.paths, name)
        for node in table.nodes():
            form = table.form(node, uniform, table.placements[name])
            found.setdefault((info(node).value, form), own.get(info(node).value, 0))
        if name == table.base:
            fixed = reference.bytes - sum(own.values())
    return replace(table, bytes=found, fixed_bytes=fixed)


def _constants(module: fx.GraphModule, table: Table) -> list[tuple[str, int]]:
    """(value that it is for, bytes) of each constant; storage that two share counts once."""
    owners, found, seen = _Owners(table, module), [], set()
    for node in module.graph.nodes:
        tensor = constant_of(node) if node.op == "get_attr" else None
        if tensor is None or (key := (tensor.data_ptr(), tensor.nbytes)) in seen:
            continue
        seen.add(key)
        while not (owner := owners.of(node)) and node.users:
            node = next(iter(node.users))
        found.append((owner, tensor.nbytes))
    return found


def _with_times(table: Table, done: Built, bench: Bench) -> Table:
    """Microseconds of nodes in each scheme, of crossings, and of the float model."""
    inputs = list(bench.prepared.inputs)
    with isolated(), quiet():
        sides = [side_for(e, inputs) for _, e in done.values()]
        check = done[table.base][1].takes
        timings, (floats, checks) = time_together(
            sides, inputs, _ROUNDS, _BUDGET * len(sides), [
                bench.float_call(), lambda: check(inputs)])
        table = replace(table, us=_node_times(table, dict(zip(done, timings, strict=True)), done),
                        float_us=float(undisturbed(floats)) * 1e6)
        table = _with_crossings(table, done[table.base][1])
        table = _fitted(table, dict(zip(done, timings, strict=True)))
        return _with_mixture(replace(table, fixed_us=float(undisturbed(checks)) * 1e6), bench)


def _node_times(table: Table, timings: Mapping[str, Timing], done: Built) -> Costs:
    """Of each node, casts and calls of programs aside; of float first, which serves all."""
    found = Costs()
    for name in sorted(timings, key=lambda n: n != FLOAT):
        timing, own, waiting = timings[name], dict[str, float](), 0.0
        owners = _Owners(table, done[name][1].graph_module)
        for node, seconds in zip(timing.nodes, undisturbed(timing.samples), strict=True):
            if is_cast(node) or not info(node).value:
                continue
            waiting += float(seconds) * 1e6
            if owner := owners.of(node):
                own[owner] = own.get(owner, 0.0) + waiting
                waiting = 0.0
        uniform = dict.fromkeys(table.mixed.paths, name)
        for node in table.nodes():
            form = table.form(node, uniform, table.placements[name])
            found.setdefault((info(node).value, form), own.get(info(node).value, 0.0))
    return found


def _with_crossings(table: Table, executable: Executable) -> Table:
    """One cast of each shape that may cross, measured alone."""
    cast = native_cast if executable.runtime == "native" else measured_cast
    known: dict[tuple[str, tuple[int, ...]], float] = {}
    sides: dict[str, dict[str, float]] = {"quantize": {}, "dequantize": {}}
    for node in table.module.graph.nodes:
        shape = info(node).shape
        if not info(node).is_float_tensor or shape is None or node.op == "get_attr":
            continue
        for kind, costs in sides.items():
            if (kind, shape) not in known:
                known[kind, shape] = cast(kind, shape).middle
            costs[info(node).value] = known[kind, shape]
    return replace(table, enter=sides["quantize"], leave=sides["dequantize"])


def _fitted(table: Table, timings: Mapping[str, Timing]) -> Table:
    """Nodes scaled so that each scheme for all layers takes what its whole run was seen to take."""
    factors = {}
    for name, timing in timings.items():
        uniform = dict.fromkeys(table.mixed.paths, name)
        nodes = table.microseconds(uniform) - _crossing_us(table, uniform)
        left = float(undisturbed(timing.plain)) * 1e6 - _crossing_us(table, uniform)
        factors[name] = max(left / nodes, 0.1) if nodes > 0 else 1.0
    return replace(table, us={(key, form): us * factors.get(form, 1.0)
                              for (key, form), us in table.us.items()})


def _crossing_us(table: Table, assignment: Assignment) -> float:
    placed = table.mixed.placement(assignment)
    entering, leaving = crossings(table.module, placed.integer, placed.float_output)
    return sum(table.enter.get(info(n).value, 0.0) for n in entering) + sum(
        table.leave.get(info(n).value, 0.0) for n in leaving)


def _with_mixture(table: Table, bench: Bench) -> Table:
    """Crossings scaled to what they cost in a mixture that crosses at every other layer."""
    striped = {path: table.base if i % 2 else FLOAT for i, path in enumerate(table.mixed.paths)}
    crossing = _crossing_us(table, striped)
    if crossing <= 0 or table.base == FLOAT:
        return table
    executable = bench.build(striped)[1]
    whole = table.float_us / bench.speedup(executable).middle
    factor = (whole - (table.microseconds(striped) - crossing)) / crossing
    factor = min(max(factor, _LEAST_SCALE), _MOST_SCALE)
    return replace(table, enter={k: v * factor for k, v in table.enter.items()},
                   leave={k: v * factor for k, v in table.leave.items()})


def _noise(table: Table, effects: Effects, done: Built,
           chosen: Sequence[list[Tensor]]) -> dict[Rounding, float]:
    """The variance of each rounding, scaled to what each scheme for all layers was seen to do."""
    if not effects.classes:
        return {}
    noise = {r: float(m[:, MARGIN].double().mean()) for r, m in effects.squares.items()}
    best = effects.outputs.topk(2, 1).indices
    factors = {}
    for name in (n for n in table.schemes if n != FLOAT):
        uniform = dict.fromkeys(table.mixed.paths, name)
        moved = logits_of(done[name][1].function, chosen) - effects.outputs
        margins = moved.gather(1, best[:, :1]) - moved.gather(1, best[:, 1:])
        expected = sum(noise.get(r, 0.0) for r in table.mixed.roundings(uniform))
        factors[name] = float(margins.double().square().mean()) / expected if expected else 1.0
    return {r: v * _factor(r, table, factors) for r, v in noise.items()}


def _factor(rounding: Rounding, table: Table, factors: Mapping[str, float]) -> float:
    """Of the first scheme that rounds so."""
    names = [n for n in factors if rounding.form == (
        weight_form(table.scheme(n)) if rounding.kind == "weight"
        else table.scheme(n).mode is Mode.STATIC and form_of(table.scheme(n).activation))]
    return factors[names[0]] if names else 1.0
