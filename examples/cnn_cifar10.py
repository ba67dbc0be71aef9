"""A baseline and a deeper CNN on CIFAR-10; dropout on and off; dynamic, static and trained int8.

    python examples/cnn_cifar10.py [--data DIR] [--epochs 16]
    torchrun --nproc-per-node 2 examples/cnn_cifar10.py
"""

import sys

from common.data import cifar10
from common.nets import baseline_cnn, deeper_cnn
from common.results import arguments, calibration, compiled_row, report, row
from common.training import Recipe, flip_and_shift, train, worker_of

import fxq

if __name__ == "__main__":
    options = arguments(__doc__, "cnn_cifar10", epochs=16)
    data = cifar10(options.data, options.limit)
    recipe = Recipe(options.epochs, rate=0.05, augment=flip_and_shift)
    nets = {"baseline": baseline_cnn(), "deeper, no dropout": deeper_cnn(0.0),
            "deeper, dropout": deeper_cnn(0.25)}
    models = {name: train(net, data, recipe, options.device).cpu() for name, net in nets.items()}
    model, batches = models["deeper, dropout"], calibration(data)
    x = batches[0][:1]
    qat = fxq.prepare_qat(model, example_inputs=(x,))
    train(qat, data, Recipe(max(1, options.epochs // 6), rate=0.002, augment=flip_and_shift))
    if worker_of()[0] > 0:
        sys.exit()  # all workers have trained; the first one measures
    rows = [row(f"{name}, float", model, data.test) for name, model in models.items()]
    for scheme in ("int8_dynamic", "int8_static"):
        compiled = fxq.compile(model, scheme=scheme, example_inputs=(x,), calibration_data=batches)
        rows.append(compiled_row(f"deeper, {scheme}", compiled, data.test))
    rows.append(compiled_row("deeper, int8_qat", fxq.convert(qat), data.test))
    for entry in rows[len(models):]:
        entry["smaller %"] = 100 * (1 - entry["kB"] / rows[2]["kB"])
    report(options.out, data, rows, {"weights": fxq.plot.weights(model, compiled)})
