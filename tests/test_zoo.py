"""Every torchvision classification family compiles, at its smallest legal size."""

import pytest
import torch
import torchvision
from torch import nn

import fxq
from tests.nets import lively

CNNS = {  # family -> the smallest side that its layers allow
    "alexnet": 63, "vgg11_bn": 32, "resnet18": 33, "resnet50": 33, "resnext50_32x4d": 33,
    "wide_resnet50_2": 33, "densenet121": 33, "googlenet": 33, "inception_v3": 96,
    "squeezenet1_1": 33, "mobilenet_v2": 33, "mobilenet_v3_small": 33, "mobilenet_v3_large": 33,
    "shufflenet_v2_x0_5": 33, "shufflenet_v2_x1_0": 33, "mnasnet1_0": 33, "regnet_x_400mf": 33,
    "regnet_y_400mf": 33, "efficientnet_b0": 33}
WIDE = {"vgg11_bn", "wide_resnet50_2"}  # as AlexNet and ResNet-50, with many more weights
OTHERS = {"convnext_tiny": 32, "vit_b_16": 224, "swin_t": 32, "maxvit_t": 224}


def compiled(name, side):
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in (
        "googlenet", "inception_v3") else {}
    model = lively(torchvision.models.get_model(name, weights=None, **options))
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    for layer in head:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    x = torch.randn(4, 3, side, side)
    return fxq.compile(model, example_inputs=(x,), calibration_data=[x], runtime="python")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] if name in WIDE else []) for name in CNNS])
def test_cnn_families(name):
    """Nearly all multiply-accumulates are integer, a quarter of the size, and the signal stays."""
    report = compiled(name, CNNS[name]).report
    assert report.coverage >= 0.99
    assert report.float_bytes / report.size_bytes >= 3.7
    assert report.sqnr >= 15


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] if side > 100 else []) for name, side in OTHERS.items()])
def test_other_families(name):
    """Models with attention compile too; what stays in float says why."""
    report = compiled(name, OTHERS[name]).report
    assert report.integer_macs > 0
    assert all(r.code and r.reason for r in report.left_in_float)
    assert report.sqnr >= 15
