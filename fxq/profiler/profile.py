"""`compiled.profile(x)`: measure a compiled model node by node, beside float."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from fxq.errors import ArtifactError, TargetUnavailableError
from fxq.profiler.advice import Proposal, Recompile, confirmed, measured_cast, proposals
from fxq.profiler.clock import Samples, Timing, side_of, time_together
from fxq.profiler.memory import Arena, arena_of, peak_bytes
from fxq.profiler.native import native_cast, native_side, programs
from fxq.profiler.output import ProfileOutput
from fxq.profiler.roof import roof
from fxq.profiler.rows import NodeProfile, float_times, namer, raised, rows_of
from fxq.profiler.trust import doubts
from fxq.profiler.values import Histogram, histogram_of, paired_values
from fxq.quantization.sqnr import sqnr
from fxq.runtime.cuda import to_device
from fxq.system.machine import environment
from fxq.system.timing import Spread
from fxq.system.torch_state import isolated, quiet
from fxq.targets import TARGETS

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel


@dataclass(frozen=True)
class Profile(ProfileOutput):
    """What a model costs, node by node and in all.

    Times are microseconds and medians: `total_us` of the nodes together, `plain_us` of the same
    graph without clocks, `model_us` of the model as it is called (with its own runtime), `float_us`
    of its float side. All are measured in the same rounds, turn by turn. `coverage` is the share of
    `plain_us` that the nodes add up to. `roofs` are GMAC/s. `spreads` has the 10th and 90th
    percentile over the rounds of each figure, of `speedup` (float over compiled, by round), of
    `casts` (their share), and the 95 % interval of the median of `overhead`, which is what the
    clocks add, as a share. `doubts` say what is out of bounds; `reliable` that nothing is.
    """

    nodes: tuple[NodeProfile, ...]
    target: str
    scheme: str
    runtime: str
    batch: int
    total_us: float
    plain_us: float
    model_us: float
    float_us: float | None
    coverage: float
    rounds: int
    peak_bytes: int
    size_bytes: int
    float_bytes: int
    roofs: dict[str, float]
    environment: dict[str, str]
    left_in_float: tuple[dict[str, str], ...]
    settings: dict[str, Any]
    histograms: dict[int, Histogram]  # by the position of the node
    spreads: dict[str, Spread]
    weights: str = ""  # where they come from, as the report says
    proposals: tuple[Proposal, ...] = ()
    arenas: tuple[Arena, ...] = ()  # memory of native programs, step by step

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the times are not to be believed, one sentence each."""
        return doubts(self)

    @property
    def reliable(self) -> bool:
        """Spread, coverage and the clocks' cost are within bounds."""
        return not self.doubts


def profile(compiled: CompiledModel, *args: Any, rounds: int = 50, budget: float = 3.0,
            float_model: fx.GraphModule | None = None, recompile: Recompile | None = None,
            **kwargs: Any) -> Profile:
    """Measure a compiled model on its inputs; called as `compiled.profile(x)`.

    `budget` is the number of seconds for each side. Without `float_model` (a FUSED graph), float is
    the graph that the integers stand for. `recompile` takes overrides and returns the model
    compiled with them: with it, advice is checked by a second measurement.
    Raises TargetUnavailableError where it cannot run.
    """
    known = TARGETS.get(compiled.report.target)
    if known is not None and not known.is_available():
        raise TargetUnavailableError("this machine cannot run the model, so it cannot be measured",
                                     fix="profile it on a machine with its device")
    device = _device(compiled.graph_module)
    with isolated(), quiet():
        inputs = [x.detach() for x in compiled._signature.tensors(args, kwargs)]
        compiled._takes(inputs)
        inputs = [x.to(device) for x in inputs]
        floats = _moved(float_model or _float_side(compiled), device)
        race = _run(compiled, floats, inputs, rounds, budget)
    found = _profile_of(compiled, race, {"rounds": rounds, "budget": budget,
                                         "inputs": [list(x.shape) for x in inputs]})
    if not found.reliable or compiled.report.arithmetic != "integer":
        return found
    with isolated(), quiet():
        cast = native_cast if found.arenas else measured_cast
        advised = proposals(list(found.nodes), _noise(race), cast)
        if recompile is not None:
            advised = confirmed(advised, compiled, inputs, recompile, rounds, budget)
    return replace(found, proposals=advised)


