"""A small CNN on MNIST: trained, int8_dynamic on its linear layers, saved, loaded, evaluated.

    python examples/simple_cnn_mnist.py [--data DIR] [--epochs 3]

The file is evaluated in a new process, which never saw the model's class.
"""

import json
import subprocess
import sys

import torch
from common.data import mnist
from common.nets import mnist_cnn
from common.results import accuracy, arguments, calibration, compiled_row, report, row
from common.training import Recipe, train

import fxq

if __name__ == "__main__":
    options = arguments(__doc__, "simple_cnn_mnist", epochs=3)
    data = mnist(options.data, options.limit)
    model = train(mnist_cnn(), data, Recipe(options.epochs, rate=0.05), options.device).cpu()
    batches = calibration(data)
    x = batches[0][:1]
    dynamic = fxq.compile(model, scheme="int8_dynamic", example_inputs=(x,))
    static = fxq.compile(model, scheme="int8_static", example_inputs=(x,), calibration_data=batches)
    file = options.out / "mnist_dynamic.fxq"
    dynamic.save(file)
    torch.save(data.test.images[:200].clone(), options.out / "test.pt")
    program = ("import sys, json, torch, fxq; model = fxq.load(sys.argv[1]);"
               "x = torch.load(sys.argv[2], weights_only=True);"
               "print(json.dumps(model(x).argmax(1).tolist()))")
    done = subprocess.run([sys.executable, "-c", program, file, options.out / "test.pt"],
                          capture_output=True, text=True, check=True)
    again = json.loads(done.stdout) == dynamic(data.test.images[:200]).argmax(1).tolist()
    rows = [row("float", model, data.test), compiled_row("int8_dynamic", dynamic, data.test),
            compiled_row("int8_static", static, data.test)]
    report(options.out, data, rows, {"weights": fxq.plot.weights(model, static)},
           reloaded_equal=again, drop=accuracy(model, data.test) - rows[1]["accuracy %"])
