"""Calibration batches for a user who gave no data, the same ones for the same seed.

| input | prior |
|---|---|
| images | like photographs: `natural_images.py` |
| other floats | noise; for a model with batch norms, matched to their statistics |
| integers | the examples, repeated: they cannot be invented |

The matching is that of ZeroQ (Cai et al. 2020, arXiv 2001.00281): follow the gradient until the
inputs of the batch norms have the mean and variance that the norms remember from training. Images
do without: on real ones, agreement with float is the same or better, at a hundredth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxq.quantization.natural_images import natural_images

BATCHES, BATCH, STEPS, RATE = 2, 8, 12, 0.1
SMALLEST_IMAGE = 8  # pixels on a side
CHANNELS = 4  # at most, of an image: more are features


def synthetic_batches(model: nn.Module, examples: Sequence[Tensor],
                      seed: int) -> list[list[Tensor]]:
    """Flat inputs like `examples`, of which only shapes, types, and the range of images count."""
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
             and m.running_mean is not None]
    matchable = norms and len(examples) == 1 and examples[0].is_floating_point() and (
        not _is_image(examples[0]))
    result = []
    for _ in range(BATCHES):
        batch = [_invented(x, generator) for x in examples]
        result.append([_match(model, norms, batch[0])] if matchable else batch)
    return result


def _is_image(x: Tensor) -> bool:
    """[N, C, H, W] or a volume [N, C, D, H, W], of so few channels that they are colours."""
    return x.is_floating_point() and x.dim() in (4, 5) and 0 < x.shape[1] <= CHANNELS and (
        min(x.shape[-2:]) >= SMALLEST_IMAGE)


def _invented(example: Tensor, generator: torch.Generator) -> Tensor:
    shape = (BATCH, *example.shape[1:]) if example.dim() > 1 else example.shape
    if not example.is_floating_point():
        return example[torch.arange(BATCH) % len(example)] if example.dim() > 1 else example
    if _is_image(example):
        return _in_range_of(natural_images(shape, generator), example)
    return torch.randn(shape, generator=generator).to(example.dtype)


def _in_range_of(images: Tensor, example: Tensor) -> Tensor:
    """Standardised images, as most models take; a positive example says that this one does not.

    Its mean and deviation are then those of pixels from 0 to 1, or from 0 to 255.
    """
    deviation, mean = torch.std_mean(example.float())
    if example.min() >= 0 and deviation > 0:
        images = (images * deviation + mean).clamp(min=0)
    return images.to(example.dtype)


def _match(model: nn.Module, norms: Sequence[nn.Module], batch: Tensor) -> Tensor:
    """Follow the gradient of the mismatch between seen and remembered statistics."""
    seen: list[Tensor] = []
    hooks = [n.register_forward_pre_hook(lambda m, a: seen.append(_mismatch(m, a[0])))
             for n in norms]
    try:
        with torch.enable_grad():
            image = batch.clone().requires_grad_()
            optimizer = torch.optim.Adam([image], lr=RATE)
            for _ in range(STEPS):
                seen.clear()
                optimizer.zero_grad()
                model(image + 0)  # a model may write into its input, which a leaf forbids
                torch.stack(seen).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    finally:
        for hook in hooks:
            hook.remove()
    return image.detach()


def _mismatch(norm: nn.Module, value: Tensor) -> Tensor:
    dims = [d for d in range(value.dim()) if d != 1]
    variance, mean = torch.var_mean(value, dims, correction=0)
    remembered_mean, remembered = norm.running_mean, norm.running_var
    assert isinstance(remembered_mean, Tensor) and isinstance(remembered, Tensor)
    spread = remembered + 1e-5
    return ((mean - remembered_mean) ** 2 / spread).mean() + ((
        variance + 1e-5).log() - spread.log()).square().mean()
