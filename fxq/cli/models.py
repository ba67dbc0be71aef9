"""Load a model by name: torchvision, timm, or the user's own factory; and its weights."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fxq.cli.images import Preprocess
from fxq.errors import ConfigError, did_you_mean

DEFAULT = "DEFAULT"  # --weights DEFAULT: the pretrained weights that the library itself offers
RANDOM = "random"


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode, where its weights are from, and how it wants its images.

    `weights` is "random" (nobody gave any), "pretrained" (the library's own), "file", or "" for
    a user's factory, which may have loaded some.
    """

    model: nn.Module
    weights: str = ""
    preprocess: Preprocess | None = None


def load_model(name: str, weights: str | Path | None = None) -> Loaded:
    """Build a model and give it its weights: a file's, or with "DEFAULT" the library's own.

    Raises ConfigError for an unknown name, weights that do not fit or cannot be fetched.
    """
    source, _, rest = name.partition(":")
    if not rest:
        raise ConfigError(f"{name!r} names no model",
                          fix="write torchvision:resnet18, timm:NAME or module:factory")
    builders = {"torchvision": _torchvision, "timm": _timm}
    if str(weights) == DEFAULT:
        if source not in builders:
            raise ConfigError(f"{name} has no default weights",
                              why="only torchvision: and timm: models come with their own",
                              fix="pass --weights FILE, or load them in the factory")
        loaded = builders[source](rest, True)
    else:
        known = builders.get(source)
        loaded = known(rest, False) if known else Loaded(_factory(source, rest))
    if weights is not None and str(weights) != DEFAULT:
        _load_weights(loaded.model, Path(weights))
        loaded = Loaded(loaded.model, "file")
    loaded.model.eval()
    return loaded


def _torchvision(name: str, pretrained: bool) -> Loaded:
    models = _module("torchvision.models", "vision")
    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(f"torchvision has no model {name!r}", fix=did_you_mean(name, known))
    if pretrained:
        default = models.get_model_weights(name).DEFAULT
        model = _fetched(f"torchvision:{name}", default.url,
                         lambda: models.get_model(name, weights=default))
        return Loaded(model, "pretrained", default.transforms())
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return Loaded(models.get_model(name, weights=None, **options), RANDOM)


def _timm(name: str, pretrained: bool) -> Loaded:
    timm = _module("timm", "timm")
    known = timm.list_models()
    if name not in known:
        raise ConfigError(f"timm has no model {name!r}", fix=did_you_mean(name, known))
    if not pretrained:
        return Loaded(timm.create_model(name, pretrained=False), RANDOM)
    if not timm.is_model_pretrained(name):
        raise ConfigError(f"timm has no weights for {name}",
                          fix="pass --weights FILE, or choose one of `timm.list_pretrained()`")
    model = _fetched(f"timm:{name}", "", lambda: timm.create_model(name, pretrained=True))
    settings = timm.data.resolve_model_data_config(model)
    return Loaded(model, "pretrained", timm.data.create_transform(**settings, is_training=False))


def _fetched(name: str, url: str, build: Callable[[], nn.Module]) -> nn.Module:
    """A pretrained model, from the library's cache or the network; a failure is a ConfigError.

    Libraries raise whatever their HTTP client does: OSError, RuntimeError for a wrong digest, …
    """
    try:
        return build()
    except Exception as error:
        where = f" from {url}" if url else ""
        raise ConfigError(f"the default weights of {name} cannot be fetched{where}",
                          why=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                          if str(error) else type(error).__name__,
                          fix="fetch them where there is a network, and pass --weights FILE"
                          ) from error


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
    """Load a file whose names and shapes are exactly the model's."""
    state, own = _read_state(path), model.state_dict()
    shapes = [f"{k} is {_shape(state[k])}, the model's {_shape(own[k])}" for k in own
              if k in state and _shape(state[k]) != _shape(own[k])]
    problems = [("missing", [k for k in own if k not in state]),
                ("not of the model", [k for k in state if k not in own]),
                ("of another shape", shapes)]
    lines = [f"{len(found)} {what}: {_some(found)}" for what, found in problems if found]
    if lines:
        raise ConfigError(f"{path.name} does not belong to this model", why="\n".join(lines),
                          fix=_hint(state, own))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{path.name} does not fit the model",
                          why="\n".join(str(error).splitlines()[:6])) from error


def _shape(value: Any) -> str:
    return "x".join(map(str, value.shape)) or "a scalar" if isinstance(value, Tensor) else (
        type(value).__name__)


def _some(names: list[str]) -> str:
    return ", ".join(str(n)[:80] for n in names[:3]) + (", …" if len(names) > 3 else "")


def _hint(state: Mapping[str, Any], own: Iterable[str]) -> str:
    """What a checkpoint with other names usually is."""
    inner = [k for k, v in state.items() if isinstance(v, Mapping)]
    prefixes = {str(k).split(".")[0] + "." for k in state}
    if inner:
        return f"save what it holds under {inner[0]!r} as a file of its own"
    if len(prefixes) == 1 and {str(k).removeprefix(min(prefixes)) for k in state} == set(own):
        return f"remove {min(prefixes)!r} from the names: a wrapper put it there"
    return "pass the file that this architecture, with this number of classes, was saved to"


def _read_state(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no such weights file: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # only for such files

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
