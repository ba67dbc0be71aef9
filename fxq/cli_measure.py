"""What `fxq profile`, `compare`, `plan`, `check` and `explain` do."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

import fxq
from fxq.cli_data import inputs_of, read_data
from fxq.cli_warnings import on_stderr
from fxq.compiled import CompiledModel
from fxq.environment import environment
from fxq.errors import ConfigError
from fxq.info import info, qparams
from fxq.inputs import example_inputs_for, image_shape
from fxq.models import load_model
from fxq.printer import target_name

FORMATS = {".html": "to_html", ".json": "to_json", ".csv": "to_csv", ".md": "to_markdown",
           ".trace": "to_chrome_trace"}


@dataclass(frozen=True)
class Subject:
    """What a command is about: a compiled model, the model it came from, and data, if given."""

    compiled: CompiledModel
    model: nn.Module | None
    data: Iterable[Any] | None

    def example(self) -> torch.Tensor:
        """One input: of the data, else of the shape that the model was compiled for."""
        if self.data is not None:
            return inputs_of(self.data)[:1]
        place = next(n for n in self.compiled.graph_module.graph.nodes if n.op == "placeholder")
        generator = torch.Generator().manual_seed(0)
        return torch.randn(info(place).shape or (), generator=generator).to(info(place).dtype)


def subject(name: str, model_name: str | None, weights: Path | None, data: str | None, *,
            images: int, batch_size: int, **options: Any) -> Subject:
    """Load a .fxq file, or compile a model by name; raises ConfigError for neither."""
    is_file = name.endswith(".fxq") or Path(name).is_file()
    model = load_model(model_name or name, weights) if model_name or not is_file else None
    shape: tuple[int, ...] | None = image_shape(model) if model is not None else None
    loaded = fxq.load(name) if is_file else None
    if loaded is not None and shape is None:
        place = next(n for n in loaded.graph_module.graph.nodes if n.op == "placeholder")
        shape = (info(place).shape or ())[1:]
    size = shape[-1] if shape else 224
    batches = read_data(data, size, images, batch_size) if data else None
    if loaded is not None:
        return Subject(loaded, model, batches)
    assert model is not None
    example = (inputs_of(batches)[:1],) if batches is not None else None
    with on_stderr():
        compiled = fxq.compile(model, example_inputs=example, calibration_data=batches, **options)
    return Subject(compiled, model, batches)


def write(value: Any, output: Path | None, known: dict[str, str] = FORMATS) -> None:
    """Write a result in the form that the file's name asks for."""
    if output is None:
        return
    method = known.get(output.suffix)
    if method is None or not hasattr(value, method):
        raise ConfigError(f"{output} has no form that is known",
                          fix=f"end it with {', '.join(known)}")
    getattr(value, method)(output)


def profiled(about: Subject, rounds: int) -> fxq.Profile:
    """Measure it on one input; SQNR is against the model where it is known."""
    x = about.example()
    floats = None
    if about.model is not None:
        from fxq.profiler.compare import fused_graph

        floats = fused_graph(about.model, [x])
    return about.compiled.profile(x, rounds=rounds, float_model=floats)


def compared(about: Subject, limit: int | None) -> fxq.Comparison:
    """Every value against float, over the data."""
    if about.model is None:
        raise ConfigError("a file does not hold the float model", fix="pass --model NAME")
    data = about.data if about.data is not None else [about.example()]
    return fxq.compare(about.model, about.compiled, data, limit=limit)


@dataclass(frozen=True)
class Gate:
    """One limit: what was asked, what was found."""

    name: str
    asked: str
    found: str
    holds: bool


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
                                  fix="one folder a class, or module:loader with (x, label)")
            found.append(Gate("top-1", f"drop <= {max_drop:g} points",
                              f"{seen.float_top1:.2f} % -> {seen.top1:.2f} %",
                              seen.drop <= max_drop))
    if min_speedup is not None:
        faster = speedup(about)
        found.append(Gate("speed-up", f">= {min_speedup:g}x", f"{faster:.2f}x",
                          faster >= min_speedup))
    if not found:
        raise ConfigError("there is nothing to check",
                          fix="pass --max-drop, --min-speedup, --max-mb or --min-sqnr")
    return found


def speedup(about: Subject) -> float:
    """Medians of the model and of the compiled model, turn by turn, on one input."""
    from fxq.timing import race

    x = about.example()
    floats: Any = about.model or about.compiled.float_graph(activations_only=True)
    with torch.no_grad():
        slow, fast = race([lambda: floats(x), lambda: about.compiled(x)], 30, budget=6.0)
    return slow / fast


def gate_table(found: list[Gate]) -> str:
    """One line a gate."""
    rows = [(g.name, g.asked, g.found, "ok" if g.holds else "FAILED") for g in found]
    return str(tabulate(rows, headers=("gate", "asked", "found", "")))


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


def planned(name: str, weights: Path | None, targets: list[str], schemes: list[str]) -> fxq.Plan:
    """A forecast of every pair."""
    from fxq.planning import SCHEMES

    model = load_model(name, weights)
    with on_stderr():
        return fxq.plan(model, example_inputs=example_inputs_for(model),
                        targets=targets or ("fbgemm", "x86", "qnnpack", "cuda_fp16"),
                        schemes=schemes or SCHEMES)


def environment_text(as_json: bool) -> str:
    """The machine, its versions, and which targets it can run."""
    from fxq.targets import TARGETS

    facts = environment()
    here = {t.name: "yes" if t.is_available() else "no" for t in TARGETS.values()}
    if as_json:
        return json.dumps({**facts, "targets": here}, indent=2)
    rows = [*facts.items(), *((f"target {name}", value) for name, value in here.items())]
    return str(tabulate(rows, tablefmt="plain"))
