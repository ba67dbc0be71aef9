"""Accuracy on real images: top-1, agreement with float, SQNR, per model and target.

    FXQ_DATA=../shared/data python benchmarks/accuracy.py [NAME ...] [--kind GLOB] [--publish]

ImageNet models are calibrated on 256 images of imagenet_calib and measured on 1000 labelled
validation images; CIFAR models on 512 train images and the whole test set. With `--publish` the
table is kept, and every page that shows or cites its figures is written: see `figures.py`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from accuracy_methods import METHODS, Data
from common import environment
from figures import TABLE, pages
from PIL import Image
from tabulate import tabulate
from torch import Tensor, nn

import fxq
from fxq.cli.images import center_crop, image_batches, normalized
from fxq.ir.sizes import model_bytes
from fxq.profiler.intervals import paired_interval, share_interval

IMAGENET = ("mobilenet_v2", "squeezenet1_1")
CIFAR = ("cifar10_resnet20", "cifar10_resnet32", "cifar10_resnet56")
NOTE = """`lost, 95 %` is the paired 95 % interval of the points that top-1 falls by on the same
images (below zero: it rises); `agreement, 95 %` is Wilson's interval. `best` is
`accuracy="best"`."""
Row = dict[str, float | str | None]


class Block(nn.Module):
    """Two 3x3 convolutions; the shortcut skips every other pixel and pads channels (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.extra = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """The CIFAR networks of He et al. 2016, section 4.2."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        count = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, count, 1)
        self.layer2 = self._stage(16, 32, count, 2)
        self.layer3 = self._stage(32, 64, count, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def load(model: nn.Module, data: Path, name: str) -> nn.Module:
    state = torch.load(data / "weights" / f"{name}.pth", weights_only=True)
    model.load_state_dict(state)
    return model.eval()


def imagenet(data: Path) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(validation images, labels, calibration batches)."""
    with open(data / "imagenet_val" / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    images = []
    for row in rows:
        with Image.open(data / "imagenet_val" / "images" / row["file"]) as image:
            images.append(normalized(center_crop(np.asarray(image.convert("RGB")), 224)))
    labels = torch.tensor([int(row["class_index"]) for row in rows])
    return torch.stack(images), labels, list(image_batches(data / "imagenet_calib", 224, 256, 32))


def cifar(data: Path) -> tuple[Tensor, Tensor, list[Tensor]]:
    test, train = (np.load(data / "cifar10" / f"{n}.npz") for n in ("test", "train15000"))
    picked = train["images"][:: len(train["images"]) // 512][:512]
    calibration = torch.stack([normalized(image) for image in picked])
    images = torch.stack([normalized(image) for image in test["images"]])
    return images, torch.from_numpy(test["labels"].astype(np.int64)), list(calibration.split(64))


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(50)])


def shares(exact: Tensor, given: Tensor, labels: Tensor) -> Row:
    """Top-1 and agreement with their 95 % intervals; SQNR is None where the outputs are equal."""
    answers, floats = given.argmax(1), exact.argmax(1)
    right, before, same = answers == labels, floats == labels, answers == floats
    quality, count = fxq.sqnr(exact, given), len(labels)
    return {"top-1 %": 100 * right.float().mean().item(),
            "points lost": 100 * (before.sum() - right.sum()).item() / count,
            "lost, 95 %": _percent(paired_interval(right.tolist(), before.tolist())),
            "agreement %": 100 * same.float().mean().item(),
            "agreement, 95 %": _percent(share_interval(int(same.sum()), count)),
            "SQNR dB": quality if math.isfinite(quality) else None}


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def measure(name: str, model: nn.Module, split: tuple[Tensor, Tensor, list[Tensor]],
            kinds: Sequence[str]) -> Iterator[Row]:
    """Float, then a row per kind; what is not installed is left out."""
    images, labels, batches = split
    exact, first = outputs(model, images), None
    yield {"model": name, "kind": "float", **shares(exact, exact, labels)}
    data = Data(images[:1], batches, fxq.calibrate(
        fxq.prepare(model, example_inputs=(images[:1],)), batches))
    for kind in kinds:
        start = time.process_time()
        try:
            infer = METHODS[kind].build(model, data)
        except ImportError as error:
            print(f"{kind}: {error}", flush=True)
            continue
        seconds, given = time.process_time() - start, outputs(infer, images)
        first = given if kind == "int8_static fbgemm" else first
        yield {"model": name, "kind": kind, **shares(exact, given, labels),
               **_compiled_cells(infer, model, given, first), "CPU seconds": seconds}


def _compiled_cells(infer: Any, model: nn.Module, given: Tensor, first: Tensor | None) -> Row:
    """What is known of fxq's own models alone."""
    if not isinstance(infer, fxq.CompiledModel):
        return {}
    same = None if first is None else (
        100 * (first.argmax(1) == given.argmax(1)).float().mean().item())
    return {"with fbgemm %": same, "times smaller": model_bytes(model) / infer.size_bytes,
            "runs on": infer.report.isa}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--kind", default="*", help="rows to make, as a glob: 'best *'")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    if options.publish and (options.names or options.kind != "*"):
        parser.error("what is published is one whole run: no NAME, no --kind")
    data, rows = Path(os.environ["FXQ_DATA"]), []
    names = options.names or [*IMAGENET, *CIFAR]
    splits = {"imagenet": imagenet, "cifar": cifar}
    for kind, members in (("imagenet", IMAGENET), ("cifar", CIFAR)):
        chosen = [n for n in names if n in members]
        split = splits[kind](data) if chosen else None
        for name in chosen:
            model = (CifarResNet(int(name[14:])) if kind == "cifar"
                     else torchvision.models.get_model(name, weights=None))
            kinds = [k for k, m in METHODS.items()
                     if name.startswith(m.models) and fnmatch(k, options.kind)]
            for row in measure(name, load(model, data, name), split, kinds):
                rows.append(row)
                print(tabulate([row.values()], floatfmt=".2f", tablefmt="plain"), flush=True)
    print(tabulate(rows, headers="keys", floatfmt=".2f"), flush=True)
    if options.publish:
        table = {"environment": environment(), "note": NOTE, "rows": rows}
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
        for path, text in pages(table).items():
            path.write_text(text)


if __name__ == "__main__":
    main()
