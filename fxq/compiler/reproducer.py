"""Folders that show a failed pass again: the graph before it, shapes and statistics, no weights.

    python -m fxq.reproduce FOLDER

The graph is data, as in a `.fxq` file. Weights and inputs are drawn anew with the mean and
deviation that they had; `FXQ_REPRODUCER_WEIGHTS=1` keeps the real ones, if you may share them.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, fx

from fxq.analysis.context import Context
from fxq.artifact.write_graph import to_portable
from fxq.compiler.snapshot import Snapshot
from fxq.errors import ArtifactError, FxqError, VerificationError
from fxq.ir.printer import format_graph
from fxq.passes.base import Pass
from fxq.quantization.schemes import Scheme


def with_reproducer(error: Exception, item: Pass, before: str, module: fx.GraphModule,
                    snapshot: Snapshot, context: Context, inputs: Sequence[Tensor]) -> FxqError:
    """The error to raise, after leaving the graphs of the failed pass in a folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"fxq-{item.name}-", dir=os.environ.get("FXQ_DUMP")))
    (folder / "before.txt").write_text(before)
    (folder / "after.txt").write_text(_text_of(module))
    (folder / "error.txt").write_text(f"{type(error).__name__}: {error}\n")
    (folder / "environment.txt").write_text(
        f"pass {item}\ntorch {torch.__version__}\npython {platform.python_version()}\n"
        f"machine {platform.machine()}\n")
    if leave(folder, snapshot.graph_module(), item, context, inputs):
        (folder / "README.txt").write_text(f"python -m fxq.reproduce {folder.name}\n")
    if isinstance(error, FxqError):
        error.args = (f"{error}\n  graphs {folder}",)
        return error
    return VerificationError(f"pass {item.name} failed: {type(error).__name__}: {error}",
                             fix=f"this is a fault of the pass; its graphs are in {folder}")


def _text_of(module: fx.GraphModule) -> str:
    try:
        return format_graph(module)
    except Exception as error:  # a broken graph must not hide the first error
        return f"(cannot be printed: {error})\n"


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
