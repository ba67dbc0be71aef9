"""Load a model by name: torchvision, timm, or the user's own factory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxq.errors import ConfigError, did_you_mean


def load_model(name: str, weights: Path | None = None) -> nn.Module:
    """A model in eval mode. Raises ConfigError for an unknown name or weights that do not fit."""
    source, _, rest = name.partition(":")
    if not rest:
        raise ConfigError(f"{name!r} names no model",
                          fix="write torchvision:resnet18, timm:NAME or module:factory")
    builders = {"torchvision": _torchvision, "timm": _timm}
    model = builders[source](rest) if source in builders else _factory(source, rest)
    if weights is not None:
        _load_weights(model, weights)
    return model.eval()


def _torchvision(name: str) -> nn.Module:
    models = _module("torchvision.models", "vision")
    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(f"torchvision has no model {name!r}", fix=did_you_mean(name, known))
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def _timm(name: str) -> nn.Module:
    timm = _module("timm", "timm")
    known = timm.list_models()
    if name not in known:
        raise ConfigError(f"timm has no model {name!r}", fix=did_you_mean(name, known))
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name.split('.')[0]} is not installed",
                          fix=f"pip install {extra if extra == 'timm' else f'fxq[{extra}]'}"
                          ) from error


def load_object(text: str) -> Any:
    """What `module:name` names; the module is imported, and so run, from here or installed."""
    module_name, _, factory = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"cannot import {module_name!r}: {error}") from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, factory):
        raise ConfigError(f"{module_name} has no {factory!r}",
                          fix=did_you_mean(factory, [n for n in vars(module) if n[0] != "_"]))
    return getattr(module, factory)


def _factory(module_name: str, factory: str) -> nn.Module:
    model = load_object(f"{module_name}:{factory}")()
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{module_name}:{factory} gave {type(model).__name__}, not a module")
    return model


def _load_weights(model: nn.Module, path: Path) -> None:
    state = _read_state(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()[:6]
        raise ConfigError(f"{path.name} does not fit the model", why="\n".join(lines)) from error


def _read_state(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no such weights file: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{path.name} cannot be read as weights",
                          why=str(error).split("\n")[0],
                          fix="use .safetensors, or a plain state_dict") from error
    inner = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{path.name} holds no state_dict")
    return inner
