"""What `fxq inspect` and `fxq verify` do with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tabulate import tabulate

import fxq
from fxq.api.check_program import checked_program
from fxq.artifact.check import check_of
from fxq.artifact.read import Opened, open_artifact
from fxq.cli.isa import compare_isas, compare_native
from fxq.cli.output_paths import check_outputs
from fxq.compiler.report import read_report
from fxq.errors import ConfigError, VerificationError
from fxq.export.onnx_file import export_onnx
from fxq.frontend.operators import load_operator
from fxq.ir.printer import format_graph
from fxq.system import plugins
from fxq.system.machine import cpu_facts
from fxq.targets import get_target


def load_plugins(names: list[str]) -> None:
    """Import plugins' targets and operators by name: files may name them from then on."""
    for name in names:
        if name in plugins.plugins(plugins.TARGETS):
            get_target(name)
        else:
            load_operator(name)


def inspect_artifact(path: Path, graph: bool) -> tuple[str, dict[str, Any]]:
    """(text, data) about a file, without packing or running it."""
    opened = open_artifact(path)
    manifest, report = opened.manifest, read_report(opened.manifest["report"])
    rows = [("file", f"{path.name}, format {manifest['format']}, fxq {manifest['fxq']}, "
                     f"torch {manifest['torch']}"),
            ("target", f"{manifest['target']}, scheme {report.scheme}"),
            ("graph", f"{opened.stage}, {len(opened.portable.nodes)} nodes, "
                      f"{len(opened.portable.tensors)} tensors"),
            ("size", f"{report.float_bytes / 1e6:.3f} MB in float, "
                     f"{report.size_bytes / 1e6:.3f} MB of parameters, "
                     f"{path.stat().st_size / 1e6:.3f} MB on disk"),
            ("low precision", f"{100 * report.integer_macs / max(report.macs, 1):.2f} % of "
                              f"{report.macs / 1e6:.1f} M MACs ({report.arithmetic})"),
            *_program(opened),
            ("in float", f"{len(report.left_in_float)} nodes"),
            ("runs on", report.isa or "any CPU"),
            ("built on", ", ".join(k for k, v in manifest["cpu"].items() if v) or "plain CPU")]
    text = str(tabulate(rows, tablefmt="plain"))
    if graph:
        text += "\n\n" + format_graph(opened.module).rstrip()
    return text, manifest | {"nodes": len(opened.portable.nodes)}


def _program(opened: Opened) -> list[tuple[str, str]]:
    """About the program that a load runs; raises ArtifactError for one of another graph."""
    program = checked_program(opened)
    return [("program", f"{len(program.code)} steps, {(program.lane + program.wide) / 1e6:.3f} MB "
                        f"for an image, batch {program.images}")] if program else []


def export_artifact(path: Path, output: Path, force: bool) -> str:
    """Write a file's graph for another runtime, without packing or running it."""
    if output.exists() and not force:
        raise ConfigError(f"{output} exists", fix="choose another name, or pass --force")
    check_outputs(output)
    opened = open_artifact(path)
    report = read_report(opened.manifest["report"])
    export_onnx(output, opened.portable, opened.convention.signature.names,
                {"target": report.target, "scheme": report.scheme})
    return f"saved {output} ({output.stat().st_size / 1e6:.3f} MB)"


def verify_artifact(path: Path, inputs: Path | None, isa: str = "host") -> str:
    """Check a file and run it; raises ArtifactError or VerificationError.

    `inputs` is a safetensors file with the model's inputs by name and, as `output0`, `output1`, …,
    what the model gave for them. With isa="all", the file is run under older CPUs' kernels too.
    """
    if isa not in ("host", "all"):
        raise ConfigError(f"--isa {isa!r}", fix='it is "host" or "all"')
    opened = open_artifact(path)
    program = checked_program(opened)
    native = opened.manifest["engine"] == "native"  # whose programs are what is recorded
    model = fxq.load(path, runtime="auto" if native else "python")
    lines = ["digests, graph and signature are as they were written"]
    lines += ["the program is the one that the graph gives"] if program else []
    recorded = opened.manifest["check"]  # empty for devices whose bits differ
    same = recorded and check_of(lambda *x: model._flat(list(x)), opened.inputs()) == recorded
    if same:
        lines.append("outputs for the built-in inputs are equal, bit for bit")
    elif not recorded:
        lines.append("no outputs were recorded: the device's bits differ, or the model refuses "
                     "inputs that are invented")
    elif cpu_facts() == opened.manifest["cpu"] and _same_torch(opened.manifest["torch"]):
        raise VerificationError(f"{path} computes other outputs than when it was saved",
                                why="the CPU and torch are the same kind as then",
                                fix="build it again, and please report this")
    else:
        lines.append("outputs differ in bits: it was built on another kind of CPU or torch")
    if inputs is not None:
        lines.append(_compare_recorded(path, model, inputs))
    if isa == "all":
        lines += compare_native(path) if native else compare_isas(path, model.report.isa)
    return "\n".join(lines)


def _same_torch(version: str) -> bool:
    return str(torch.__version__) == version


def _compare_recorded(path: Path, model: fxq.CompiledModel, file: Path) -> str:
    try:
        known = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file} cannot be read", why=str(error),
                          fix="save inputs and outputs with safetensors") from error
    names = model._signature.names
    missing = [n for n in (*names, "output0") if n not in known]
    if missing:
        raise ConfigError(f"{file} does not hold {missing[0]!r}", why=f"the model's inputs are "
                          f"{', '.join(names)}; outputs are called output0, output1, …",
                          fix="save them under these names")
    outputs = model._flat([known[n] for n in names])
    for position, given in enumerate(outputs):
        recorded = known.get(f"output{position}")
        if recorded is not None and not (recorded.dtype == given.dtype
                                         and torch.equal(recorded, given)):
            raise VerificationError(f"output {position} of {path} is not the recorded one",
                                    why=f"SQNR {fxq.sqnr(recorded.float(), given.float()):.1f} dB")
    return f"recorded outputs in {file.name} are equal, bit for bit"
