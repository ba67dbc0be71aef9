"""Every scheme and calibrator on real images: top-1, size, and latency against float.

    FXQ_DATA=../shared/data python benchmarks/schemes.py [--markdown docs/benchmarks/schemes.md]

CIFAR ResNets: calibrated once on 512 train images, measured on all 10000 test images; trained
rows start from that calibration and see the 15000 train images of the data folder (twice, with
flips and shifted crops), towards the float model's own outputs. ResNet-56 has fewer simulated rows,
for time. Float, fp32, and int8_static with mse are the figures of [accuracy](accuracy.md). Digits:
the demo's network on its 449 held-out digits, trained rows saw the others 30 times. Latency is the
median of batch 1 over the float model's in one race; simulated and emulated rows have none.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accuracy import CifarResNet, cifar, load
from common import environment, race
from figures import DOCS, pages, read_table
from tabulate import tabulate
from torch import Tensor, nn

import fxq
from fxq.cli.demo import DigitNet, digits, train
from fxq.cli.images import normalized
from fxq.ir.sizes import model_bytes

CALIBRATORS = ("minmax", "moving_average", "percentile:99.99", "percentile:99.9", "mse", "entropy",
               "sigma:4", "auto")
CASES: tuple[tuple[str, str, str], ...] = (
    ("fbgemm", "fp32", ""), *(("fbgemm", "int8_static", c) for c in CALIBRATORS),
    ("fbgemm", "int8_dynamic", ""), ("fbgemm", "int8_weight_only", ""),
    ("reference", "int16_static", "minmax"), ("reference", "fp16", ""), ("reference", "bf16", ""),
    ("reference", "W6A6", "mse"), ("reference", "int4_weight", "minmax"),
    ("reference", "int4_weight", "mse"), ("reference", "int4_weight", "auto"),
    ("reference", "W4A4", "mse"))
TRAINED = (("fbgemm", "int8_qat", False), ("reference", "W4A8", False), ("reference", "W4A8", True))
LARGE = {"cifar10_resnet56"}  # simulation takes long: fewer of these rows
FEW = {("int16_static", "minmax"), ("fp16", ""), ("int4_weight", "mse")}
Row = dict[str, Any]


def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        hits = torch.cat([model(part).argmax(1) for part in images.split(100)]) == labels
    return 100 * hits.float().mean().item()


def row(model: nn.Module, compiled: fxq.CompiledModel, calibrator: str, images: Tensor,
        labels: Tensor, exact: float, name: str) -> Row:
    score, one = top1(compiled, images, labels), images[:1]
    speed = float("nan")
    if not compiled.report.note:
        times = race({"float": lambda: model(one), "fxq": lambda: compiled(one)}, 31)
        speed = statistics.median(f / s for f, s in zip(times["float"], times["fxq"], strict=True))
    return {"scheme": name, "on": compiled.report.target, "calibrator": calibrator or "-",
            "top-1 %": score, "against float": score - exact,
            "times smaller": model_bytes(model) / compiled.size_bytes, "times faster": speed}


def ptq(model: nn.Module, batches: list[Tensor], images: Tensor, labels: Tensor,
        large: bool = False) -> Iterator[Row]:
    exact = top1(model, images, labels)
    yield {"scheme": "float", "on": "eager", "calibrator": "-", "top-1 %": exact,
           "against float": 0.0, "times smaller": 1.0, "times faster": 1.0}
    seen = fxq.calibrate(fxq.prepare(model, example_inputs=(images[:1],)), batches)
    chosen = [c for c in CASES if not large or c[0] != "reference" or c[1:] in FEW]
    for target, scheme, calibrator in chosen:
        compiled = fxq.compile(model, target=target, scheme=scheme, example_inputs=(images[:1],),
                               statistics=seen, calibrator=calibrator or None)
        yield row(model, compiled, calibrator, images, labels, exact, scheme)


def qat(model: nn.Module, batches: list[Tensor], images: Tensor, labels: Tensor,
        train_images: Tensor, epochs: int, rate: float, large: bool = False) -> Iterator[Row]:
    exact = top1(model, images, labels)
    seen = fxq.calibrate(fxq.prepare(model, example_inputs=(images[:1],)), batches)
    for target, scheme, learned in TRAINED[1:2] if large else TRAINED:
        prepared = fxq.prepare_qat(model, target=target, scheme=scheme, statistics=seen,
                                   example_inputs=(images[:1],), learn_scales=learned)
        train_quantized(prepared, model, train_images, epochs, rate)
        print(fxq.check_parity(prepared, images[:64]), flush=True)
        name = f"{scheme.removesuffix('_qat')} trained" + (", learned scales" if learned else "")
        yield row(model, fxq.convert(prepared), "mse", images, labels, exact, name)


def train_quantized(prepared: fxq.QatModel, teacher: nn.Module, images: Tensor,
                    epochs: int, rate: float) -> None:
    """SGD towards the float model's own outputs; ranges and batch norms stay as they are.

    The data is a small part of what the model was trained on: with labels it would overfit, and
    the outputs of the float model say more (Hinton et al. 2015, "Distilling the Knowledge").
    """
    torch.manual_seed(0)
    steps = epochs * (len(images) // 128)
    optimizer = torch.optim.SGD(prepared.parameters(), rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    prepared.train()
    prepared.freeze_observers()
    prepared.freeze_batch_norm()
    for _ in range(epochs):
        for part in torch.randperm(len(images))[: len(images) // 128 * 128].split(128):
            batch = augmented(images[part])
            with torch.no_grad():
                wanted = teacher(batch).log_softmax(1)
            loss = F.kl_div(prepared(batch).log_softmax(1), wanted, log_target=True,
                            reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    prepared.eval()


def augmented(images: Tensor) -> Tensor:
    """A flip for every other image, and one shift by up to 4 pixels for the batch."""
    if images.shape[1] != 3:
        return images
    x, y = (int(v) for v in torch.randint(0, 9, (2,)))
    shifted = F.pad(images, (4, 4, 4, 4))[:, :, y: y + 32, x: x + 32]
    return torch.cat([shifted[::2].flip(3), shifted[1::2]])[restore(len(images))]


def restore(count: int) -> Tensor:
    """The order that undoes putting even positions before odd ones."""
    return torch.cat([torch.arange(0, count, 2), torch.arange(1, count, 2)]).argsort()


def cifar_rows(name: str, data: Path, epochs: int) -> list[Row]:
    model = load(CifarResNet(int(name[14:])), data, name)
    images, labels, batches = cifar(data)
    part = np.load(data / "cifar10" / "train15000.npz")
    train_images = torch.stack([normalized(image) for image in part["images"]])
    large, found = name in LARGE, []
    for item in chain(ptq(model, batches, images, labels, large),
                      qat(model, batches, images, labels, train_images, epochs, 2e-3, large)):
        found.append(item)
        print(tabulate([item], floatfmt=".2f", tablefmt="plain"), flush=True)
    return found


def digit_rows() -> list[Row]:
    torch.manual_seed(0)
    train_x, train_y, test_x, test_y = digits()
    model = DigitNet()
    train(model, train_x, train_y, 14, lambda text: None)
    model.eval()
    batches = list(train_x[:512].split(64))
    return [*ptq(model, batches, test_x, test_y),
            *qat(model, batches, test_x, test_y, train_x, 30, 5e-4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    data = Path(os.environ["FXQ_DATA"])
    parts = []
    for name in options.names or ["digits", "cifar10_resnet20", "cifar10_resnet56"]:
        rows = digit_rows() if name == "digits" else cifar_rows(name, data, options.epochs)
        table = tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="github",
                         missingval="-").replace("nan", "  -")
        parts.append(f"## {name}\n\n{table}\n")
        print(parts[-1], flush=True)
    if options.markdown:
        options.markdown.write_text(f"# Schemes and calibrators\n\n{environment()}\n\n{__doc__}\n"
                                    + "\n".join(parts))
        options.markdown.write_text(pages(read_table())[DOCS / "benchmarks" / "schemes.md"])


if __name__ == "__main__":
    main()
