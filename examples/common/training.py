"""One training loop: cosine schedule, AMP, early stopping, checkpoints, one or many workers."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from common.data import Data, Split


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; `patience` epochs without a better loss end it (0: never)."""

    epochs: int
    rate: float = 0.05
    momentum: float = 0.9
    decay: float = 5e-4
    batch: int = 128
    optimizer: str = "sgd"
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    amp: bool = False
    patience: int = 0
    seed: int = 0
    teacher: nn.Module | None = None  # its outputs are what is learned, where there is one


def flip_and_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images mirrored, and all moved by up to four pixels."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    x, y = (int(v) for v in torch.randint(0, 9, (2,), generator=generator))
    height, width = images.shape[2:]
    return F.pad(images, (4, 4, 4, 4))[:, :, y:y + height, x:x + width]


def train(model: nn.Module, data: Data, recipe: Recipe, device: str = "cpu",
          checkpoint: Path | None = None, say: Callable[[str], None] = print) -> nn.Module:
    """Train in place. Under torchrun every worker takes its share of each epoch.

    With `checkpoint`, an interrupted run goes on where it was. With `patience`, a tenth of the
    training images is held out to see when to stop, and the best weights are kept.
    """
    torch.manual_seed(recipe.seed)
    worker, workers = worker_of()
    model = model.to(device).train()
    net: nn.Module = (nn.parallel.DistributedDataParallel(model) if workers > 1 else model)
    optimizer = _optimizer(net, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    learned, held = _held_out(data.train, recipe)
    state = _Progress(model, optimizer, schedule, checkpoint)
    for epoch in range(state.epoch, recipe.epochs):
        loss = _epoch(net, learned, recipe, optimizer, epoch, device, (worker, workers))
        schedule.step()
        watched = mean_loss(model, held, device) if held else loss
        if worker == 0:
            say(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.3f}, watched {watched:.3f}")
        if state.keep(epoch + 1, watched, worker == 0) >= recipe.patience > 0:
            break
    if recipe.patience and state.best is not None:
        model.load_state_dict(state.best)
    if workers > 1:  # each worker's batch norms have seen their own images: the first one's count
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
    return model.eval()


def worker_of() -> tuple[int, int]:
    """(this worker, number of workers); torchrun's variables start the process group."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    wanted = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(wanted, recipe.rate, weight_decay=recipe.decay)
    return torch.optim.SGD(wanted, recipe.rate, recipe.momentum, weight_decay=recipe.decay)


def _held_out(split: Split, recipe: Recipe) -> tuple[Split, Split | None]:
    if not recipe.patience:
        return split, None
    held = torch.arange(len(split)) % 10 == 9
    return (Split(split.images[~held], split.labels[~held]),
            Split(split.images[held], split.labels[held]))


def _epoch(model: nn.Module, split: Split, recipe: Recipe, optimizer: torch.optim.Optimizer,
           epoch: int, device: str, share: tuple[int, int]) -> float:
    generator = torch.Generator().manual_seed(1000 * recipe.seed + epoch)  # workers shuffle alike
    changes = torch.Generator().manual_seed(10**6 * share[0] + epoch) if share[0] else generator
    total = count = 0.0
    for images, labels in split.batches(max(1, recipe.batch // share[1]), generator, share):
        if len(images) < 2:
            continue
        images = recipe.augment(images, changes) if recipe.augment else images
        images, labels = images.to(device), labels.to(device)
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=recipe.amp):
            outputs = model(images)
        loss = _loss(outputs.float(), labels, images, recipe.teacher)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total, count = total + float(loss.detach()) * len(labels), count + len(labels)
    return total / max(count, 1)


def _loss(outputs: Tensor, labels: Tensor, images: Tensor, teacher: nn.Module | None) -> Tensor:
    if teacher is None:
        return F.cross_entropy(outputs, labels)
    with torch.no_grad():
        wanted = teacher(images).log_softmax(1)
    return F.kl_div(outputs.log_softmax(1), wanted, log_target=True, reduction="batchmean")


@torch.no_grad()
def mean_loss(model: nn.Module, split: Split, device: str) -> float:
    """Cross-entropy over a split, in eval mode."""
    was = model.training
    model.eval()
    losses = [float(F.cross_entropy(model(x.to(device)), y.to(device), reduction="sum"))
              for x, y in split.batches(256)]
    model.train(was)
    return sum(losses) / len(split)


class _Progress:
    """Where a run is, on disk after every epoch; and its best weights."""

    def __init__(self, model: nn.Module, optimizer: Any, schedule: Any,
                 path: Path | None) -> None:
        self.model, self.optimizer, self.schedule, self.path = model, optimizer, schedule, path
        self.epoch, self.lowest, self.waited = 0, float("inf"), 0
        self.best: dict[str, Tensor] | None = None
        if path is not None and path.is_file():
            self._resume(torch.load(path, weights_only=True))

    def _resume(self, kept: dict[str, Any]) -> None:
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.schedule.load_state_dict(kept["schedule"])
        self.epoch, self.lowest, self.waited = kept["epoch"], kept["lowest"], kept["waited"]
        self.best = kept["best"]

    def keep(self, epoch: int, watched: float, write: bool) -> int:
        """Epochs since the best one."""
        self.epoch, self.waited = epoch, self.waited + 1
        if watched < self.lowest:
            self.lowest, self.waited = watched, 0
            self.best = copy.deepcopy(self.model.state_dict())
        if self.path is not None and write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            torch.save({"model": self.model.state_dict(), "best": self.best, "epoch": epoch,
                        "optimizer": self.optimizer.state_dict(), "lowest": self.lowest,
                        "schedule": self.schedule.state_dict(), "waited": self.waited}, part)
            part.replace(self.path)
        return self.waited
