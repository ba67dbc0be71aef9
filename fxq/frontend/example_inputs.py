"""Example inputs for models that follow the conventions of torchvision and timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fxq.errors import ConfigError

_LARGER = {"Inception3": 299}  # torchvision's only classifier that is not made for 224


def image_shape(model: nn.Module) -> tuple[int, int, int] | None:
    """(channels, height, width) by convention, or None when the model follows none."""
    for name in ("pretrained_cfg", "default_cfg"):  # timm
        config = getattr(model, name, None)
        if isinstance(config, dict) and "input_size" in config:
            channels, height, width = config["input_size"]
            return int(channels), int(height), int(width)
    if not type(model).__module__.startswith("torchvision.models"):
        return None
    side = getattr(model, "image_size", None) or _LARGER.get(type(model).__name__, 224)
    return _channels(model), int(side), int(side)


def _channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return int(module.in_channels)
    return 3


def example_inputs_for(model: nn.Module) -> tuple[Any, ...]:
    """One random image batch of the model's own size; raises ConfigError when unknown."""
    shape = image_shape(model)
    if shape is None:
        raise ConfigError(
            f"the input shape of {type(model).__name__} is not known",
            why="only torchvision's and timm's models say what they take",
            fix="pass example_inputs=(torch.randn(1, 3, 32, 32),) with your model's own shape")
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(1, *shape, generator=generator),)
