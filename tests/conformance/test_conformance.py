"""Every operator on every integer target against the numpy oracle, and the shapes of real life."""

import threading

import pytest
import torch

from fxq.ir.facts import KERNEL
from fxq.kernels import calls
from tests.conformance import run
from tests.conformance.cases import CASES
from tests.conformance.plain import named
from tests.conformance.run import TARGETS, checked, compiled_for


@pytest.fixture(scope="module", autouse=True)
def _remember_weights():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "prepack", run.remember)
        yield
    run.PACKED.clear()


@pytest.fixture(scope="module", params=[(c, t) for c in CASES for t in TARGETS],
                ids=lambda pair: f"{pair[0].name}-{pair[1]}")
def pair(request):
    """(case, target, compiled, inputs): one compilation for all claims."""
    return *request.param, *compiled_for(*request.param)


def test_within_one_step_of_the_oracle(pair):
    """Each kernel gives the oracle's integers within one step, or is left in float by its row."""
    case, target, compiled, inputs = pair
    seen = checked(compiled, *inputs)
    names = {n.target.__name__ if n.target.__name__ == "look_up" else "" for n in
             compiled.graph_module.graph.nodes if hasattr(n.target, "__name__")}
    if target in case.absent:
        assert compiled.report.left_in_float or case.kernel not in seen
        return
    found = {*seen, *compiled_kernels(compiled), *names}
    wanted = {case.kernel, case.kernel.removesuffix("_relu")} if target != "native" else (
        named(case.kernel))
    assert wanted & found, sorted(found)
    assert max(worst for _, _, worst in seen.values()) <= 1, seen


def compiled_kernels(compiled):
    return {KERNEL.of(n) or "" for n in compiled.graph_module.graph.nodes}


def test_layouts_and_batches(pair):
    """Strided and channels_last inputs give the same bits; other batches, and none, run."""
    _, _, compiled, inputs = pair
    expected = compiled(*inputs)
    for change in (strided, channels_last):
        assert torch.equal(compiled(*map(change, inputs)), expected)
    many = compiled(*(torch.cat([x, x, x]) for x in inputs))
    assert torch.equal(many[: len(expected)], expected)
    assert compiled(*(x[:0] for x in inputs)).shape == (0, *expected.shape[1:])


def strided(x):
    """The same values, with gaps in memory."""
    wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1])
    wide[..., ::2] = x
    return wide[..., ::2]


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


@pytest.mark.parametrize("target", TARGETS)
def test_eight_threads_at_once(target):
    """T62: first calls from eight threads give the bits of one."""
    case = next(c for c in CASES if c.name == "mul of one per channel")
    compiled, inputs = compiled_for(case, target)
    expected, results = compiled_for(case, target)[0](*inputs), []
    threads = [threading.Thread(target=lambda: results.append(compiled(*inputs)))
               for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(results) == 8
    assert all(torch.equal(r, expected) for r in results)


def test_the_oracle_sees_a_wrong_kernel(monkeypatch):
    """Sums that are two steps off somewhere are seen: the check can fail."""
    case = next(c for c in CASES if c.name == "add")
    compiled, inputs = compiled_for(case, "fbgemm")
    node = next(n for n in compiled.graph_module.graph.nodes if "add" in str(n.target))
    assert checked(compiled, *inputs)["add"][2] <= 1
    right = run.real_result
    monkeypatch.setattr(run, "real_result", lambda name, *a: (
        right(name, *a) + 2 * node.args[2] if name == "add" else None))
    assert checked(compiled, *inputs)["add"][2] > 1
