"""Images and labels as tensors: the real data set where there is one, else scikit-learn's digits.

`--data DIR` names a folder; without it FXQ_DATA is looked at; without that the embedded digits are
used, so that every example runs anywhere in seconds. `describe` says which it was.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.cli.images import normalized, read_image


@dataclass(frozen=True)
class Split:
    """Images [n,channels,height,width] in float, and class numbers."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, generator: torch.Generator | None = None,
                share: tuple[int, int] = (0, 1)) -> Iterator[tuple[Tensor, Tensor]]:
        """In order, or shuffled by a generator; `share` is (this worker, number of workers)."""
        order = (torch.arange(len(self)) if generator is None
                 else torch.randperm(len(self), generator=generator))
        order = order[share[0]::share[1]]
        for part in order.split(size):
            yield self.images[part], self.labels[part]

    def head(self, count: int) -> Split:
        """The first images."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """A training and a test split, and where they are from."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    real: bool = True

    def describe(self) -> str:
        shape = "x".join(map(str, self.train.images.shape[1:]))
        return f"data: {self.name}, {len(self.train)} + {len(self.test)} images of {shape}"


def root(given: Path | None) -> Path | None:
    """The folder of data sets: as given, else FXQ_DATA, else none."""
    known = given or (Path(os.environ["FXQ_DATA"]) if os.environ.get("FXQ_DATA") else None)
    return known if known is not None and known.is_dir() else None


def digits(size: int, channels: int = 3, limit: int | None = None) -> Data:
    """1797 real handwritten digits of 8x8, enlarged; a quarter is held out."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.from_numpy(loaded.images).float()[:, None] / 8 - 1
    images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    images = images.expand(-1, channels, -1, -1).contiguous()
    labels = torch.from_numpy(loaded.target).long()
    held = torch.arange(len(labels)) % 4 == 0
    train, test = Split(images[~held], labels[~held]), Split(images[held], labels[held])
    if limit:
        train, test = train.head(limit), test.head(limit // 2)
    return Data("scikit-learn digits (embedded)", train, test, tuple("0123456789"), real=False)


def mnist(given: Path | None, limit: int | None = None) -> Data:
    """The four idx files, as they are downloaded."""
    folder = root(given)
    folder = folder / "mnist" if folder and (folder / "mnist").is_dir() else folder
    if folder is None or not list(folder.glob("train-images*")):
        return digits(28, 1, limit)
    parts = [_split(_idx(folder, f"{part}-images"), _idx(folder, f"{part}-labels"))
             for part in ("train", "t10k")]
    return Data("MNIST", *parts, tuple("0123456789"))


def _idx(folder: Path, stem: str) -> np.ndarray:
    path = next(p for p in sorted(folder.glob(f"{stem}*")))
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        content = file.read()
    rank = content[3]
    shape = [int.from_bytes(content[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    images = torch.from_numpy(pixels.astype(np.float32))[:, None] / 127.5 - 1
    return Split(images, torch.from_numpy(labels.astype(np.int64)))


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(given: Path | None, limit: int | None = None) -> Data:
    """The .npz subset (15000 train images, the whole test set), or torchvision's folder."""
    folder = root(given)
    inner = folder / "cifar10" if folder and (folder / "cifar10").is_dir() else folder
    if inner is not None and (inner / "test.npz").is_file():
        parts = []
        for name in ("train15000", "test"):
            held = np.load(inner / f"{name}.npz")
            images = torch.stack([normalized(image) for image in held["images"]])
            parts.append(Split(images, torch.from_numpy(held["labels"].astype(np.int64))))
        return Data("CIFAR-10, 15000 train images of 50000", *parts, CIFAR)
    if inner is not None and (inner / "cifar-10-batches-py").is_dir():
        from torchvision.datasets import CIFAR10

        sets = [CIFAR10(inner, train=train) for train in (True, False)]
        return Data("CIFAR-10", *(Split(torch.stack([normalized(i) for i in s.data]),
                                        torch.tensor(s.targets)) for s in sets), CIFAR)
    return digits(32, 3, limit)


def folders(given: Path | None, name: str, parts: tuple[str, str], size: int,
            limit: int | None = None) -> Data:
    """Images in one folder per class, under a folder a split (`train/ants`, `val/ants`)."""
    folder = root(given)
    inner = folder / name if folder and (folder / name).is_dir() else folder
    if inner is None or not all((inner / part).is_dir() for part in parts):
        return digits(size, 3, limit)
    classes = tuple(sorted(p.name for p in (inner / parts[0]).iterdir() if p.is_dir()))
    return Data(name, *(_folder(inner / part, classes, size) for part in parts), classes)


def _folder(folder: Path, classes: tuple[str, ...], size: int) -> Split:
    files = [(p, i) for i, name in enumerate(classes) for p in sorted((folder / name).iterdir())]
    images = torch.stack([read_image(path, size) for path, _ in files])
    return Split(images, torch.tensor([i for _, i in files]))
