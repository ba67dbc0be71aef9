"""`fxq.compare`: how far each value of a compiled model is from the model it came from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tabulate import tabulate
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.compiler.prepare import prepare
from fxq.compiler.report import WEIGHTS
from fxq.compiler.verify import run
from fxq.errors import CalibrationError, ConfigError
from fxq.frontend.batches import Transform, batches
from fxq.ir.facts import info
from fxq.ir.printer import target_name
from fxq.profiler.chance import LEVEL, guessing_probability
from fxq.profiler.rows import counterparts, is_cast, namer, values_of
from fxq.system.files import write_file
from fxq.system.torch_state import isolated, quiet

if TYPE_CHECKING:
    from fxq.compiled import CompiledModel


@dataclass(frozen=True)
class NodeError:
    """One value against float: SQNR in dB, cosine, largest difference, over all batches."""

    name: str
    source: str
    kernel: str
    sqnr: float
    cosine: float
    max_error: float


@dataclass(frozen=True)
class Comparison:
    """All values, worst first, and the outputs; `top1` are percentages where labels were given."""

    nodes: tuple[NodeError, ...]
    images: int
    sqnr: float
    agreement: float | None
    float_top1: float | None
    top1: float | None
    confusion: tuple[tuple[tuple[int, ...], ...], ...] = field(default=(), repr=False)
    weights: str = ""  # as the report of the compiled model says

    @property
    def drop(self) -> float | None:
        """Points of top-1 that were lost."""
        return None if self.top1 is None or self.float_top1 is None else (
            self.float_top1 - self.top1)

    @property
    def doubt(self) -> str:
        """Why the accuracies say nothing, or an empty text: guessing reaches float's as well."""
        if not self.confusion:
            return ""
        labels = [sum(row) for row in self.confusion[0]]
        hits = sum(row[i] for i, row in enumerate(self.confusion[0]))
        chance = guessing_probability(hits, labels)
        return "" if chance <= LEVEL else (
            f"float accuracy is near chance: {hits} of {sum(labels)} right, and answers that "
            f"ignore the image reach that with probability {chance:.2g} (limit {LEVEL:g}): wrong "
            "labels, wrong weights, or too few images")

    def __str__(self) -> str:
        rows = [("weights", WEIGHTS[self.weights])] if self.weights in WEIGHTS else []
        rows += [("images", str(self.images)), ("SQNR of the outputs", f"{self.sqnr:.1f} dB")]
        if self.agreement is not None:
            rows.append(("same class", f"{self.agreement:.2f} %"))
        if self.top1 is not None:
            rows.append(("top-1", f"{self.float_top1:.2f} % -> {self.top1:.2f} %"))
        if self.doubt:
            rows.append(("WARNING", self.doubt))
        return f"{tabulate(rows, tablefmt='plain')}\n\n{self.table()}"

    def table(self, form: str = "simple", limit: int = 25) -> str:
        rows = [(n.name, n.kernel, f"{n.sqnr:.1f}", f"{n.cosine:.5f}", f"{n.max_error:.3g}",
                 n.source[:48]) for n in self.nodes[:limit]]
        return str(tabulate(rows, tablefmt=form, disable_numparse=True, headers=(
            "worst first", "kernel", "SQNR dB", "cosine", "max error", "source")))

    def _repr_html_(self) -> str:
        return self.table("html", limit=len(self.nodes))

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        for row in (values, *values["nodes"]):
            row.update({k: None for k, v in row.items()
                        if isinstance(v, float) and not math.isfinite(v)})
        return values | {"drop": self.drop, "doubt": self.doubt}

    def to_json(self, path: str | Path | None = None) -> str:
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            write_file(Path(path), text.encode())
        return text


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
            floats = floats or fused_graph(model, inputs)
            if limit is None or count < limit:
                _add_values(compiled.graph_module, floats, inputs, sums)
            theirs, mine = (_first(g) for g in (_run(floats, inputs), compiled._flat(inputs)))
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


def fused_graph(model: nn.Module, inputs: list[Tensor]) -> fx.GraphModule:
    """The model's own float graph after fusion: its values have the compiled graph's keys."""
    prepared = prepare(model, target="reference", scheme="fp32", example_inputs=tuple(inputs),
                       verify=False)
    return prepared.graph_module


def _run(module: fx.GraphModule, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return run(module, inputs)


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
