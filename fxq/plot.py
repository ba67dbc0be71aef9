"""Pictures of a compiled model: every function returns a matplotlib Figure and shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from fxq.errors import ConfigError
from fxq.profiler.html import float_kilobytes
from fxq.system.timing import race

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fxq.budget.search import Point
    from fxq.compiled import CompiledModel
    from fxq.profiler.comparison import Comparison
    from fxq.profiler.profile import Profile

INTEGER, FLOAT, MARK, SOFT = "#2a9d74", "#e08a3c", "#c8402f", "#9aa4b2"
_MOST = 40  # bars at most; the rest would not be readable


def _figure(width: float = 9.0, height: float = 4.0, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**options)


def _grid(count: int) -> tuple[Figure, Any]:
    columns = min(4, max(count, 1))
    rows = -(-max(count, 1) // columns)
    figure, axes = _figure(3.0 * columns, 2.2 * rows, nrows=rows, ncols=columns, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, axes.flat


def histograms(profile: Profile, limit: int = 12) -> Figure:
    """Float values of each node on a logarithmic scale, with the range that its integers cover."""
    chosen = list(profile.histograms.items())[:limit]
    figure, axes = _grid(len(chosen))
    for axis, (position, h) in zip(axes, chosen, strict=False):
        edges = np.linspace(h.low, h.high, len(h.counts) + 1)
        axis.stairs(np.array(h.counts) + 0.5, edges, fill=True, color=INTEGER)
        for end in (h.range_low, h.range_high):
            axis.axvline(end, color=MARK, linewidth=1)
        axis.set_yscale("log")
        axis.set_title(profile.nodes[position].name[-28:], fontsize=8)
    return figure


def weights(model: nn.Module, compiled: CompiledModel, limit: int = 12) -> Figure:
    """Each layer's weights before, and as its integers have them, with the ends of the range."""
    before = {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1}
    after = {str(n.target).removesuffix("_weight"): getattr(compiled.float_graph(), str(n.target))
             for n in compiled.float_graph().graph.nodes if n.op == "get_attr"
             and str(n.target).endswith("_weight")}
    chosen = list(after.items())[:limit]
    figure, axes = _grid(len(chosen))
    for axis, (name, values) in zip(axes, chosen, strict=False):
        known = [v for k, v in before.items() if k.replace(".", "_") == f"{name}_weight"]
        for tensor, colour, label in ((*[(v, FLOAT, "before") for v in known],
                                       (values, INTEGER, "after"))):
            axis.hist(tensor.flatten().numpy(), bins=80, histtype="step", color=colour, label=label)
        axis.set_yscale("log")
        axis.set_title(name[-28:], fontsize=8)
    if chosen:
        axes[0].legend(fontsize=7)
    return figure


def size(profile: Profile) -> Figure:
    """Weight bytes of each layer, and how much smaller they are than in float32."""
    layers = sorted((n for n in profile.nodes if n.macs), key=lambda n: -n.weight_bytes)[:_MOST]
    figure, axis = _figure(9, 1 + 0.22 * len(layers))
    _bars(axis, [n.name for n in layers], [n.weight_bytes / 1e3 for n in layers],
          [float_kilobytes(n) for n in layers])
    axis.set_xlabel(f"weights, kB (all: {profile.float_bytes / max(profile.size_bytes, 1):.2f}x "
                    "smaller than float)")
    return figure


def latency(profile: Profile) -> Figure:
    """Microseconds of the slowest nodes, compiled and in float, with their spreads."""
    nodes = sorted(profile.nodes, key=lambda n: -n.us)[:_MOST]
    figure, axis = _figure(9, 1 + 0.22 * len(nodes))
    _bars(axis, [n.name for n in nodes], [n.us for n in nodes], [n.float_us or 0 for n in nodes])
    for shift, name in ((0.2, "us"), (-0.2, "float_us")):
        ends = [(i + shift, n.spreads[name]) for i, n in enumerate(nodes) if name in n.spreads]
        axis.hlines([y for y, _ in ends], [s.low for _, s in ends], [s.high for _, s in ends],
                    color="black", linewidth=0.8)
    axis.set_xlabel("median µs, line: 10 to 90 % of the rounds"
                    + ("" if profile.reliable else f"\nNOT RELIABLE: {profile.doubts[0]}"))
    return figure


