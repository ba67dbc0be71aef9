"""Folders that show a failed pass again: the graph before it, shapes and statistics, no weights.

    python -m fxq.reproduce FOLDER

The graph is data, as in a `.fxq` file. Weights and inputs are drawn anew with the mean and
deviation that they had; `FXQ_REPRODUCER_WEIGHTS=1` keeps the real ones, if you may share them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, fx

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.artifact.allow_list import DTYPES
from fxq.artifact.read_graph import from_portable
from fxq.artifact.write_graph import Portable, to_portable
from fxq.errors import ArtifactError, FxqError
from fxq.passes.base import Pass
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode, Scheme
from fxq.quantization.statistics import Statistics
from fxq.targets import get_target


def leave(folder: Path, before: fx.GraphModule, item: Pass, context: Context,
          inputs: Sequence[Tensor]) -> bool:
    """Write what `run` needs; False for a graph with code of its own, which is only text."""
    try:
        portable = to_portable(before)
    except ArtifactError:
        return False
    if portable.refusal is not None:
        return False
    tensors = {name: _summary(t) for name, t in portable.tensors.items()}
    case = {"pass": item.name, "target": context.target.name, "scheme": _scheme(context.scheme),
            "native_half": context.native_half, "nodes": portable.nodes, "texts": portable.texts,
            "tensors": tensors, "inputs": [_summary(x) for x in inputs]}
    (folder / "case.json").write_text(json.dumps(case, indent=1))
    context.statistics.save(folder / "statistics.safetensors")
    if os.environ.get("FXQ_REPRODUCER_WEIGHTS"):
        save_file({n: t.detach().contiguous().clone() for n, t in portable.tensors.items()},
                  folder / "weights.safetensors")
    return True


def _summary(tensor: Tensor) -> dict[str, Any]:
    """Shape, type, mean and deviation: enough to draw one like it."""
    values = tensor.detach().double()
    spread = values.std(correction=0).item() if tensor.numel() else 0.0
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."),
            "mean": values.mean().item() if tensor.numel() else 0.0, "std": spread,
            "low": values.min().item() if tensor.numel() else 0.0}


def _scheme(scheme: Scheme) -> dict[str, Any]:
    return asdict(scheme) | {"mode": scheme.mode.name}


def _drawn(row: dict[str, Any], generator: torch.Generator) -> Tensor:
    values = torch.randn(row["shape"], generator=generator, dtype=torch.float64)
    drawn = values * row["std"] + row["mean"]
    if row["low"] >= 0:  # variances and scales stay what they are
        drawn = drawn.abs().clamp(min=row["low"])
    dtype = DTYPES[row["dtype"]]
    made: Tensor = drawn.to(dtype)
    return made if dtype.is_floating_point else drawn.round().clamp(-128, 255).to(dtype)


def run(folder: Path) -> str:
    """Run the pass again and say what happened."""
    from fxq.compiler.manager import Manager
    from fxq.compiler.pipeline import FINISH, HALF, PREPARE

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
