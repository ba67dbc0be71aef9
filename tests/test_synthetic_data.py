"""Calibration without data: what is made up for each kind of input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxq.quantization.natural_images import BRIGHTEST, natural_images
from fxq.quantization.synthetic_data import BATCH, BATCHES, synthetic_batches
from tests.nets import lively, ramp


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def neighbours(images):
    """The correlation of pixels that lie side by side, over all images of deviation 1."""
    return float((images[..., 1:] * images[..., :-1]).mean())


def test_natural_images_are_smooth():
    """Pixels side by side are mostly on one leaf; the samples of white noise share nothing."""
    images = natural_images((4, 3, 64, 64), seeded())
    noise = torch.randn(4, 3, 64, 64, generator=seeded())
    assert neighbours(images) > 0.8
    assert abs(neighbours(noise)) < 4 / noise.numel() ** 0.5


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (2, 3, 8, 8), (2, 1, 9, 13), (2, 1, 8, 8, 8)])
def test_natural_images_are_standardised(shape):
    """Any size and number of dimensions; clipping at BRIGHTEST moves mean and deviation little."""
    images = natural_images(shape, seeded())
    assert images.shape == shape and images.abs().max() <= BRIGHTEST
    assert abs(images.mean()) < 0.05 and 0.9 < images.std() < 1.05


def test_the_seed_decides():
    """The same seed makes the same batches, another one others."""
    made = [synthetic_batches(nn.Identity(), [ramp(1, 3, 16, 16)], s)[0][0] for s in (0, 0, 1)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


@pytest.mark.parametrize("scale", [1, 255])
def test_pixels_keep_their_range(scale):
    """A positive example says that the model takes pixels from 0 to 1, or to 255."""
    example = scale * torch.rand(1, 3, 32, 32, generator=seeded())
    made = synthetic_batches(nn.Identity(), [example], 0)[0][0]
    assert made.min() >= 0 and abs(made.mean() / example.mean() - 1) < 0.05


@pytest.mark.parametrize("example", [torch.zeros(1, 3, 32, 32), ramp(1, 3, 32, 32, low=0.1) - 1])
def test_other_images_are_standardised(example):
    """Nothing is read off a constant example, nor off one with negative values."""
    made = synthetic_batches(nn.Identity(), [example], 0)[0][0]
    assert abs(made.mean()) < 0.05 and made.std() > 0.9


@pytest.mark.parametrize("shape", [(1, 2, 400), (1, 16, 32, 32), (1, 3, 4, 4), (1, 10), (7,)])
def test_what_is_no_image_is_noise(shape):
    """Audio, features, tiny maps and vectors have no edges."""
    made = synthetic_batches(nn.Identity(), [torch.zeros(shape)], 0)[0][0]
    assert made.shape == ((BATCH, *shape[1:]) if len(shape) > 1 else shape)
    assert abs(neighbours(made)) < 4 / made.numel() ** 0.5


def test_noise_is_matched_to_batch_norms():
    """A norm that remembers a mean of 1 gets inputs nearer to it than noise is; an image not."""
    model = nn.Sequential(nn.BatchNorm1d(2)).eval()
    model[0].running_mean.fill_(1.0)
    made = synthetic_batches(model, [torch.zeros(1, 2, 100)], 0)[0][0]
    plain = synthetic_batches(nn.Identity(), [torch.zeros(1, 2, 100)], 0)[0][0]
    assert abs(made.mean() - 1) < abs(plain.mean() - 1) / 2


def test_several_inputs_get_what_each_is():
    """An image beside token ids: nothing is matched, ids are the example's."""
    ids = torch.tensor([[1, 2, 3]])
    made = synthetic_batches(lively(nn.Sequential(nn.BatchNorm2d(3))), [ramp(1, 3, 16, 16), ids], 0)
    assert len(made) == BATCHES
    assert all(x.shape == (BATCH, 3, 16, 16) and torch.equal(i, ids.repeat(BATCH, 1))
               for x, i in made)
