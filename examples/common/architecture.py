"""One architecture through everything: compile for each target, compare, profile, save, load."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import fxq
from common.data import digits, root
from common.results import Row, calibration, latencies, report
from fxq.cli.images import image_batches


def build(name: str, data: Path | None, weights: Path | None = None) -> tuple[nn.Module, str]:
    """A torchvision model with the weights that are there, else seeded ones."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    folder = root(data)
    path = weights or (folder / "weights" / f"{name}.pth" if folder else None)
    if path is not None and path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model, f"weights of {path.name}"
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as lively as a trained network's
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model, "random weights, so that accuracy means nothing"


def images_for(data: Path | None, size: int, count: int) -> tuple[list[Tensor], str]:
    """Batches of real photographs where there are some, else digits."""
    folder = root(data)
    photos = folder / "imagenet_calib" if folder else None
    if photos is not None and photos.is_dir():
        return list(image_batches(photos, size, count, 8)), "imagenet_calib"
    return calibration(digits(size), count, 8), "scikit-learn digits (embedded)"


def run(name: str, targets: tuple[str, ...] = ("fbgemm", "x86", "qnnpack")) -> None:
    """The command line of an architecture's example."""
    parser = argparse.ArgumentParser(description=f"{name} for each target")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results") / name)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    model, said = build(name, options.data)
    batches, source = images_for(options.data, options.size, options.images)
    print(f"{name}: {said}; calibrated on {source}")
    prepared = fxq.prepare(model, example_inputs=(batches[0][:1],))
    statistics = fxq.calibrate(prepared, batches)  # one pass over the data serves all targets
    rows: list[Row] = []
    models: dict[str, nn.Module] = {"float": model}
    for target in targets:
        compiled = fxq.compile(model, target=target, example_inputs=(batches[0][:1],),
                               statistics=statistics)
        models[target] = compiled
        seen = fxq.compare(model, compiled, batches[:2], limit=1)
        file = options.out / f"{name}_{target}.fxq"
        options.out.mkdir(parents=True, exist_ok=True)
        compiled.save(file)
        same = torch.equal(fxq.load(file)(batches[0]), compiled(batches[0]))
        rows.append({"target": target, "SQNR dB": seen.sqnr, "same class %": seen.agreement,
                     "MB": compiled.size_bytes / 1e6, "worst value": seen.nodes[0].name,
                     "loads the same": same})
    times = latencies(models, batches[0][:1])
    for row in rows:
        row |= {"ms": times[row["target"]], "speed-up": times["float"] / times[row["target"]]}
    profile = models["x86"].profile(batches[0][:1], rounds=15, budget=1.0)
    profile.to_html(options.out / "profile.html")
    report(options.out, None, rows, {"size": fxq.plot.size(profile),
                                     "latency": fxq.plot.latency(profile)}, source=source)
