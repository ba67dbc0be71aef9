"""What a comparison with float has found, as text, table and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from fxq.compiler.report import WEIGHTS
from fxq.profiler.chance import LEVEL, guessing_probability
from fxq.system.files import write_file


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
