"""The pool: same bits from every thread and for every number of threads, after forks, and quiet."""

import os
import threading
import time
import warnings

import pytest
import torch

from fxq.kernels.native.library import ISAS, isas, why_not
from tests.native.programs import program, scores

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
CALLS = 1000


@pytest.mark.parametrize("images", [1, 2, 3, 7])
@pytest.mark.parametrize("threads", [1, 2, 3, 8, 1000])
def test_threads_change_no_bit(images, threads):
    """Whole images in lanes, and images that all threads share."""
    expected = scores(program(images, isa="plain"), images)
    assert torch.equal(scores(program(images), images, threads), expected)


@pytest.mark.parametrize("name", ISAS)
def test_instruction_sets_change_no_bit(name):
    """Each that this processor has."""
    if name not in isas():
        pytest.skip("not on this processor")
    assert torch.equal(scores(program(3, isa=name), 3), scores(program(3, isa="plain"), 3))


def test_many_callers_at_once():
    """Eight threads share a program; each call has memory of its own."""
    made, wrong = program(3), []
    expected = scores(made, 3)

    def call(seed):
        for i in range(CALLS):
            if not torch.equal(scores(made, 3, 1 + (seed + i) % 4), expected):
                wrong.append((seed, i))

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_a_child_has_a_pool_of_its_own():
    """After a fork, both sides go on."""
    made = program(5)
    expected = scores(made, 5, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if not child:
        os._exit(not all(torch.equal(scores(made, 5, t), expected) for t in (1, 4, 2, 4)))
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(scores(made, 5, 4), expected)


def test_idle_threads_take_no_time():
    """Workers sleep between calls. Seven that looked for work would take all there is."""
    made = program(8)
    scores(made, 8, 8)
    time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1


def test_the_callers_rounding_is_nobody_elses():
    """Flush-to-zero, as torch sets it, changes no bit, and is still set behind the call."""
    expected = scores(program(2), 2)
    try:
        assert torch.set_flush_denormal(True)
        assert torch.equal(scores(program(2), 2), expected)
        assert torch.tensor([1e-40]) * 1.0 == 0.0
    finally:
        torch.set_flush_denormal(False)


def test_the_profile_names_each_step():
    """A kernel and two times for each; the sum over threads is the longer one."""
    made = program(4)
    x, y = torch.zeros(4, 3, 8, 8), torch.zeros(4, 10)
    profile = made.profile([x.data_ptr(), y.data_ptr()], 2)
    assert [k.split()[0] for k in made.kernels] == ["enter", "conv", "add", "average_pool", "conv"]
    assert len(profile) == 5 and all(busy > 0 and wall >= 0 for busy, wall in profile)
