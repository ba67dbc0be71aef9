"""Accuracy, size and latency of models, as rows; and where an example leaves them."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

import fxq
from common.data import Data, Split
from fxq.ir.sizes import model_bytes
from fxq.system.machine import environment
from fxq.system.timing import race

Row = dict[str, Any]


def arguments(about: str | None, name: str, epochs: int = 0,
              **more: Mapping[str, Any]) -> argparse.Namespace:
    """The options that all examples share, and those of one."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, help="folder of the data set; else FXQ_DATA, digits")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("results") / name)
    parser.add_argument("--limit", type=int, help="at most so many training images of the digits")
    for option, settings in more.items():
        parser.add_argument(f"--{option.replace('_', '-')}", **settings)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)  # the same weights to begin with at each run
    return options


@torch.no_grad()
def accuracy(model: Callable[[Tensor], Tensor], split: Split) -> float:
    """Top-1 in percent."""
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in split.batches(100))
    return 100 * right / len(split)


def calibration(data: Data, images: int = 512, batch: int = 64) -> list[Tensor]:
    """Training images, evenly taken."""
    step = max(1, len(data.train) // images)
    return list(data.train.images[::step][:images].split(batch))


def row(name: str, model: nn.Module, split: Split, size: int | None = None) -> Row:
    """Accuracy and bytes of one model."""
    return {"model": name, "accuracy %": accuracy(model, split),
            "kB": (model_bytes(model) if size is None else size) / 1e3}


def latencies(models: Mapping[str, Callable[[Tensor], Any]], x: Tensor) -> dict[str, float]:
    """Median milliseconds of each, turn by turn."""
    with torch.no_grad():
        times = race([lambda m=m: m(x) for m in models.values()], 25, budget=3.0)
    return {name: 1e3 * t for name, t in zip(models, times, strict=True)}


def compiled_row(name: str, compiled: fxq.CompiledModel, split: Split) -> Row:
    """The same of a compiled model."""
    return row(name, compiled, split, compiled.size_bytes)


def report(out: Path, data: Data | None, rows: Iterable[Row], figures: Mapping[str, Any],
           **facts: Any) -> None:
    """Print the rows, and leave metrics.json, metrics.csv and the figures in a folder."""
    kept = list(rows)
    out.mkdir(parents=True, exist_ok=True)
    described = data.describe() if data is not None else "data: none"
    metrics = {"data": described, "real": data.real if data is not None else False, "rows": kept,
               "environment": environment(), **facts}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, default=str) + "\n")
    keys = list(dict.fromkeys(k for r in kept for k in r))
    with open(out / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(kept)
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=110)
    print(described)
    print(tabulate(kept, headers="keys", floatfmt=".2f"))
    print(f"results are in {out}")
