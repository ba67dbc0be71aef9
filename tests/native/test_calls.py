"""Compiled models on native, called as programs call them: from threads, forks and loaders."""

import gc
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from torch import nn

import fxq
from fxq.kernels.native.library import why_not
from fxq.runtime.python import build
from tests.nets import lively, ramp

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
X = ramp(3, 3, 9, 11)


def made():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 17, 3, padding=1), nn.BatchNorm2d(17), nn.SiLU(),
                        nn.Conv2d(17, 17, 3, groups=17), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(17, 5))
    return fxq.compile(lively(net), target="native", example_inputs=(X,), calibration_data=[X],
                       verify=False)


@pytest.fixture
def model():
    return made()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def defined(model, *inputs):
    with torch.no_grad():
        return build(model.graph_module)(*inputs)[0]


def test_eight_threads_share_a_model(model, threads):
    """Batches of several sizes, and a number of threads that changes between calls."""
    inputs = [X[:1], X[:2], X, torch.cat([X, X, X])]
    expected, wrong = [defined(model, x) for x in inputs], []

    def call(seed):
        for i in range(250):
            torch.set_num_threads(1 + (seed + i) % 4)
            which = (seed * i) % len(inputs)
            if not torch.equal(model(inputs[which]), expected[which]):
                wrong.append((seed, i))

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_models_are_freed_while_others_run(model, threads):
    """A program that goes takes nothing from those that stay."""
    torch.set_num_threads(2)
    expected, done, wrong = defined(model, X), threading.Event(), []
    others = [made() for _ in range(4)]  # made first: torch.fx traces in one thread alone

    def call():
        while not done.is_set():
            wrong.extend([1] * (not torch.equal(model(X), expected)))

    caller = threading.Thread(target=call)
    caller.start()
    while others:
        others.pop()(X)
        gc.collect()
    done.set()
    caller.join()
    assert not wrong


class Images(torch.utils.data.Dataset):
    """A data set whose items a compiled model computes."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.model(X[index % 3: index % 3 + 1])[0]


def test_workers_of_a_loader(model, threads):
    """Each worker is a fork, with a pool of its own."""
    torch.set_num_threads(2)
    expected = torch.cat([defined(model, X)] * 2)
    model(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        loader = torch.utils.data.DataLoader(Images(model), batch_size=2, num_workers=2,
                                             multiprocessing_context="fork")
        assert torch.equal(torch.cat(list(loader)), expected)


def test_numbers_that_are_none_and_flushed_ones(model):
    """NaN, infinities and denormals; flush-to-zero in the process changes nothing."""
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e-40, -1e-45, 3e38, -0.0])
    x = odd.repeat(99)[:X.numel() // 3].reshape(1, 3, 9, 11)
    expected = defined(model, x)
    try:
        assert torch.set_flush_denormal(True)
        assert torch.equal(model(x), expected)
    finally:
        torch.set_flush_denormal(False)


def test_the_interpreter_ends_while_workers_sleep():
    """No hang, no message."""
    code = ("import torch\nfrom tests.native.test_calls import made, X\n"
            "torch.set_num_threads(4)\nmodel = made()\nmodel(X)\nmodel(X)\n")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True,
                          text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
