"""The examples on real data, beside the figures that they reproduce.

    FXQ_DATA=../shared/data python benchmarks/experiments.py [--run] [--results results]
        [--markdown docs/experiments.md]

With `--run` the examples are run first (about half an hour on two cores); the table, and the
picture of trade-offs, are made from the metrics that they leave. Runs on the embedded digits are
left out. Figures of pretrained ResNets are those of [accuracy](benchmarks/accuracy.md).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import environment
from figures import DOCS, pages, read_table
from tabulate import tabulate

import fxq

ROOT = Path(__file__).parent.parent
PICTURE = DOCS / "images" / "pareto.png"
CIFAR = ("cifar10_resnet20", "cifar10_resnet32", "cifar10_resnet56")
# example, arguments, (what, reference figure) pairs by the name of the row or fact
EXPERIMENTS: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...] = (
    ("simple_cnn_mnist", "--epochs 3", (
        ("float", "accuracy %", "same as int8_dynamic"),
        ("int8_dynamic", "accuracy %", "same as float"))),
    ("cnn_cifar10_stages", "--epochs 8", (
        ("float", "accuracy %", "before"), ("weights", "accuracy %", "after weights"),
        ("weights, activations, int32 biases", "accuracy %", "after full"),
        ("fxq's default", "accuracy %", ""))),
    ("cnn_cifar10", "--epochs 16", (
        ("baseline, float", "accuracy %", "about 62 on all 50000 images"),
        ("deeper, no dropout, float", "accuracy %", ""),
        ("deeper, dropout, float", "accuracy %", "about 74 on all 50000 images"),
        ("deeper, int8_static", "accuracy %", "negligible loss"),
        ("deeper, int8_static", "smaller %", "70 or better"),
        ("deeper, int8_qat", "accuracy %", "negligible loss"))),
    ("cnn_cifar10 x 2", "--nets baseline --epochs 16", (
        ("baseline, float", "accuracy %", "within 1 point of one process"),
        ("baseline, int8_static", "accuracy %", ""))),
    ("resnet18_cifar10", "--epochs 0 --quantize", (  # untrained: size and speed only
        ("float", "kB", "42600"), ("int8_static", "kB", "10700"),
        ("int8_static", "speed-up", "2.33"))),
    ("resnet50_vgg16_imagenet", "--arch mobilenet_v2 squeezenet1_1 --images 200", (
        ("mobilenet_v2", "same class %", "same classes"), ("mobilenet_v2", "smaller %", "75"),
        ("squeezenet1_1", "same class %", "same classes"), ("squeezenet1_1", "smaller %", "75"))),
    ("resnet18_hymenoptera", "--arch mobilenet_v2 --epochs 30", (
        ("plain head, float", "accuracy %", "92, with ResNet-18"),
        ("plain head, int8", "accuracy %", ""),
        ("wider head, dropout, float", "accuracy %", "98, with ResNet-18"),
        ("wider head, dropout, int8", "accuracy %", ""))),
    ("cats_dogs", "--size 64 --epochs 6 --arch resnet18 --targets x86 fbgemm --schemes "
                  "int8_static int8_qat", (
        ("resnet18 fp32", "accuracy %", ""), ("resnet18 int8_static x86", "accuracy %", ""),
        ("resnet18 int8_qat x86", "accuracy %", ""),
        ("resnet18 int8_static fbgemm", "accuracy %", ""),
        ("resnet18 int8_qat fbgemm", "accuracy %", ""))),
)


def command_of(folder: str, arguments: str) -> str:
    """What a user types; a folder's name is the example's, and how often it was started."""
    name, _, workers = folder.partition(" x ")
    start = f"torchrun --nproc-per-node {workers}" if workers else "python"
    return f"{start} examples/{name}.py {arguments}"


def run(folder: str, arguments: str, results: Path) -> None:
    start, *rest = command_of(folder, arguments).split()
    module = ["-m", "torch.distributed.run", "--standalone"] if start == "torchrun" else []
    subprocess.run([sys.executable, *module, *rest, "--out", str(results / folder)], check=True,
                   cwd=ROOT)


def rows_of(name: str, arguments: str, wanted: tuple[tuple[str, str, str], ...],
            results: Path) -> list[tuple[Any, ...]]:
    command = f"`{command_of(name, arguments)}`"
    path = results / name / "metrics.json"
    if not path.is_file():
        return [(name, "", "", "not run", "", command)]
    metrics = json.loads(path.read_text())
    data = metrics["data"].removeprefix("data: ")
    if not metrics["real"] and "photographs" not in data and data != "none":
        return [(name, "", "", "no real data", data, command)]
    data = metrics.get("source", "") or data if data != "none" else "imagenet_calib photographs"
    known = {r.get("model") or r.get("network"): r for r in metrics["rows"]}
    made = []
    for row, column, reference in wanted:
        value = known.get(row, {}).get(column)
        shown = f"{value:.2f}" if isinstance(value, int | float) else "missing"
        made.append((name, row, column, reference, shown, data if not made else "", command
                     if not made else ""))
    return made


def pretrained() -> list[tuple[Any, ...]]:
    """The CIFAR ResNets with the weights of the data folder, from the table of accuracy."""
    made: list[tuple[Any, ...]] = []
    for model in CIFAR:
        for target in ("fbgemm", "x86", "qnnpack"):
            name = f"{model}, {target}"
            made += [("pretrained ResNets", name, "points", "within 0.15", "", "", ""),
                     ("pretrained ResNets", name, "times smaller", "3.9 or more", "", "", "")]
    made[0] = (*made[0][:5], "CIFAR-10, all 10000 test images",
               "`python benchmarks/accuracy.py --publish`")
    return made


def picture(results: Path) -> str:
    """The trade-offs, drawn from the run that the table shows, with its points inside."""
    path = results / "cats_dogs" / "metrics.json"
    if not path.is_file():
        return ""
    points = [{"name": r["model"], "accuracy": r["accuracy %"], "ms": r["ms"], "mb": r["kB"] / 1e3}
              for r in json.loads(path.read_text())["rows"] if "accuracy %" in r]
    fxq.plot.pareto(points).savefig(PICTURE, dpi=110, metadata={
        "Description": json.dumps(points), "Software": None})
    return "\n![trade-offs of cats_dogs](images/pareto.png)\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    table = []
    for name, arguments, wanted in EXPERIMENTS:
        if options.run:
            run(name, arguments, options.results)
        table += rows_of(name, arguments, wanted, options.results)
    table += pretrained()
    text = tabulate(table, tablefmt="github", disable_numparse=True, headers=(
        "experiment", "row", "figure", "reference", "here", "data", "command"))
    notes = (
        "Full data sets are not at hand for CIFAR-10's training split (15000 of 50000 images here)"
        " and ImageNet (no labels are needed for the agreement shown), and weights of ResNet-18,"
        " ResNet-50 and VGG16 are not either; `--data` and `--weights` take them. ResNet-18 for"
        " CIFAR-10 is untrained here: the rows show its size and speed, and its accuracy (94.82 %"
        " to 94.71 % in the reference) is not measured. Networks were trained for few epochs on two"
        " cores, where dropout takes more than it gives; the loss from float to int8 is what"
        " compares with the reference. Pretrained networks on more targets and schemes:"
        " [engines](benchmarks/engines.md) and [schemes](benchmarks/schemes.md).")
    layers = options.results / "resnet18_cifar10" / "layers.md"
    inner = f"\n## ResNet-18, layer by layer\n\n{layers.read_text()}" if layers.is_file() else ""
    page = f"# Experiments\n\n{environment()}\n\n{__doc__}\n{notes}\n\n{text}\n{inner}"
    print(page)
    if options.markdown:
        options.markdown.write_text(page + picture(options.results))
        options.markdown.write_text(pages(read_table())[DOCS / "experiments.md"])


if __name__ == "__main__":
    main()
