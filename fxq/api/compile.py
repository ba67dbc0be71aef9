"""The main job: `compile`, and `convert`, its second half."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, fx, nn

from fxq.analysis.legality import note_on
from fxq.budget.assign import assign
from fxq.budget.limits import Limits
from fxq.budget.search import Outcome
from fxq.compiled import CompiledModel, Insides
from fxq.compiler.build import Reference, built
from fxq.compiler.calibrate import Progress, calibrate, run_batches
from fxq.compiler.lock import Lock, first_difference, identity_of, make_lock, read_lock, write_lock
from fxq.compiler.manager import Manager
from fxq.compiler.prepare import Prepared, prepare
from fxq.compiler.report import Report
from fxq.errors import CalibrationError, ConfigError, FxqWarning, VerificationError
from fxq.frontend.batches import Transform
from fxq.frontend.batches import batches as flat_batches
from fxq.ir.ops import op_name
from fxq.passes.base import Pass
from fxq.profiler.distance import Distance, distance_of, why_far
from fxq.profiler.slower_regions import slower_regions
from fxq.quantization.schemes import FAST, Scheme
from fxq.quantization.statistics import Statistics
from fxq.quantization.synthetic_data import synthetic_batches
from fxq.reconstruction.run import no_batches
from fxq.reconstruction.work import DEFAULT, Learning
from fxq.runtime.executable import Executable
from fxq.runtime.native.tune import tuned
from fxq.system import plugins
from fxq.system.once import made
from fxq.system.torch_state import isolated, quiet
from fxq.targets import Target

SYNTHETIC = ("no calibration data was given: ranges come from synthetic batches; accuracy may "
             "suffer. Pass calibration_data=loader")


class Freezable(Protocol):
    """A trained module that can be frozen into a prepared model."""

    def freeze(self) -> Prepared: ...


def convert(prepared: Prepared | Freezable, *, statistics: Statistics | str | Path | None = None,
            strict: bool = False, runtime: str = "auto", check_finite: bool = False,
            batches: Iterable[Any] | None = None, transform: Transform | None = None,
            learning: Learning = DEFAULT) -> CompiledModel:
    """Turn a calibrated or trained model into a compiled one.

    A scheme with a `reconstruction` learns from `batches`, which are like calibration data, and
    without them from those that `prepared` was calibrated with; `learning` says how. Warns
    (FxqWarning) when the outputs for the example inputs are far from float. Raises
    CalibrationError when a value was never observed or there are no batches to learn from,
    UnsupportedOpError when `strict` and a node stays in float.
    """
    flat = _flat(prepared, batches, transform)
    return _convert(prepared, statistics, strict, runtime, check_finite, batches=flat,
                    learning=learning)


def _flat(prepared: Prepared | Freezable, data: Iterable[Any] | None,
          transform: Transform | None) -> list[list[Tensor]] | None:
    """The flat inputs of batches to learn from, or None where the scheme learns nothing."""
    if data is None or not isinstance(prepared, Prepared) or (
            not prepared.context.scheme.reconstruction):
        return None
    return list(flat_batches(data, prepared.convention.signature, transform))


def _convert(prepared: Prepared | Freezable, statistics: Statistics | str | Path | None,
             strict: bool, runtime: str, check_finite: bool,
             lock: Callable[[Manager], None] | None = None, tune: bool = False,
             batches: list[list[Tensor]] | None = None,
             learning: Learning = DEFAULT) -> CompiledModel:
    """`convert`, one call below the user's line, which warnings name."""
    start = time.perf_counter()
    if not isinstance(prepared, Prepared):
        prepared = prepared.freeze()
    seen = Statistics.load(statistics) if isinstance(statistics, str | Path) else statistics
    reference, executable = built(prepared, seen, runtime, strict, batches, learning)
    manager, tuning = reference.manager, ""
    if tune:
        with manager.clock.step("tune"):
            executable, found = tuned(executable, prepared.inputs)
        tuning = str(found)
    with isolated(), quiet(), manager.clock.step("compare with float"):
        far, warning = _distance(prepared, manager, executable.graph_module)
    if warning:
        warnings.warn(warning, FxqWarning, stacklevel=3)
    if lock is not None:
        lock(manager)
    report = replace(_report(prepared, reference, executable, far, warning),
                     tuning=tuning, configuration=_configuration(prepared, strict, runtime),
                     seconds=prepared.seconds + time.perf_counter() - start)
    insides = Insides(executable.graph_module, reference.content, manager.texts)
    return CompiledModel(executable, prepared.convention, made(report), made(insides),
                         check_finite)


