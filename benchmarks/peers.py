"""fxq's profiler, reports and command line beside those of other tools, point by point.

    python benchmarks/peers.py [--markdown docs/peers.md]

fxq's column is looked up while the table is made: a small network is compiled, profiled and
compared, and each entry is what was found. The others' columns are what their public documentation
described in autumn 2026; nothing of theirs was run. `-`: not found in what was read.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import typer.main
from tabulate import tabulate
from torch import nn

import fxq
from fxq.cli import commands
from fxq.cli.app import app

PEERS = ("trtexec, Polygraphy", "NNCF", "AIMET QuantAnalyzer", "ExecuTorch Inspector")
READ = (
    "TensorRT developer guide: trtexec (`--dumpProfile`, `--exportProfile`, `--exportLayerInfo`, "
    "`--verbose`); Polygraphy user guide: `run`, `inspect`, `debug`",
    "NNCF documentation: `quantize_with_accuracy_control`, post-training compression, FAQ",
    "AIMET documentation: QuantAnalyzer, quantsim",
    "ExecuTorch documentation: model inspector, ETDump, `calculate_numeric_gap`, "
    "`get_delegation_info`",
)


@dataclass(frozen=True)
class Seen:
    """What a small network left behind when it was compiled, profiled and compared."""

    compiled: fxq.CompiledModel
    profile: fxq.Profile
    comparison: fxq.Comparison
    page: str
    options: dict[str, set[str]]  # of each command

    def node(self) -> dict[str, object]:
        return max(self.profile.nodes, key=lambda n: n.macs).to_dict()


def look() -> Seen:
    """Compile, profile and compare a small network."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.GLU(1), nn.Flatten(),
                        nn.Linear(4 * 6 * 6, 4)).eval()
    x = torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fxq.FxqWarning)
        compiled = fxq.compile(net, example_inputs=(x,), calibration_data=[x], runtime="python")
    profile = compiled.profile(x, rounds=3, budget=0.2)
    with tempfile.TemporaryDirectory() as folder:
        profile.to_html(path := Path(folder) / "page.html")
        page = path.read_text()
    commands.register(app)
    group = typer.main.get_command(app)
    options = {name: {o for p in command.params for o in p.opts}
               for name, command in group.commands.items()}  # type: ignore[attr-defined]
    return Seen(compiled, profile, fxq.compare(net, compiled, [x]), page, options)


def _fields(*names: str) -> Callable[[Seen], str | None]:
    return lambda seen: ", ".join(names) if all(seen.node().get(n) is not None for n in names) \
        else None


def _command(name: str, *options: str) -> Callable[[Seen], str | None]:
    shown = " ".join((f"`fxq {name}", *options)) + "`"
    return lambda seen: shown if name in seen.options and set(options) <= seen.options[name] \
        else None


def _source(seen: Seen) -> str | None:
    return "file, line and text" if re.search(r":\d+ ", str(seen.node()["source"])) else None


def _pairs(seen: Seen) -> str | None:
    node = seen.node()
    return "yes, slower ones are marked" if node["float_us"] and "slower" in node else None


def _errors(seen: Seen) -> str | None:
    worst = seen.comparison.nodes[0]
    found = worst.sqnr < 200 and worst.cosine and worst.max_error
    return "SQNR, cosine, largest" if found else None


def _reasons(seen: Seen) -> str | None:
    left = seen.compiled.report.left_in_float
    return "code, sentence, line" if left and left[0].code and left[0].reason else None


def _page(seen: Seen) -> str | None:
    remote = re.search(r"(src|href)=[\"']?(https?:)?//", seen.page)
    return "self-contained" if "<svg" in seen.page and not remote else None


def _ranges(seen: Seen) -> str | None:
    return "histograms with the chosen ranges" if seen.profile.histograms else None


def _clocks(seen: Seen) -> str | None:
    known = seen.profile.plain_us and math.isfinite(seen.profile.spreads["overhead"].high)
    return "clocks' cost, nodes against the whole" if known else None


def _memory(seen: Seen) -> str | None:
    return "from actual allocations" if seen.profile.peak_bytes > 0 else None


def _formats(seen: Seen) -> str | None:
    made = [n for n in ("json", "csv", "markdown", "chrome_trace", "html")
            if hasattr(seen.profile, f"to_{n}")]
    return ", ".join(made) or None


# question, fxq's probe, and what the peers' documents say
ROWS: tuple[tuple[str, Callable[[Seen], str | None], tuple[str, str, str, str]], ...] = (
    ("time of each node", _fields("us", "share", "spreads"),
     ("per layer after fusion", "- (its examples call `benchmark_app`)", "-",
      "per operator, with percentiles; delegates too")),
    ("cost of the clocks themselves", _clocks, ("-", "-", "-", "-")),
    ("the user's source line on each row", _source,
     ("-", "-", "module names", "yes, with the debug data of the export")),
    ("float and integers of one region side by side", _pairs,
     ("two runs, matched by hand", "-", "-", "two runs, matched by hand")),
    ("achieved speed against the machine's roof", _fields("gmacs", "roof", "intensity"),
     ("-", "-", "-", "-")),
    ("bytes and MACs of each node", _fields("weight_bytes", "activation_bytes", "macs"),
     ("layer information", "share of each bit width", "in its mixed precision", "-")),
    ("peak memory of a run", _memory,
     ("device memory of the engine", "-", "-", "planned memory")),
    ("error of each value against float", _errors,
     ("Polygraphy: marked outputs", "while it controls accuracy", "MSE of each layer",
      "numeric gap of each operator")),
    ("sensitivity of single layers",
     lambda seen: "`fxq.sensitivity`" if callable(fxq.sensitivity) else None,
     ("Polygraphy: precision bisection", "ranks layers, not for PyTorch", "its main report",
      "-")),
    ("why a node stays in float", _reasons,
     ("verbose log", "warnings", "-", "delegation counts; reasons in a debug log")),
    ("ranges as they were chosen", _ranges,
     ("-", "activation profiler of OpenVINO models", "histograms of each layer", "-")),
    ("one page to pass around", _page, ("-", "-", "HTML and JSON", "-")),
    ("what two profiles differ in",
     lambda seen: "`fxq.diff`" if fxq.diff(seen.profile, seen.profile).nodes else None,
     ("-", "-", "-", "-")),
    ("formats to go on with", _formats, ("JSON", "dot", "HTML, JSON", "tables, pandas")),
    ("command line", _command("profile", "--json"),
     ("yes", "-", "-", "inspector_cli")),
    ("gate for CI", _command("check", "--max-drop", "--min-speedup", "--max-mb", "--min-sqnr"),
     ("-", "largest drop, when quantizing", "-", "-")),
    ("forecast without data", _command("plan"), ("-", "-", "-", "-")),
    ("hardware counters of GPU kernels", lambda seen: None,
     ("through Nsight", "-", "-", "by backend")),
)


def page() -> str:
    """The whole of docs/peers.md."""
    seen = look()
    rows = [(question, probe(seen) or "no", *peers) for question, probe, peers in ROWS]
    table = tabulate(rows, headers=("", "fxq", *PEERS), tablefmt="github")
    read = "\n".join(f"- {text}" for text in READ)
    return f"# Beside other tools\n\n{__doc__}\n{table}\n\nRead:\n\n{read}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    text = page()
    print(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
