"""The pictures of the HTML page, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fxq.profiler.memory import Arena
from fxq.profiler.values import Histogram

_WIDTH, _LABEL = 1120, 260


def bars(rows: Sequence[tuple[str, float, float, str]], unit: str) -> str:
    """Two bars a row: (name, compiled, float, colour)."""
    if not rows:
        return '<div class="soft">Nothing to draw.</div>'
    longest, step = max(max(a, b) for _, a, b, _ in rows) or 1.0, 20
    reach = (_WIDTH - _LABEL - 110) / longest
    parts = []
    for i, (name, mine, theirs, colour) in enumerate(rows):
        y = i * step
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(name[-42:])}</text>'
            f'<rect x="{_LABEL}" y="{y + 2}" width="{mine * reach:.1f}" height="8" '
            f'fill="var(--{colour})"><title>{mine:.1f} {unit}</title></rect>'
            f'<rect x="{_LABEL}" y="{y + 11}" width="{theirs * reach:.1f}" height="5" '
            f'fill="var(--line)"><title>float: {theirs:.1f} {unit}</title></rect>'
            f'<text x="{_LABEL + max(mine, theirs) * reach + 6:.1f}" y="{y + 13}">'
            f"{mine:.0f} / {theirs:.0f} {unit}</text>")
    return f'<svg width="{_WIDTH}" height="{len(rows) * step + 4}">{"".join(parts)}</svg>'


def line(points: Sequence[tuple[str, float]], unit: str) -> str:
    """One polyline over the network's depth, with a scale on the left."""
    if not points:
        return '<div class="soft">Not measured.</div>'
    height, left = 220, 44
    top = max(10.0, math.ceil(max(v for _, v in points) / 10) * 10)
    bottom = min(0.0, math.floor(min(v for _, v in points) / 10) * 10)
    across = (_WIDTH - left - 20) / max(len(points) - 1, 1)

    def place(i: int, value: float) -> tuple[float, float]:
        return left + i * across, height - (value - bottom) / (top - bottom) * (height - 10)

    marks = "".join(
        f'<line x1="{left}" x2="{_WIDTH - 20}" y1="{(y := place(0, v)[1]):.1f}" y2="{y:.1f}" '
        f'stroke="var(--line)"/><text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{v:.0f}'
        "</text>" for v in range(int(bottom), int(top) + 1, 10))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(i, v) for i, (_, v) in enumerate(points)))
    dots = "".join(f'<circle cx="{place(i, v)[0]:.1f}" cy="{place(i, v)[1]:.1f}" r="3" '
                   f'fill="var(--int)"><title>{escape(name)}: {v:.1f} {unit}</title></circle>'
                   for i, (name, v) in enumerate(points))
    return (f'<svg width="{_WIDTH}" height="{height + 12}">{marks}<polyline points="{path}" '
            f'fill="none" stroke="var(--int)" stroke-width="1.5"/>{dots}</svg>')


def graph(nodes: Sequence[tuple[str, str, str, tuple[int, ...]]]) -> str:
    """Nodes one below the other; what is read from further up comes in on an arc."""
    step, x, width = 24, 300, 420
    parts = []
    for i, (name, kernel, colour, inputs) in enumerate(nodes):
        y = i * step + 4
        for source in inputs:
            if source == i - 1:
                parts.append(f'<line x1="{x + 20}" x2="{x + 20}" y1="{y - 5}" y2="{y}" '
                             'stroke="var(--soft)"/>')
                continue
            start, bend = source * step + 13, 30 + 4 * math.sqrt(i - source) * 3
            parts.append(f'<path d="M{x + width} {start} C{x + width + bend} {start} '
                         f'{x + width + bend} {y + 9} {x + width} {y + 9}" fill="none" '
                         'stroke="var(--soft)"/>')
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="18" rx="4" '
                     f'fill="var(--{colour})" opacity="0.85"/>'
                     f'<text x="{x + 8}" y="{y + 13}" fill="#fff">{escape(name[-58:])}</text>'
                     f'<text x="{x - 8}" y="{y + 13}" text-anchor="end">{escape(kernel)}</text>')
    return f'<svg width="{_WIDTH}" height="{len(nodes) * step + 8}">{"".join(parts)}</svg>'


def histogram(name: str, h: Histogram) -> str:
    """Counts on a logarithmic scale, and lines where the range of the integers ends."""
    width, height = 190, 64
    low, high = min(h.low, h.range_low), max(h.high, h.range_high)
    across = width / ((high - low) or 1.0)
    tallest = math.log1p(max(h.counts, default=0)) or 1.0
    bin_width = (h.high - h.low) / max(len(h.counts), 1)
    columns = "".join(
        f'<rect x="{(h.low + i * bin_width - low) * across:.1f}" '
        f'y="{height - math.log1p(c) / tallest * height:.1f}" '
        f'width="{max(bin_width * across, 0.5):.1f}" '
        f'height="{math.log1p(c) / tallest * height:.1f}" fill="var(--int)"/>'
        for i, c in enumerate(h.counts) if c)
    ends = "".join(f'<line x1="{(v - low) * across:.1f}" x2="{(v - low) * across:.1f}" y1="0" '
                   f'y2="{height}" stroke="var(--bad)"/>' for v in (h.range_low, h.range_high))
    return (f'<figure><svg width="{width}" height="{height}">{columns}{ends}</svg>'
            f'<figcaption title="{escape(name)}">{escape(name)}</figcaption>'
            f'<span class="soft">{h.range_low:.3g} … {h.range_high:.3g}</span></figure>')


def arena(memory: Arena) -> str:
    """Values as boxes, from the step that writes them to the last that reads them; the height is
    their place in the arena. The line is what is in use."""
    height, top = 240, 14
    across, up = _WIDTH / max(len(memory.steps), 1), height / max(memory.bytes, 1)
    boxes = "".join(
        f'<rect x="{b.first * across:.1f}" y="{top + height - (b.offset + b.bytes) * up:.1f}" '
        f'width="{(b.last - b.first + 1) * across:.1f}" height="{b.bytes * up:.1f}" '
        'fill="var(--int)" opacity="0.55" stroke="var(--paper)">'
        f"<title>{escape(b.name)}: {b.bytes / 1e3:.1f} kB, {escape(memory.steps[b.first])} to "
        f"{escape(memory.steps[b.last])}</title></rect>" for b in memory.blocks)
    path = " ".join(f"{i * across:.1f},{y:.1f} {(i + 1) * across:.1f},{y:.1f}"
                    for i, used in enumerate(memory.in_use) for y in (top + height - used * up,))
    return (f'<svg width="{_WIDTH}" height="{height + top + 4}">{boxes}<polyline points="{path}" '
            f'fill="none" stroke="var(--ink)" stroke-width="1.5"/><text x="0" y="10">'
            f"{escape(arena_text(memory))}</text></svg>")


def arena_text(memory: Arena) -> str:
    """Its size, and what sharing saves."""
    saved = memory.values_bytes / max(memory.bytes, 1)
    return (f"{memory.bytes / 1e6:.3f} MB for one image; its values side by side would take "
            f"{memory.values_bytes / 1e6:.3f} MB, {saved:.1f} times as much")
