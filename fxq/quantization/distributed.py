"""Calibration on several workers: everyone's statistics, merged exactly, for everyone."""

from __future__ import annotations

import torch
import torch.distributed as dist

from fxq.errors import CalibrationError
from fxq.quantization.statistics import Statistics
from fxq.quantization.statistics_file import from_bytes, to_bytes


def merge_across_workers(own: Statistics) -> Statistics:
    """The merged statistics of all workers of torch.distributed, the same bits on each.

    Works over gloo (on the CPU) and nccl (on each worker's current GPU). Raises CalibrationError
    when no process group was set up.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise CalibrationError("distributed=True, but there is no process group",
                               fix='call torch.distributed.init_process_group("gloo") first, and '
                                   "start the workers with torchrun")
    merged = Statistics()
    for part in _gather(to_bytes(own.values, own.repairs)):
        merged = merged.merge(Statistics(*from_bytes(part)))
    return merged


def _gather(content: bytes) -> list[bytes]:
    """Everyone's bytes, in the order of the ranks; shorter ones are padded on the way."""
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    mine = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([mine.numel()], device=device))
    longest = max(int(size) for size in sizes)
    padded = torch.cat([mine, mine.new_zeros(longest - mine.numel())])
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return [bytes(part[: int(size)].cpu().numpy().tobytes())
            for part, size in zip(parts, sizes, strict=True)]
