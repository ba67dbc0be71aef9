"""The main job: compile, or the same in three steps (prepare, calibrate, convert)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxq import kernels
from fxq.calibrators import get_calibrator
from fxq.compiled import CompiledModel
from fxq.context import Context
from fxq.data import Transform, batches
from fxq.errors import CalibrationError, ConfigError, UnsupportedOpError
from fxq.inputs import example_inputs_for
from fxq.isolation import isolated
from fxq.manager import Manager
from fxq.metrics import sqnr_of_all
from fxq.observer import Observer
from fxq.overrides import checked_overrides
from fxq.passes.base import Effect
from fxq.pipeline import FINISH, FUSE, PREPARE
from fxq.report import Report
from fxq.rewrite import Refusal
from fxq.runtime.python import build
from fxq.runtime.select import select
from fxq.scheme import Scheme, get_scheme
from fxq.shapes import record_shapes
from fxq.signature import signature_of
from fxq.sizes import graph_bytes, macs, model_bytes
from fxq.statistics import Statistics
from fxq.structure import flatten
from fxq.synthetic import synthetic_batches
from fxq.targets import Target, get_target
from fxq.trace import Traced, private_copy, trace
from fxq.verify import check_outputs

Progress = Callable[[int], None]
SYNTHETIC = ("no calibration data was given: ranges come from synthetic batches that match the "
             "model's batch norms; accuracy may suffer. Pass calibration_data=loader")


class FxqWarning(UserWarning):
    """Something works, but not as well as it could."""


@dataclass
class Prepared:
    """A model between prepare and convert: an OBSERVED graph that watches what runs through it."""

    model: nn.Module  # the private float copy
    traced: Traced
    context: Context
    manager: Manager
    inputs: list[Tensor]
    float_outputs: list[Tensor]
    macs: int
    seconds: float
    calibration: str = ""
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def graph_module(self) -> fx.GraphModule:
        return self.traced.graph_module

    def observers(self) -> dict[str, Observer]:
        """The observers by the key of the value that each watches."""
        return {m.key: m for m in self.graph_module.children() if isinstance(m, Observer)}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run float inference and observe it."""
        _run_batches(self, [(args, kwargs)])

    def statistics(self) -> Statistics:
        """What the observers have seen so far."""
        return Statistics({key: o.statistics() for key, o in self.observers().items()})


def prepare(model: nn.Module, *, target: str | Target = "fbgemm",
            scheme: str | Scheme = "int8_static", example_inputs: tuple[Any, ...] | None = None,
            example_kwargs: Mapping[str, Any] | None = None, calibrator: str | None = None,
            overrides: Mapping[Any, str] | None = None, verify: bool = True) -> Prepared:
    """Trace, normalize, fuse, and insert observers.

    Raises ConfigError for unknown names or inputs that do not fit, TraceError for a model that
    cannot be captured, TargetUnavailableError when the machine lacks the target's engine.
    """
    start = time.perf_counter()
    context = _context(model, target, scheme, calibrator, overrides)
    with isolated(), kernels.quiet():
        args = example_inputs if example_inputs is not None else (
            () if example_kwargs else example_inputs_for(model))
        args = args if isinstance(args, tuple) else (args,)
        twin = private_copy(model)
        signature = signature_of(twin, args, example_kwargs or {})
        inputs = [x.detach() for x in signature.tensors(args, example_kwargs or {})]
        traced = trace(private_copy(twin), signature)
        outputs = list(record_shapes(traced.graph_module, inputs))
        _check_trace(twin, args, example_kwargs or {}, outputs)
        manager = Manager(context, inputs, verify)
        passes = PREPARE if context.scheme.quantized else FUSE
        manager.run(traced.graph_module, passes)
    total = sum(macs(n) for n in traced.graph_module.graph.nodes)
    prepared = Prepared(twin, traced, context, manager, inputs, outputs, total,
                        time.perf_counter() - start)
    for observer in prepared.observers().values():
        observer.reset()  # verification ran the example inputs, which are no calibration data
    return prepared


