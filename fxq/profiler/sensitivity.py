"""What quantizing each layer costs at the outputs: where bits, or float, are worth most."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.analysis.placement import Placement, place
from fxq.compiler.build import built
from fxq.compiler.calibrate import run_batches
from fxq.compiler.prepare import Prepared, prepare
from fxq.compiler.verify import run
from fxq.errors import CalibrationError
from fxq.frontend.batches import batches
from fxq.ir.ops import OPS, Kind, op_of
from fxq.ir.rewriter import constant_of, label
from fxq.profiler.first_order import (
    FISHER,
    MARGIN,
    SIGNS,
    Effects,
    Rounding,
    context_for,
    first_order,
    formats_for,
    fused_graph_of,
    roundings,
)
from fxq.quantization.schemes import Scheme
from fxq.quantization.sqnr import sqnr
from fxq.quantization.statistics import Statistics
from fxq.system.torch_state import isolated, quiet


@dataclass(frozen=True)
class LayerError:
    """The error at the outputs with one layer quantized alone, and with all but it.

    dB for `sqnr` and `all_but`; `kl` in nats and `flips` in percent of the images, both None for a
    model whose outputs are no logits.
    """

    path: str
    scheme: str
    sqnr: float
    all_but: float
    kl: float | None = None
    flips: float | None = None


@dataclass(frozen=True)
class Sensitivity(Mapping[str, float]):
    """dB of the outputs when only this layer is quantized, by module path, worst first.

    The mapping is that of the first scheme; `rows` have every scheme.
    """

    rows: tuple[LayerError, ...]
    images: int
    exact: bool

    def of(self, scheme: str) -> dict[str, float]:
        """dB by layer, worst first."""
        found = {r.path: r.sqnr for r in self.rows if r.scheme == scheme}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @property
    def _first(self) -> dict[str, float]:
        return self.of(self.rows[0].scheme) if self.rows else {}

    def __getitem__(self, path: str) -> float:
        return self._first[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def __str__(self) -> str:
        how = "measured" if self.exact else "predicted to first order"
        rows = [(r.path, r.scheme, f"{r.sqnr:.1f}", f"{r.all_but:.1f}", _shown(r.kl, 5),
                 _shown(r.flips, 2)) for r in sorted(self.rows, key=lambda r: r.sqnr)]
        table = tabulate(rows, disable_numparse=True, headers=(
            "layer", "scheme", "alone, dB", "all but it, dB", "KL, nats", "other class, %"))
        return f"{how} on {self.images} images\n{table}"

    def to_dict(self) -> dict[str, Any]:
        rows = [{k: None if v in (math.inf, -math.inf) else v for k, v in asdict(r).items()}
                for r in self.rows]
        return {"rows": rows, "images": self.images, "exact": self.exact}


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def sensitivity(model: nn.Module, data: Iterable[Any], *, scheme: str = "int8_static",
                schemes: Sequence[str] = (), target: str = "reference", exact: bool = False,
                images: int = 128) -> Sensitivity:
    """The error at the outputs of each layer alone, and of all but it, in each scheme.

    Data is read once. Errors are predicted to first order, from one pass over the first `images`
    images (see `first_order.py`); `exact` converts and runs the model once for each layer, for each
    scheme, and twice with `all_but`. Raises CalibrationError for no data.
    """
    kept = list(data)
    if not kept:
        raise CalibrationError("sensitivity needs at least one batch",
                               fix="pass a list or a DataLoader")
    prepared = prepare(model, target=target, scheme=scheme, example_inputs=_example(kept[0]),
                       verify=False)
    flat = list(batches(kept, prepared.convention.signature))
    if prepared.context.scheme.quantized:
        run_batches(prepared, flat)
    statistics, module = prepared.statistics(), fused_graph_of(prepared)
    names = list(dict.fromkeys((prepared.context.scheme.name, *schemes)))
    chosen = some(flat, images)
    with isolated(), quiet():
        if exact:
            return _measured(prepared, statistics, chosen, names, module)
        formats = formats_for(prepared, statistics, module, names)
        effects = first_order(prepared, statistics, chosen, formats, module)
        mixed = Mixtures(module, prepared, statistics)
        rows = [_row(effects, mixed, name, path) for name in names for path in mixed.paths]
    return Sensitivity(tuple(sorted(rows, key=lambda r: (names.index(r.scheme), r.sqnr))),
                       len(effects.outputs), False)


def _example(item: Any) -> tuple[Any, ...]:
    return (item[0] if isinstance(item, tuple | list) else item,)


def some(flat: Sequence[list[Tensor]], images: int) -> list[list[Tensor]]:
    """The first batches, with that many images or a few more."""
    seen, found = 0, []
    for batch in flat:
        if seen >= images:
            break
        found.append([x[: images - seen] if len({len(x) for x in batch}) == 1 else x
                      for x in batch])
        seen += len(batch[0])
    return found


def units(module: fx.GraphModule) -> dict[str, list[Node]]:
    """The layers by the path that an override names them by; a module called twice is one."""
    found: dict[str, list[Node]] = {}
    for node in module.graph.nodes:
        op = op_of(node)
        if op is not None and op.kind is Kind.MAC and constant_of(node.args[1]) is not None:
            found.setdefault(label(node), []).append(node)
    return found


class Mixtures:
    """What is rounded when each layer has a scheme of its own."""

    def __init__(self, module: fx.GraphModule, prepared: Prepared, statistics: Statistics) -> None:
        self.module, self.paths = module, list(units(module))
        self.context = context_for(prepared, statistics, prepared.context.scheme.name)

    def scheme(self, assignment: Mapping[str, str]) -> Scheme:
        """The whole scheme with the overrides that say so."""
        base = self.context.scheme
        return replace(base, overrides=overrides_of(assignment, base.name))

    def placement(self, assignment: Mapping[str, str]) -> Placement:
        """Where each node computes then."""
        return place(self.module, replace(self.context, scheme=self.scheme(assignment)))

    def roundings(self, assignment: Mapping[str, str]) -> set[Rounding]:
        """What is rounded then."""
        return roundings(self.module, self.placement(assignment), self.scheme(assignment))


def overrides_of(assignment: Mapping[str, str], base: str) -> dict[str, str]:
    """The overrides by which each layer has its scheme: outer paths first, since the last counts.

    Layers of the base scheme need none, unless the path of another one covers theirs too.
    """
    own = {path for path, scheme in assignment.items() if scheme != base}
    covers = any(p in OPS or any(q.startswith(f"{p}.") for q in assignment) for p in own)
    ordered = sorted(assignment, key=lambda p: (p.count("."), p not in OPS))
    return {glob.escape(path): assignment[path] for path in ordered if covers or path in own}


def _row(effects: Effects, mixed: Mixtures, scheme: str, path: str) -> LayerError:
    alone = effects.total(mixed.roundings(dict.fromkeys(mixed.paths, "fp32") | {path: scheme}))
    rest = effects.total(mixed.roundings(dict.fromkeys(mixed.paths, scheme) | {path: "fp32"}))
    signal = float(effects.outputs.double().square().sum(1).mean())
    found = LayerError(path, scheme, _decibel(signal, alone), _decibel(signal, rest))
    if not effects.classes:
        return found
    return replace(found, kl=float(alone[:, FISHER].double().mean()) / 2,
                   flips=100 * flips(effects, float(alone[:, MARGIN].double().mean())))


def _decibel(signal: float, squares: Tensor) -> float:
    noise = float(squares[:, SIGNS].double().mean())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def flips(effects: Effects, variance: float) -> float:
    """The share of images whose class changes when margins move by noise of this variance."""
    best = effects.outputs.topk(2, 1).values
    margins = (best[:, 0] - best[:, 1]).double()
    return float(chance_of_flip(margins, variance).mean())


def chance_of_flip(margins: Tensor, variance: float) -> Tensor:
    """P[N(0, variance) > margin], for each image."""
    if variance <= 0:
        return (margins <= 0).double() * 0
    return 0.5 * torch.erfc(margins / math.sqrt(2 * variance))


def _measured(prepared: Prepared, statistics: Statistics, flat: Sequence[list[Tensor]],
              names: Sequence[str], module: fx.GraphModule) -> Sensitivity:
    """Each layer alone, and all but it, converted and run."""
    paths, rows = list(units(module)), []
    exact = _outputs(lambda x: run(module, x), flat)
    for name in names:
        for path in paths:
            others = {p: "fp32" for p in paths if p != path}
            alone = _run_with(prepared, statistics, {**others, path: name}, flat)
            rest = _run_with(prepared, statistics,
                             {**dict.fromkeys(others, name), path: "fp32"}, flat)
            rows.append(_compared(path, name, exact, alone, rest))
    order = sorted(rows, key=lambda r: (names.index(r.scheme), r.sqnr))
    return Sensitivity(tuple(order), len(exact), True)


def _run_with(prepared: Prepared, statistics: Statistics, assignment: Mapping[str, str],
              flat: Sequence[list[Tensor]]) -> Tensor:
    wanted = overrides_of(assignment, prepared.context.scheme.name)
    executable = built(prepared.with_overrides(wanted), statistics)[1]
    return _outputs(lambda x: executable.function(*x), flat)


def _outputs(function: Callable[[list[Tensor]], Any], flat: Sequence[list[Tensor]]) -> Tensor:
    found = [next(v for v in function(x) if isinstance(v, Tensor) and v.is_floating_point())
             for x in flat]
    return torch.cat(found)


def _compared(path: str, scheme: str, exact: Tensor, alone: Tensor, rest: Tensor) -> LayerError:
    found = LayerError(path, scheme, sqnr(exact, alone), sqnr(exact, rest))
    if exact.dim() != 2 or exact.shape[1] < 2:
        return found
    log_p, log_q = exact.double().log_softmax(1), alone.double().log_softmax(1)
    divergence = float((log_p.exp() * (log_p - log_q)).sum(1).mean())
    return replace(found, kl=divergence,
                   flips=100 * float((exact.argmax(1) != alone.argmax(1)).double().mean()))


__all__ = ["LayerError", "Mixtures", "Sensitivity", "chance_of_flip", "flips", "overrides_of",
           "sensitivity", "units"]
