"""`compiled.profile(x)`: measure a compiled model node by node, beside float."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from fxq import kernels
from fxq.environment import environment
from fxq.errors import TargetUnavailableError
from fxq.isolation import isolated
from fxq.metrics import sqnr
from fxq.profiler.clock import time_nodes
from fxq.profiler.memory import peak_bytes
from fxq.profiler.output import ProfileOutput
from fxq.profiler.roof import roof
from fxq.profiler.rows import (
    Histogram,
    NodeProfile,
    float_times,
    histogram_of,
    paired_values,
    rows_of,
)
from fxq.runtime.cuda import to_device
from fxq.targets import TARGETS
from fxq.timing import race

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel


@dataclass(frozen=True)
class Profile(ProfileOutput):
    """What a model costs, node by node and in all.

    Times are microseconds and medians: `total_us` of the nodes together, `plain_us` of the same
    graph without clocks, `model_us` of the model as it is called (with its own runtime), `float_us`
    of its float side. `overhead` is what the clocks add, as a share. `roofs` are GMAC/s.
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
    overhead: float
    peak_bytes: int
    size_bytes: int
    float_bytes: int
    roofs: dict[str, float]
    environment: dict[str, str]
    left_in_float: tuple[dict[str, str], ...]
    settings: dict[str, Any]
    histograms: dict[int, Histogram]  # by the position of the node


def profile(compiled: CompiledModel, *args: Any, rounds: int = 50, budget: float = 3.0,
            float_model: fx.GraphModule | None = None, **kwargs: Any) -> Profile:
    """Measure a compiled model on its inputs; called as `compiled.profile(x)`.

    `budget` is the number of seconds for each side. Without `float_model` (a FUSED graph), float is
    the graph that the integers stand for. Raises TargetUnavailableError where it cannot run.
    """
    known = TARGETS.get(compiled.report.target)
    if known is not None and not known.is_available():
        raise TargetUnavailableError("this machine cannot run the model, so it cannot be measured",
                                     fix="profile it on a machine with its device")
    module, report = compiled.graph_module, compiled.report
    with isolated(), kernels.quiet():
        inputs = [x.detach() for x in compiled._signature.tensors(args, kwargs)]
        compiled._takes(inputs)
        device = _device(module)
        inputs = [x.to(device) for x in inputs]
        timing = time_nodes(module, inputs, rounds, budget)
        floats = _moved(float_model or _float_side(compiled), device)
        float_timing = time_nodes(floats, inputs, rounds, budget) if floats else None
        pairs = paired_values(module, floats, inputs) if floats else {}
        quality = {node: sqnr(a, b) for node, (a, b) in pairs.items()}
        histograms = {node: h for node, (a, _) in pairs.items()
                      if (h := histogram_of(node, a)) is not None}
        roofs = {"float": roof("", "float", device)}
        if report.arithmetic == "integer":
            roofs["integer"] = roof(known.name if known else "auto", "integer")
        if device == "cuda":
            roofs["half"] = roof("", "half", device)
        peak = peak_bytes(lambda: compiled._flat(inputs), device)
        whole, = race([lambda: _finished(compiled._flat(inputs))], rounds, budget=budget / 3)
    rows = rows_of(module, timing, float_times(module, float_timing) if float_timing else {},
                   quality, roofs)
    return Profile(
        tuple(rows), report.target, report.scheme, report.runtime, _batch(inputs),
        sum(r.us for r in rows), statistics.median(timing.plain) * 1e6, whole * 1e6,
        statistics.median(float_timing.plain) * 1e6 if float_timing else None, timing.overhead,
        peak, report.size_bytes, report.float_bytes, roofs, environment(),
        tuple({"path": r.path, "op": r.op, "code": r.code, "reason": r.reason, "source": r.source}
              for r in report.left_in_float),
        {"rounds": rounds, "budget": budget, "inputs": [list(x.shape) for x in inputs]},
        {timing.nodes.index(node): h for node, h in histograms.items()})


def _float_side(compiled: CompiledModel) -> fx.GraphModule | None:
    from fxq.errors import ArtifactError

    try:
        return compiled.float_graph(activations_only=True)
    except ArtifactError:  # code of the user's own: there is no float side apart
        return None


def _device(module: fx.GraphModule) -> str:
    return next((b.device.type for b in module.buffers()), "cpu")


def _moved(floats: fx.GraphModule | None, device: str) -> fx.GraphModule | None:
    """The float side on the device of the compiled one, laid out like it."""
    return to_device(floats, device) if floats is not None and device != "cpu" else floats


def _finished(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs that are there: a GPU returns before it has computed them."""
    if any(isinstance(v, Tensor) and v.is_cuda for v in outputs):
        torch.cuda.synchronize()
    return outputs


def _batch(inputs: list[Tensor]) -> int:
    return inputs[0].shape[0] if inputs and inputs[0].dim() else 0
