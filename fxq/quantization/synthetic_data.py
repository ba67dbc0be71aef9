"""Calibration batches for a user who gave no data: noise shaped by the model's batch norms.

The idea is that of data-free quantization (ZeroQ, Cai et al. 2020, arXiv 2001.00281): start
from noise and follow the gradient until the inputs of the batch norms have the mean and
variance that the norms remember from training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCHES, BATCH, STEPS, RATE = 2, 8, 12, 0.1


def synthetic_batches(model: nn.Module, examples: Sequence[Tensor],
                      seed: int) -> list[list[Tensor]]:
    """Flat inputs like `examples`: noise, matched to batch-norm statistics where there are any."""
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
             and m.running_mean is not None]
    result = []
    for _ in range(BATCHES):
        batch = [_noise(x, generator) for x in examples]
        matchable = norms and len(batch) == 1 and batch[0].is_floating_point()
        result.append([_match(model, norms, batch[0])] if matchable else batch)
    return result


def _noise(example: Tensor, generator: torch.Generator) -> Tensor:
    shape = (BATCH, *example.shape[1:]) if example.dim() > 1 else example.shape
    if not example.is_floating_point():
        return example[torch.arange(BATCH) % len(example)] if example.dim() > 1 else example
    return torch.randn(shape, generator=generator).to(example.dtype)


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
