"""What `fxq compile` does between its options and its report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tabulate import tabulate

import fxq
from fxq.cli.data import DataOptions, inputs_of, read_data, refuse_other_classes
from fxq.cli.models import load_model
from fxq.cli.output_paths import check_outputs
from fxq.cli.warnings import on_stderr
from fxq.cli.weights import mark
from fxq.compiler.lock import read_lock
from fxq.compiler.report import Report
from fxq.errors import ConfigError
from fxq.frontend.example_inputs import image_shape
from fxq.quantization.schemes import SCHEMES
from fxq.reconstruction.work import Learning
from fxq.system import plugins
from fxq.targets import availability, get_target, target_names


def compile_model(name: str, weights: str | None, data: str | None, *, images: int,
                  batch_size: int, statistics: Path | None, save_statistics: Path | None,
                  overrides: list[str], output: Path | None, force: bool,
                  lock: Path | None, files: tuple[str | None, Path | None] = (None, None),
                  **options: Any) -> Report:
    """Load, calibrate, compile, and save; progress goes to stderr."""
    if output and output.exists() and not force:
        raise ConfigError(f"{output} exists", fix="choose another name, or pass --force")
    if statistics and (data or save_statistics):
        raise ConfigError("--statistics replaces --data and --save-statistics", fix="drop one")
    if save_statistics and not data:
        raise ConfigError("--save-statistics needs images to look at", fix="pass --data DIR")
    check_outputs(output, save_statistics, lock)
    if lock and lock.exists():
        read_lock(lock)  # a broken one ends the command before the work, not after it
    loaded = load_model(name, weights)
    model, shape = loaded.model, image_shape(loaded.model)
    chosen = DataOptions(data, images, batch_size, *files)
    batches: Any = read_data(chosen, shape[1] if shape else 224, loaded.preprocess)
    if any(files) or options.get("max_drop") is not None:
        refuse_other_classes(model, batches)
    inputs = (inputs_of(batches)[:1],) if batches is not None else None  # SQNR is of real data
    options |= {"lock": lock, "example_inputs": inputs, "overrides": parse_overrides(overrides)}
    seen: Any = statistics
    total = len(batches) if hasattr(batches, "__len__") else None
    with _progress(total) as (progress, learned), on_stderr():
        if save_statistics and batches:
            seen = _calibrated(model, batches, save_statistics, options, progress)
        compiled = fxq.compile(model, calibration_data=batches, statistics=seen, progress=progress,
                               learning=Learning(progress=learned), **options)
    mark(compiled, loaded, name)
    if output:
        compiled.save(output)
        typer.echo(f"saved {output} ({output.stat().st_size / 1e6:.3f} MB)", err=True)
    return compiled.report


def parse_overrides(texts: list[str]) -> dict[str, str]:
    """PATTERN=SCHEME as given on the command line; raises ConfigError for anything else."""
    broken = [text for text in texts if not all(text.partition("="))]
    if broken:
        raise ConfigError(f"--override {broken[0]!r} is not PATTERN=SCHEME",
                          fix='write it like --override "classifier.*=fp32"')
    return dict(text.split("=", 1) for text in texts)


def _calibrated(model: Any, batches: Any, path: Path, options: dict[str, Any],
                progress: Callable[[int], None]) -> fxq.Statistics:
    """Run the data once and keep what was seen in a file."""
    names = ("target", "scheme", "calibrator", "overrides", "example_inputs", "isa", "passes",
             "accuracy")
    prepared = fxq.prepare(model, **{name: options[name] for name in names})
    seen = fxq.calibrate(prepared, batches, progress=progress)
    seen.save(path)
    return seen


@contextmanager
def _progress(total: int | None) -> Iterator[tuple[Callable[[int], None],
                                                   Callable[[int, int], None]]]:
    """Bars on stderr while batches run, and while blocks are learned; nothing when it is piped."""
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn(), console=Console(stderr=True),
                   disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task("calibrate", total=total)
        learning = bar.add_task("learn", visible=False)
        yield (lambda count: bar.update(task, completed=count),
               lambda count, of: bar.update(learning, completed=count, total=of, visible=True))


def target_table() -> str:
    """All targets, what they run, and whether they are available here."""
    rows = [(t.name, availability(t), ", ".join(
        name for name, scheme in SCHEMES.items() if t.why_not_scheme(scheme) is None), t.summary)
            for t in map(get_target, target_names())]
    return str(tabulate(rows, headers=("target", "available", "schemes", "what it is")))


def plugin_table() -> str:
    """What installed packages add, and which; empty where none does. Imports none of them."""
    rows = [(p.group, p.name, f"{p.owner} {p.version}") for p in plugins.installed()]
    return str(tabulate(rows, headers=("plugins of", "name", "package"))) if rows else ""
