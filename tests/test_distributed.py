"""Calibration and training on several workers, in real processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fxq
from tests.distributed_worker import batches, net

ROOT = Path(__file__).parent.parent


def run_workers(what, world, folder):
    command = [sys.executable, "-W", "ignore", "-m", "tests.distributed_worker", what]
    workers = [subprocess.Popen([*command, str(rank), str(world), str(folder)], cwd=ROOT,
                                stderr=subprocess.PIPE, text=True) for rank in range(world)]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert all(worker.returncode == 0 for worker in workers), errors


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_workers_gives_the_same_bytes(world, tmp_path, one_thread):
    """Workers that see the same batches between them, in any order, agree with one process."""
    run_workers("calibrate", world, tmp_path)
    prepared = fxq.prepare(net(), example_inputs=(batches()[0],))
    fxq.calibrate(prepared, batches()).save(tmp_path / "alone")
    wanted = (tmp_path / "alone").read_bytes()
    found = [(tmp_path / f"{world}-{rank}.stats").read_bytes() for rank in range(world)]
    assert found == [wanted] * world


def test_other_batches_give_other_bytes(tmp_path, one_thread):
    """The twin: one batch less is seen."""
    for name, data in (("all", batches()), ("less", batches()[1:])):
        prepared = fxq.prepare(net(), example_inputs=(batches()[0],))
        fxq.calibrate(prepared, data).save(tmp_path / name)
    assert (tmp_path / "all").read_bytes() != (tmp_path / "less").read_bytes()


def test_training_under_distributed_data_parallel(tmp_path):
    """Two workers end with the same weights, and each converts what it trained."""
    run_workers("train", 2, tmp_path)
    first, second = (torch.load(tmp_path / f"2-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first["weight"], second["weight"])
    assert first["steps"] <= 1 and second["steps"] <= 1


def test_distributed_without_workers_is_an_error():
    """distributed=True outside of a process group says what to do."""
    prepared = fxq.prepare(net(), example_inputs=(batches()[0],))
    with pytest.raises(fxq.CalibrationError, match="no process group"):
        fxq.calibrate(prepared, batches(), distributed=True)
