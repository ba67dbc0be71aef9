"""Read a compiled model back, checking everything; nothing in the file is ever executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, fx

from fxq.analysis.context import Context
from fxq.analysis.saturation import VNNI_ONLY
from fxq.artifact.compact import expand
from fxq.artifact.container import unpack
from fxq.artifact.manifest import read_manifest
from fxq.artifact.read_graph import from_portable
from fxq.artifact.signature import from_json
from fxq.artifact.validate import validate
from fxq.artifact.write import Content, Input, Range, inputs_of, invented, read_ranges
from fxq.artifact.write_graph import Portable
from fxq.compiled import CompiledModel
from fxq.compiler.pipeline import LOWER
from fxq.compiler.report import Report
from fxq.errors import ArtifactError, ConfigError, TargetUnavailableError, inert
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
    def report(self) -> Report:
        """The report of the compilation, without its passes."""
        values = self.manifest["report"]
        left = tuple(Refusal(**row) for row in values.get("left_in_float", ()))
        return Report(**{**values, "passes": (), "left_in_float": left})

    @property
    def module(self) -> fx.GraphModule:
        return self.traced.graph_module


def open_artifact(path: str | Path) -> Opened:
    """Read and check a file without running it; raises ArtifactError."""
    where = str(path)
    members = unpack(read_file(Path(path)), where)
    manifest = read_manifest(_object(members["manifest.json"], "manifest.json"), where)
    for name in ("graph.json", "weights.safetensors"):
        said = manifest["members"].get(name)
        if said != {"bytes": len(members[name]),
                    "sha256": hashlib.sha256(members[name]).hexdigest()}:
            raise ArtifactError(f"{where}: {name} is not what the manifest says")
    graph = _object(members["graph.json"], "graph.json")
    if set(graph) != {"texts", "nodes", "table", "call"} or not all(
            isinstance(graph[k], list) for k in ("texts", "nodes", "table")):
        raise ArtifactError(f"{where}: graph.json has other entries than it should")
    if not all(isinstance(t, str) for t in graph["texts"]):
        raise ArtifactError(f"{where}: graph.json is malformed")
    texts = tuple(inert(text) for text in graph["texts"])
    portable = Portable(tuple(expand(graph)), texts,
                        _tensors(members["weights.safetensors"], where))
    module = from_portable(portable)
    stage = Stage(manifest["stage"])
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
    chosen = _target(opened, target)
    if chosen.engine:
        calls.require_engine(chosen.engine)
    report = replace(opened.report, target=chosen.name)
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


def _target(opened: Opened, target: str | Target | None) -> Target:
    """The target asked for, or the file's."""
    if target is not None:
        return get_target(target)
    name = opened.manifest["target"]
    try:
        return get_target(name)
    except ConfigError as error:
        raise ArtifactError(f"the file is for the target {name!r}, which is not known here",
                            fix=error.fix) from error
