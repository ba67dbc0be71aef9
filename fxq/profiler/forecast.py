"""`fxq.plan`: what each target and scheme would give, without data and without running the model.

Coverage and size come from the real passes, with ranges from the example input. Time is the sum of
a micro-benchmark: each kind of node with each shape is measured once on this machine, and kept in
a cache that other models read too. Native programs, which are one call, are measured as a whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.analysis.legality import note_on
from fxq.compiler.build import built
from fxq.compiler.calibrate import run_batches
from fxq.compiler.prepare import prepare
from fxq.errors import ConfigError, FxqError
from fxq.ir.facts import PACKED, info
from fxq.ir.printer import shown_arguments, target_name
from fxq.ir.sizes import model_bytes
from fxq.kernels.native.library import isa
from fxq.quantization.schemes import get_scheme
from fxq.runtime.executable import Executable
from fxq.system.cache import cache_file as kept_in
from fxq.system.cache import keep_cache, read_cache
from fxq.system.machine import environment
from fxq.system.torch_state import isolated, quiet
from fxq.targets import get_target

TARGETS = ("native", "fbgemm", "x86", "qnnpack", "cuda_fp16")
SCHEMES = ("fp32", "int8_static", "int8_dynamic", "int8_weight_only", "fp16")
_ROUNDS = 15
# Floats that are written between two rounds: in a model, other nodes would have filled the nearest
# caches, and a node that finds its own weights there is up to a third faster than it will be.
_OTHERS = 1 << 18


@dataclass(frozen=True)
class Forecast:
    """One target with one scheme; `reason` says why there is no figure."""

    target: str
    scheme: str
    coverage: float | None = None
    size_bytes: int | None = None
    us: float | None = None
    float_nodes: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """All forecasts, for one model and input."""

    rows: tuple[Forecast, ...]
    float_bytes: int

    def __str__(self) -> str:
        cells = [(r.target, r.scheme, _share(r.coverage), _megabytes(r.size_bytes),
                  f"{r.us / 1e3:.2f}" if r.us is not None else "",
                  "" if r.float_nodes is None else str(r.float_nodes), r.reason[:60])
                 for r in self.rows]
        table = tabulate(cells, disable_numparse=True, headers=(
            "target", "scheme", "low-precision MACs", "MB", "ms", "in float", "note"))
        return f"float: {self.float_bytes / 1e6:.3f} MB\n\n{table}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.3f}"


def plan(model: nn.Module, *, example_inputs: tuple[Any, ...] | None = None,
         targets: Sequence[str] = TARGETS,
         schemes: Sequence[str] = SCHEMES) -> Plan:
    """Predict coverage, bytes and microseconds for each pair. The model's code runs once a pair.

    Raises ConfigError for unknown names, TraceError for a model that cannot be traced.
    """
    times = Times()
    pairs = [(get_target(t).name, get_scheme(s).name) for t in targets for s in schemes]
    rows = tuple(_forecast(model, target, scheme, example_inputs, times)
                 for target, scheme in pairs)
    times.keep()
    return Plan(rows, model_bytes(model))


def _forecast(model: nn.Module, target: str, scheme: str, example: tuple[Any, ...] | None,
              times: Times) -> Forecast:
    chosen, kind = get_target(target), get_scheme(scheme)
    if (reason := chosen.why_not_scheme(kind)) is not None:
        return Forecast(target, scheme, reason=reason)
    try:
        prepared = prepare(model, target=target, scheme=scheme, example_inputs=example,
                           verify=False)
        if kind.needs_statistics:
            run_batches(prepared, [prepared.inputs])
        reference, executable = built(prepared)
    except ConfigError:
        raise
    except FxqError as error:
        return Forecast(target, scheme, reason=error.what)
    here = chosen.is_available()
    with isolated(), quiet():
        total = times.predict(executable, prepared.inputs) if here else None
    coverage = reference.macs / prepared.macs if prepared.macs else 1.0
    return Forecast(target, scheme, coverage, reference.bytes, total,
                    len(reference.left_in_float), note_on(prepared.context) or (
                        "" if here else "not on this machine, so without a time"))


class Times:
    """Microseconds by what a node is and the shapes it reads and makes; kept between processes."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_file()
        self.known: dict[str, float] = {}
        try:
            self.known = {k: float(v) for k, v in read_cache(self.path).items()}
        except (ValueError, TypeError):
            self.known = {}  # a broken one: everything is measured again

    def keep(self) -> None:
        """Write what was measured; a folder that cannot be written costs time only."""
        keep_cache(self.path, self.known)

    def predict(self, executable: Executable, inputs: Sequence[Tensor]) -> float:
        """Microseconds of all calls of a graph; measures those that the cache lacks."""
        module = executable.graph_module
        nodes = [n for n in module.graph.nodes if n.op.startswith("call_")]
        if executable.runtime == "native":
            return self._whole(executable, nodes, inputs)
        if any(signature(n) not in self.known for n in nodes):
            with torch.no_grad():
                _Bench(module, self.known).run(*inputs)
        return sum(self.known[signature(n)] for n in nodes)

    def _whole(self, executable: Executable, nodes: Sequence[Node],
               inputs: Sequence[Tensor]) -> float:
        """Of a native graph, by all of its nodes and their order."""
        text = "\n".join([isa(), *map(signature, nodes)])
        key = f"program {hashlib.sha256(text.encode()).hexdigest()}"
        if key not in self.known:
            others = torch.zeros(_OTHERS)
            with torch.no_grad():
                executable.function(*inputs)  # makes the programs
                self.known[key] = _median_us(lambda: executable.function(*inputs), others)
        return self.known[key]


def _median_us(call: Callable[[], Any], others: Tensor) -> float:
    """Microseconds of a call, between whose rounds other memory is written."""
    samples = []
    for _ in range(_ROUNDS):
        others.add_(1.0)
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return sorted(samples)[_ROUNDS // 2] * 1e6


class _Bench(fx.Interpreter):
    """Runs a graph, and times each call that is not known yet."""

    def __init__(self, module: fx.GraphModule, known: dict[str, float]) -> None:
        super().__init__(module)
        self.known, self.extra_traceback = known, False
        self.others = torch.zeros(_OTHERS)

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op.startswith("call_") and signature(n) not in self.known:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.known[signature(n)] = _median_us(
                lambda: getattr(self, n.op)(n.target, args, kwargs), self.others)
        return value


def signature(node: Node) -> str:
    """What the time of a node depends on: kernel, shapes, types, and options without tensors."""
    def shape(n: Node) -> str:
        known = info(n)
        return f"{known.dtype}{list(known.shape or ())}{PACKED.of(n) or ''}"

    plain = [str(v) for v in (*shown_arguments(node), *node.kwargs.values())
             if isinstance(v, int | str | bool) or v is None]
    return " ".join([target_name(node), shape(node), *map(shape, node.all_input_nodes), *plain])


def cache_file() -> Path:
    """One file for each machine, number of threads and version."""
    facts = environment()
    names = ("cpu", "instructions", "threads", "torch", "fxq")
    return kept_in("times", [facts.get(name, "") for name in names])
