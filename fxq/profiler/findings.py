"""What `fxq.debug` has found, as text and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from tabulate import tabulate

from fxq.system.files import write_file

_SHOWN = 5


@dataclass(frozen=True)
class NodeFinding:
    """One value of the compiled graph, by its canonical key, against float.

    `error` is the root mean square of what the node adds when it is fed with float's inputs in
    its formats, `expected` what rounding by its formats explains of that, `excess` their ratio in
    the worst channel. `saturated` is the share of values outside of its range. `accumulated` is
    the SQNR of the value in the compiled model, `effect` that of the outputs when this node's
    error is the only one, both in dB. `cause` is empty where the formats explain everything.
    """

    name: str
    value: str
    kernel: str
    source: str
    format: str
    error: float
    expected: float
    excess: float
    saturated: float
    accumulated: float
    effect: float
    cause: str = ""


@dataclass(frozen=True)
class Findings:
    """All nodes in the order of the graph; the SQNR of the outputs, and what the nodes explain.

    `explained` adds up the effects of all nodes as if they were independent. `runtime` says where
    the model that runs gives other numbers than its own graph.
    """

    nodes: tuple[NodeFinding, ...]
    sqnr: float
    explained: float
    runtime: str = ""

    @property
    def faults(self) -> tuple[NodeFinding, ...]:
        """The nodes that part ways with float beyond what their formats explain."""
        return tuple(n for n in self.nodes if n.cause)

    @property
    def first(self) -> NodeFinding | None:
        """Where to look: what comes after it computes with its results."""
        return next(iter(self.faults), None)

    @property
    def worst(self) -> tuple[NodeFinding, ...]:
        """The nodes whose own errors matter most at the outputs."""
        moving = [n for n in self.nodes if n.effect < math.inf]
        return tuple(sorted(moving, key=lambda n: n.effect)[:_SHOWN])

    def __str__(self) -> str:
        rows = [(n.name, n.kernel, f"{n.effect:.1f}", f"{n.error:.3g}", f"{n.expected:.3g}",
                 f"{n.saturated:.2%}", f"{n.accumulated:.1f}", n.source[:48]) for n in self.worst]
        table = tabulate(rows, disable_numparse=True, headers=(
            "matters most at the outputs", "kernel", "alone dB", "error", "expected", "saturated",
            "accumulated dB", "source"))
        return (f"{self.verdict()}\noutputs: {self.sqnr:.1f} dB, of which the nodes explain "
                f"{self.explained:.1f} dB\n\n{table}")

    def verdict(self) -> str:
        """One sentence: the first node at fault, or that there is none."""
        found = self.first
        if found is None:
            return self.runtime or "no node is further from float than its formats explain"
        where = f" at {found.source}" if found.source else ""
        others = len(self.faults) - 1
        return (f"first at fault: {found.name} ({found.kernel}{where}): {found.cause}"
                + (f"; and {others} more: {', '.join(n.name for n in self.faults[1:4])}"
                   if others else "") + (f"\n{self.runtime}" if self.runtime else ""))

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything as JSON; what is not finite is null."""
        values = asdict(self) | {"first": self.first.name if self.first else None}
        for row in (values, *values["nodes"]):
            row.update({k: None for k, v in row.items()
                        if isinstance(v, float) and not math.isfinite(v)})
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        if path is not None:
            write_file(Path(path), text.encode())
        return text
