"""What `fxq explain` does: say why each node is what it is."""

from __future__ import annotations

import fnmatch

from fxq.cli.measure import Subject
from fxq.errors import ConfigError
from fxq.ir.facts import info, qparams
from fxq.ir.printer import target_name


def explained(about: Subject, pattern: str) -> list[dict[str, str]]:
    """Why each node is what it is: what each pass did there, and what was refused."""
    report, rows = about.compiled.report, []
    told: dict[str, list[str]] = {}
    for record in report.passes:
        for item in record.rewrites:
            told.setdefault(item.path, []).append(f"{record.name}: {item.what}")
        for refusal in record.refusals:
            told.setdefault(refusal.path, []).append(
                f"{record.name}: not, because {refusal.reason} [{refusal.code}]")
    for choice in report.choices:
        told.setdefault(choice.path, []).append(
            f"cost table: as {choice.way}; {choice.table_us} µs as a table, {choice.float_us} µs "
            f"in float, for {choice.elements} values")
    for node in about.compiled.graph_module.graph.nodes:
        path = info(node).path or info(node).value
        if not node.op.startswith("call_") or not fnmatch.fnmatch(path, pattern):
            continue
        format_ = qparams(node)
        rows.append({"node": path, "kernel": target_name(node), "source": info(node).source,
                     "format": f"{info(node).dtype} {format_ or ''}".replace("torch.", "").strip(),
                     "why": "\n".join(dict.fromkeys(told.get(path, [])))})
    if not rows:
        raise ConfigError(f"no node matches {pattern!r}", fix="try --node '*'")
    return rows


def explain_text(rows: list[dict[str, str]]) -> str:
    """Each node, and below it what was done there."""
    parts = []
    for row in rows:
        head = f"{row['node']}  {row['kernel']}  {row['format']}  {row['source']}"
        parts.append("\n".join([head.rstrip(), *(f"    {line}" for line in row["why"].split("\n")
                                                 if line)]))
    return "\n".join(parts)
