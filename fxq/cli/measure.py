"""What `fxq profile`, `compare`, `plan`, `check` and `explain` do."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

import fxq
from fxq.cli.data import DataOptions, FolderBatches, inputs_of, read_data, refuse_other_classes
from fxq.cli.models import RANDOM, load_model
from fxq.cli.output_paths import check_outputs
from fxq.cli.warnings import on_stderr
from fxq.cli.weights import mark, refuse_other_weights, warn_of_random
from fxq.compiled import CompiledModel
from fxq.errors import ConfigError
from fxq.frontend.example_inputs import example_inputs_for, image_shape
from fxq.ir.facts import info, qparams
from fxq.ir.printer import target_name
from fxq.profiler.compare import fused_graph
from fxq.profiler.forecast import SCHEMES, TARGETS
from fxq.system.timing import Spread, turns

FORMATS = {".html": "to_html", ".json": "to_json", ".csv": "to_csv", ".md": "to_markdown",
           ".trace": "to_chrome_trace"}


@dataclass(frozen=True)
class Subject:
    """What a command is about: a compiled model, the model it came from, and data, if given."""

    compiled: CompiledModel
    model: nn.Module | None
    data: Iterable[Any] | None
    recompile: Any = None  # overrides -> the model compiled with them too, where there is a model

    def example(self) -> torch.Tensor:
        """One input: of the data, else of the shape that the model was compiled for."""
        if self.data is not None:
            return inputs_of(self.data)[:1]
        place = next(n for n in self.compiled.graph_module.graph.nodes if n.op == "placeholder")
        generator = torch.Generator().manual_seed(0)
        return torch.randn(info(place).shape or (), generator=generator).to(info(place).dtype)


def subject(name: str, model_name: str | None, weights: str | None, data: DataOptions, *,
            labels: bool = False, **options: Any) -> Subject:
    """Load a .fxq file, or compile a model by name; raises ConfigError for neither.

    With `labels`, those of the data must be classes of the model; else they are left out.
    """
    is_file = name.endswith(".fxq") or Path(name).is_file()
    if is_file and weights is not None and model_name is None:
        raise ConfigError("--weights beside a file needs --model",
                          why="the file has weights of its own", fix="pass --model NAME too")
    named = model_name or name
    float_model = load_model(named, weights) if model_name or not is_file else None
    model = float_model.model if float_model is not None else None
    shape: tuple[int, ...] | None = image_shape(model) if model is not None else None
    loaded = fxq.load(name) if is_file else None
    if loaded is not None and shape is None:
        place = next(n for n in loaded.graph_module.graph.nodes if n.op == "placeholder")
        shape = (info(place).shape or ())[1:]
    batches = read_data(data, shape[-1] if shape else 224,
                        float_model.preprocess if float_model is not None else None)
    if labels:
        refuse_other_classes(model or loaded, batches)
    elif isinstance(batches, FolderBatches):
        batches = batches.without_labels()
    if loaded is not None:
        mark(loaded, None, name)
        about = Subject(loaded, model, batches)
        if float_model is not None:
            refuse_other_weights(name, loaded, named, float_model, about.example())
        return about
    assert model is not None and float_model is not None
    example = (inputs_of(batches)[:1],) if batches is not None else None
    with on_stderr():
        recompile = partial(fxq.compile, model, example_inputs=example, calibration_data=batches,
                            **options)
        compiled = recompile()
    mark(compiled, float_model, named)
    return Subject(compiled, model, batches, lambda overrides: recompile(overrides=overrides))


def check_form(output: Path | None, known: dict[str, str] = FORMATS) -> None:
    """Raise ConfigError, before the work, for a name without a form or a place that is none."""
    if output is not None and output.suffix not in known:
        raise ConfigError(f"{output} has no form that is known",
                          fix=f"end it with {', '.join(known)}")
    check_outputs(output)


def write(value: Any, output: Path | None, known: dict[str, str] = FORMATS) -> None:
    """Write a result in the form that the file's name asks for."""
    if output is not None:
        getattr(value, known[output.suffix])(output)


def profiled(about: Subject, rounds: int, confirm: bool = False) -> fxq.Profile:
    """Measure it on one input; SQNR is against the model where it is known.

    Raises ConfigError when advice is to be confirmed and there is no model to compile again.
    """
    if confirm and about.recompile is None:
        raise ConfigError("advice on a file cannot be confirmed",
                          why="that compiles the model again, with what is advised",
                          fix="pass the model in place of the file, or drop --confirm")
    x = about.example()
    floats = None
    if about.model is not None:
        floats = fused_graph(about.model, [x])
    return about.compiled.profile(x, rounds=rounds, float_model=floats,
                                  recompile=about.recompile if confirm else None)


def compared(about: Subject, limit: int | None) -> fxq.Comparison:
    """Every value against float, over the data."""
    if about.model is None:
        raise ConfigError("a file does not hold the float model", fix="pass --model NAME")
    data = about.data if about.data is not None else [about.example()]
    return fxq.compare(about.model, about.compiled, data, limit=limit)