def _context(model: nn.Module, target: str | Target, scheme: str | Scheme, calibrator: str | None,
             overrides: Mapping[Any, str] | None) -> Context:
    chosen, kind = get_target(target), get_scheme(scheme)
    if kind.name not in chosen.schemes:
        raise ConfigError(f"target {chosen.name!r} does not run scheme {kind.name!r}",
                          fix=f"it runs: {', '.join(chosen.schemes)}")
    if chosen.engine:
        kernels.require_engine(chosen.engine)
    if calibrator:
        get_calibrator(calibrator)
        kind = replace(kind, activation_calibrator=calibrator)
    if overrides:
        kind = replace(kind, overrides=checked_overrides(model, overrides))
    return Context(chosen, kind)


def _check_trace(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                 traced: list[Tensor]) -> None:
    """The graph computes, bit for bit, what the model computes."""
    with torch.no_grad():
        eager = [v for v in flatten(model(*args, **kwargs))[0] if isinstance(v, Tensor)]
    check_outputs("trace", Effect.EXACT, eager, traced)


def calibrate(prepared: Prepared, data: Iterable[Any], *, transform: Transform | None = None,
              progress: Progress | None = None) -> Statistics:
    """Run batches through the OBSERVED graph and return what was seen.

    `data` is any iterable of tensors, (input, label) pairs, tuples of inputs, or dicts of
    keyword arguments; `transform` turns its items into one of these. Raises CalibrationError
    for no batches, or for values that are not finite (naming the batch and the node).
    """
    flat = batches(data, prepared.traced.signature, transform)
    count = _run_batches(prepared, flat, progress)
    if count == 0:
        raise CalibrationError("the calibration data has no batches",
                               why="an iterator may be used up already",
                               fix="pass a list or a DataLoader that can be read again")
    prepared.calibration = f"{count} batches"
    return prepared.statistics()


def _run_batches(prepared: Prepared, flat: Iterable[Any], progress: Progress | None = None) -> int:
    function = build(prepared.graph_module)
    count = 0
    with isolated():
        for batch in flat:
            if isinstance(batch, tuple):
                batch = prepared.traced.signature.tensors(*batch)
            try:
                function(*batch)
            except CalibrationError as error:
                raise CalibrationError(f"batch {count}: {error.what}", where=error.where,
                                       why=error.why, fix=error.fix) from error
            count += 1
            if progress:
                progress(count)
    return count


def convert(prepared: Prepared, *, statistics: Statistics | None = None, strict: bool = False,
            runtime: str = "auto", keep_float: bool = False) -> CompiledModel:
    """Turn a calibrated model into a compiled one.

    Raises CalibrationError when a value was never observed, UnsupportedOpError when `strict`
    and a node stays in float.
    """
    start = time.perf_counter()
    manager, module = prepared.manager, prepared.graph_module
    if prepared.context.scheme.quantized:
        seen = statistics if statistics is not None else prepared.statistics()
        manager.context = replace(prepared.context, statistics=seen)
    with isolated(), kernels.quiet():
        integer, left, float_graph, size = _finish(prepared, module, keep_float)
        if strict and left:
            raise _strict_error(left)
        name, function, times = select(module, prepared.inputs, runtime)
    report = Report(
        target=prepared.context.target.name, scheme=prepared.context.scheme.name,
        passes=tuple(manager.records), macs=prepared.macs, integer_macs=integer,
        float_bytes=model_bytes(prepared.model), size_bytes=size,
        sqnr=_final_quality(prepared, manager), runtime=name, calibration=prepared.calibration,
        seconds=prepared.seconds + time.perf_counter() - start, left_in_float=left,
        runtime_times=times)
    return CompiledModel(function=function, signature=prepared.traced.signature,
                         rebuild=prepared.traced.rebuild_output,
                         fixed_outputs=prepared.traced.fixed_outputs,
                         engine=prepared.context.target.engine, texts=manager.texts,
                         report=report, graph_module=module, float_graph=float_graph)


