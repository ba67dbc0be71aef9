"""One node as a case of its own: its operators, weights, inputs and formats, in a folder.

    python -m fxq.reproduce FOLDER

The graph is data, as in a `.fxq` file; inputs and weights are the real ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.artifact.read_graph import from_portable
from fxq.artifact.write_graph import Portable, to_portable
from fxq.compiler.manager import Manager
from fxq.compiler.verify import run
from fxq.errors import ArtifactError, ConfigError, FxqError
from fxq.frontend.batches import batches
from fxq.ir.facts import Info, copy_facts, info, qparams, set_info, set_qparams
from fxq.ir.integers import dequantize, qparams_argument, qparams_kwargs, quantize
from fxq.ir.printer import format_graph
from fxq.ir.rewriter import constant_of
from fxq.ir.stages import Stage
from fxq.passes.lower import Lower
from fxq.profiler.debug import Debugger, debugger, fed_with
from fxq.profiler.expected import MARGIN, excess_of
from fxq.profiler.findings import Findings
from fxq.system.torch_state import isolated, quiet
from fxq.targets import get_target

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel

CASE, TENSORS, GRAPH = "node.json", "tensors.safetensors", "graph.txt"


def leave_reproducer(folder: Path, compiled: CompiledModel, model: nn.Module, batch: Any,
                     findings: Findings) -> None:
    """Write the first node at fault (else the one that matters most) as a case of its own.

    Raises ConfigError where there is no node to write, ArtifactError for a graph that is no data.
    """
    chosen = findings.first or next(iter(findings.worst), None)
    if chosen is None:
        raise ConfigError("there is no node to reproduce", why="no node rounds anything")
    inputs = next(iter(batches([batch], compiled._signature, None)))
    content = compiled._insides().content
    if isinstance(content.portable, ArtifactError):
        raise content.portable
    with isolated(), quiet(), torch.no_grad():
        found = debugger(compiled, model, inputs)
        node = next(n for n in found.judged() if info(n).value == chosen.value)
        graph, given = _alone(from_portable(content.portable), found, chosen.value, inputs)
        tensors = {f"input.{i}": x for i, x in enumerate(given)} | _judgement(found, node)
    portable = to_portable(graph)
    case = {"node": chosen.name, "kernel": chosen.kernel, "source": chosen.source,
            "cause": chosen.cause, "format": chosen.format, "target": compiled.report.target,
            "stage": content.stage.name, "inputs": len(given), "nodes": portable.nodes,
            "texts": portable.texts}
    tensors |= {f"graph.{name}": t for name, t in portable.tensors.items()}
    folder.mkdir(parents=True)
    (folder / CASE).write_text(json.dumps(case, indent=1) + "\n")
    (folder / GRAPH).write_text(format_graph(graph))
    save_file({k: t.detach().clone().contiguous() for k, t in tensors.items()}, folder / TENSORS)


def _judgement(found: Debugger, node: Node) -> dict[str, Tensor]:
    """What the compiled node made, what float makes of its inputs, and the noise expected."""
    (ideal, variance), format_ = found.alone(node), qparams(node)
    return {"found": found.fed.found[node], "variance": variance,
            "ideal": ideal.clamp(*format_.bounds()) if format_ else ideal}


def _alone(module: fx.GraphModule, found: Debugger, value: str,
           inputs: list[Tensor]) -> tuple[fx.GraphModule, list[Tensor]]:
    """The operators that make one value, on float inputs; and these inputs."""
    fed, _ = fed_with(module, found.exact, inputs)
    last = [n for n in module.graph.nodes if info(n).value == value][-1]
    root, graph, env = nn.Module(), fx.Graph(), {}
    given: list[Tensor] = []
    for node in _between(last, fed.read, value):
        if node in fed.read and (info(node).value != value or node.op == "placeholder"):
            env[node] = _entry(graph, node, len(given), fed.read[node])
            given.append(fed.read[node])
        elif node.op == "get_attr":
            root.register_buffer(node.name, constant_of(node))
            env[node] = graph.get_attr(node.name)
        else:
            env[node] = graph.node_copy(node, env.__getitem__)
            copy_facts(node, env[node])
    end = env[last]
    if (format_ := qparams(last)) is not None:
        end = graph.call_function(dequantize, (end,), qparams_kwargs(format_))
        set_info(end, Info(info(last).shape, torch.float32, value=value))
    graph.output((end,))
    return fx.GraphModule(root, graph), given


def _between(last: Node, known: dict[Node, Tensor], value: str) -> list[Node]:
    """The nodes that make a value, from the nearest others on, in order."""
    needed, stack = set(), [last]
    while stack:
        at = stack.pop()
        if at not in needed:
            needed.add(at)
            stack += [] if at in known and info(at).value != value else at.all_input_nodes
    return [n for n in last.graph.nodes if n in needed]


def _entry(graph: fx.Graph, node: Node, place: int, value: Tensor) -> Node:
    """A float input in place of a node, rounded as the node is."""
    entry = graph.placeholder(f"x{place}")
    set_info(entry, Info(tuple(value.shape), value.dtype, value=f"input{place}"))
    format_ = qparams(node) or (qparams_argument(node) if node.target is dequantize else None)
    if format_ is None:
        return entry
    rounded = graph.call_function(quantize, (entry,), qparams_kwargs(format_))
    set_info(rounded, Info(tuple(value.shape), format_.dtype, value=f"input{place}"))
    set_qparams(rounded, format_)
    if qparams(node) is not None:
        return rounded
    real = graph.call_function(dequantize, (rounded,), qparams_kwargs(format_))
    copy_facts(node, real)
    return real


def rerun(folder: Path) -> str:
    """Run a node that `leave_reproducer` wrote, and say what it gives now."""
    case, tensors = json.loads((folder / CASE).read_text()), load_file(folder / TENSORS)
    kept = {name.removeprefix("graph."): t for name, t in tensors.items()
            if name.startswith("graph.")}
    module = from_portable(Portable(tuple(case["nodes"]), tuple(case["texts"]), kept))
    inputs = [tensors[f"input.{i}"] for i in range(case["inputs"])]
    ideal, variance = tensors["ideal"], tensors["variance"]

    def said(what: str, value: Tensor) -> str:
        excess = excess_of(value.float() - ideal, variance)
        return (f"{what}: {excess:.1f} times the expected noise"
                + (" (a fault)" if excess > MARGIN else ""))

    lines = [f"{case['node']} ({case['kernel']}, {case['format']}): {case['cause'] or 'no fault'}",
             said("as recorded", tensors["found"]),
             said("its operators, as they are meant", run(module, inputs)[0])]
    if case["stage"] == Stage.REFERENCE.name:
        try:
            lines.append(said(f"the kernels of {case['target']}, now",
                              _lowered(module, case["target"], inputs)))
        except FxqError as error:
            lines.append(f"the kernels of {case['target']}: {error}")
    return "\n".join(lines)


def _lowered(module: fx.GraphModule, target: str, inputs: list[Tensor]) -> Tensor:
    context = Context(get_target(target))
    choose_rows(module, context.target)
    manager = Manager(context, inputs, stage=Stage.REFERENCE)
    with isolated(), quiet():
        manager.run(module, [Lower()])
        found: Tensor = run(module, inputs)[0]
    return found
