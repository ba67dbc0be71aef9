"""Three networks x formats x methods x targets on cats and dogs: what each combination gives.

    python examples/cats_dogs.py [--data DIR] [--epochs 8] [--size 96]
        [--arch alexnet resnet18 mobilenet_v3_small]

Accuracy, latency, throughput and bytes go to metrics.csv and metrics.json, the trade-offs to a
figure. Random crops, flips and small turns while training; formats that a target lacks say why.
"""

import math

import torch
import torch.nn.functional as F
import torchvision
from common.data import folders
from common.results import accuracy, arguments, calibration, latencies, report, row
from common.training import Recipe, flip_and_shift, train

import fxq

SCHEMES = (("fp16", "ptq"), ("int16_static", "ptq"), ("int8_static", "ptq"), ("int8_qat", "qat"),
           ("fp16_qat", "qat"))
TARGETS = ("fbgemm", "qnnpack", "x86", "cuda_fp16", "reference")


def turn_flip_and_shift(images, generator):
    """Up to ten degrees, besides the flips and shifts."""
    angle = math.radians(float(torch.rand(1, generator=generator)) * 20 - 10)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0],
                         [math.sin(angle), math.cos(angle), 0.0]])
    grid = F.affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return flip_and_shift(F.grid_sample(images, grid, align_corners=False), generator)


def compiled_as(model, scheme, method, target, data, batches, epochs):
    """One cell of the grid; raises fxq.ConfigError where the target lacks the scheme."""
    x = batches[0][:1]
    if method == "ptq":
        return fxq.compile(model, target=target, scheme=scheme, example_inputs=(x,),
                           calibration_data=batches)
    qat = fxq.prepare_qat(model, target=target, scheme=scheme, example_inputs=(x,))
    train(qat, data, Recipe(epochs, rate=1e-3, augment=turn_flip_and_shift, batch=64),
          say=lambda text: None)
    return fxq.convert(qat)


def measured(name, model, compiled, data, x):
    """Accuracy, milliseconds, images a second, and bytes."""
    try:
        times = latencies({"float": model, "compiled": compiled}, x)
        found = {"accuracy %": accuracy(compiled, data.test), "ms": times["compiled"],
                 "images/s": 1e3 / times["compiled"],
                 "speed-up": times["float"] / times["compiled"]}
    except fxq.TargetUnavailableError as error:
        found = {"note": error.what}
    return {"model": name, **found, "kB": compiled.size_bytes / 1e3}


if __name__ == "__main__":
    options = arguments(
        __doc__, "cats_dogs", epochs=8, size={"type": int, "default": 96},
        arch={"nargs": "+", "default": ["alexnet", "resnet18", "mobilenet_v3_small"]},
        qat_epochs={"type": int, "default": 1}, targets={"nargs": "+", "default": TARGETS},
        schemes={"nargs": "+", "default": [scheme for scheme, _ in SCHEMES]})
    data = folders(options.data, "cats_dogs", ("train", "test"), options.size, options.limit)
    batches, rows = calibration(data, 128, 32), []
    for arch in options.arch:
        torch.manual_seed(0)
        net = torchvision.models.get_model(arch, weights=None, num_classes=len(data.classes))
        model = train(net, data, Recipe(options.epochs, rate=1e-3, optimizer="adam", batch=64,
                                        augment=turn_flip_and_shift), options.device).cpu()
        rows.append(row(f"{arch} fp32", model, data.test)
                    | {"ms": latencies({"float": model}, batches[0][:1])["float"]})
        for target in options.targets:
            for scheme, method in SCHEMES:
                if scheme not in options.schemes:
                    continue
                name = f"{arch} {scheme} {target}"
                try:
                    compiled = compiled_as(model, scheme, method, target, data, batches,
                                           options.qat_epochs)
                except fxq.ConfigError as error:
                    rows.append({"model": name, "note": error.why})
                    continue
                rows.append(measured(name, model, compiled, data, batches[0][:1]))
    points = [{"name": r["model"], "accuracy": r["accuracy %"], "ms": r["ms"], "mb": r["kB"] / 1e3}
              for r in rows if "accuracy %" in r and "reference" not in r["model"]]
    report(options.out, data, rows, {"pareto": fxq.plot.pareto(points)})
