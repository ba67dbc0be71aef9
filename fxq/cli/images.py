"""Batches of images from a folder, prepared the way ImageNet classifiers expect them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fxq.errors import ConfigError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
Item = TypeVar("Item")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


Preprocess = Callable[[Any], Tensor]  # a PIL image as the model's own input


@dataclass(frozen=True)
class ImageBatches:
    """Float batches [n,3,size,size], normalized by ImageNet's mean and deviation.

    With `labels`, one class index per file, a batch is (images, labels). `preprocess` replaces
    the scaling, cropping and normalization, for weights that came with their own.
    """

    files: tuple[Path, ...]
    size: int
    batch_size: int
    labels: tuple[int, ...] = ()
    preprocess: Preprocess | None = None

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for start in range(0, len(self.files), self.batch_size):
            part = slice(start, start + self.batch_size)
            images = torch.stack([read_image(path, self.size, self.preprocess)
                                  for path in self.files[part]])
            yield (images, torch.tensor(self.labels[part])) if self.labels else images


def image_files(folder: Path) -> list[Path]:
    """All images of a folder, sorted; raises ConfigError when there are none."""
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}", fix="pass --data DIR with images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"{folder} holds no images",
                          why=f"looked for {', '.join(sorted(SUFFIXES))}, also in subfolders")
    return files


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, in their order and at equal distances."""
    count = min(limit, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def image_batches(folder: Path, size: int, limit: int, batch_size: int) -> ImageBatches:
    """Up to `limit` images of a folder, taken evenly from its sorted files, without labels.

    Raises ConfigError when there is no folder or no image in it.
    """
    return ImageBatches(tuple(evenly(image_files(folder), limit)), size, batch_size)


def read_image(path: Path, size: int, preprocess: Preprocess | None = None) -> Tensor:
    """One image as a normalized float tensor [3,size,size]: short side scaled, centre cropped."""
    try:
        from PIL import Image  # of the extra `vision`
    except ImportError as error:
        raise ConfigError("reading images needs Pillow", fix="pip install fxq[vision]") from error
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise ConfigError(f"cannot read the image {path.name}: {error}") from error
    except Exception as error:  # a picture that is made to fill memory
        error.add_note(f"in the image {path.name}")
        raise
    if preprocess is not None:
        return preprocess(image)
    if min(image.size) != size and not size <= min(image.size) <= size * 8 // 7:
        factor = (size * 8 // 7) / min(image.size)  # 256 for 224, as torchvision's presets have it
        image = image.resize((round(image.width * factor), round(image.height * factor)),
                             Image.Resampling.BILINEAR)
    return normalized(center_crop(np.asarray(image), size))


Pixels = npt.NDArray[np.uint8]


def center_crop(pixels: Pixels, size: int) -> Pixels:
    """The middle of an image [height,width,3], with the rounding of torchvision's CenterCrop."""
    top, left = (round((extent - size) / 2) for extent in pixels.shape[:2])
    return pixels[top:top + size, left:left + size]


def normalized(pixels: Pixels) -> Tensor:
    """uint8 [height,width,3] as float [3,height,width], by ImageNet's mean and deviation."""
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    values = (pixels.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(values.transpose(2, 0, 1).copy())
