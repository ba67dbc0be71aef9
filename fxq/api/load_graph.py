"""Loading by the graph: everything in the file is checked, lowered and linked to this machine."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from torch import fx

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.analysis.saturation import VNNI_ONLY
from fxq.artifact.check import check_of, invented
from fxq.artifact.members import File
from fxq.artifact.read import Opened, open_members
from fxq.artifact.read_graph import from_portable
from fxq.artifact.write import Content
from fxq.compiled import CompiledModel, Insides, Text
from fxq.compiler.link import link
from fxq.compiler.manager import Manager
from fxq.compiler.report import Report, read_report
from fxq.errors import ArtifactError, ConfigError, TargetUnavailableError
from fxq.ir.facts import info
from fxq.ir.printer import format_graph
from fxq.ir.stages import Stage
from fxq.runtime.executable import Executable
from fxq.runtime.shape_program import shape_program
from fxq.system.machine import has_vnni
from fxq.system.once import made
from fxq.system.torch_state import isolated, quiet
from fxq.targets import Target, get_target, known_target

LARGEST_CHECKED = 1 << 30  # bytes


def load_graph(file: File, target: str | Target | None, runtime: str,
               verify: bool) -> CompiledModel:
    """The model of a file; see `fxq.load`."""
    if isinstance(target, str):
        target = get_target(target)  # its package may bring the operators of the file
    opened = open_members(file)
    chosen = _target_of(opened, target)
    report = _report_for(opened, chosen)
    if verify and chosen.engine == "native" and runtime in ("auto", "native"):
        model = _model(opened, chosen, report, runtime, stepwise=False)
        if _gives_what_was_recorded(model, opened):
            return model
        opened = open_members(file)  # linking has rewritten its graph
    small = _bytes_of_values(opened.module) < LARGEST_CHECKED
    return _model(opened, chosen, report, runtime, stepwise=verify and small)


def _model(opened: Opened, target: Target, report: Report, runtime: str,
           stepwise: bool) -> CompiledModel:
    """The file's model on this machine; `stepwise` holds each kernel to the file's integers."""
    executable, insides = linked_file(opened, target, runtime, stepwise)
    said = replace(report, runtime=executable.runtime, runtime_choice=executable.choice)
    return CompiledModel(executable, opened.convention, made(said), made(insides))


def linked_file(opened: Opened, target: Target, runtime: str = "auto",
                stepwise: bool = False) -> tuple[Executable, Insides]:
    """What runs the graph of a file, and what tools look at. Rewrites the opened graph."""
    manager = Manager(Context(target), [invented(x) for x in opened.inputs()], stepwise,
                      stage=opened.stage, recording=False)
    executable = _linked(opened, manager, runtime)
    content = Content(opened.portable, opened.stage, target.engine, opened.ranges)
    texts: dict[Stage, Text] = {
        manager.stage: partial(format_graph, executable.graph_module),
        opened.stage: lambda: format_graph(from_portable(opened.portable))}
    return executable, Insides(executable.graph_module, content, texts)


def _gives_what_was_recorded(model: CompiledModel, opened: Opened) -> bool:
    """The outputs for invented inputs have the digest that the file has for them."""
    recorded = opened.manifest["check"]
    with isolated():
        return bool(recorded) and recorded == check_of(
            lambda *x: model._flat(list(x)), opened.inputs())


def _report_for(opened: Opened, chosen: Target) -> Report:
    """The file's report; raises TargetUnavailableError where this machine cannot run the file."""
    chosen.require()
    report = replace(read_report(opened.manifest["report"]), target=chosen.name)
    if report.isa == VNNI_ONLY and chosen.name == opened.manifest["target"] and not has_vnni():
        what = f"{opened.file.where} is for {VNNI_ONLY}, and this CPU is none"
        raise TargetUnavailableError(what, why="pairs of its weights saturate without VNNI",
                                     fix='compile it again with isa="any"')
    return report


def _linked(opened: Opened, manager: Manager, runtime: str) -> Executable:
    """Kernel rows of this target, then `link`; what a foreign graph breaks is the file's fault."""
    target = manager.context.target
    try:
        with isolated(), quiet():
            choose_rows(opened.module, target)
            takes = (opened.convention.signature.names, shape_program(opened.module))
            return link(opened.module, manager, takes, runtime)
    except (ConfigError, TargetUnavailableError):
        raise
    except Exception as error:  # whatever a foreign graph makes torch stumble over
        raise ArtifactError(f"the graph of this file cannot run on {target.name}",
                            why=str(error).split("\n")[0][:300]) from error


def _bytes_of_values(module: fx.GraphModule) -> int:
    """Of all values of a run, as float32: the check keeps them all."""
    return sum(4 * math.prod(info(n).shape or (0,)) for n in module.graph.nodes)


def _target_of(opened: Opened, target: str | Target | None) -> Target:
    """The target asked for, or the file's; a name in a file never makes a plugin load."""
    if target is not None:
        return get_target(target)
    name = opened.manifest["target"]
    found = known_target(name)
    if found is None:
        raise ArtifactError(f"the file is for the target {name!r}, which is not loaded here",
                            why="the name of a file imports no other package's code",
                            fix=f"load it with target={name!r} if you trust that package")
    return found
