"""Transfer learning on ants and bees: a frozen backbone with a plain head, then a wider one.

    python examples/resnet18_hymenoptera.py [--data DIR] [--arch resnet18] [--weights FILE]

Only the head learns, so that the backbone runs once over all images. Both networks are quantized.
"""

from pathlib import Path

import torch
from common.architecture import build
from common.data import Data, Split, folders
from common.results import arguments, calibration, compiled_row, report, row
from common.training import Recipe, train
from torch import nn

import fxq


def without_head(model: nn.Module) -> tuple[nn.Module, int]:
    """The network up to its last linear layer, which becomes the identity."""
    name, layer = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, nn.Identity())
    return model.eval(), layer.in_features


@torch.no_grad()
def features(model: nn.Module, split: Split) -> Split:
    return Split(torch.cat([model(x) for x, _ in split.batches(32)]), split.labels)


if __name__ == "__main__":
    options = arguments(__doc__, "resnet18_hymenoptera", epochs=30,
                        arch={"default": "resnet18"}, weights={"type": Path},
                        size={"type": int, "default": 224})
    data = folders(options.data, "hymenoptera", ("train", "val"), options.size, options.limit)
    model, said = build(options.arch, options.data, options.weights)
    backbone, width = without_head(model)
    seen = Data(data.name, features(backbone, data.train), features(backbone, data.test),
                data.classes, data.real)
    heads = {"plain head": nn.Linear(width, len(data.classes)),
             "wider head, dropout": nn.Sequential(
                 nn.Linear(width, 256), nn.ReLU(), nn.Dropout(0.4),
                 nn.Linear(256, len(data.classes)))}
    rows, batches = [], calibration(data, 64, 16)
    for name, head in heads.items():
        train(head, seen, Recipe(options.epochs, rate=1e-3, optimizer="adam", batch=32),
              say=lambda text: None)
        whole = nn.Sequential(backbone, head).eval()
        compiled = fxq.compile(whole, example_inputs=(batches[0][:1],), calibration_data=batches)
        rows += [row(f"{name}, float", whole, data.test),
                 compiled_row(f"{name}, int8", compiled, data.test)]
    report(options.out, data, rows, {}, backbone=f"{options.arch}: {said}")
