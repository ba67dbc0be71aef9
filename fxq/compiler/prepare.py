"""The first half of the main job: from a model to a graph that is observed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn

from fxq.analysis.context import Context
from fxq.analysis.legality import check_legal
from fxq.analysis.overrides import checked_overrides
from fxq.compiler.capture import capture, given_inputs
from fxq.compiler.manager import Manager
from fxq.compiler.pipeline import FUSE, PREPARE, named_passes, repairs
from fxq.errors import ConfigError
from fxq.frontend.convention import Convention
from fxq.frontend.example_inputs import example_inputs_for
from fxq.frontend.operators import load_operators
from fxq.frontend.private_copy import private_copy
from fxq.frontend.signature import signature_of
from fxq.ir.facts import unfolded
from fxq.ir.sizes import macs, model_bytes
from fxq.passes.base import Pass
from fxq.quantization.calibrators import AUTO, get_calibrator
from fxq.quantization.observer import Observer
from fxq.quantization.schemes import FAST, Scheme, get_scheme, with_accuracy
from fxq.quantization.statistics import Statistics
from fxq.quantization.weight_calibrators import get_weight_rule
from fxq.runtime.python import Function, build
from fxq.system.machine import has_vnni, is_native
from fxq.system.torch_state import isolated, quiet
from fxq.targets import AUTO as AUTO_TARGET
from fxq.targets import Target, best_target, get_target


@dataclass
class Prepared:
    """A model between prepare and convert: an OBSERVED graph that watches what runs through it."""

    model: nn.Module  # the private float copy, or its source once that was let go
    convention: Convention
    graph_module: fx.GraphModule
    context: Context
    manager: Manager  # it stands at the graph's stage; conversions go on with a fork of it
    inputs: list[Tensor]
    float_outputs: list[Any]  # tensors, and numbers where the model returns such
    macs: int
    float_bytes: int  # of the model's parameters and buffers
    seconds: float = 0.0  # that it took to prepare
    calibration: str = ""
    merged: Statistics = field(default_factory=Statistics)  # of all workers, once they met
    batch_digests: list[str] = field(default_factory=list)  # when a lock is kept
    batches: list[list[Tensor]] = field(default_factory=list)  # when the scheme learns from them
    shapes: dict[str, None] = field(default_factory=dict)  # of the batches, in order, as texts

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
            outputs = iter(self.function(*self.convention.signature.tensors(args, kwargs)))
        return self.convention.outputs(outputs)

    def let_copy_go(self, source: nn.Module) -> None:
        """Free what only training and the data made up for a model need: its unfolded weights.

        `source` is the model that was prepared; it is read in the copy's place, never written to.
        """
        self.model = source
        for node in self.graph_module.graph.nodes:
            if (origin := unfolded(node)) is not None:
                origin.let_layer_go()

    def with_overrides(self, overrides: Mapping[Any, str]) -> Prepared:
        """The same graph and observers, to be converted under other overrides."""
        scheme = replace(self.context.scheme, overrides=checked_overrides(self.model, overrides))
        return replace(self, context=replace(self.context, scheme=scheme))

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
        own = Statistics({key: o.statistics() for key, o in self.observers().items()},
                         self.context.scheme.repairs)
        return own.merge(self.merged) if self.merged else own


def prepare(model: nn.Module, *, target: str | Target = "fbgemm",
            scheme: str | Scheme = "int8_static", example_inputs: tuple[Any, ...] | None = None,
            example_kwargs: Mapping[str, Any] | None = None, calibrator: str | None = None,
            overrides: Mapping[Any, str] | None = None, isa: str | None = None,
            verify: bool = True, locking: bool = False,
            passes: Sequence[Pass | str] = (), accuracy: str = FAST) -> Prepared:
    """Trace, normalize, fuse, repair, and insert observers.

    `accuracy="best"` adds the repairs and the reconstruction of `schemes.at_best` to the scheme.

    `passes` are the user's own, from FUSED to FUSED, or names of installed plugins'; they run when
    fxq's fusions are done.
    Raises ConfigError for unknown names or inputs that do not fit, TraceError for a model that
    cannot be captured, TargetUnavailableError when the machine lacks the target's engine.
    """
    if type(scheme).__name__ == "QConfigMapping":
        from fxq.frontend.torch_ao import scheme_from_mapping  # deprecated upstream

        scheme, own = scheme_from_mapping(model, scheme)
        overrides = own | dict(overrides or {})
    context = make_context(model, target, scheme, calibrator, overrides, isa, accuracy)
    if context.scheme.trained:
        raise ConfigError(f"scheme {context.scheme.name!r} is trained",
                          why="its formats are learned together with the weights",
                          fix="prepared = fxq.prepare_qat(model, ...); train it; "
                              "fxq.convert(prepared)")
    return prepare_in(context, model, example_inputs, example_kwargs, verify, locking, passes)


def prepare_in(context: Context, model: nn.Module, example_inputs: tuple[Any, ...] | None,
               example_kwargs: Mapping[str, Any] | None, verify: bool = True,
               locking: bool = False, passes: Sequence[Pass | str] = ()) -> Prepared:
    """`prepare` in a context that is known to be legal."""
    start = time.perf_counter()
    own = named_passes(passes)
    with isolated(), quiet():
        args = example_inputs if example_inputs is not None else (
            () if example_kwargs else example_inputs_for(model))
        args = args if isinstance(args, tuple) else (args,)
        twin = private_copy(model)
        signature = signature_of(twin, args, example_kwargs or {})
        inputs = [x.detach().clone() for x in given_inputs(twin, signature, args, example_kwargs)]
        manager = Manager(context, inputs, verify, locking=locking)
        manager.clock.steps.append(("private copy", time.perf_counter() - start))
        with manager.clock.step("trace"):
            traced, outputs = capture(model, twin, signature, inputs)
        module = traced.graph_module
        rest = repairs(context.scheme.repairs)
        rest += PREPARE[len(FUSE):] if context.scheme.quantized else ()
        manager.start_from(outputs)
        manager.run(module, (*FUSE, *own, *rest))
    with manager.clock.step("observers and MACs"):
        total = sum(macs(n) for n in module.graph.nodes)
        prepared = Prepared(twin, traced.convention, module, context, manager, inputs, outputs,
                            total, model_bytes(twin))
        for observer in prepared.observers().values():
            observer.reset()  # verification ran the example inputs, which are no calibration data
        if not context.scheme.needs_statistics:  # but where nobody gives any, they show the ranges
            prepared.observe([x.clone() for x in inputs])
    prepared.seconds = time.perf_counter() - start
    return prepared


def make_context(model: nn.Module, target: str | Target, scheme: str | Scheme,
                 calibrator: str | None, overrides: Mapping[Any, str] | None,
                 isa: str | None = None, accuracy: str = FAST) -> Context:
    """Check that all names exist and that the target runs the scheme and its overrides.

    Plugins' operators are loaded here: overrides and the rows of targets may name them.
    """
    load_operators()
    kind = get_scheme(scheme)
    chosen = best_target(kind) if target == AUTO_TARGET else get_target(target)
    if calibrator:
        kind = replace(kind, activation_calibrator=calibrator)
    if isa:
        kind = replace(kind, isa=isa)
    kind = with_accuracy(kind, accuracy)
    if kind.activation_calibrator != AUTO:
        get_calibrator(kind.activation_calibrator)
    get_weight_rule(kind.weight_calibrator)
    if overrides:
        kind = replace(kind, overrides=checked_overrides(model, overrides))
    check_legal(chosen, kind)
    chosen.require()
    return Context(chosen, kind, native_half=chosen.device == "cuda" or is_native(kind.half),
                   vnni=kind.isa == "host" and has_vnni())