def _finish(prepared: Prepared, module: fx.GraphModule,
            keep_float: bool) -> tuple[int, tuple[Refusal, ...], fx.GraphModule | None, int]:
    """Run the rest of the pipeline: (integer MACs, refusals of convert, float graph, bytes)."""
    if not prepared.context.scheme.quantized:
        return 0, (), module if keep_float else None, graph_bytes(module)
    manager = prepared.manager
    manager.run(module, FINISH[:-1])
    size = graph_bytes(module)
    refused = next(r.refusals for r in manager.records if r.name == "convert")
    lost = sum(macs(n) for n in module.graph.nodes if not _reads_integer_weights(n))
    if prepared.context.target.engine:  # else REFERENCE is executed as it is
        manager.run(module, FINISH[-1:])
    return prepared.macs - lost, refused, None, size


def _reads_integer_weights(node: fx.Node) -> bool:
    from fxq.integers import dequantize_weight

    return len(node.args) > 1 and getattr(node.args[1], "target", None) is dequantize_weight


def _strict_error(left: tuple[Refusal, ...]) -> UnsupportedOpError:
    rows = "\n".join(f"{r.path} ({r.op}): {r.reason}" for r in left[:12])
    more = f"\nand {len(left) - 12} more" if len(left) > 12 else ""
    return UnsupportedOpError(f"{len(left)} nodes cannot run on integers, and strict=True",
                              where=left[0].source, why=rows + more,
                              fix="drop strict=True to run them in float")


def _final_quality(prepared: Prepared, manager: Manager) -> float | None:
    outputs = manager.last_outputs
    return None if outputs is None else sqnr_of_all(prepared.float_outputs, outputs)


def compile(model: nn.Module, *, target: str | Target = "fbgemm",
            scheme: str | Scheme = "int8_static", example_inputs: tuple[Any, ...] | None = None,
            example_kwargs: Mapping[str, Any] | None = None,
            calibration_data: Iterable[Any] | None = None, transform: Transform | None = None,
            statistics: Statistics | None = None, calibrator: str | None = None,
            overrides: Mapping[Any, str] | None = None, strict: bool = False,
            runtime: str = "auto", seed: int = 0, verify: bool = True, keep_float: bool = False,
            progress: Progress | None = None) -> CompiledModel:
    """Compile a model for a target: trace, fuse, calibrate, quantize, lower.

    `model` is left untouched. `example_inputs` are the model's positional inputs (found by
    convention for torchvision and timm models). `calibration_data` is any iterable of batches;
    without it, ranges come from synthetic batches and a warning says so. `statistics` replaces
    calibration. Raises the errors of `prepare`, `calibrate` and `convert`.
    """
    prepared = prepare(model, target=target, scheme=scheme, example_inputs=example_inputs,
                       example_kwargs=example_kwargs, calibrator=calibrator, overrides=overrides,
                       verify=verify)
    if prepared.context.scheme.quantized and statistics is None:
        _calibrate_on(prepared, calibration_data, transform, seed, progress)
    return convert(prepared, statistics=statistics, strict=strict, runtime=runtime,
                   keep_float=keep_float)


def _calibrate_on(prepared: Prepared, data: Iterable[Any] | None, transform: Transform | None,
                  seed: int, progress: Progress | None) -> None:
    if data is not None:
        calibrate(prepared, data, transform=transform, progress=progress)
        return
    warnings.warn(SYNTHETIC, FxqWarning, stacklevel=3)
    with isolated():
        made = synthetic_batches(prepared.model, prepared.inputs, seed)
    count = _run_batches(prepared, made)
    prepared.calibration = f"{count} synthetic batches (no data was given)"
