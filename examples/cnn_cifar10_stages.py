"""Stage by stage on CIFAR-10: 3-sigma weights, then activations, then int32 biases.

    python examples/cnn_cifar10_stages.py [--data DIR] [--epochs 6]

Each stage adds one kind of integers; accuracy is shown after each, and distributions before and
after. Weights have one scale per tensor, of mean ± 3 standard deviations, as the classic recipe
does.
"""

from dataclasses import replace

from common.data import cifar10
from common.nets import baseline_cnn
from common.results import arguments, calibration, compiled_row, report, row
from common.training import Recipe, flip_and_shift, train

import fxq
from fxq.quantization.formats import signed
from fxq.quantization.schemes import SCHEMES

if __name__ == "__main__":
    options = arguments(__doc__, "cnn_cifar10_stages", epochs=6)
    data = cifar10(options.data, options.limit)
    model = train(baseline_cnn(), data, Recipe(options.epochs, augment=flip_and_shift),
                  options.device).cpu()
    batches = calibration(data)
    classic = {"weight": signed(8), "weight_calibrator": "sigma:3", "correct_bias": False}
    stages = {
        "weights": replace(SCHEMES["int8_weight_only"], **classic),
        "weights, activations": replace(SCHEMES["int8_static"], **classic),
        "weights, activations, int32 biases": replace(SCHEMES["int8_static"], bias="int32",
                                                      **classic),
        "fxq's default": SCHEMES["int8_static"],
    }
    rows = [row("float", model, data.test)]
    for name, scheme in stages.items():
        compiled = fxq.compile(model, target="reference", scheme=scheme,
                               example_inputs=(batches[0][:1],), calibration_data=batches)
        rows.append(compiled_row(name, compiled, data.test))
    profile = fxq.compile(model, example_inputs=(batches[0][:1],), calibration_data=batches
                          ).profile(batches[0][:1], rounds=5, budget=0.2)
    report(options.out, data, rows, {"weights": fxq.plot.weights(model, compiled),
                                     "activations": fxq.plot.histograms(profile)})
