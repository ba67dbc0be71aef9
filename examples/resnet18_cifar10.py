"""ResNet-18 for 32x32 images: trained with AMP on one or many workers, then quantized.

    python examples/resnet18_cifar10.py --data DIR --epochs 100 [--amp] [--quantize]
    torchrun --nproc-per-node 2 examples/resnet18_cifar10.py --epochs 2 --quantize

SGD 0.1 / 0.9 / 5e-4, batch 128, cosine schedule, early stopping; an interrupted run goes on from
its checkpoint. With `--quantize` the best weights are compiled, from merged statistics.
"""

import json

from common.data import cifar10
from common.nets import resnet18_cifar
from common.results import arguments, calibration, compiled_row, latencies, report, row
from common.training import Recipe, flip_and_shift, train, worker_of

import fxq

if __name__ == "__main__":
    options = arguments(
        __doc__, "resnet18_cifar10", epochs=100, amp={"action": "store_true"},
        quantize={"action": "store_true"}, patience={"type": int, "default": 15},
        target={"default": "x86"})
    data = cifar10(options.data, options.limit)
    recipe = Recipe(options.epochs, rate=0.1, augment=flip_and_shift, amp=options.amp,
                    patience=options.patience)
    model = train(resnet18_cifar(), data, recipe, options.device, options.out / "checkpoint.pt")
    model, (worker, workers) = model.cpu(), worker_of()
    rows = [row("float", model, data.test)] if worker == 0 else []
    figures, ranges = {}, {}
    if options.quantize:
        batches = calibration(data)
        prepared = fxq.prepare(model, target=options.target, example_inputs=(batches[0][:1],))
        statistics = fxq.calibrate(prepared, batches[worker::workers], distributed=workers > 1)
        ranges = {name: list(ends) for name, ends in statistics.ranges().items()}
    if options.quantize and worker == 0:
        compiled = fxq.compile(model, target=options.target, example_inputs=(batches[0][:1],),
                               statistics=statistics)
        times = latencies({"float": model, "int8": compiled}, batches[0][:1])
        rows.append(compiled_row("int8_static", compiled, data.test)
                    | {"ms": times["int8"], "speed-up": times["float"] / times["int8"]})
        rows[0]["ms"] = times["float"]
        profile = compiled.profile(batches[0][:1], rounds=15, budget=1.0)
        figures = {"size": fxq.plot.size(profile), "latency": fxq.plot.latency(profile)}
        (options.out / "layers.md").write_text(profile.to_markdown())
        compiled.save(options.out / "resnet18.fxq")
    if worker == 0:
        report(options.out, data, rows, figures, workers=workers)
        (options.out / "ranges.json").write_text(json.dumps(ranges, sort_keys=True))
