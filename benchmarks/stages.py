"""The pipeline "weights, then activations, then bias" on a small CIFAR CNN, stage by stage.

    FXQ_DATA=../shared/data python benchmarks/stages.py [--markdown docs/benchmarks/stages.md]

A CNN of three convolutions and two linear layers is trained on the 15000 train images of the data
folder and measured on all 10000 test images: in float, with weights scaled by the 3-sigma rule,
with activations too, and with int32 biases at the combined scale. Three standard deviations cut the
long tails of ReLU outputs, so that the rule suits weights only. The last row is fxq's default.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accuracy import cifar
from common import environment
from schemes import augmented, top1
from tabulate import tabulate
from torch import Tensor, nn

import fxq
from fxq.cli.images import normalized
from fxq.quantization.formats import signed
from fxq.quantization.schemes import SCHEMES

# One scale for each weight tensor, from the 3-sigma rule; nothing of fxq's own corrections.
PIPELINE: dict[str, Any] = {"weight": signed(8), "weight_calibrator": "sigma:3",
                            "correct_bias": False}
STAGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("weights by 3-sigma", "int8_weight_only", PIPELINE),
    ("and activations by their extremes", "int8_static", {
        **PIPELINE, "activation_calibrator": "minmax"}),
    ("and biases in int32 at s_x·s_w", "int8_static", {
        **PIPELINE, "activation_calibrator": "minmax", "bias": "int32"}),
    ("the same with activations by 3-sigma", "int8_static", {
        **PIPELINE, "activation_calibrator": "sigma:3", "bias": "int32"}),
    ("fxq's int8_static", "int8_static", {}),
)


class SmallCnn(nn.Sequential):
    """Three convolutions with ReLU and max pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10))


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for part in torch.randperm(len(labels)).split(128):
            loss = F.cross_entropy(model(augmented(images[part])), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rate.step()


def rows(model: nn.Module, batches: list[Tensor], images: Tensor, labels: Tensor) -> Any:
    exact = top1(model, images, labels)
    yield {"stage": "float", "top-1 %": exact, "against float": 0.0}
    seen = fxq.calibrate(fxq.prepare(model, example_inputs=(images[:1],)), batches)
    for name, scheme, options in STAGES:
        compiled = fxq.compile(model, scheme=replace(SCHEMES[scheme], **options),
                               example_inputs=(images[:1],), statistics=seen, runtime="python")
        score = top1(compiled, images, labels)
        yield {"stage": name, "top-1 %": score, "against float": score - exact}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    data = Path(os.environ["FXQ_DATA"])
    images, labels, batches = cifar(data)
    part = np.load(data / "cifar10" / "train15000.npz")
    torch.manual_seed(0)
    model = SmallCnn()
    train(model, torch.stack([normalized(image) for image in part["images"]]),
          torch.from_numpy(part["labels"].astype(np.int64)), options.epochs)
    table = tabulate(list(rows(model.eval(), batches, images, labels)), headers="keys",
                     floatfmt=".2f", tablefmt="github")
    print(table)
    if options.markdown:
        options.markdown.write_text(f"# Stage by stage\n\n{environment()}\n\n{__doc__}\n{table}\n")


if __name__ == "__main__":
    main()
