"""`fxq.compare`: how far each value of a compiled model is from the model it came from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.compiler.prepare import prepare
from fxq.compiler.verify import run
from fxq.errors import CalibrationError, ConfigError
from fxq.frontend.batches import Transform, batches
from fxq.ir.facts import info
from fxq.ir.printer import target_name
from fxq.profiler.comparison import Comparison, NodeError
from fxq.profiler.rows import is_cast, namer
from fxq.profiler.values import counterparts, values_of
from fxq.quantization.schemes import SCHEMES
from fxq.system.torch_state import isolated, quiet

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel


@dataclass
class _Sums:
    """What SQNR and cosine are made of, added up over batches in float64."""

    signal: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    energy: float = 0.0
    largest: float = 0.0

    def add(self, exact: Tensor, given: Tensor) -> None:
        a, b = exact.double(), given.double()
        self.signal += float(a.square().sum())
        self.energy += float(b.square().sum())
        self.noise += float((a - b).square().sum())
        self.product += float((a * b).sum())
        self.largest = max(self.largest, float((a - b).abs().max()) if a.numel() else 0.0)

    @property
    def sqnr(self) -> float:
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def cosine(self) -> float:
        length = math.sqrt(self.signal * self.energy)
        return self.product / length if length else 1.0


def compare(model: nn.Module, compiled: CompiledModel, loader: Iterable[Any], *,
            transform: Transform | None = None, limit: int | None = None) -> Comparison:
    """Run both on the same batches: per value SQNR, cosine and largest error, worst first.

    A batch is what calibration takes; (input, label) pairs give top-1 too. `limit` is the number
    of batches whose inner values are compared (all by default); outputs are always compared.
    Raises CalibrationError for no batches, ConfigError for a model of another signature.
    """
    sums: dict[Node, _Sums] = {}
    outputs, exact, given, labels = _Sums(), [], [], []
    floats: fx.GraphModule | None = None
    with isolated(), quiet():
        for count, item in enumerate(loader):
            item = transform(item) if transform else item
            inputs = next(iter(batches([item], compiled._signature, None)))
            floats = floats or fused_graph(model, inputs, compiled.report.repairs)
            if limit is None or count < limit:
                _add_values(compiled.graph_module, floats, inputs, sums)
            theirs, mine = (_first(g) for g in (run(floats, inputs), compiled._flat(inputs)))
            outputs.add(theirs, mine)
            exact.append(theirs)
            given.append(mine)
            labels.append(_labels(item, len(inputs), theirs))
    if floats is None:
        raise CalibrationError("there is nothing to compare: the data has no batches",
                               fix="pass a list or a DataLoader that can be read again")
    name = namer(compiled.graph_module.graph)
    rows = [NodeError(name(n), info(n).source, target_name(n), s.sqnr, s.cosine, s.largest)
            for n, s in sums.items()]
    return _summary(sorted(rows, key=lambda r: r.sqnr), outputs, torch.cat(exact),
                    torch.cat(given), labels, compiled.report.weights)


def fused_graph(model: nn.Module, inputs: list[Tensor],
                repairs: tuple[str, ...] = ()) -> fx.GraphModule:
    """The model's own float graph after fusion: its values have the compiled graph's keys.

    `repairs` are those of the compiled graph: they scale values.
    """
    scheme = replace(SCHEMES["fp32"], repairs=repairs)
    prepared = prepare(model, target="reference", scheme=scheme, example_inputs=tuple(inputs),
                       verify=False)
    return prepared.graph_module


def _add_values(compiled: fx.GraphModule, floats: fx.GraphModule, inputs: list[Tensor],
                sums: dict[Node, _Sums]) -> None:
    mine, theirs = values_of(compiled, inputs), values_of(floats, inputs)
    for node, twin in counterparts(compiled, floats).items():
        a, b = theirs.get(twin), mine.get(node)
        if a is not None and b is not None and a.shape == b.shape and not is_cast(node):
            sums.setdefault(node, _Sums()).add(a, b)


def _first(outputs: tuple[Tensor, ...]) -> Tensor:
    floats = [v for v in outputs if isinstance(v, Tensor) and v.is_floating_point()]
    if not floats:
        raise ConfigError("the model returns no float tensor to compare")
    return floats[0]


def _labels(item: Any, inputs: int, outputs: Tensor) -> Tensor | None:
    """The second of a pair, where the model takes one input and it can be class numbers."""
    if not isinstance(item, tuple | list) or len(item) != 2 or inputs != 1:
        return None
    labels = torch.as_tensor(item[1])
    fits = not labels.is_floating_point() and labels.shape == outputs.shape[:1]
    return labels if fits else None


def _summary(rows: list[NodeError], outputs: _Sums, exact: Tensor, given: Tensor,
             labels: list[Tensor | None], weights: str) -> Comparison:
    known = [v for v in labels if v is not None]
    classes = exact.dim() == 2 and exact.shape[1] > 1
    agreement = float_top1 = top1 = None
    confusion: tuple[Any, ...] = ()
    if classes:
        a, b = exact.argmax(1), given.argmax(1)
        agreement = 100 * float((a == b).double().mean())
        if len(known) == len(labels):
            true = _checked(torch.cat(known), exact.shape[1])
            float_top1, top1 = (100 * float((v == true).double().mean()) for v in (a, b))
            confusion = tuple(_confusion(true, v, exact.shape[1]) for v in (a, b))
    return Comparison(tuple(rows), len(exact), outputs.sqnr, agreement, float_top1, top1,
                      confusion, weights)


def _checked(labels: Tensor, classes: int) -> Tensor:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.numel():
        raise ConfigError(f"label {int(wrong[0])} is no class of the model",
                          why=f"it has {classes} outputs: 0 to {classes - 1}",
                          fix="number the labels as the model's outputs are")
    return labels


def _confusion(true: Tensor, found: Tensor, classes: int) -> tuple[tuple[int, ...], ...]:
    counts = torch.bincount(true * classes + found, minlength=classes * classes)
    return tuple(tuple(row) for row in counts.reshape(classes, classes).tolist())
