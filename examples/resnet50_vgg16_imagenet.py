"""Classify photographs with ResNet-50 and VGG16 (or others), quantize them, classify again.

    python examples/resnet50_vgg16_imagenet.py [--arch mobilenet_v2 squeezenet1_1]
        [--weights FILE ...] [--images 16] [--data DIR]

Top-5 of each image, in float and in int8; size before and after; how often the classes agree.
Without weights in a file (or in DIR/weights) the network is random, and says so.
"""

from pathlib import Path

import torch
from common.architecture import build, images_for
from common.results import arguments, report

import fxq

if __name__ == "__main__":
    options = arguments(
        __doc__, "resnet50_vgg16_imagenet",
        arch={"nargs": "+", "default": ["resnet50", "vgg16"]},
        weights={"nargs": "*", "type": Path, "default": []},
        images={"type": int, "default": 16}, size={"type": int, "default": 224})
    rows, names = [], {}
    for position, arch in enumerate(options.arch):
        given = options.weights[position] if position < len(options.weights) else None
        model, said = build(arch, options.data, given)
        batches, source = images_for(options.data, options.size, options.images + 64)
        seen, held = torch.cat(batches)[:options.images], batches[-8:]
        compiled = fxq.compile(model, example_inputs=(seen[:1],), calibration_data=held)
        with torch.no_grad():
            exact, given_by_int8 = model(seen), compiled(seen)
        five, also = exact.topk(5).indices, given_by_int8.topk(5).indices
        names[arch] = {"float top-5": five.tolist(), "int8 top-5": also.tolist()}
        size = 4 * sum(p.numel() for p in model.parameters())
        rows.append({"network": arch, "weights": said, "images": source,
                     "same class %": 100 * (five[:, 0] == also[:, 0]).float().mean().item(),
                     "top-1 in float's top-5 %": 100 * (five == also[:, :1]).any(1).float()
                     .mean().item(), "float MB": size / 1e6, "int8 MB": compiled.size_bytes / 1e6,
                     "smaller %": 100 * (1 - compiled.size_bytes / size)})
    report(options.out, None, rows, {}, classes=names)
