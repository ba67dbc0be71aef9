"""Where a command's data comes from: a folder of images, or `module:loader`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxq.cli.images import ImageBatches, Preprocess, evenly, image_files
from fxq.cli.labels import NO_LABELS, Labelled, check_classes, labelled
from fxq.cli.models import load_object
from fxq.errors import ConfigError
from fxq.frontend.nests import flatten


@dataclass(frozen=True)
class DataOptions:
    """What a command's options say about its data."""

    data: str | None = None
    images: int = 256
    batch_size: int = 16
    labels: str | None = None
    class_map: Path | None = None


def read_data(options: DataOptions, size: int,
              preprocess: Preprocess | None = None) -> Iterable[Any] | None:
    """Batches of a folder, with class indices where something says what they are (`cli_labels`).

    `module:loader` names a function without arguments that returns batches, or an iterable.
    """
    text = options.data
    if text is None or (":" in text and not Path(text).exists()):
        if options.class_map is not None or options.labels not in (None, NO_LABELS):
            raise ConfigError("--labels and --class-map are for images in a folder",
                              fix="pass --data DIR; a loader returns (input, label) pairs")
        return _loaded(text) if text else None
    folder = Path(text)
    data = labelled(folder, image_files(folder), options.labels, options.class_map)
    chosen = evenly(range(len(data.files)), options.images)
    return FolderBatches(
        tuple(data.files[i] for i in chosen), size, options.batch_size,
        tuple(data.labels[i] for i in chosen) if data.labels else (), preprocess, data)


@dataclass(frozen=True)
class FolderBatches(ImageBatches):
    """The images of a folder that were chosen, and all of which they were chosen from."""

    of: Labelled = field(default_factory=lambda: Labelled(()))

    def without_labels(self) -> FolderBatches:
        return replace(self, labels=(), of=replace(self.of, labels=(), folders=0))


def _loaded(text: str) -> Iterable[Any]:
    made = load_object(text)
    found = made() if callable(made) else made
    if not isinstance(found, Iterable):
        raise ConfigError(f"{text} gives {type(found).__name__}, no batches")
    return found


def inputs_of(batches: Iterable[Any]) -> Tensor:
    """The first input of the first batch."""
    first = next(iter(batches), None)
    if first is None:
        raise ConfigError("the data has no batches")
    found = first[0] if isinstance(first, tuple | list) else first
    if not isinstance(found, Tensor):
        raise ConfigError("the first batch does not begin with a tensor")
    return found


def refuse_other_classes(model: Any, batches: Iterable[Any] | None) -> None:
    """Raise ConfigError when the labels of a folder cannot be the outputs of the model."""
    if not isinstance(batches, FolderBatches) or not batches.labels:
        return
    with torch.no_grad():
        flat, _ = flatten(model(inputs_of(batches)[:1]))
    found = [v for v in flat if isinstance(v, Tensor) and v.is_floating_point()]
    if found and found[0].dim() == 2:  # what compare takes accuracies of
        check_classes(batches.of, found[0].shape[1])