def _bars(axis: Any, names: Sequence[str], mine: Sequence[float], theirs: Sequence[float]) -> None:
    places = np.arange(len(names))
    axis.barh(places + 0.2, mine, 0.4, color=INTEGER, label="compiled")
    axis.barh(places - 0.2, theirs, 0.4, color=FLOAT, label="float")
    axis.set_yticks(places, [n[-36:] for n in names], fontsize=7)
    axis.invert_yaxis()
    axis.legend(fontsize=8)


def sqnr(profile: Profile | Comparison) -> Figure:
    """dB of each value against float, in the order of the network."""
    known = [(n.name, n.sqnr) for n in profile.nodes
             if n.sqnr is not None and np.isfinite(n.sqnr)]
    figure, axis = _figure()
    axis.plot([v for _, v in known], marker="o", markersize=3, color=INTEGER)
    axis.set_ylabel("SQNR, dB")
    axis.set_xlabel("nodes in order" if hasattr(profile, "total_us") else "nodes, worst first")
    axis.grid(alpha=0.3)
    return figure


def sensitivity(found: Mapping[str, float]) -> Figure:
    """SQNR of the outputs when only one layer is quantized, worst (lowest) first.

    Takes what `fxq.sensitivity` returns: dB by layer. A layer that costs nothing (infinite dB) has
    no bar, and says "equal".
    """
    rows = sorted(found.items(), key=lambda item: item[1])[:_MOST]
    figure, axis = _figure(9, 1 + 0.22 * len(rows))
    lengths = [v if np.isfinite(v) else 0.0 for _, v in rows]
    bars = axis.barh([name[-36:] for name, _ in rows], lengths, color=INTEGER)
    axis.bar_label(bars, [_decibel(v) for _, v in rows], fontsize=7, padding=3)
    axis.margins(x=0.15)
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=7)
    axis.set_xlabel("SQNR of the outputs with this layer alone quantized, dB (low is sensitive)")
    return figure


def _decibel(value: float) -> str:
    return "equal" if value == np.inf else f"{value:.1f}"


