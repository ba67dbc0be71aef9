"""Batches of images from a folder, prepared the way ImageNet classifiers expect them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fxq.errors import ConfigError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageBatches:
    """Float batches [n,3,size,size], normalized by ImageNet's mean and deviation."""

    files: tuple[Path, ...]
    size: int
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.files), self.batch_size):
            part = self.files[start:start + self.batch_size]
            yield torch.stack([read_image(path, self.size) for path in part])


def image_batches(folder: Path, size: int, limit: int, batch_size: int) -> ImageBatches:
    """Up to `limit` images of a folder, taken evenly from its sorted files.

    Raises ConfigError when there is no folder or no image in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}", fix="pass --data DIR with images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"{folder} holds no images",
                          why=f"looked for {', '.join(sorted(SUFFIXES))}, also in subfolders")
    step = max(1, len(files) // limit)
    return ImageBatches(tuple(files[::step][:limit]), size, batch_size)


def read_image(path: Path, size: int) -> Tensor:
    """One image as a normalized float tensor [3,size,size]: short side scaled, centre cropped."""
    try:
        from PIL import Image
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
