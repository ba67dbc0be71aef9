"""The first half of the main job: an observed graph, and the data that runs through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn

from fxq.analysis.context import Context
from fxq.analysis.legality import check_legal
from fxq.analysis.overrides import checked_overrides
from fxq.compiler.capture import capture, given_inputs
from fxq.compiler.manager import Manager
from fxq.compiler.pipeline import FUSE, PREPARE
from fxq.errors import CalibrationError, ConfigError
from fxq.frontend.batches import Transform, batches
from fxq.frontend.example_inputs import example_inputs_for
from fxq.frontend.signature import signature_of
from fxq.frontend.trace import Traced, private_copy
from fxq.ir.digests import digest_tensors
from fxq.ir.sizes import macs
from fxq.kernels import calls
from fxq.passes.base import Pass
from fxq.quantization.calibrators import AUTO, get_calibrator
from fxq.quantization.observer import Observer
from fxq.quantization.schemes import Scheme, get_scheme
from fxq.quantization.statistics import Statistics
from fxq.quantization.weight_calibrators import get_weight_rule
from fxq.runtime.python import Function, build
from fxq.system.logs import logger
from fxq.system.machine import has_vnni, is_native
from fxq.system.torch_state import isolated, quiet
from fxq.targets import AUTO as AUTO_TARGET
from fxq.targets import Target, best_target, get_target

Progress = Callable[[int], None]
_LOG = logger("calibrate")


@dataclass
class Prepared:
    """A model between prepare and convert: an OBSERVED graph that watches what runs through it."""

    model: nn.Module  # the private float copy
    traced: Traced
    context: Context
    manager: Manager
    inputs: list[Tensor]
    float_outputs: list[Any]  # tensors, and numbers where the model returns such
    macs: int
    seconds: float
    calibration: str = ""
    merged: Statistics = field(default_factory=Statistics)  # of all workers, once they met
    batch_digests: list[str] = field(default_factory=list)  # when a lock is kept
    shapes: dict[str, None] = field(default_factory=dict)  # of the batches, in order, as texts

    @property
    def graph_module(self) -> fx.GraphModule:
        return self.traced.graph_module

    def observers(self) -> dict[str, Observer]:
        """The observers by the key of the value that each watches."""
        return {m.key: m for m in self.graph_module.children() if isinstance(m, Observer)}

    @cached_property
    def function(self) -> Function:
        """The OBSERVED graph as one function of flat inputs."""
        return build(self.graph_module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Float inference that the observers see; returns what the model returns."""
        with isolated():
            outputs = iter(self.function(*self.traced.signature.tensors(args, kwargs)))
        return self.traced.outputs(outputs)

    def seen_shapes(self) -> str:
        """The shapes of all inputs that ranges were measured on; other sizes may have others."""
        texts = list(self.shapes)
        more = f" and {len(texts) - 4} other shapes" if len(texts) > 4 else ""
        return ", ".join(texts[:4]) + more

    def observe(self, inputs: list[Tensor]) -> None:
        """Let the observers see flat inputs."""
        with isolated():
            self.function(*inputs)

    def statistics(self) -> Statistics:
        """What the observers have seen so far."""
        own = Statistics({key: o.statistics() for key, o in self.observers().items()})
        return own.merge(self.merged) if self.merged else own


def prepare(model: nn.Module, *, target: str | Target = "fbgemm",
            scheme: str | Scheme = "int8_static", example_inputs: tuple[Any, ...] | None = None,
            example_kwargs: Mapping[str, Any] | None = None, calibrator: str | None = None,
            overrides: Mapping[Any, str] | None = None, isa: str | None = None,
            verify: bool = True, locking: bool = False,
            passes: Sequence[Pass] = ()) -> Prepared:
    """Trace, normalize, fuse, and insert observers.

    `passes` are the user's own, from FUSED to FUSED; they run when fxq's fusions are done.
    Raises ConfigError for unknown names or inputs that do not fit, TraceError for a model that
    cannot be captured, TargetUnavailableError when the machine lacks the target's engine.
    """
    if type(scheme).__name__ == "QConfigMapping":
        from fxq.frontend.torch_ao import scheme_from_mapping

        scheme, own = scheme_from_mapping(model, scheme)
        overrides = own | dict(overrides or {})
    context = make_context(model, target, scheme, calibrator, overrides, isa)
    if context.scheme.trained:
        raise ConfigError(f"scheme {context.scheme.name!r} is trained",
                          why="its formats are learned together with the weights",
                          fix="prepared = fxq.prepare_qat(model, ...); train it; "
                              "fxq.convert(prepared)")
    return prepare_in(context, model, example_inputs, example_kwargs, verify, locking, passes)


