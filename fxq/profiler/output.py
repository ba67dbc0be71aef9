"""A profile as a table, CSV, JSON, Markdown, a trace for chrome://tracing, or one HTML page."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from fxq.compiler.report import WEIGHTS
from fxq.system.files import write_file

_COLUMNS = (("node", "name"), ("kernel", "kernel"), ("shape", "shape"), ("weights kB", "weight"),
            ("M MACs", "macs"), ("µs", "us"), ("± µs", "iqr"), ("%", "share"),
            ("float µs", "float"), ("GMAC/s", "gmacs"), ("% of roof", "roof"),
            ("MAC/B", "intensity"), ("SQNR dB", "sqnr"), ("source", "source"))


class ProfileOutput:
    """What every profile can be turned into; `self` is a `Profile`."""

    def to_dict(self: Any) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self) | {"nodes": [n.to_dict() for n in self.nodes]}
        values["left_in_float"] = list(values["left_in_float"])
        return values

    def to_json(self: Any, path: str | Path | None = None) -> str:
        return _given(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", path)

    def to_csv(self: Any, path: str | Path | None = None) -> str:
        stream = io.StringIO()
        rows = [n.to_dict() | {"shape": "x".join(map(str, n.shape))} for n in self.nodes]
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return _given(stream.getvalue(), path)

    def to_markdown(self: Any, path: str | Path | None = None) -> str:
        text = f"{self.headline('github')}\n\n{self.table('github')}\n"
        return _given(text, path)

    def to_chrome_trace(self: Any, path: str | Path | None = None) -> str:
        """Complete events, one after the other: open it in chrome://tracing or Perfetto."""
        events, now = [], 0.0
        for node in self.nodes:
            events.append({"name": node.name, "cat": node.kernel, "ph": "X", "pid": 1, "tid": 1,
                           "ts": now, "dur": node.us, "args": node.to_dict()})
            now += node.us
        return _given(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}) + "\n", path)

    def to_html(self: Any, path: str | Path | None = None) -> str:
        """One page without remote resources: see `fxq.profiler.html`."""
        from fxq.profiler.html import page

        return _given(page(self), path)

    def _repr_html_(self: Any) -> str:
        return f"{self.headline('html')}{self.table('html')}"

    def __str__(self: Any) -> str:
        return f"{self.headline('plain')}\n\n{self.table('simple')}\n\n{self.advice()}"

    def headline(self: Any, form: str = "plain") -> str:
        """The figures of the whole model."""
        ratio = f", {self.float_us / self.plain_us:.2f}x float" if self.float_us else ""
        known = [("weights", WEIGHTS[self.weights])] if self.weights in WEIGHTS else []
        rows = [*known, ("model", f"{self.target}, scheme {self.scheme}, batch {self.batch}"),
                ("nodes together", f"{self.total_us:.0f} µs, "
                 f"{100 * self.total_us / self.plain_us:.1f} % of the {self.plain_us:.0f} µs "
                 f"without clocks{ratio}"),
                ("as it is called", f"{self.model_us:.0f} µs ({self.runtime} runtime)"),
                ("float", f"{self.float_us:.0f} µs" if self.float_us else "not measured"),
                ("size", f"{self.size_bytes / 1e6:.3f} MB, float {self.float_bytes / 1e6:.3f} MB"),
                ("peak memory of a run", f"{self.peak_bytes / 1e6:.3f} MB"),
                ("roof", ", ".join(f"{k} {v:.0f} GMAC/s" for k, v in self.roofs.items())),
                ("clocks cost", f"{100 * self.overhead:.1f} %"),
                ("machine", f"{self.environment['cpu']}, {self.environment['threads']} threads")]
        return str(tabulate(rows, tablefmt=form))

    def table(self: Any, form: str = "simple", limit: int | None = None) -> str:
        """One row a node, in the order of the graph; `limit` keeps the slowest."""
        nodes = self.nodes if limit is None else sorted(self.nodes, key=lambda n: -n.us)[:limit]
        return str(tabulate([_cells(n) for n in nodes], headers=[c[0] for c in _COLUMNS],
                            tablefmt=form, disable_numparse=True))

    def slower(self: Any) -> tuple[Any, ...]:
        """The nodes whose region takes longer than in float."""
        return tuple(n for n in self.nodes if n.slower)

    def advice(self: Any) -> str:
        """What to do about it, in a few sentences."""
        lines = []
        if self.nodes:
            top = max(self.nodes, key=lambda n: n.us)
            lines.append(f"{top.name} takes most time: {100 * top.share:.0f} % ({top.kernel}).")
        slow = self.slower()
        if slow:
            worst = max(slow, key=lambda n: n.us - n.float_us)
            lines.append(f"{len(slow)} nodes are slower than in float, {worst.name} by "
                         f"{worst.us - worst.float_us:.0f} µs: try overrides="
                         f'{{"{worst.path or worst.name}": "fp32"}}.')
        noisy = [n for n in self.nodes if n.sqnr is not None and math.isfinite(n.sqnr)]
        if noisy and (worst := min(noisy, key=lambda n: n.sqnr)).sqnr < 15:
            lines.append(f"{worst.name} is farthest from float: {worst.sqnr:.1f} dB.")
        casts = sum(n.us for n in self.nodes if n.kernel in ("quantize", "dequantize"))
        if self.total_us and casts / self.total_us > 0.15:
            lines.append(f"Casts between float and integers take {100 * casts / self.total_us:.0f}"
                         " %: see what stays in float in the report.")
        return "\n".join(lines)


def _cells(n: Any) -> list[str]:
    quality = "" if n.sqnr is None else "equal" if n.sqnr == math.inf else f"{n.sqnr:.1f}"
    return [n.name, n.kernel, "x".join(map(str, n.shape)), f"{n.weight_bytes / 1e3:.1f}",
            f"{n.macs / 1e6:.1f}" if n.macs else "", f"{n.us:.1f}", f"{n.iqr_us:.1f}",
            f"{100 * n.share:.1f}",
            "" if n.float_us is None else f"{n.float_us:.1f}" + (" <" if n.slower else ""),
            f"{n.gmacs:.0f}" if n.macs else "", f"{100 * n.roof:.0f}" if n.macs else "",
            f"{n.intensity:.1f}" if n.macs else "", quality, n.source[:40]]


def _given(text: str, path: str | Path | None) -> str:
    """The text; written in one step where a path was given."""
    if path is not None:
        write_file(Path(path), text.encode())
    return text
