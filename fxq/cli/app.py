"""The command line: `fxq compile`, `inspect`, `verify`, `export`, `demo`, `targets`; what measures.

Results go to stdout, progress and errors to stderr.
Nothing here imports torch before a command runs, so that `fxq --help` is instant.
`errors.py` has the exit codes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from fxq import __version__
from fxq.cli.errors import DEBUG, run_guarded
from fxq.cli.options import (
    Accuracy,
    Batch,
    Calibrator,
    ClassMap,
    CompiledFile,
    Config,
    Data,
    Force,
    Images,
    Isa,
    Labels,
    LockFile,
    MaxDrop,
    MaxMb,
    MinSpeedup,
    Model,
    Overrides,
    Passes,
    PrintPasses,
    ReportJson,
    Runtime,
    SaveStatistics,
    SchemeName,
    StatisticsFile,
    Strict,
    TargetName,
    Tune,
    Weights,
)

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Make CNNs small and fast, and see what was done.")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fxq {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option(
        "--version", callback=_version, is_eager=True, help="Print the version.")] = False,
          debug: Annotated[bool, typer.Option(
              DEBUG, help="Print the traceback of an error; in any place.")] = False,
          plugin: Annotated[Optional[list[str]], typer.Option(  # noqa: UP045
              help="A plugin's target or operator that a .fxq file may name.")] = None) -> None:
    """Make CNNs small and fast, and see what was done."""
    if plugin:
        from fxq.cli.artifact import load_plugins  # loads torch

        load_plugins(plugin)


@app.command()
def compile(model: Model, weights: Weights = None, data: Data = None,
            target: TargetName = "fbgemm", scheme: SchemeName = "int8_static",
            accuracy: Accuracy = "fast", calibrator: Calibrator = None,
            override: Overrides = None, isa: Isa = None,
            statistics: StatisticsFile = None, save_statistics: SaveStatistics = None,
            runtime: Runtime = "auto", passes: Passes = None, images: Images = 256,
            batch_size: Batch = 16, strict: Strict = False, output: CompiledFile = None,
            lock: LockFile = None, force: Force = False, tune: Tune = False,
            max_drop: MaxDrop = None, min_speedup: MinSpeedup = None, max_mb: MaxMb = None,
            labels: Labels = None, class_map: ClassMap = None,
            print_passes: PrintPasses = False, config: Config = None,
            as_json: ReportJson = False) -> None:
    """Compile a model and print the report."""
    from fxq.cli.compile import compile_model  # torch is imported here, not for --help

    report = compile_model(model, weights, data, target=target, scheme=scheme,
                           calibrator=calibrator, overrides=override or [], runtime=runtime,
                           strict=strict, images=images, isa=isa, batch_size=batch_size,
                           statistics=statistics, save_statistics=save_statistics,
                           output=output, force=force, lock=lock, passes=passes or (),
                           tune=tune, accuracy=accuracy, files=(labels, class_map),
                           max_drop=max_drop, min_speedup=min_speedup, max_mb=max_mb)
    typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else str(report))


Artifact = Annotated[Path, typer.Argument(help="a file that fxq compile -o wrote")]


@app.command()
def inspect(
    file: Artifact,
    graph: Annotated[bool, typer.Option(help="print the graph too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the manifest as JSON")] = False,
) -> None:
    """Say what a .fxq file holds, without running it."""
    from fxq.cli.artifact import inspect_artifact  # loads torch

    text, data = inspect_artifact(file, graph)
    typer.echo(json.dumps(data, indent=2) if as_json else text)


@app.command()
def verify(
    file: Artifact,
    inputs: Annotated[Optional[Path], typer.Option(  # noqa: UP045
        help="safetensors with inputs by name, and output0, output1, … as recorded")] = None,
    isa: Annotated[str, typer.Option(
        help='"all": run it under the kernels of older CPUs too')] = "host",
) -> None:
    """Check a .fxq file, run it, and compare its outputs with the recorded ones."""
    from fxq.cli.artifact import verify_artifact  # loads torch

    typer.echo(verify_artifact(file, inputs, isa))


@app.command()
def export(
    file: Artifact,
    output: Annotated[Path, typer.Option("--output", "-o", help="write it to this .onnx file")],
    force: Force = False,
) -> None:
    """Write a .fxq file as ONNX, in QDQ form, for other runtimes."""
    from fxq.cli.artifact import export_artifact  # loads torch

    typer.echo(export_artifact(file, output, force))


@app.command()
def demo(epochs: Annotated[int, typer.Option(min=1, help="training epochs")] = 14) -> None:
    """Train a small CNN on real digits, compile it, and compare float with int8."""
    from fxq.cli.demo import run_demo  # loads torch

    typer.echo(run_demo(epochs, progress=lambda text: typer.echo(text, err=True)))


@app.command()
def targets() -> None:
    """List the targets, their schemes, whether this machine can run them; and all plugins."""
    from fxq.cli.compile import plugin_table, target_table  # loads torch

    typer.echo("\n\n".join(filter(None, (target_table(), plugin_table()))))


@app.command()
def env(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Say what this machine is, and which targets it can run."""
    from fxq.cli.environment import environment_text  # works without torch

    typer.echo(environment_text(as_json))


def main() -> None:
    """Run the command line; errors are one message on stderr, without a traceback."""
    from fxq.cli import commands  # they take the options of this file's application
    from fxq.system import logs  # not for --help

    unknown = logs.configure()
    if unknown:
        typer.echo(f"warning: FXQ_LOGS knows {', '.join(logs.TOPICS)} and all, not "
                   f"{', '.join(unknown)}", err=True)
    commands.register(app)
    arguments = [a for a in sys.argv[1:] if a != DEBUG]
    run_guarded(lambda: app(arguments, standalone_mode=False), DEBUG in sys.argv[1:])


if __name__ == "__main__":
    main()
