"""Images like photographs, without photographs: dead leaves and a 1/f texture.

Convolutional nets answer to edges, blobs and texture at every scale, which white noise has not:
on it, the deep layers of a net without batch norms make a fifth of their real range. Opaque discs
that cover each other ("dead leaves": Lee, Mumford and Huang 2001, doi 10.1023/A:1011109015675),
with radii that are uniform in their logarithm, have the edges and occlusions of photographs; the
texture has their 1/f spectrum (Field 1987, doi 10.1364/JOSAA.4.002379). Baradad et al. 2021
(arXiv 2106.05963) train features on such images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEAVES = 60  # in an image
SMALLEST = 2.0  # radius of a leaf, in pixels; the largest is half the image
COLOUR = 0.4  # how far channels differ, beside the brightness that they share
TEXTURE = 0.3  # deviation of the texture on all leaves, beside that of the leaves
BRIGHTEST = 2.5  # deviations: a photograph has a black and a white
Array = npt.NDArray[np.float32]


def natural_images(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Float32 images [N, C, H, W] (or of more dimensions), each of mean 0 and deviation 1."""
    count, channels, *size = shape
    leaves = torch.from_numpy(np.stack([
        _dead_leaves(channels, size, generator) for _ in range(count)]))
    images = leaves + TEXTURE * _texture(shape, generator)
    return _standard(images).clamp(-BRIGHTEST, BRIGHTEST)


def _dead_leaves(channels: int, size: Sequence[int], generator: torch.Generator) -> Array:
    """One image of opaque discs, the last on top; the first covers everything."""
    centres = torch.rand(LEAVES, len(size), generator=generator).numpy() * size
    largest = max(max(size) / 2, SMALLEST)
    radii = SMALLEST * (largest / SMALLEST) ** torch.rand(LEAVES, generator=generator).numpy()
    colours = (torch.randn(LEAVES, 1, generator=generator)
               + COLOUR * torch.randn(LEAVES, channels, generator=generator)).numpy()
    image = np.empty((channels, *size), np.float32)
    image[:] = colours[0].reshape(-1, *(1 for _ in size))
    for centre, radius, colour in zip(centres[1:], radii[1:], colours[1:], strict=True):
        box = tuple(slice(max(0, int(c - radius)), int(c + radius) + 1) for c in centre)
        axes = np.ogrid[tuple(slice(s.start, min(s.stop, n))
                              for s, n in zip(box, size, strict=True))]
        distance = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        image[(slice(None), *box)][:, distance < radius**2] = colour[:, None]
    return image


def _texture(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise whose amplitude falls as 1 / frequency."""
    size = list(shape[2:])
    axes = list(range(2, len(shape)))
    ends = [torch.fft.fftfreq(n) for n in size[:-1]] + [torch.fft.rfftfreq(size[-1])]
    frequency = torch.stack(torch.meshgrid(*ends, indexing="ij")).square().sum(0).sqrt()
    frequency.clamp_(min=1 / max(size))
    shared = torch.randn(shape[0], 1, *size, generator=generator)
    noise = shared + COLOUR * torch.randn(*shape, generator=generator)
    return _standard(torch.fft.irfftn(torch.fft.rfftn(noise, dim=axes) / frequency, s=size,
                                      dim=axes))


def _standard(images: Tensor) -> Tensor:
    """Each image with mean 0 and deviation 1."""
    flat = images.flatten(1)
    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp(min=1e-6)
    return flat.reshape(images.shape)
