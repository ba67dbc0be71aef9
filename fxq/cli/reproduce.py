"""`python -m fxq.reproduce FOLDER`: run a failed pass again, on drawn weights or the real ones.

Or one node that `fxq debug -o FOLDER` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.artifact.dtypes import DTYPES
from fxq.artifact.read_graph import from_portable
from fxq.artifact.write_graph import Portable
from fxq.compiler.manager import Manager
from fxq.compiler.pipeline import FINISH, HALF, PREPARE
from fxq.errors import FxqError
from fxq.profiler.minimal import CASE, rerun
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode, Scheme
from fxq.quantization.statistics import Statistics
from fxq.targets import get_target


def _drawn(row: dict[str, Any], generator: torch.Generator) -> Tensor:
    values = torch.randn(row["shape"], generator=generator, dtype=torch.float64)
    drawn = values * row["std"] + row["mean"]
    if row["low"] >= 0:  # variances and scales stay what they are
        drawn = drawn.abs().clamp(min=row["low"])
    dtype = DTYPES[row["dtype"]]
    made: Tensor = drawn.to(dtype)
    return made if dtype.is_floating_point else drawn.round().clamp(-128, 255).to(dtype)


def run(folder: Path) -> str:
    """Run the pass, or the node of `fxq debug`, again and say what happened."""
    if (folder / CASE).exists():
        return rerun(folder)
    case, generator = json.loads((folder / "case.json").read_text()), torch.Generator()
    generator.manual_seed(0)
    kept = folder / "weights.safetensors"
    tensors = load_file(kept) if kept.exists() else {
        name: _drawn(row, generator) for name, row in case["tensors"].items()}
    module = from_portable(Portable(tuple(case["nodes"]), tuple(case["texts"]), tensors))
    item = next(p for p in (*PREPARE, *FINISH, *HALF) if p.name == case["pass"])
    scheme = dict(case["scheme"], mode=Mode[case["scheme"]["mode"]],
                  weight=QSpec(**case["scheme"]["weight"]),
                  activation=QSpec(**case["scheme"]["activation"]))
    context = Context(get_target(case["target"]), Scheme(**scheme),
                      Statistics.load(folder / "statistics.safetensors"),
                      native_half=case["native_half"])
    choose_rows(module, context.target)
    inputs = [_drawn(row, generator) for row in case["inputs"]]
    manager = Manager(context, inputs, stage=item.before)
    try:
        manager.run(module, [item])
    except FxqError as error:
        return f"pass {item.name} fails again:\n{error}"
    return f"pass {item.name} is right on drawn weights; the fault needs the real ones"


def main() -> None:
    """The command: one folder, and what happened to stdout."""
    sys.stdout.write(run(Path(sys.argv[1])) + "\n")
