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
from fxq.profiler.drawing import arena_text
from fxq.profiler.html import page
from fxq.profiler.trust import clock_text, figure, ratio_text
from fxq.system.files import write_file
from fxq.system.timing import Spread

_COLUMNS = (("node", "name"), ("kernel", "kernel"), ("shape", "shape"), ("weights kB", "weight"),
            ("M MACs", "macs"), ("µs", "us"), ("%", "share"),
            ("float µs", "float"), ("GMAC/s", "gmacs"), ("% of roof", "roof"),
            ("MAC/B", "intensity"), ("SQNR dB", "sqnr"), ("source", "source"))


class ProfileOutput:
    """What every profile can be turned into; `self` is a `Profile`."""

    def to_dict(self: Any) -> dict[str, Any]:
        """Plain values; whether the times are to be believed comes first."""
        first = {"reliable": self.reliable, "doubts": list(self.doubts)}
        values = first | asdict(self) | {"nodes": [n.to_dict() for n in self.nodes]}
        values["proposals"] = [asdict(p) | {"confirmed": p.confirmed} for p in self.proposals]
        values["left_in_float"] = list(values["left_in_float"])
        return values

    def to_json(self: Any, path: str | Path | None = None) -> str:
        return _given(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", path)

    def to_csv(self: Any, path: str | Path | None = None) -> str:
        stream = io.StringIO()
        rows = [self._flat(n) for n in self.nodes]
        fields = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(stream, list(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return _given(stream.getvalue(), path)

    def _flat(self: Any, n: Any) -> dict[str, Any]:
        """A row of the CSV: each spread as two columns, and the doubts beside every figure."""
        row: dict[str, Any] = n.to_dict()
        row |= {"shape": "x".join(map(str, n.shape)), "reliable": self.reliable}
        for name, spread in row.pop("spreads").items():
            row |= {f"{name}_low": spread["low"], f"{name}_high": spread["high"]}
        return row

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
        return _given(json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": {
            "reliable": self.reliable, "doubts": list(self.doubts)}}) + "\n", path)

    def to_html(self: Any, path: str | Path | None = None) -> str:
        """One page without remote resources: see `fxq.profiler.html`."""
        return _given(page(self), path)

    def _repr_html_(self: Any) -> str:
        return f"{self.headline('html')}{self.table('html')}"

    def __str__(self: Any) -> str:
        return f"{self.headline('plain')}\n\n{self.table('simple')}\n\n{self.advice()}"

    def headline(self: Any, form: str = "plain") -> str:
        """The figures of the whole model; first of all, why they are not to be believed."""
        def shown(name: str) -> str:
            return f"{self.spreads[name].shown()} µs" if name in self.spreads else "not measured"

        known = [("weights", WEIGHTS[self.weights])] if self.weights in WEIGHTS else []
        rows = [*(("NOT RELIABLE", text) for text in self.doubts), *known,
                ("model", f"{self.target}, scheme {self.scheme}, batch {self.batch}"),
                ("nodes together", f"{shown('total_us')}, {100 * self.coverage:.1f} % of the "
                 f"{shown('plain_us')} without clocks"),
                ("beside float", ratio_text(self.spreads.get("speedup"))),
                ("as it is called", f"{shown('model_us')} ({self.runtime} runtime)"),
                ("float", shown("float_us")),
                ("size", f"{self.size_bytes / 1e6:.3f} MB, float {self.float_bytes / 1e6:.3f} MB"),
                ("peak memory of a run", f"{self.peak_bytes / 1e6:.3f} MB"),
                *(("arena", arena_text(a)) for a in self.arenas if a.blocks),
                ("roof", ", ".join(f"{k} {v:.0f} GMAC/s" for k, v in self.roofs.items())),
                ("clocks cost", clock_text(self.spreads["overhead"])),
                ("rounds", f"{self.rounds}; medians [10th, 90th percentile]"),
                ("machine", f"{self.environment['cpu']}, {self.environment['threads']} threads")]
        return str(tabulate(rows, tablefmt=form, disable_numparse=True))

    def table(self: Any, form: str = "simple", limit: int | None = None) -> str:
        """One row per node, in the order of the graph; `limit` keeps the slowest."""
        nodes = self.nodes if limit is None else sorted(self.nodes, key=lambda n: -n.us)[:limit]
        return str(tabulate([_cells(n) for n in nodes], headers=[c[0] for c in _COLUMNS],
                            tablefmt=form, disable_numparse=True))

    def slower(self: Any) -> tuple[Any, ...]:
        """The nodes whose region takes longer than in float."""
        return tuple(n for n in self.nodes if n.slower)

    def advice(self: Any) -> str:
        """What to do about it, in a few sentences; about times only what is beyond the noise."""
        noisy = [n for n in self.nodes if n.sqnr is not None and math.isfinite(n.sqnr)]
        lines = self._on_times() if self.reliable else [
            "No advice on time: the figures are not reliable. Measure on a quieter machine, or "
            "with more rounds."]
        if noisy and (worst := min(noisy, key=lambda n: n.sqnr)).sqnr < 15:
            lines.append(f"{worst.name} is farthest from float: {worst.sqnr:.1f} dB.")
        return "\n".join(lines)

    def _on_times(self: Any) -> list[str]:
        lines, slow, casts = [], self.slower(), self.spreads["casts"]
        top, *others = sorted(self.nodes, key=lambda n: -n.us) or [None]
        if top is not None and all(top.spreads["us"].low > n.spreads["us"].high for n in others):
            lines.append(f"{top.name} takes most time: {_percent(top.spreads['share'])} "
                         f"({top.kernel}).")
        if slow:
            lines.append(f"{len(slow)} nodes are slower than in float in nine of ten rounds; "
                         "in float, " + ("these would pay:" if self.proposals else
                         "none that an override can name alone would pay for its casts."))
        lines += [f"{p}." for p in self.proposals]
        if casts.low > 0.15:
            lines.append(f"Casts between float and integers take {_percent(casts)}: see what stays "
                         "in float in the report.")
        return lines


def _percent(share: Spread) -> str:
    return f"{100 * share.middle:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _cells(n: Any) -> list[str]:
    quality = "" if n.sqnr is None else "equal" if n.sqnr == math.inf else f"{n.sqnr:.1f}"
    return [n.name, n.kernel, "x".join(map(str, n.shape)), f"{n.weight_bytes / 1e3:.1f}",
            f"{n.macs / 1e6:.1f}" if n.macs else "", figure(n, "us", 1),
            figure(n, "share", 1, 100), figure(n, "float_us", 1) + (" <" if n.slower else ""),
            figure(n, "gmacs"), figure(n, "roof", 0, 100),
            f"{n.intensity:.1f}" if n.macs else "", quality, n.source[:40]]


def _given(text: str, path: str | Path | None) -> str:
    """The text; written in one step where a path was given."""
    if path is not None:
        write_file(Path(path), text.encode())
    return text
