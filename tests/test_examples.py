"""Every example runs, on the embedded digits, and leaves what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import python_command

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ("--images", "8", "--size", "48")
ARGUMENTS = {
    "alexnet": SMALL, "vgg16": ("--images", "8", "--size", "32"), "resnet18": SMALL,
    "resnet50": SMALL, "mobilenet_v2": SMALL, "mobilenet_v3_small": SMALL,
    "squeezenet1_1": SMALL,
    "simple_cnn_mnist": ("--epochs", "1", "--limit", "300"),
    "cnn_cifar10": ("--epochs", "1", "--limit", "100"),
    "cnn_cifar10_stages": ("--epochs", "1", "--limit", "100"),
    "resnet18_cifar10": ("--epochs", "1", "--limit", "20", "--quantize"),
    "resnet50_vgg16_imagenet": ("--arch", "squeezenet1_1", "--images", "2", "--size", "64"),
    "resnet18_hymenoptera": ("--limit", "32", "--size", "32", "--epochs", "1"),
    "cats_dogs": ("--limit", "32", "--size", "32", "--epochs", "1", "--arch",
                  "mobilenet_v3_small", "--targets", "x86", "cuda_fp16", "--schemes",
                  "int8_static", "fp16"),
    "custom_pass": (), "custom_target": (), "custom_model": (),
}
SLOW = {"vgg16", "alexnet", "resnet50", "resnet18", "mobilenet_v2", "mobilenet_v3_small",
        "cnn_cifar10", "resnet18_cifar10"}  # minutes on two cores; the others are like them


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k != "FXQ_DATA"}
    return {**kept, "PYTHONPATH": str(EXAMPLES), **more}


def run(name, out, *more, code=0):
    script = str(EXAMPLES / f"{name}.py")
    target = () if name.startswith("custom") else ("--out", str(out))
    done = python_command(script, *ARGUMENTS[name], *target, *more, environment=environment())
    assert done.returncode == code, done.stderr[-2000:]
    return done


@pytest.mark.parametrize("name", [
    pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in ARGUMENTS])
def test_runs_on_digits(name, tmp_path):
    """In seconds, and says which data it used."""
    done = run(name, tmp_path)
    if name.startswith("custom"):
        assert "SQNR" in done.stdout
        return
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"]
    assert "digits" in done.stdout
    assert (tmp_path / "metrics.csv").read_text().count("\n") == len(metrics["rows"]) + 1


def test_every_script_is_tested():
    """No example is left out, and none is long."""
    scripts = {p.stem for p in EXAMPLES.glob("*.py")}
    assert scripts == set(ARGUMENTS)
    assert all(len((EXAMPLES / f"{n}.py").read_text().splitlines()) <= 40
               for n in ("alexnet", "vgg16", "resnet18", "squeezenet1_1"))


@pytest.mark.slow
def test_an_interrupted_training_goes_on(tmp_path):
    """The second run starts from the checkpoint of the first."""
    assert "epoch 1/1" in run("resnet18_cifar10", tmp_path).stdout
    again = run("resnet18_cifar10", tmp_path, "--epochs", "2").stdout
    assert "epoch 1/" not in again
    assert "epoch 2/2" in again


@pytest.mark.slow
def test_unknown_folders_fall_back_to_digits_and_say_so(tmp_path):
    """A folder without the data set is no crash."""
    done = run("simple_cnn_mnist", tmp_path, "--data", str(tmp_path))
    assert "embedded" in done.stdout


@pytest.mark.slow
def test_two_workers_calibrate_like_one(tmp_path):
    """From one checkpoint, torchrun's workers get the ranges of a single process, bit for bit."""
    script = str(EXAMPLES / "resnet18_cifar10.py")
    arguments = [*ARGUMENTS["resnet18_cifar10"], "--limit", "80"]
    for workers, out in ((2, tmp_path / "two"), (1, tmp_path / "one")):
        if workers == 1:
            (tmp_path / "one").mkdir()
            (tmp_path / "one" / "checkpoint.pt").write_bytes(
                (tmp_path / "two" / "checkpoint.pt").read_bytes())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   "--nproc-per-node", str(workers), script, *arguments, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env=environment(OMP_NUM_THREADS="1"))
        assert done.returncode == 0, done.stderr[-2000:]
    ranges = [(tmp_path / n / "ranges.json").read_text() for n in ("one", "two")]
    assert ranges[0] == ranges[1]
