"""What one training step costs: float, fxq's QAT, torch.ao's prepare_qat_fx, in one race.

    python benchmarks/qat_step.py [--rounds 7] [--markdown docs/benchmarks/qat_step.md]

ResNet-18 with its CIFAR stem (3x3, no pool) on 32x32 images, batch 64, SGD. All sides take turns
in one process; figures are medians over the rounds of each round's ratio to the float step.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from common import environment
from tabulate import tabulate
from torch import Tensor, nn

import fxq


def resnet18_cifar() -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


def torch_ao_qat(model: nn.Module, example: Tensor) -> nn.Module:
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    return prepare_qat_fx(copy.deepcopy(model).train(), get_default_qat_qconfig_mapping("fbgemm"),
                          (example,)).train()


def step_of(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def measure(rounds: int) -> dict[str, list[float]]:
    model, images = resnet18_cifar(), torch.randn(64, 3, 32, 32)
    labels = torch.randint(10, (64,))
    frozen = fxq.prepare_qat(model, example_inputs=(images[:1],))
    steps = {
        "float": step_of(copy.deepcopy(model).train(), images, labels),
        "fxq int8_qat": step_of(fxq.prepare_qat(model, example_inputs=(images[:1],)), images,
                                labels),
        "fxq int8_qat, ranges frozen": step_of(frozen, images, labels),
        "fxq int8_qat, learned scales": step_of(fxq.prepare_qat(
            model, example_inputs=(images[:1],), learn_scales=True), images, labels),
        "torch.ao prepare_qat_fx": step_of(torch_ao_qat(model, images[:1]), images, labels),
    }
    for step in steps.values():
        step()
    frozen.freeze_observers()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    times = measure(options.rounds)
    rows = [{"training step": name, "x float step": statistics.median(
        t / f for t, f in zip(own, times["float"], strict=True)),
        "median ms": 1e3 * statistics.median(own)} for name, own in times.items()]
    table = tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="github")
    print(table)
    if options.markdown:
        options.markdown.write_text(f"# What a training step costs\n\n{environment()}\n\n"
                                    f"{__doc__}\n{table}\n")


if __name__ == "__main__":
    main()
