"""Read a compiled model back, checking everything; nothing in the file is ever executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, fx

from fxq.analysis.context import Context
from fxq.analysis.saturation import VNNI_ONLY
from fxq.artifact.compact import expand
from fxq.artifact.container import unpack
from fxq.artifact.read_graph import from_portable
from fxq.artifact.signature import from_json
from fxq.artifact.validate import validate
from fxq.artifact.values import MALFORMED
from fxq.artifact.write import FORMAT, Content, Input, Range, inputs_of, invented, read_ranges
from fxq.artifact.write_graph import Portable
from fxq.compiled import CompiledModel
from fxq.compiler.pipeline import LOWER
from fxq.compiler.report import Report
from fxq.errors import ArtifactError, TargetUnavailableError
from fxq.frontend.trace import Traced
from fxq.ir.printer import format_graph
from fxq.ir.rewriter import Refusal
from fxq.ir.stages import Stage, verify_stage
from fxq.kernels import calls
from fxq.runtime.engine_guard import guard_for
from fxq.runtime.input_guard import InputGuard, check_arrivals
from fxq.runtime.select import select
from fxq.runtime.shape_program import ShapeProgram, shape_program
from fxq.system.files import read_file
from fxq.system.machine import has_vnni
from fxq.system.torch_state import isolated, quiet
from fxq.targets import Target, get_target

_KEYS = {"format", "fxq", "torch", "target", "engine", "stage", "cpu", "report", "check", "members"}
_STAGES = (Stage.FUSED, Stage.REFERENCE, Stage.LOWERED)


@dataclass(frozen=True)
class Opened:
    """A file whose digests, graph and signature were checked; nothing is packed yet."""

    manifest: dict[str, Any]
    portable: Portable
    traced: Traced
    stage: Stage
    ranges: tuple[Range | None, ...] = ()

    def inputs(self) -> list[Input]:
        """What the graph takes, with ranges that it is known to take."""
        return inputs_of(self.module, self.ranges)

    @property
    def module(self) -> fx.GraphModule:
        return self.traced.graph_module


def open_artifact(path: str | Path) -> Opened:
    """Read and check a file without running it; raises ArtifactError."""
    where = str(path)
    members = unpack(read_file(Path(path)), where)
    manifest = _object(members["manifest.json"], "manifest.json")
    _check_format(manifest, where)
    if set(manifest) != _KEYS or not isinstance(manifest["members"], dict):
        raise ArtifactError(f"{where}: the manifest has other entries than it should")
    for name in ("graph.json", "weights.safetensors"):
        said = manifest["members"].get(name)
        if said != {"bytes": len(members[name]),
                    "sha256": hashlib.sha256(members[name]).hexdigest()}:
            raise ArtifactError(f"{where}: {name} is not what the manifest says")
    if manifest["stage"] not in _STAGES:
        raise ArtifactError(f"{where}: unknown stage {str(manifest['stage'])[:40]!r}")
    stage = Stage(manifest["stage"])
    graph = _object(members["graph.json"], "graph.json")
    if set(graph) != {"texts", "nodes", "table", "call"} or not all(
            isinstance(graph[k], list) for k in ("texts", "nodes", "table")):
        raise ArtifactError(f"{where}: graph.json has other entries than it should")
    if not all(isinstance(t, str) for t in graph["texts"]):
        raise ArtifactError(f"{where}: graph.json is malformed")
    portable = Portable(tuple(expand(graph)), tuple(graph["texts"]),
                        _tensors(members["weights.safetensors"], where))
    module = from_portable(portable)
    validate(module, stage)
    traced = from_json(graph["call"], module)
    ranges = read_ranges(manifest["check"], len(traced.signature.names))
    return Opened(manifest, portable, traced, stage, ranges)


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is no JSON", why=str(error)[:200]) from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{name} is no JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _check_format(manifest: dict[str, Any], where: str) -> None:
    version = manifest.get("format")
    if type(version) is not int or version < 1:
        raise ArtifactError(f"{where} has no format version")
    if version > FORMAT:
        raise ArtifactError(f"{where} has format {version}, and this fxq reads up to {FORMAT}",
                            why=f"it was written by fxq {str(manifest.get('fxq'))[:20]}",
                            fix="install that version of fxq, or a newer one")


def _tensors(content: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{where}: the weights cannot be read", why=str(error)) from error


def load(path: str | Path, *, target: str | Target | None = None,
         runtime: str = "auto") -> CompiledModel:
    """Load a compiled model, in a process that need not know the model's class.

    `target` overrides the one that it was compiled for, where this machine lacks its engine.
    `runtime="auto"` measures the runtimes on this machine, which takes longer than all the rest:
    a named one loads sooner. (The file does not say which was faster where it was compiled: the
    same model gives the same bytes.)
    Raises ArtifactError for a file that is damaged, foreign or too new, and
    TargetUnavailableError, with what is missing, for a machine that cannot run it.
    """
    opened = open_artifact(path)
    chosen = get_target(target if target is not None else str(opened.manifest["target"]))
    if chosen.engine:
        calls.require_engine(chosen.engine)
    report = _report(opened.manifest["report"], chosen)
    if report.isa == VNNI_ONLY and chosen.name == opened.manifest["target"] and not has_vnni():
        raise TargetUnavailableError(f"{path} is for {VNNI_ONLY}, and this CPU is none",
                                     why="pairs of its weights saturate without VNNI",
                                     fix='compile it again with isa="any"')
    module, texts = opened.module, {opened.stage: format_graph(opened.module)}
    guard = None
    takes = InputGuard(opened.traced.signature.names, _shapes(module), chosen.device)
    with isolated(), quiet():
        if opened.stage is Stage.REFERENCE and chosen.engine:
            guard = guard_for(module, chosen)
            _lower(module, chosen)
            texts[Stage.LOWERED] = format_graph(module)
        check_arrivals(module, takes)
        example = [invented(x) for x in opened.inputs()]
        name, function, choice = select(module, example, runtime, chosen.device)
    content = Content(opened.portable, opened.stage, chosen.engine, opened.ranges)
    return CompiledModel(function=function, traced=opened.traced, takes=takes, guard=guard,
                         texts=texts, graph_module=module, content=content,
                         report=replace(report, runtime=name, runtime_choice=choice))


def _shapes(module: fx.GraphModule) -> ShapeProgram:
    """What the graph takes; never what the file says that it takes."""
    try:
        return shape_program(module)
    except Exception as error:
        raise ArtifactError("no input shapes follow from the graph of this file",
                            why=str(error).split("\n")[0][:300]) from error


def _lower(module: fx.GraphModule, target: Target) -> None:
    """Pack the weights for this machine; what cannot be packed is the file's fault."""
    try:
        for item in LOWER:
            item.run(module, Context(target))
            verify_stage(module, item.after)
    except Exception as error:
        raise ArtifactError(f"the graph of this file cannot be lowered to {target.name}",
                            why=str(error).split("\n")[0][:300]) from error


def _report(values: Any, target: Target) -> Report:
    """The report of the compilation, without its passes; unknown entries are refused."""
    known = {f.name for f in fields(Report)}
    if not isinstance(values, dict) or not set(values) <= known - {"passes"}:
        raise ArtifactError("the manifest's report is not understood")
    try:
        left = tuple(Refusal(**row) for row in values["left_in_float"])
        report = Report(**{**values, "target": target.name, "left_in_float": left})
        str(report)
    except MALFORMED as error:
        raise ArtifactError("the manifest's report is malformed", why=str(error)) from error
    return report
