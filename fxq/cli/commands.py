"""The commands that measure: `fxq profile`, `compare`, `debug`, `plan`, `check`, `explain`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from fxq.cli.options import (
    Batch,
    ClassMap,
    Config,
    Data,
    Images,
    Json,
    Known,
    Labels,
    Output,
    SchemeName,
    Subject,
    TargetName,
    Weights,
)


def _subject(name: str, model: str | None, weights: str | None, *, data: str | None, images: int,
             batch_size: int, files: tuple[str | None, Path | None] = (None, None),
             **options: Any) -> Any:
    from fxq.cli.data import DataOptions  # loads torch
    from fxq.cli.measure import subject  # loads torch

    return subject(name, model, weights, DataOptions(data, images, batch_size, *files), **options)


def profile(model: Subject, float_model: Known = None, weights: Weights = None, data: Data = None,
            target: TargetName = "fbgemm", scheme: SchemeName = "int8_static",
            images: Images = 64, batch_size: Batch = 16,
            rounds: Annotated[int, typer.Option(min=5, help="runs to take medians of")] = 50,
            confirm: Annotated[bool, typer.Option(
                "--confirm", help="check advice: compile with it, and measure again")] = False,
            output: Output = None, config: Config = None, as_json: Json = False) -> None:
    """Measure every node: time beside float, bytes, MACs, SQNR. -o FILE.html|.json|.csv|.md."""
    from fxq.cli.measure import check_form, profiled, write  # loads torch

    check_form(output)
    about = _subject(model, float_model, weights, data=data, target=target, scheme=scheme,
                     images=images, batch_size=batch_size)
    found = profiled(about, rounds, confirm)
    write(found, output)
    typer.echo(found.to_json() if as_json else str(found))


def compare(model: Subject, float_model: Known = None, weights: Weights = None, data: Data = None,
            target: TargetName = "fbgemm", scheme: SchemeName = "int8_static",
            images: Images = 256, batch_size: Batch = 16,
            limit: Annotated[int, typer.Option(
                min=0, help="batches whose inner values are compared")] = 4,
            labels: Labels = None, class_map: ClassMap = None, config: Config = None,
            as_json: Json = False) -> None:
    """Compare every value with the float model, worst first; top-1 where there are labels."""
    from fxq.cli.measure import compared  # loads torch

    about = _subject(model, float_model, weights, data=data, target=target, scheme=scheme,
                     images=images, batch_size=batch_size, files=(labels, class_map), labels=True)
    found = compared(about, limit)
    typer.echo(found.to_json() if as_json else str(found))


def debug(model: Subject, float_model: Known = None, weights: Weights = None, data: Data = None,
          target: TargetName = "fbgemm", scheme: SchemeName = "int8_static",
          images: Images = 64, batch_size: Batch = 4,
          output: Annotated[Optional[Path], typer.Option(  # noqa: UP045
              "--output", "-o", help="a new folder, to run the node at fault by itself")] = None,
          config: Config = None, as_json: Json = False) -> None:
    """Name the first node that is further from float than its formats explain."""
    from fxq.cli.measure import debugged  # loads torch
    from fxq.cli.output_paths import check_folder  # loads torch

    check_folder(output)
    about = _subject(model, float_model, weights, data=data, target=target, scheme=scheme,
                     images=images, batch_size=batch_size)
    found = debugged(about, output)
    typer.echo(found.to_json() if as_json else str(found))
    if found.first is not None or found.runtime:
        raise typer.Exit(1)


def plan(model: Subject, weights: Weights = None,
         target: Annotated[Optional[list[str]], typer.Option(help="may be repeated")] = None,  # noqa: UP045
         scheme: Annotated[Optional[list[str]], typer.Option(help="may be repeated")] = None,  # noqa: UP045
         config: Config = None, as_json: Json = False) -> None:
    """Predict coverage, size and time for targets and schemes, without data."""
    from fxq.cli.measure import planned  # loads torch

    found = planned(model, weights, target or [], scheme or [])
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))


def check(model: Subject, float_model: Known = None, weights: Weights = None, data: Data = None,
          target: TargetName = "fbgemm", scheme: SchemeName = "int8_static",
          max_drop: Annotated[Optional[float], typer.Option(  # noqa: UP045
              help="points of top-1 that may be lost")] = None,
          min_speedup: Annotated[Optional[float], typer.Option(help="times float")] = None,  # noqa: UP045
          max_mb: Annotated[Optional[float], typer.Option(help="megabytes of parameters")] = None,  # noqa: UP045
          min_sqnr: Annotated[Optional[float], typer.Option(help="dB of the outputs")] = None,  # noqa: UP045
          images: Images = 256, batch_size: Batch = 16, labels: Labels = None,
          class_map: ClassMap = None, config: Config = None, as_json: Json = False) -> None:
    """A gate for CI: exit code 1 when a limit does not hold."""
    from fxq.cli.gates import gate_table, gates  # loads torch

    about = _subject(model, float_model, weights, data=data, target=target, scheme=scheme,
                     images=images, batch_size=batch_size, files=(labels, class_map),
                     labels=max_drop is not None)
    found = gates(about, max_drop, min_speedup, max_mb, min_sqnr)
    typer.echo(json.dumps([asdict(g) for g in found], indent=2) if as_json else gate_table(found))
    if not all(g.holds for g in found):
        raise typer.Exit(1)


def explain(model: Subject, weights: Weights = None, data: Data = None,
            target: TargetName = "fbgemm", scheme: SchemeName = "int8_static",
            node: Annotated[str, typer.Option(help="glob over module paths")] = "*",
            images: Images = 64, batch_size: Batch = 16, config: Config = None,
            as_json: Json = False) -> None:
    """Say why each node is what it is: what every pass did, and what it refused."""
    from fxq.cli.explain import explain_text, explained  # loads torch

    about = _subject(model, None, weights, data=data, target=target, scheme=scheme, images=images,
                     batch_size=batch_size)
    rows = explained(about, node)
    typer.echo(json.dumps(rows, indent=2) if as_json else explain_text(rows))


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the application, once."""
    known = {command.callback for command in app.registered_commands}
    for command in (profile, compare, debug, plan, check, explain):
        if command not in known:
            app.command()(command)