def prepare_in(context: Context, model: nn.Module, example_inputs: tuple[Any, ...] | None,
               example_kwargs: Mapping[str, Any] | None, verify: bool = True,
               locking: bool = False, passes: Sequence[Pass] = ()) -> Prepared:
    """`prepare` in a context that is known to be legal."""
    start = time.perf_counter()
    with isolated(), quiet():
        args = example_inputs if example_inputs is not None else (
            () if example_kwargs else example_inputs_for(model))
        args = args if isinstance(args, tuple) else (args,)
        twin = private_copy(model)
        signature = signature_of(twin, args, example_kwargs or {})
        inputs = [x.detach().clone() for x in given_inputs(twin, signature, args, example_kwargs)]
        traced, outputs = capture(model, twin, signature, inputs)
        manager = Manager(context, inputs, verify, locking=locking)
        rest = PREPARE[len(FUSE):] if context.scheme.quantized else ()
        manager.run(traced.graph_module, (*FUSE, *passes, *rest))
    total = sum(macs(n) for n in traced.graph_module.graph.nodes)
    prepared = Prepared(twin, traced, context, manager, inputs, outputs, total,
                        time.perf_counter() - start)
    for observer in prepared.observers().values():
        observer.reset()  # verification ran the example inputs, which are no calibration data
    if not context.scheme.needs_statistics:  # but where nobody gives any, they show the ranges
        prepared.observe([x.clone() for x in inputs])
    return prepared


def make_context(model: nn.Module, target: str | Target, scheme: str | Scheme,
                 calibrator: str | None, overrides: Mapping[Any, str] | None,
                 isa: str | None = None) -> Context:
    """Check that all names exist and that the target runs the scheme and its overrides."""
    kind = get_scheme(scheme)
    chosen = best_target(kind) if target == AUTO_TARGET else get_target(target)
    if calibrator:
        kind = replace(kind, activation_calibrator=calibrator)
    if isa:
        kind = replace(kind, isa=isa)
    if kind.activation_calibrator != AUTO:
        get_calibrator(kind.activation_calibrator)
    get_weight_rule(kind.weight_calibrator)
    if overrides:
        kind = replace(kind, overrides=checked_overrides(model, overrides))
    check_legal(chosen, kind)
    if chosen.engine:
        calls.require_engine(chosen.engine)
    return Context(chosen, kind, native_half=chosen.device == "cuda" or is_native(kind.half),
                   vnni=kind.isa == "host" and has_vnni())


def calibrate(prepared: Prepared, data: Iterable[Any], *, transform: Transform | None = None,
              progress: Progress | None = None, distributed: bool = False) -> Statistics:
    """Run batches through the OBSERVED graph and return what was seen.

    `data` is any iterable of tensors, (input, label) pairs, tuples of inputs, or dicts of
    keyword arguments; `transform` turns its items into one of these. With `distributed`, every
    worker of torch.distributed calls this with its own part of the data, and all get the same
    merged statistics. Raises CalibrationError for no batches, or for values that are not finite
    (naming the batch and the node).
    """
    flat = batches(data, prepared.traced.signature, transform)
    count = run_batches(prepared, flat, progress)
    if count == 0:
        raise CalibrationError("the calibration data has no batches",
                               why="an iterator may be used up already",
                               fix="pass a list or a DataLoader that can be read again")
    prepared.calibration = f"{count} batches of {prepared.seen_shapes()}"
    if distributed:
        from fxq.quantization.distributed import merge_across_workers

        prepared.merged = merge_across_workers(prepared.statistics())
        for observer in prepared.observers().values():
            observer.reset()
    return prepared.statistics()


def _shapes_of(batch: list[Tensor]) -> str:
    """The shapes of a batch's inputs, its size left open: [*,3,224,224]."""
    return " ".join("[" + ",".join(("*", *map(str, x.shape[1:]))) + "]" for x in batch)


def run_batches(prepared: Prepared, flat: Iterable[list[Tensor]],
                progress: Progress | None = None) -> int:
    """Run flat inputs through the observers; gives the number of batches."""
    count = 0
    with isolated():
        for batch in flat:
            if prepared.manager.locking:
                prepared.batch_digests.append(digest_tensors(batch))
            try:
                prepared.function(*batch)
            except CalibrationError as error:
                raise CalibrationError(f"batch {count}: {error.what}", where=error.where,
                                       why=error.why, fix=error.fix) from error
            except RuntimeError as error:
                raise CalibrationError(
                    f"the model fails on batch {count}", why=str(error).strip().split("\n")[0],
                    fix="give batches with the shapes and values that the model takes") from error
            count += 1
            prepared.shapes[_shapes_of(batch)] = None
            _LOG.debug("batch %d", count)
            if progress:
                progress(count)
    return count
