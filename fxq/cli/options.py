"""The options of the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def _configure(context: typer.Context, path: Optional[Path]) -> Optional[Path]:  # noqa: UP045
    """Values of the file become the defaults of the command's options."""
    if path is not None:
        from fxq.cli.configuration import read_configuration  # loads torch

        known = [str(p.name) for p in context.command.params if p.name != "config"]
        context.default_map = {**(context.default_map or {}), **read_configuration(path, known)}
    return path


def _print_passes(value: bool) -> None:
    if value:
        from fxq.compiler.pipeline import pipeline_table  # loads torch

        typer.echo(pipeline_table(), nl=False)
        raise typer.Exit


Model = Annotated[str, typer.Argument(help="torchvision:NAME, timm:NAME, or module:factory "
                                           "(a module:factory imports and runs that code)")]
Weights = Annotated[Optional[str], typer.Option(  # noqa: UP045 (typer reads this form)
    metavar="FILE|DEFAULT",
    help=".safetensors, or a checkpoint that torch.load reads with weights_only=True; DEFAULT "
         "fetches the pretrained weights of torchvision: and timm: models")]
Data = Annotated[Optional[str], typer.Option(  # noqa: UP045
    help="folder of images, searched recursively, or module:loader")]
Config = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    "--config", is_eager=True, callback=_configure,
    help="fxq.toml with the keys of these options; flags win over it")]
Subject = Annotated[str, typer.Argument(
    metavar="MODEL", help="a .fxq file, torchvision:NAME, timm:NAME, or module:factory")]
Known = Annotated[Optional[str], typer.Option(  # noqa: UP045
    "--model", help="with a .fxq file: the float model that it came from")]
TargetName = Annotated[str, typer.Option(help="where it shall run")]
SchemeName = Annotated[str, typer.Option(help="how it is quantized")]
Images = Annotated[int, typer.Option(help="at most this many images", min=1)]
Batch = Annotated[int, typer.Option(min=1)]
Labels = Annotated[Optional[str], typer.Option(  # noqa: UP045
    metavar="FILE.csv|none", help="rows of (file, class index); none: images without classes")]
ClassMap = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    help="class index by folder name: .json object, or .csv rows")]
Output = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    "--output", "-o", help="write it to this file; its ending chooses the form")]
CompiledFile = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    "--output", "-o", help="write the compiled model to this .fxq file")]
Force = Annotated[bool, typer.Option(help="replace an existing output file")]
Calibrator = Annotated[Optional[str], typer.Option(  # noqa: UP045
    help="mse, minmax, entropy, percentile:99.9, sigma:3, moving_average, auto")]
Accuracy = Annotated[str, typer.Option(
    metavar="fast|best", help="best: repairs and learning on --data; takes longer, runs as fast")]
Overrides = Annotated[Optional[list[str]], typer.Option(  # noqa: UP045
    "--override", help="PATTERN=SCHEME for a module path or operator; may be repeated")]
Isa = Annotated[Optional[str], typer.Option(  # noqa: UP045
    help='"any": right numbers on x86 CPUs without VNNI too')]
StatisticsFile = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    help="read calibration from this file instead of --data")]
SaveStatistics = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    help="write what calibration saw to this file")]
Runtime = Annotated[str, typer.Option(help="auto, python, torchscript, native, or a plugin's")]
Passes = Annotated[Optional[list[str]], typer.Option(  # noqa: UP045
    "--pass", help="a pass of an installed plugin; may be repeated")]
Strict = Annotated[bool, typer.Option(help="refuse what stays in float")]
LockFile = Annotated[Optional[Path], typer.Option(  # noqa: UP045
    help="write the build's provenance here, or hold this build to it")]
Tune = Annotated[bool, typer.Option(
    "--tune", help="native: measure on this machine how each step is computed best; same bits")]
MaxDrop = Annotated[Optional[float], typer.Option(  # noqa: UP045
    help="mixed precision: points of top-1 that may be lost on --data (by its labels; without "
         "any, points of agreement with float)")]
MinSpeedup = Annotated[Optional[float], typer.Option(  # noqa: UP045
    help="mixed precision: times float, measured on this machine")]
MaxMb = Annotated[Optional[float], typer.Option(  # noqa: UP045
    help="mixed precision: megabytes of parameters")]
PrintPasses = Annotated[bool, typer.Option(
    "--print-passes", callback=_print_passes, is_eager=True,
    help="print the pipeline, with the reason for each place, and stop")]
ReportJson = Annotated[bool, typer.Option("--json", help="the report as JSON")]
Json = Annotated[bool, typer.Option("--json", help="as JSON")]