def pareto(points: CompiledModel | Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy over latency; the area of a point is its size. Keys: name, accuracy, ms, mb.

    Of a model that was compiled within a budget, what the budget has looked at: points of top-1
    that were lost, measured and predicted. Raises ConfigError for one without a budget.
    """
    if not isinstance(points, Sequence):
        return _trade_off(points.pareto)
    figure, axis = _figure(8, 5)
    front = _front(points)
    for point in points:
        best = point["name"] in front
        axis.scatter(point["ms"], point["accuracy"], s=20 + 12 * float(point["mb"]),
                     color=INTEGER if best else SOFT, alpha=0.75)
        axis.annotate(f"{point['name']} ({point['mb']:.1f} MB)", (point["ms"], point["accuracy"]),
                      fontsize=8, xytext=(6, 4), textcoords="offset points")
    line = sorted((p["ms"], p["accuracy"]) for p in points if p["name"] in front)
    axis.plot(*zip(*line, strict=True), color=INTEGER, linewidth=1)
    axis.set_xlabel("latency, ms")
    axis.set_ylabel("accuracy, %")
    axis.grid(alpha=0.3)
    return figure


def _trade_off(points: Sequence[Point]) -> Figure:
    """Numbered by latency, since names would collide; the legend has the names."""
    if not points:
        raise ConfigError("this model has no trade-off to draw", why="it had no budget",
                          fix="compile with max_drop=, min_speedup= or max_mb=")
    figure, axis = _figure(9, 5)
    for number, point in enumerate(points, 1):
        expected, found = point.predicted, point.measured or point.predicted
        colour = MARK if point.chosen else INTEGER
        ends = [(f.ms, f.drop or 0.0) for f in (expected, found)]
        axis.plot(*zip(*ends, strict=True), color=colour, linewidth=0.8)
        axis.scatter(*ends[0], s=36, facecolors="none", edgecolors=colour)
        axis.scatter(*ends[1], s=36, color=colour, label=(
            f"{number}  {point.name}, {found.bytes / 1e6:.2f} MB"
            + (" (chosen)" if point.chosen else "")))
    _number(axis, points)
    axis.set_title("Mixed precision: what was lost over latency (filled: measured, "
                   "hollow: predicted)", fontsize=10, pad=22)
    axis.set_xlabel("latency, ms")
    axis.set_ylabel("top-1 lost, points")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2, frameon=False)
    return figure


def _number(axis: Any, points: Sequence[Point]) -> None:
    """Numbers above the plot's content, each over its point, moved apart where they are close."""
    places = np.array([(p.measured or p.predicted).ms for p in points])
    drawn = [f.ms for p in points for f in (p.measured, p.predicted) if f is not None]
    low, high = min(drawn), max(drawn)
    room = (high - low or high or 1.0) / 24  # a number of 8 points takes less
    for i, order in enumerate(ranked := np.argsort(places)):
        if i:
            places[order] = max(places[order], places[ranked[i - 1]] + room)
    for number, (place, point) in enumerate(zip(places, points, strict=True), 1):
        found = point.measured or point.predicted
        axis.annotate(str(number), (found.ms, found.drop or 0.0), xytext=(place, 1.015),
                      textcoords=("data", "axes fraction"), fontsize=8, ha="center",
                      annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.5})
    axis.set_xlim(low - 2 * room, max(high, places.max()) + 2 * room)


def _front(points: Sequence[Mapping[str, Any]]) -> set[str]:
    """Those that no other point beats in accuracy and latency both."""
    return {p["name"] for p in points if not any(
        o["accuracy"] >= p["accuracy"] and o["ms"] <= p["ms"]
        and (o["accuracy"], o["ms"]) != (p["accuracy"], p["ms"]) for o in points)}


def confusion(comparison: Comparison, classes: Sequence[str] | None = None) -> Figure:
    """True classes against found ones, float on the left, compiled on the right."""
    if not comparison.confusion:
        raise ConfigError("this comparison has no confusion matrix", why="it saw no labels",
                          fix="compare with (input, label) batches")
    figure, axes = _figure(10, 5, ncols=2)
    for axis, counts, title in zip(axes, comparison.confusion, ("float", "compiled"), strict=True):
        axis.imshow(np.array(counts), cmap="Greens")
        axis.set_title(title)
        axis.set_xlabel("found")
        axis.set_ylabel("true")
        if classes is not None:
            axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
            axis.set_yticks(range(len(classes)), classes, fontsize=7)
    return figure


def batches(models: Mapping[str, Callable[..., Any]], example: Tensor,
            sizes: Sequence[int] = (1, 2, 4, 8, 16, 32)) -> Figure:
    """Latency and throughput of several models over batch sizes, measured turn by turn."""
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        for count in sizes:
            x = example[:1].expand(count, *example.shape[1:]).contiguous()
            seconds = race([lambda m=m, x=x: m(x) for m in models.values()], 7, budget=2.0)  # type: ignore[misc]
            for name, value in zip(models, seconds, strict=True):
                times[name].append(value)
    figure, (left, right) = _figure(10, 4, ncols=2)
    for name, values in times.items():
        left.plot(sizes, np.array(values) * 1e3, marker="o", label=name)
        right.plot(sizes, np.array(sizes) / np.array(values), marker="o", label=name)
    left.set_ylabel("latency, ms")
    right.set_ylabel("images a second")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("batch size")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure
