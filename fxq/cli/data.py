"""Where a command's data comes from: a folder of images, or `module:loader`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from fxq.cli.images import image_batches, read_image
from fxq.cli.models import load_object
from fxq.errors import ConfigError


def read_data(text: str, size: int, limit: int, batch_size: int) -> Iterable[Any]:
    """Batches of a folder, with class numbers where its images lie in one folder a class.

    `module:loader` names a function without arguments that returns batches, or an iterable.
    """
    if ":" in text and not Path(text).exists():
        made = load_object(text)
        found = made() if callable(made) else made
        if not isinstance(found, Iterable):
            raise ConfigError(f"{text} gives {type(found).__name__}, no batches")
        return found
    folder = Path(text)
    images = image_batches(folder, size, limit, batch_size)
    classes = sorted({p.relative_to(folder).parts[0] for p in images.files
                      if len(p.relative_to(folder).parts) > 1})
    if len(classes) < 2:
        return images
    return _Labelled(images.files, folder, classes, size, batch_size)


class _Labelled:
    """(images, class numbers) from a folder a class, numbered in the order of their names."""

    def __init__(self, files: tuple[Path, ...], folder: Path, classes: list[str], size: int,
                 batch_size: int) -> None:
        self.files, self.folder, self.size, self.batch_size = files, folder, size, batch_size
        self.numbers = {name: i for i, name in enumerate(classes)}

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Any:
        import torch

        for start in range(0, len(self.files), self.batch_size):
            part = self.files[start:start + self.batch_size]
            labels = [self.numbers[p.relative_to(self.folder).parts[0]] for p in part]
            yield torch.stack([read_image(p, self.size) for p in part]), torch.tensor(labels)


def inputs_of(batches: Iterable[Any]) -> Tensor:
    """The first input of the first batch."""
    first = next(iter(batches), None)
    if first is None:
        raise ConfigError("the data has no batches")
    found = first[0] if isinstance(first, tuple | list) else first
    if not isinstance(found, Tensor):
        raise ConfigError("the first batch does not begin with a tensor")
    return found