@dataclass(frozen=True)
class Gate:
    """One limit: what was asked, what was found, and why that does not count, if it does not."""

    name: str
    asked: str
    found: str
    holds: bool
    reason: str = ""


def gates(about: Subject, max_drop: float | None, min_speedup: float | None,
          max_mb: float | None, min_sqnr: float | None) -> list[Gate]:
    """Check each limit that was given; raises ConfigError for none, or for missing labels."""
    found: list[Gate] = []
    if max_mb is not None:
        size = about.compiled.size_bytes / 1e6
        found.append(Gate("size", f"<= {max_mb:g} MB", f"{size:.3f} MB", size <= max_mb))
    if max_drop is not None or min_sqnr is not None:
        seen = compared(about, 0)
        if min_sqnr is not None:
            found.append(Gate("SQNR", f">= {min_sqnr:g} dB", f"{seen.sqnr:.1f} dB",
                              seen.sqnr >= min_sqnr))
        if max_drop is not None:
            if seen.drop is None:
                raise ConfigError("--max-drop needs labels",
                                  why="the data has images only",
                                  fix="one folder per class, --labels FILE, --class-map FILE, or "
                                      "module:loader with (x, label)")
            found.append(Gate("top-1", f"drop <= {max_drop:g} points",
                              f"{seen.float_top1:.2f} % -> {seen.top1:.2f} %",
                              seen.drop <= max_drop and not seen.doubt, seen.doubt))
    if min_speedup is not None:
        faster = speedup(about)
        found.append(Gate("speed-up", f">= {min_speedup:g}x", f"{faster.shown(2)}x",
                          faster.low >= min_speedup))
    if not found:
        raise ConfigError("there is nothing to check",
                          fix="pass --max-drop, --min-speedup, --max-mb or --min-sqnr")
    return found


def speedup(about: Subject) -> Spread:
    """Float over compiled on one input, turn by turn: the median round and its 95 % interval."""
    x = about.example()
    floats: Any = about.model or about.compiled.float_graph(activations_only=True)
    with torch.no_grad():
        slow, fast = turns([lambda: floats(x), lambda: about.compiled(x)], 30, budget=6.0)
    return Spread.of_median(np.divide(slow, fast))


def gate_table(found: list[Gate]) -> str:
    """One line per gate, and below why one fails whatever its figures are."""
    rows = [(g.name, g.asked, g.found, "ok" if g.holds else "FAILED") for g in found]
    reasons = [f"{g.name}: {g.reason}" for g in found if g.reason]
    return "\n".join([str(tabulate(rows, headers=("gate", "asked", "found", ""))), *reasons])


def explained(about: Subject, pattern: str) -> list[dict[str, str]]:
    """Why each node is what it is: what each pass did there, and what was refused."""
    report, rows = about.compiled.report, []
    told: dict[str, list[str]] = {}
    for record in report.passes:
        for item in record.rewrites:
            told.setdefault(item.path, []).append(f"{record.name}: {item.what}")
        for refusal in record.refusals:
            told.setdefault(refusal.path, []).append(
                f"{record.name}: not, because {refusal.reason} [{refusal.code}]")
    for choice in report.choices:
        told.setdefault(choice.path, []).append(
            f"cost table: as {choice.way}; {choice.table_us} µs as a table, {choice.float_us} µs "
            f"in float, for {choice.elements} values")
    for node in about.compiled.graph_module.graph.nodes:
        path = info(node).path or info(node).value
        if not node.op.startswith("call_") or not fnmatch.fnmatch(path, pattern):
            continue
        format_ = qparams(node)
        rows.append({"node": path, "kernel": target_name(node), "source": info(node).source,
                     "format": f"{info(node).dtype} {format_ or ''}".replace("torch.", "").strip(),
                     "why": "\n".join(dict.fromkeys(told.get(path, [])))})
    if not rows:
        raise ConfigError(f"no node matches {pattern!r}", fix="try --node '*'")
    return rows


def explain_text(rows: list[dict[str, str]]) -> str:
    """Each node, and below it what was done there."""
    parts = []
    for row in rows:
        head = f"{row['node']}  {row['kernel']}  {row['format']}  {row['source']}"
        parts.append("\n".join([head.rstrip(), *(f"    {line}" for line in row["why"].split("\n")
                                                 if line)]))
    return "\n".join(parts)


def planned(name: str, weights: str | None, targets: list[str], schemes: list[str]) -> fxq.Plan:
    """A forecast of every pair."""
    loaded = load_model(name, weights)
    if loaded.weights == RANDOM:
        warn_of_random(name)
    model = loaded.model
    with on_stderr():
        return fxq.plan(model, example_inputs=example_inputs_for(model),
                        targets=targets or TARGETS,
                        schemes=schemes or SCHEMES)
