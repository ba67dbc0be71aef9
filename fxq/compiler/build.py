"""From an observed graph to REFERENCE: formats are decided, weights rounded, nothing is packed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor, fx

from fxq.analysis.saturation import prove
from fxq.artifact.check import range_of
from fxq.artifact.write import Content
from fxq.artifact.write_graph import Portable, to_portable
from fxq.compiler.link import link
from fxq.compiler.manager import Manager
from fxq.compiler.pipeline import HALF, QUANTIZE
from fxq.compiler.prepare import Prepared
from fxq.errors import ArtifactError, CalibrationError, UnsupportedOpError
from fxq.ir.facts import forget_tensors, is_on_integers
from fxq.ir.graph_module import copy_of
from fxq.ir.integers import dequantize_weight, round_at_run_time
from fxq.ir.ops import op_name
from fxq.ir.rewriter import Refusal, label
from fxq.ir.sizes import graph_bytes, macs
from fxq.ir.stages import Stage
from fxq.quantization.schemes import Mode, Scheme
from fxq.quantization.statistics import Statistics
from fxq.reconstruction.run import reconstruct
from fxq.reconstruction.work import DEFAULT, Learning
from fxq.runtime.executable import Executable
from fxq.runtime.shape_program import ShapeProgram, shape_program
from fxq.system.torch_state import isolated, quiet

Batches = Iterable[list[Tensor]] | None


@dataclass(frozen=True)
class Reference:
    """What a model means on a target, and how it came to that.

    `manager` stands at the graph's stage: REFERENCE, or FUSED for float schemes and LOWERED for
    half precision, which have no integers. `shapes` says which inputs the float model takes,
    `content` is the graph as data; `macs` are those in low precision.
    """

    graph_module: fx.GraphModule
    manager: Manager
    shapes: ShapeProgram
    content: Content
    macs: int
    left_in_float: tuple[Refusal, ...]
    bytes: int
    isa: str = ""


def quantize(prepared: Prepared, statistics: Statistics | None = None, strict: bool = False,
             batches: Batches = None, learning: Learning = DEFAULT) -> Reference:
    """Decide formats by the statistics (else by what the observers have seen) and round weights.

    `prepared` stays as it is: it can be quantized again, with other statistics. The scheme's
    reconstruction learns from `batches` of flat inputs, else from those of the calibration. Raises
    CalibrationError for a value without statistics and for a reconstruction without batches,
    UnsupportedOpError when `strict` and a node stays in float.
    """
    reference = _quantize(prepared, statistics, batches, learning)
    if strict and reference.left_in_float:
        raise _strict_error(reference.left_in_float)
    return reference


def _quantize(prepared: Prepared, statistics: Statistics | None, batches: Batches,
              learning: Learning) -> Reference:
    scheme, start = prepared.context.scheme, time.perf_counter()
    module = copy_of(prepared.graph_module)
    if not scheme.quantized:
        manager = prepared.manager.fork(prepared.context)
        return _reference(prepared, module, manager, 0, ())
    seen = prepared.statistics() if statistics is None else statistics
    _check_repairs(scheme, seen)
    context = replace(prepared.context, statistics=seen)
    if scheme.reconstruction and scheme.mode is not Mode.HALF:
        given = reconstruct(prepared.graph_module, context, batches or prepared.batches, learning)
        context = replace(context, given=given)
    manager = prepared.manager.fork(context)
    manager.clock.steps.append(("copy and statistics", time.perf_counter() - start))
    if scheme.mode is Mode.HALF:
        manager.run(module, HALF)
        refused = manager.records[-1].refusals
        paths = {(r.path, r.op) for r in refused}
        lost = sum(macs(n) for n in module.graph.nodes if (label(n), op_name(n)) in paths)
        return _reference(prepared, module, manager, prepared.macs - lost, refused)
    manager.run(module, QUANTIZE)
    refused = next(r.refusals for r in manager.records if r.name == "convert")
    lost = sum(macs(n) for n in module.graph.nodes if not _multiplies_integers(n))
    return _reference(prepared, module, manager, prepared.macs - lost, refused)


def _check_repairs(scheme: Scheme, seen: Statistics) -> None:
    """Values of a repaired graph and of a plain one have the same keys, and other ranges."""
    if seen and scheme.needs_statistics and seen.repairs != scheme.repairs:
        raise CalibrationError(
            "the statistics are not of this graph",
            why=f"they were made with the repairs {list(seen.repairs)}, the scheme has "
                f"{list(scheme.repairs)}",
            fix="calibrate again, or prepare with the accuracy= of the calibration")


def _strict_error(left: tuple[Refusal, ...]) -> UnsupportedOpError:
    rows = "\n".join(f"{r.path} ({r.op}): {r.reason}" for r in left[:12])
    more = f"\nand {len(left) - 12} more" if len(left) > 12 else ""
    return UnsupportedOpError(f"{len(left)} nodes cannot run on integers, and strict=True",
                              where=left[0].source, why=rows + more,
                              fix="drop strict=True to run them in float")


def _reference(prepared: Prepared, module: fx.GraphModule, manager: Manager, count: int,
               refused: tuple[Refusal, ...]) -> Reference:
    target = prepared.context.target
    with manager.clock.step("graph as data, input shapes"):
        content, shapes = _content(prepared, module, manager.stage), shape_program(module)
        integers = manager.stage is Stage.REFERENCE and target.engine
        isa = prove(module).isa(target) if integers else ""
        size = graph_bytes(module)
        forget_tensors(module.graph)
    return Reference(module, manager, shapes, content, count, refused, size, isa)


def _content(prepared: Prepared, module: fx.GraphModule, stage: Stage) -> Content:
    """The graph as data; a graph that cannot be data is an error only when it is saved."""
    portable: Portable | ArtifactError
    try:
        portable = to_portable(module)
    except ArtifactError as error:
        portable = error
    return Content(portable, stage, prepared.context.target.engine,
                   tuple(range_of(x) for x in prepared.inputs))


def _multiplies_integers(node: fx.Node) -> bool:
    """A layer with integer weights whose input is integers too, or is rounded to such."""
    if len(node.args) < 2 or getattr(node.args[1], "target", None) is not dequantize_weight:
        return False
    return is_on_integers(node) or getattr(node.args[0], "target", None) is round_at_run_time


def built(prepared: Prepared, statistics: Statistics | None = None,
          runtime: str | None = None, strict: bool = False, batches: Batches = None,
          learning: Learning = DEFAULT) -> tuple[Reference, Executable]:
    """Quantize and link; `prepared` stays as it is. Raises the errors of both.

    Without `runtime`, the one that needs no measurement: the target's own programs, or Python.
    """
    if runtime is None:
        target = prepared.context.target
        runtime = "native" if target.engine == "native" and target.is_available() else "python"
    with isolated(), quiet():
        reference = quantize(prepared, statistics, strict, batches, learning)
        with reference.manager.clock.step("copy"):
            module = copy_of(reference.graph_module)
        takes = (prepared.convention.signature.names, reference.shapes)
        return reference, link(module, reference.manager, takes, runtime)
