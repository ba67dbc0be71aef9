"""The small networks of the classic experiments."""

from __future__ import annotations

import torchvision
from torch import nn


def mnist_cnn(classes: int = 10) -> nn.Module:
    """Two convolutions and two linear layers, for 28x28 images of one channel."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 25, 64), nn.ReLU(), nn.Linear(64, classes))


def baseline_cnn(classes: int = 10) -> nn.Module:
    """Two convolutions, for 32x32 images: about 62 % on CIFAR-10."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84),
        nn.ReLU(), nn.Linear(84, classes))


def deeper_cnn(dropout: float, classes: int = 10) -> nn.Module:
    """Six convolutions with batch norm and dropout: about 74 % on CIFAR-10."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False),
                       nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 128), nn.ReLU(),
                         nn.Dropout(dropout), nn.Linear(128, classes))


def resnet18_cifar(classes: int = 10) -> nn.Module:
    """ResNet-18 with a 3x3 stem and without the first pooling, for 32x32 images."""
    model = torchvision.models.resnet18(weights=None, num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model
