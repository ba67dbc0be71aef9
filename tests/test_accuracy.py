"""Real images and pretrained weights, where FXQ_DATA has them; digits where it has not."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision

import fxq
from fxq.cli.demo import DigitNet, accuracy, digits, train

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))


def agreement(exact, given):
    return (exact.argmax(1) == given.argmax(1)).float().mean().item()


@pytest.mark.data
def test_cifar_resnet20_keeps_its_accuracy(data):
    """A thousand test images: at most one in forty changes its class, and half of these win."""
    import accuracy as bench

    images, labels, batches = bench.cifar(data)
    images, labels = images[:1000], labels[:1000]
    model = bench.load(bench.CifarResNet(20), data, "cifar10_resnet20")
    compiled = fxq.compile(model, example_inputs=(images[:1],), calibration_data=batches)
    exact, given = bench.outputs(model, images), bench.outputs(compiled, images)
    assert agreement(exact, given) >= 0.975
    loss = (exact.argmax(1) == labels).float().mean() - (given.argmax(1) == labels).float().mean()
    assert loss <= 0.01


@pytest.mark.data
def test_mobilenet_v2_agrees_with_float(data):
    """Real weights and images: 96 % agree on all thousand, so 92 % do on two hundred (3 sigma)."""
    import accuracy as bench

    images, _, batches = bench.imagenet(data)
    model = bench.load(torchvision.models.mobilenet_v2(weights=None), data, "mobilenet_v2")
    compiled = fxq.compile(model, example_inputs=(images[:1],), calibration_data=batches[:4])
    exact, given = (bench.outputs(m, images[::5]) for m in (model, compiled))
    assert agreement(exact, given) >= 0.92


def test_digits_keep_their_accuracy():
    """Trained for a few epochs on real digits: int8 agrees with float on nearly all."""
    torch.manual_seed(0)
    train_x, train_y, test_x, test_y = digits()
    model = DigitNet()
    train(model, train_x, train_y, 4, lambda text: None)
    model.eval()
    compiled = fxq.compile(model, example_inputs=(test_x[:1],), calibration_data=[train_x[:256]],
                           runtime="python")
    with torch.no_grad():
        assert agreement(model(test_x), compiled(test_x)) >= 0.98
    assert accuracy(model, test_x, test_y) > 80
