"""A baseline and a deeper CNN on CIFAR-10; dropout on and off; dynamic, static and trained int8.

    python examples/cnn_cifar10.py [--data DIR] [--epochs 16]
    torchrun --nproc-per-node 2 examples/cnn_cifar10.py --nets baseline

The last of the networks is quantized.
"""

import sys

from common.data import cifar10
from common.nets import baseline_cnn, deeper_cnn
from common.results import arguments, calibration, compiled_row, report, row
from common.training import Recipe, flip_and_shift, train, worker_of

import fxq

NETS = {"baseline": baseline_cnn, "deeper, no dropout": lambda: deeper_cnn(0.0),
        "deeper, dropout": lambda: deeper_cnn(0.25)}

if __name__ == "__main__":
    options = arguments(__doc__, "cnn_cifar10", epochs=16,
                        nets={"nargs": "+", "choices": tuple(NETS), "default": list(NETS)})
    data = cifar10(options.data, options.limit)
    recipe = Recipe(options.epochs, rate=0.05, augment=flip_and_shift)
    models = {name: train(NETS[name](), data, recipe, options.device).cpu()
              for name in options.nets}
    model, batches = models[options.nets[-1]], calibration(data)
    kind, x = options.nets[-1].partition(",")[0], batches[0][:1]
    qat = fxq.prepare_qat(model, example_inputs=(x,))
    train(qat, data, Recipe(max(1, options.epochs // 6), rate=0.002, augment=flip_and_shift))
    if worker_of()[0] > 0:
        sys.exit()  # all workers have trained; the first one measures
    rows = [row(f"{name}, float", model, data.test) for name, model in models.items()]
    for scheme in ("int8_dynamic", "int8_static"):
        compiled = fxq.compile(model, scheme=scheme, example_inputs=(x,), calibration_data=batches)
        rows.append(compiled_row(f"{kind}, {scheme}", compiled, data.test))
    rows.append(compiled_row(f"{kind}, int8_qat", fxq.convert(qat), data.test))
    for entry in rows[len(models):]:
        entry["smaller %"] = 100 * (1 - entry["kB"] / rows[len(models) - 1]["kB"])
    report(options.out, data, rows, {"weights": fxq.plot.weights(model, compiled)})
