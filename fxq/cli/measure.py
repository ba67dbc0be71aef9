"""What `fxq profile`, `compare` and `plan` do, and what all that measure take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
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
from fxq.ir.facts import info
from fxq.profiler.compare import fused_graph
from fxq.profiler.forecast import SCHEMES, TARGETS
from fxq.profiler.minimal import leave_reproducer

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


def debugged(about: Subject, output: Path | None) -> fxq.Findings:
    """The nodes at fault on the first batch of the data; `output` is a folder to reproduce it."""
    if about.model is None:
        raise ConfigError("a file does not hold the float model", fix="pass --model NAME")
    batch = next(iter(about.data), None) if about.data is not None else about.example()
    if batch is None:
        raise ConfigError("the data has no batches")
    found = fxq.debug(about.compiled, about.model, batch)
    if output is not None:
        leave_reproducer(output, about.compiled, about.model, batch, found)
    return found


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
