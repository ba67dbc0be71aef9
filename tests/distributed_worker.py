"""One worker of the distributed tests: calibrates or trains on its part of the batches."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import fxq
from tests.nets import Classifier, lively, ramp


def batches(count=8):
    return [ramp(4, 3, 16, 16, high=1.0 + i) for i in range(count)]


def net():
    torch.manual_seed(0)
    return lively(Classifier())


def calibrate(rank, world, folder):
    prepared = fxq.prepare(net(), example_inputs=(batches()[0],))
    mine = batches()[rank::world][::-1]
    statistics = fxq.calibrate(prepared, mine, distributed=True)
    statistics.save(folder / f"{world}-{rank}.stats")


def train(rank, world, folder):
    qat = fxq.prepare_qat(net(), example_inputs=(batches()[0][:1],))
    parallel = DistributedDataParallel(qat)
    optimizer = torch.optim.SGD(parallel.parameters(), 1e-2)
    for batch in batches()[rank::world]:
        optimizer.zero_grad()
        parallel(batch).square().mean().backward()
        optimizer.step()
    parity = fxq.check_parity(qat, batches()[0])
    torch.save({"weight": qat.model.head.weight.detach(), "steps": parity.worst_step},
               folder / f"{world}-{rank}.pt")


if __name__ == "__main__":
    what, rank, world, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{what}-{world}", rank=rank,
                            world_size=world)
    {"calibrate": calibrate, "train": train}[what](rank, world, folder)
    dist.destroy_process_group()
