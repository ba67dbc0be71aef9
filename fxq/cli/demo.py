"""The demo: a small CNN, trained on scikit-learn's real digit images, float against int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fxq
from fxq.ir.sizes import model_bytes
from fxq.system.timing import race
from fxq.system.torch_state import isolated

Split = tuple[Tensor, Tensor, Tensor, Tensor]


def digits(seed: int = 0) -> Split:
    """Real handwritten digits as float images [n,1,16,16]: (train x, y, held-out x, y)."""
    from sklearn.datasets import load_digits  # heavy

    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32) / 16 - 0.5).unsqueeze(1)
    images = F.interpolate(images, size=16, mode="bilinear")
    labels = torch.from_numpy(data.target)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    held_out, train = order[: len(order) // 4], order[len(order) // 4:]
    return images[train], labels[train], images[held_out], labels[held_out]


class DigitNet(nn.Sequential):
    """Three convolutions with batch norm and ReLU, a pool between, one linear layer."""

    def __init__(self) -> None:
        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs), nn.ReLU()]

        super().__init__(*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 64),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int,
          progress: Callable[[str], None]) -> None:
    """AdamW with a one-cycle schedule."""
    optimizer = torch.optim.AdamW(model.parameters())
    steps = -(-len(labels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs * steps)
    for epoch in range(epochs):
        loss = torch.zeros(())
        order: Any = torch.randperm(len(labels))
        for part in order.split(64):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[part]), labels[part])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        progress(f"epoch {epoch + 1}/{epochs}  loss {loss.item():.4f}")


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Per cent of images whose highest output is the label."""
    with torch.no_grad():
        hits: Tensor = model(images).argmax(1) == labels
        return 100 * hits.float().mean().item()


def run_demo(epochs: int = 14, progress: Callable[[str], None] = lambda text: None) -> str:
    """Train, compile, compare; returns the text to show."""
    with isolated(), torch.enable_grad():
        torch.manual_seed(0)
        train_x, train_y, test_x, test_y = digits()
        model = DigitNet()
        train(model, train_x, train_y, epochs, progress)
    model.eval()
    compiled = fxq.compile(model, target="fbgemm", scheme="int8_static",
                           example_inputs=(test_x[:1],),
                           calibration_data=DataLoader(TensorDataset(train_x, train_y), 64))
    return f"{_comparison(model, compiled, test_x, test_y)}\n\n{compiled.report}"


def _comparison(model: nn.Module, compiled: fxq.CompiledModel, images: Tensor,
                labels: Tensor) -> str:
    one = images[:1]
    with torch.no_grad():
        seconds = race([lambda: model(one), lambda: compiled(one)], rounds=101)
    rows = [("accuracy %", *(f"{accuracy(m, images, labels):.2f}" for m in (model, compiled))),
            ("size kB", f"{model_bytes(model) / 1e3:.1f}", f"{compiled.size_bytes / 1e3:.1f}"),
            ("latency µs", *(f"{s * 1e6:.0f}" for s in seconds))]
    title = f"{len(labels)} held-out digits, batch 1 latency on {torch.get_num_threads()} threads"
    table = tabulate(rows, headers=("", "float", "int8"), tablefmt="simple",
                     disable_numparse=True, colalign=("left", "right", "right"))
    return f"{title}\n{table}"
