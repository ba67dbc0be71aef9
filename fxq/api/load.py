"""`fxq.load`: a compiled model from a file, linked to this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import fx

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.analysis.saturation import VNNI_ONLY
from fxq.artifact.check import check_of, invented
from fxq.artifact.read import Opened, open_artifact
from fxq.artifact.read_graph import from_portable
from fxq.artifact.write import Content
from fxq.compiled import CompiledModel, Text
from fxq.compiler.link import link
from fxq.compiler.manager import Manager
from fxq.compiler.report import Report, read_report
from fxq.errors import ArtifactError, ConfigError, TargetUnavailableError
from fxq.frontend.operators import load_operator
from fxq.ir.facts import info
from fxq.ir.printer import format_graph
from fxq.ir.stages import Stage
from fxq.runtime.executable import Executable
from fxq.runtime.shape_program import shape_program
from fxq.system.machine import has_vnni
from fxq.system.torch_state import isolated, quiet
from fxq.targets import Target, get_target, known_target

LARGEST_CHECKED = 1 << 30  # bytes


def load(path: str | Path, *, target: str | Target | None = None, runtime: str = "auto",
         verify: bool = True, operators: Sequence[str] = ()) -> CompiledModel:
    """Load a compiled model, in a process that need not know the model's class.

    `target` overrides the one that it was compiled for, where this machine lacks its engine.
    `runtime="auto"` measures the runtimes on this machine. `verify` holds the outputs of native
    programs to those that the file records, whose bits are the same on every machine. Of other
    targets, and where the file records none or torch's float kernels here give others, it compares
    each kernel of this machine with the file's integers, step by step, where all values of a run
    take less than 1 GB together: that takes several times longer. (The file does not say which
    runtime was faster where it was compiled: the same model gives the same bytes.) `operators`
    names those of installed plugins that the file may hold: a file alone makes none of them load.
    Raises ArtifactError for a file that is damaged, foreign or too new, and
    TargetUnavailableError, with what is missing, for a machine that cannot run it.
    """
    for name in operators:
        load_operator(name)
    if isinstance(target, str):
        target = get_target(target)  # its package may bring the operators of the file
    opened = open_artifact(path)
    chosen = _target_of(opened, target)
    report = _report_for(opened, chosen, path)
    if verify and chosen.engine == "native" and runtime in ("auto", "native"):
        model = _model(opened, chosen, report, runtime, stepwise=False)
        if _gives_what_was_recorded(model, opened):
            return model
        opened = open_artifact(path)  # linking has rewritten its graph
    small = _bytes_of_values(opened.module) < LARGEST_CHECKED
    return _model(opened, chosen, report, runtime, stepwise=verify and small)


def _model(opened: Opened, target: Target, report: Report, runtime: str,
           stepwise: bool) -> CompiledModel:
    """The file's model on this machine; `stepwise` holds each kernel to the file's integers."""
    manager = Manager(Context(target), [invented(x) for x in opened.inputs()], stepwise,
                      stage=opened.stage, recording=False)
    executable = _linked(opened, manager, runtime)
    content = Content(opened.portable, opened.stage, target.engine, opened.ranges)
    texts: dict[Stage, Text] = {
        manager.stage: partial(format_graph, executable.graph_module),
        opened.stage: lambda: format_graph(from_portable(opened.portable))}
    return CompiledModel(executable, opened.convention, content, replace(
        report, runtime=executable.runtime, runtime_choice=executable.choice), texts)


def _gives_what_was_recorded(model: CompiledModel, opened: Opened) -> bool:
    """The outputs for invented inputs have the digest that the file has for them."""
    recorded = opened.manifest["check"]
    with isolated():
        return bool(recorded) and recorded == check_of(
            lambda *x: model._flat(list(x)), opened.inputs())


def _report_for(opened: Opened, chosen: Target, path: str | Path) -> Report:
    """The file's report; raises TargetUnavailableError where this machine cannot run the file."""
    chosen.require()
    report = replace(read_report(opened.manifest["report"]), target=chosen.name)
    if report.isa == VNNI_ONLY and chosen.name == opened.manifest["target"] and not has_vnni():
        raise TargetUnavailableError(f"{path} is for {VNNI_ONLY}, and this CPU is none",
                                     why="pairs of its weights saturate without VNNI",
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
