"""What a hostile file may not do: run code, crash, hang, fill memory, or raise anything raw."""

from __future__ import annotations

import faulthandler
import json
import random
import resource
import signal
import sys
from pathlib import Path

import torch

import fxq
from fxq.artifact.read import open_artifact
from fxq.ir.facts import info
from fxq.ir.printer import format_graph
from tests.fuzz.hostile import hostile

SECONDS, WAITED, MEGABYTES = 10, 100, 4096  # of its own time, of the clock on the wall, at most
OUTCOMES = ("refused", "loaded", "raised at the call")


def run_files(number: int, count: int, folder: Path) -> dict:
    """Check `count` files made from one seed.

    A hang ends the process (by SIGPROF, after ten seconds of its own time), and so names its case.
    """
    source, marker = random.Random(number), folder / f"executed-{number}"
    seeds = [(p.stem, p.read_bytes()) for p in sorted((folder / "seeds").glob("*.fxq"))]
    for seed in (folder / "seeds").glob("*.fxq"):
        fxq.load(seed)  # what torch loads late counts for no file
    path, case = folder / f"hostile-{number}.fxq", folder / f"hostile-{number}.case"
    result = {**dict.fromkeys(OUTCOMES, 0), "failures": []}
    allowed = max(MEGABYTES * 1024, _highest())  # a test's process may have been larger before
    for position in range(count):
        name, content = source.choice(seeds)
        path.write_bytes(hostile(content, source, str(marker)))
        case.write_text(f"file {position} of seed {number}")
        faulthandler.dump_traceback_later(WAITED, exit=True, file=sys.stderr)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            result[check(path, _runtime(name, position))] += 1
        except Exception as error:
            result["failures"].append([f"{type(error).__name__}: {error}"[:200], case.read_text()])
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        if marker.exists():
            result["failures"].append(["it ran code", case.read_text()])
            marker.unlink()
        if _highest() > allowed:
            result["failures"].append([f"more than {MEGABYTES} MB", case.read_text()])
            break
    return result


def _highest() -> int:
    """The most memory that this process has had, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _runtime(name: str, position: int) -> str:
    if name.startswith("native"):
        return "native" if position % 2 else "python"
    return "torchscript" if position % 20 == 0 else "python"


def check(path: Path, runtime: str) -> str:
    """What became of one file; raises for everything that no file may cause."""
    try:
        model = fxq.load(path, runtime=runtime)
    except fxq.FxqError as error:
        _printable(str(error))
        if not isinstance(error, fxq.ArtifactError | fxq.TargetUnavailableError) and not (
                runtime != "python" and isinstance(error, fxq.ConfigError)):
            raise
        return "refused"
    try:
        opened, module, report = open_artifact(path), model.graph_module, model.report
    except fxq.ArtifactError as error:  # of a graph that the file's program did without
        _printable(str(error))
        return "refused"
    for text in (str(report), format_graph(opened.module), format_graph(module),
                 opened.module.code, module.code):
        _printable(text)
    json.dumps(report.to_dict())
    places = [n for n in opened.module.graph.nodes if n.op == "placeholder"]
    inputs = [torch.linspace(-1, 1, steps=max(1, torch.Size(info(n).shape).numel())).reshape(
        info(n).shape).to(info(n).dtype) for n in places]
    try:
        model._flat(inputs)
    except (RuntimeError, IndexError, ValueError, TypeError, fxq.FxqError):
        return "raised at the call"  # by what it computes, as in float
    return "loaded"


def _printable(text: str) -> None:
    bad = next((c for c in text if not c.isprintable() and c not in "\n\t"), None)
    if bad is not None:
        raise AssertionError(f"{bad!r} reached a terminal")


__all__ = ["OUTCOMES", "run_files"]