def _distance(prepared: Prepared, manager: Manager,
              module: fx.GraphModule) -> tuple[Distance, str]:
    """How far the outputs for the example inputs are from float's, and the warning it deserves."""
    outputs = manager.last_outputs
    far = Distance(None) if outputs is None else distance_of(prepared.float_outputs, outputs)
    # training chose its own roundings: `check_parity` says how well they are kept
    warning = "" if prepared.context.scheme.trained else why_far(
        far, prepared.model, module, prepared.inputs, prepared.context.scheme.repairs)
    return far, warning


def _report(prepared: Prepared, reference: Reference, executable: Executable, far: Distance,
            warning: str) -> Report:
    scheme, manager = prepared.context.scheme, reference.manager
    return Report(
        target=prepared.context.target.name, scheme=scheme.name,
        arithmetic=scheme.half or "integer",
        note="; ".join(filter(None, (note_on(prepared.context), far.note, warning))),
        passes=tuple(manager.records), macs=prepared.macs, integer_macs=reference.macs,
        isa=reference.isa, repairs=scheme.repairs, float_bytes=prepared.float_bytes,
        size_bytes=reference.bytes, sqnr=far.sqnr, runtime=executable.runtime,
        calibration=prepared.calibration, left_in_float=reference.left_in_float,
        runtime_choice=executable.choice,
        steps=tuple((name, seconds * 1e3) for name, seconds in manager.clock.totals().items()))


def _configuration(prepared: Prepared, strict: bool,
                   runtime: str) -> tuple[tuple[str, str], ...]:
    """The resolved choices, as texts: the names of their arguments, and what they became."""
    scheme = prepared.context.scheme
    asked = {"target": prepared.context.target.name, "scheme": scheme.name,
             "calibrator": scheme.activation_calibrator if scheme.needs_statistics else "",
             "overrides": " ".join(f"{k}={v}" for k, v in scheme.overrides.items()),
             "repairs": " ".join(scheme.repairs),
             "reconstruction": " ".join(scheme.reconstruction), "isa": scheme.isa,
             "strict": str(strict).lower(), "runtime": runtime}
    return tuple((name, value) for name, value in asked.items() if value)


