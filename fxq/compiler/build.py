"""The second half of the pipeline, and what is known when it is done."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from fxq.analysis.saturation import prove
from fxq.artifact.write import Content, range_of
from fxq.artifact.write_graph import Portable, to_portable
from fxq.compiler.pipeline import HALF, LOWER, QUANTIZE
from fxq.compiler.prepare import Prepared
from fxq.errors import ArtifactError
from fxq.ir.facts import is_on_integers
from fxq.ir.integers import dequantize_weight, round_at_run_time
from fxq.ir.ops import op_name
from fxq.ir.rewriter import Refusal, label
from fxq.ir.sizes import graph_bytes, macs
from fxq.ir.stages import Stage
from fxq.quantization.schemes import Mode
from fxq.runtime.engine_guard import guard_for
from fxq.runtime.shape_program import ShapeProgram, shape_program
from fxq.system.torch_state import EngineGuard


@dataclass(frozen=True)
class Finished:
    """Multiply-accumulates in low precision, what stayed in float, bytes, what a file needs.

    `shapes` says which inputs the float model takes. `guard` is what calls must run under, when
    a kernel's row says that the engine matters.
    """

    macs: int
    left_in_float: tuple[Refusal, ...]
    bytes: int
    guard: EngineGuard | None
    content: Content
    shapes: ShapeProgram
    isa: str = ""


def finish(prepared: Prepared, module: fx.GraphModule) -> Finished:
    """Quantize and lower an observed graph, or leave a float one as it is."""
    scheme, engine = prepared.context.scheme, prepared.context.target.engine
    if not scheme.quantized:
        return Finished(0, (), graph_bytes(module), None, _content(prepared, module, Stage.FUSED),
                        shape_program(module))
    if scheme.mode is Mode.HALF:
        count, refused = _finish_half(prepared, module)
        content = _content(prepared, module, Stage.LOWERED)
        return Finished(count, refused, graph_bytes(module), None, content,
                        shape_program(module))
    manager = prepared.manager
    manager.run(module, QUANTIZE)
    size, content = graph_bytes(module), _content(prepared, module, Stage.REFERENCE)
    refused = next(r.refusals for r in manager.records if r.name == "convert")
    lost = sum(macs(n) for n in module.graph.nodes if not _multiplies_integers(n))
    guard = guard_for(module, prepared.context.target)
    isa = prove(module, prepared.context.target).isa(prepared.context.target) if engine else ""
    shapes = shape_program(module)
    if engine:  # else REFERENCE is executed as it is
        manager.run(module, LOWER)
    return Finished(prepared.macs - lost, refused, size, guard, content, shapes,
                    isa)


def _content(prepared: Prepared, module: fx.GraphModule, stage: Stage) -> Content:
    """The graph as data; a graph that cannot be data is an error only when it is saved."""
    portable: Portable | ArtifactError
    try:
        portable = to_portable(module, strict=True)
    except ArtifactError as error:
        portable = error
    return Content(portable, stage, prepared.context.target.engine,
                   tuple(range_of(x) for x in prepared.inputs))


def _finish_half(prepared: Prepared, module: fx.GraphModule) -> tuple[int, tuple[Refusal, ...]]:
    prepared.manager.run(module, HALF)
    refused = prepared.manager.records[-1].refusals
    paths = {(r.path, r.op) for r in refused}
    lost = sum(macs(n) for n in module.graph.nodes if (label(n), op_name(n)) in paths)
    return prepared.macs - lost, refused


def _multiplies_integers(node: fx.Node) -> bool:
    """A layer with integer weights whose input is integers too, or is rounded to such."""
    if len(node.args) < 2 or getattr(node.args[1], "target", None) is not dequantize_weight:
        return False
    return is_on_integers(node) or getattr(node.args[0], "target", None) is round_at_run_time
