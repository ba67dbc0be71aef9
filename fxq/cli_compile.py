"""What `fxq compile` does between its options and its report."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tabulate import tabulate

import fxq
from fxq.compiler import SYNTHETIC, FxqWarning
from fxq.images import image_batches
from fxq.inputs import image_shape
from fxq.models import load_model
from fxq.report import Report
from fxq.scheme import SCHEMES, get_scheme
from fxq.targets import TARGETS


def compile_model(name: str, weights: Path | None, data: Path | None, *, images: int,
                  batch_size: int, **options: Any) -> Report:
    """Load, calibrate and compile; progress goes to stderr."""
    model = load_model(name, weights)
    shape = image_shape(model)
    size = shape[1] if shape else 224
    batches = image_batches(data, size, images, batch_size) if data else None
    bar = Progress(TextColumn("calibrate"), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn(), console=Console(stderr=True),
                   disable=not sys.stderr.isatty())
    inputs = (next(iter(batches))[:1],) if batches else None  # so that SQNR is that of an image
    with bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FxqWarning)
        task = bar.add_task("", total=len(batches) if batches else None)
        compiled = fxq.compile(model, calibration_data=batches, example_inputs=inputs,
                               progress=lambda n: bar.update(task, completed=n), **options)
    if batches is None and get_scheme(options["scheme"]).needs_statistics:
        typer.echo(f"warning: {SYNTHETIC.replace('calibration_data=loader', '--data DIR')}",
                   err=True)
    return compiled.report


def target_table() -> str:
    """All targets, what they run, and whether they are available here."""
    import torch

    engines = [*torch.backends.quantized.supported_engines, None]
    rows = [(t.name, "yes" if t.engine in engines else "no", ", ".join(
        name for name, scheme in SCHEMES.items() if t.why_not_scheme(scheme) is None), t.summary)
            for t in TARGETS.values()]
    return str(tabulate(rows, headers=("target", "available", "schemes", "what it is")))