def compile(model: nn.Module, *, target: str | Target = "fbgemm",
            scheme: str | Scheme = "int8_static", example_inputs: tuple[Any, ...] | None = None,
            example_kwargs: Mapping[str, Any] | None = None,
            calibration_data: Iterable[Any] | None = None, transform: Transform | None = None,
            statistics: Statistics | str | Path | None = None, calibrator: str | None = None,
            overrides: Mapping[Any, str] | None = None, isa: str | None = None,
            strict: bool = False, runtime: str = "auto", seed: int = 0, verify: bool = True,
            check_finite: bool = False, lock: str | Path | None = None,
            passes: Sequence[Pass | str] = (), tune: bool = False, accuracy: str = FAST,
            max_drop: float | None = None, min_speedup: float | None = None,
            max_mb: float | None = None, progress: Progress | None = None,
            learning: Learning | None = None) -> CompiledModel:
    """Compile a model for a target: trace, fuse, calibrate, quantize, lower.

    `model` is left untouched. `example_inputs` are the model's positional inputs (found by
    convention for torchvision and timm models). `calibration_data` is any iterable of batches;
    without it, ranges come from synthetic batches and a warning says so; another says when the
    outputs for the example inputs are far from float's. `accuracy="best"` repairs the float graph
    before calibration and learns from `calibration_data` after it, which takes several times as
    long as "fast", and costs the compiled model nothing. `statistics` replaces
    calibration, but a scheme with a `reconstruction` learns from `calibration_data` all the same,
    in the way that `learning` says; `isa="any"` keeps the numbers right on x86 CPUs without VNNI
    too, for up to one bit of the weights that need it; `check_finite` refuses NaN and infinity in
    every call. `lock` names a file: the first build writes its provenance there, and a later one
    that differs raises VerificationError with the first difference. `tune` measures on this
    machine, for the example inputs, how each step of a native program is computed best, and keeps
    that in the user's cache: no bit depends on it. It also leaves in float what is measured to be
    faster there; a lock records that, and a later build with the lock does not measure it again.

    `max_drop` (points of top-1, by the labels of the calibration batches; without labels, points of
    agreement with float), `min_speedup` (times the float model on the example inputs) and `max_mb`
    (of parameters) are a budget: layers get schemes of their own, chosen by an exact solver over
    what was measured here, and the result is measured again. The overrides that say so are in the
    report and in the lock, `compiled.pareto` has what else was looked at. Raises BudgetError when
    nothing is within the budget, and the errors of `prepare`, `calibrate` and `convert`.
    """
    limits = Limits(max_drop, min_speedup, max_mb)
    if limits and calibration_data is None:
        raise CalibrationError("a budget needs calibration data: errors are predicted on it",
                               fix="pass calibration_data=loader")
    prepared = prepare(model, target=target, scheme=scheme, example_inputs=example_inputs,
                       example_kwargs=example_kwargs, calibrator=calibrator, overrides=overrides,
                       isa=isa, verify=verify, locking=lock is not None, passes=passes,
                       accuracy=accuracy)
    if limits and prepared.context.scheme.reconstruction:
        raise ConfigError("a budget cannot be combined with what batches teach",
                          why="it counts on the errors of the formats alone",
                          fix='compile with accuracy="fast", or without the budget')
    engine = prepared.context.target.engine
    if tune and (engine != "native" or runtime not in ("auto", "native")):
        raise ConfigError("only native programs can be tuned",
                          why=f"the engine is {engine}, the runtime {runtime}",
                          fix='compile for target="native", or without tune=True')
    wants_data = prepared.context.scheme.needs_statistics or calibration_data is not None
    if prepared.context.scheme.reconstruction and calibration_data is None:
        raise no_batches(prepared.context)
    if limits and calibration_data is not None:
        alone = isinstance(calibration_data, Tensor)
        calibration_data = [calibration_data] if alone else list(calibration_data)  # read again
    flat = None if statistics is None else _flat(prepared, calibration_data, transform)
    if prepared.context.scheme.quantized and wants_data and statistics is None:
        _calibrate_on(prepared, calibration_data, transform, seed, progress)
    keep = None if lock is None else partial(
        _keep_lock, Path(lock), prepared, identity_of(prepared.model), seed, runtime)
    seen = Statistics.load(statistics) if isinstance(statistics, str | Path) else statistics
    outcome: Outcome | None = None
    if limits and lock is not None and Path(lock).exists():  # what was chosen then
        prepared = prepared.with_overrides(read_lock(lock)["overrides"])
    elif limits:
        outcome = assign(prepared, seen or prepared.statistics(), list(calibration_data or ()),
                         limits, transform=transform, runtime=runtime)
        prepared = prepared.with_overrides(outcome.chosen.overrides)
    prepared.let_copy_go(model)
    if lock is not None and Path(lock).exists():  # what was measured then
        slower = frozenset(read_lock(lock)["slower"])
    else:
        slower = slower_regions(_unlearned(prepared), seen) if tune else frozenset()
    prepared.context = replace(prepared.context, slower=slower)
    compiled = _convert(prepared, seen, strict, runtime, check_finite, keep, tune, flat,
                        learning or Learning(seed=seed))
    if outcome is not None:
        compiled.report = replace(compiled.report, budget=str(outcome))
        compiled.pareto = outcome.points
    return compiled


def _unlearned(prepared: Prepared) -> Prepared:
    """The same work for a clock, which the values of weights do not matter to."""
    scheme = replace(prepared.context.scheme, reconstruction=())
    return replace(prepared, context=replace(prepared.context, scheme=scheme))


def _keep_lock(path: Path, prepared: Prepared, identity: Lock, seed: int, runtime: str,
               manager: Manager) -> None:
    """Write the lock of a first build; hold a later one to it."""
    context = manager.context
    used = plugins.in_use({
        plugins.TARGETS: [context.target.name], plugins.RUNTIMES: [runtime],
        plugins.OPERATORS: [op_name(n) for n in prepared.graph_module.graph.nodes],
        plugins.CALIBRATORS: [context.scheme.activation_calibrator.partition(":")[0]],
        plugins.PASSES: [name for name, _ in manager.digests]})
    made = make_lock(context, identity, prepared.batch_digests, seed, manager.digests, used)
    if not path.exists():
        write_lock(path, made)
        return
    difference = first_difference(read_lock(path), made)
    if difference:
        raise VerificationError(f"this build is not the one in {path}: {difference}",
                                why="the same model, data and versions give the same lock",
                                fix="restore what differs, or delete the lock to accept the change")


def _calibrate_on(prepared: Prepared, data: Iterable[Any] | None, transform: Transform | None,
                  seed: int, progress: Progress | None) -> None:
    if data is not None:
        calibrate(prepared, data, transform=transform, progress=progress)
        return
    warnings.warn(SYNTHETIC, FxqWarning, stacklevel=3)
    with isolated():
        made = synthetic_batches(prepared.model, prepared.inputs, seed)
    count = run_batches(prepared, made)
    prepared.calibration = (f"{count} synthetic batches of {prepared.seen_shapes()} (no data was "
                            "given)")
