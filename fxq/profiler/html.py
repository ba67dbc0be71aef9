"""One HTML page about a profile: no remote resources, every name escaped."""

from __future__ import annotations

import math
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from fxq.compiler.report import WEIGHTS
from fxq.profiler.drawing import arena, bars, graph, histogram, line
from fxq.profiler.trust import clock_text, figure, ratio_text

if TYPE_CHECKING:
    from fxq.profiler.profile import Profile
    from fxq.profiler.rows import NodeProfile

COLOURS = (("int", "integers"), ("half", "half precision"), ("float", "float32"),
           ("cast", "casts between them"))
_HEAD = ("node", "kernel", "type", "shape", "weights kB", "M MACs", "µs", "%", "float µs",
         "GMAC/s", "% of roof", "MAC/B", "SQNR dB", "source")
_LARGEST = 60  # bars and histograms at most, so that pages of deep models stay readable


def page(profile: Profile) -> str:
    """The whole page."""
    template = Template(files("fxq.profiler").joinpath("report.html").read_text("utf-8"))
    nodes = profile.nodes
    layers = [n for n in nodes if n.macs]
    quality = [(n.name, n.sqnr) for n in nodes
               if n.sqnr is not None and math.isfinite(n.sqnr) and not n.cast]
    slowest = sorted(nodes, key=lambda n: -n.us)[:_LARGEST]
    heaviest = sorted(layers, key=lambda n: -n.weight_bytes)[:_LARGEST]
    return template.substitute(
        title=f"fxq: {escape(profile.target)}, {escape(profile.scheme)}",
        subtitle=escape(f"{profile.environment.get('cpu', '')}, "
                        f"{profile.environment.get('threads', '')} threads, "
                        f"batch {profile.batch}, torch {profile.environment.get('torch', '')}"),
        cards="".join(f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>'
                      for name, value in _cards(profile)),
        legend="".join(f'<span><i class="dot" style="background:var(--{k})"></i>{text}</span>'
                       for k, text in COLOURS),
        weights=escape(f"Weights: {WEIGHTS[profile.weights]}." if profile.weights in WEIGHTS
                       else ""),
        doubts="".join(f"<p class=doubt>Not reliable: {escape(text)}.</p>"
                       for text in profile.doubts),
        advice=escape(profile.advice()).replace("\n", "<br>"),
        latency=bars([(n.name, n.us, n.float_us or 0.0, colour(n)) for n in slowest], "µs"),
        sizes=bars([(n.name, n.weight_bytes / 1e3, float_kilobytes(n), colour(n))
                    for n in heaviest], "kB"),
        quality=line(quality, "dB"), memory=_memory(profile),
        head="".join(f'<th{" class=t" if i in (0, 1, len(_HEAD) - 1) else ""}>{h}</th>'
                     for i, h in enumerate(_HEAD)),
        rows="".join(map(_row, nodes)), left=_left(profile),
        graph=graph([(n.name, n.kernel, colour(n), n.inputs) for n in nodes]),
        histograms="".join(histogram(nodes[i].name, h) for i, h in list(
            profile.histograms.items())[:_LARGEST]),
        environment="".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>"
                            for k, v in profile.environment.items()))


def colour(node: NodeProfile) -> str:
    """The precision of a node, as a name of the page's palette."""
    if node.cast:
        return "cast"
    if node.dtype in ("uint8", "int8") or node.arithmetic == "integer":
        return "int"
    return "half" if node.dtype in ("float16", "bfloat16") else "float"


def float_kilobytes(node: NodeProfile) -> float:
    """What the weights of a layer take in float32."""
    each = {"int": 4.0, "half": 2.0}.get(colour(node), 1.0)
    return node.weight_bytes * each / 1e3


def _cards(profile: Profile) -> list[tuple[str, str]]:
    whole = sum(n.macs for n in profile.nodes)
    low = sum(n.macs for n in profile.nodes if colour(n) in ("int", "half"))
    def milliseconds(name: str) -> str:
        return f"{profile.spreads[name].times(1e-3).shown(2)} ms"

    return [("a run of its nodes", milliseconds("plain_us")),
            (f"as called ({profile.runtime})", milliseconds("model_us")),
            ("beside float", ratio_text(profile.spreads.get("speedup"))),
            ("cost of the clocks", clock_text(profile.spreads["overhead"])),
            ("smaller than float", f"{profile.float_bytes / max(profile.size_bytes, 1):.2f}x"),
            ("size", f"{profile.size_bytes / 1e6:.2f} MB"),
            ("peak memory of a run", f"{profile.peak_bytes / 1e6:.1f} MB"),
            ("MACs in low precision", f"{100 * low / whole:.1f} %" if whole else "–"),
            ("nodes slower than float in nine of ten rounds", str(len(profile.slower())))]


def _row(n: NodeProfile) -> str:
    kind = f"<td>{escape(n.dtype)}</td><td>{'x'.join(map(str, n.shape))}</td>"
    middle = "".join([_number(n.weight_bytes / 1e3), _number(n.macs / 1e6 if n.macs else None),
                      _measured(n, "us", 1), _measured(n, "share", 1, 100)])
    floats = _measured(n, "float_us", 1).replace("<td", '<td class="float"', 1)
    rest = "".join([_measured(n, "gmacs"), _measured(n, "roof", 0, 100),
                    _number(n.intensity if n.macs else None)])
    return (f'<tr class="{"slower" if n.slower else ""}"><td>{escape(n.name)}</td>'
            f'<td class="t">{escape(n.kernel)}</td>{kind}{middle}{floats}{rest}'
            f'{_number(n.sqnr)}<td class="t">{escape(n.source)}</td></tr>')


def _number(value: float | None) -> str:
    known = value is not None and math.isfinite(value)
    return f'<td data-v="{value if known else -1e9}">{f"{value:.1f}" if known else ""}</td>'


def _measured(n: NodeProfile, name: str, digits: int = 0, scale: float = 1.0) -> str:
    """A figure with its spread; sorting goes by the figure."""
    spread = n.spreads.get(name)
    return (f'<td data-v="{-1e9 if spread is None else spread.middle * scale}">'
            f"{figure(n, name, digits, scale)}</td>")


def _memory(profile: Profile) -> str:
    """The arenas of native programs; nothing for others."""
    if not profile.arenas:
        return ""
    return ("<h2>Memory of the native programs, step by step</h2><div class=soft>A box is memory "
            "of values, from the step that writes them to the last that reads them. The line is "
            "what is in use, borders included.</div>"
            + "".join(f"<div>{arena(a)}</div>" for a in profile.arenas if a.blocks))


def _left(profile: Profile) -> str:
    if not profile.left_in_float:
        return '<div class="soft">Nothing.</div>'
    keys = ("path", "op", "code", "reason", "source")
    rows = "".join("<tr>" + "".join(f'<td class="t">{escape(row[k])}</td>' for k in keys) + "</tr>"
                   for row in profile.left_in_float)
    head = "".join(f'<th class="t">{k}</th>' for k in keys)
    return f"<table><tr>{head}</tr>{rows}</table>"
