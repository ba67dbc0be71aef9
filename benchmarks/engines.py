"""Every int8 target on the same real images, from the same calibration.

    FXQ_DATA=../shared/data python benchmarks/engines.py [--markdown docs/benchmarks/engines.md]

One pass over the calibration images serves all targets. `isa=any` keeps pairs of weights safe for
x86 CPUs without VNNI. Agreement is with float, and with the fbgemm row; the images are those of
`benchmarks/accuracy.py`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torchvision
from accuracy import CIFAR, IMAGENET, CifarResNet, Row, cifar, imagenet, load, outputs
from common import environment
from tabulate import tabulate
from torch import Tensor, nn

import fxq
from fxq.ir.sizes import model_bytes

KINDS = (("fbgemm", "host"), ("x86", "host"), ("qnnpack", "host"), ("fbgemm", "any"),
         ("x86", "any"))


def agreement(a: Tensor, b: Tensor) -> float:
    return 100 * (a.argmax(1) == b.argmax(1)).float().mean().item()


def measure(name: str, model: nn.Module,
            split: tuple[Tensor, Tensor, list[Tensor]]) -> Iterator[Row]:
    images, labels, batches = split
    prepared = fxq.prepare(model, example_inputs=(images[:1],))
    statistics = fxq.calibrate(prepared, batches)
    exact, first = outputs(model, images), None
    for target, isa in KINDS:
        compiled = fxq.compile(model, target=target, isa=isa, example_inputs=(images[:1],),
                               statistics=statistics)
        given = outputs(compiled, images)
        first = given if first is None else first
        top1 = [100 * (v.argmax(1) == labels).float().mean().item() for v in (exact, given)]
        yield {"model": name, "target": f"{target}{' isa=any' if isa == 'any' else ''}",
               "float top-1 %": top1[0], "top-1 %": top1[1],
               "agrees with float %": agreement(exact, given),
               "with fbgemm %": agreement(first, given), "SQNR dB": fxq.sqnr(exact, given),
               "times smaller": model_bytes(model) / compiled.size_bytes,
               "runs on": compiled.report.isa}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data, rows = Path(os.environ["FXQ_DATA"]), []
    for members, read in ((IMAGENET, imagenet), (CIFAR, cifar)):
        chosen = [n for n in options.names or members if n in members]
        split = read(data) if chosen else None
        for name in chosen:
            model = (CifarResNet(int(name[14:])) if name in CIFAR
                     else torchvision.models.get_model(name, weights=None))
            rows += measure(name, load(model, data, name), split)
            print(tabulate(rows, headers="keys", floatfmt=".2f"), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows))
    if options.markdown:
        table = tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="github")
        options.markdown.write_text(f"# Targets on real images\n\n{environment()}\n\n"
                                    f"{__doc__}\n{table}\n")


if __name__ == "__main__":
    main()