@dataclass(frozen=True)
class _Race:
    """What was measured: both sides by node, the model as it is called, and values of both."""

    timing: Timing
    floats: Timing | None
    whole: Samples
    pairs: Mapping[fx.Node, tuple[Tensor, Tensor]]
    roofs: dict[str, float]
    peak: int
    arenas: tuple[Arena, ...]


def _noise(race: _Race) -> float:
    """Microseconds below which a difference between two models says nothing."""
    middle = Spread.of_median(race.timing.plain, 1e6)
    return (middle.high - middle.low) / 2


def _run(compiled: CompiledModel, floats: fx.GraphModule | None, inputs: list[Tensor],
         rounds: int, budget: float) -> _Race:
    module, device = compiled.graph_module, _device(compiled.graph_module)
    # A native program is timed from inside, all else call by call.
    native = programs(module, inputs) if compiled.report.runtime == "native" else []
    mine = native_side(module, compiled._function, native) if native else side_of(module, inputs)
    (timing, *other), (whole,) = time_together(
        [mine, side_of(floats, inputs)] if floats else [mine], inputs, rounds, 2 * budget,
        [lambda: compiled._flat(inputs)])
    pairs = paired_values(module, floats, inputs) if floats else {}
    roofs = {"float": roof("", "float", device)}
    if compiled.report.arithmetic == "integer":
        known = TARGETS.get(compiled.report.target)
        roofs["integer"] = roof(known.name if known else "auto", "integer")
    if device == "cuda":
        roofs["half"] = roof("", "half", device)
    arenas = tuple(arena_of(p.linked, namer(module.graph)) for p in native)
    peak = peak_bytes(lambda: compiled._flat(inputs), device) + sum(a.run_bytes for a in arenas)
    return _Race(timing, other[0] if other else None, whole, pairs, raised(roofs, timing), peak,
                 arenas)


def _profile_of(compiled: CompiledModel, race: _Race, settings: dict[str, Any]) -> Profile:
    module, report, timing = compiled.graph_module, compiled.report, race.timing
    quality = {node: sqnr(a, b) for node, (a, b) in race.pairs.items()}
    histograms = {timing.nodes.index(node): h for node, (a, _) in race.pairs.items()
                  if (h := histogram_of(node, a)) is not None}
    beside = float_times(module, race.floats, timing.within) if race.floats else {}
    rows = rows_of(module, timing, beside, quality, race.roofs)
    spreads = _spreads(rows, timing, race.floats, race.whole)
    left = tuple({"path": r.path, "op": r.op, "code": r.code, "reason": r.reason,
                  "source": r.source} for r in report.left_in_float)
    shape: list[int] = next(iter(settings["inputs"]), [])
    return Profile(
        tuple(rows), report.target, report.scheme, report.runtime, shape[0] if shape else 0,
        sum(r.us for r in rows), spreads["plain_us"].middle, spreads["model_us"].middle,
        spreads["float_us"].middle if race.floats else None, timing.coverage, len(race.whole),
        race.peak, report.size_bytes, report.float_bytes, race.roofs, environment(), left,
        settings, histograms, spreads, report.weights, arenas=race.arenas)


def _spreads(rows: list[NodeProfile], timing: Timing, floats: Timing | None,
             whole: Samples) -> dict[str, Spread]:
    """Of each figure of the whole model."""
    total = timing.samples.sum(1)
    casts = timing.samples[:, [i for i, r in enumerate(rows) if r.cast]].sum(1)
    found = {"total_us": Spread.of(total, 1e6), "plain_us": Spread.of(timing.plain, 1e6),
             "model_us": Spread.of(whole, 1e6), "casts": Spread.of(casts / total),
             "overhead": Spread.of_median(timing.overhead)}
    if floats is not None:
        found |= {"float_us": Spread.of(floats.plain, 1e6),
                  "speedup": Spread.of(floats.plain / timing.plain)}
    return found


def _float_side(compiled: CompiledModel) -> fx.GraphModule | None:
    try:
        return compiled.float_graph(activations_only=True)
    except ArtifactError:  # code of the user's own: there is no float side apart
        return None


def _device(module: fx.GraphModule) -> str:
    return next((b.device.type for b in module.buffers()), "cpu")


def _moved(floats: fx.GraphModule | None, device: str) -> fx.GraphModule | None:
    """The float side on the device of the compiled one, laid out like it; a copy, if it moves."""
    return to_device(copy.deepcopy(floats), device) if floats and device != "cpu" else floats
