"""Learned rounding: what it wins, what it may not change, and how it is kept and resumed."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import fxq
from fxq.errors import ArtifactError, CalibrationError, ConfigError
from fxq.ir.facts import info
from fxq.quantization.schemes import get_scheme
from fxq.reconstruction.activations import Store
from fxq.reconstruction.blocks import LAYERS, cut
from fxq.reconstruction.rounding import learn_rounding
from fxq.reconstruction.run import reconstruct
from fxq.reconstruction.simulation import simulate
from fxq.reconstruction.work import Learning, Work
from tests.nets import Fn, Residual, lively

LEARNED = replace(get_scheme("W4A8"), reconstruction=("rounding",))
SHORT = Learning(iterations=60)


def data(count=4, channels=8):
    """Images whose channels have much in common: rounding errors of weights may cancel."""
    random = torch.Generator().manual_seed(1)
    return [torch.randn(4, 1, 8, 8, generator=random)
            + 0.3 * torch.randn(4, channels, 8, 8, generator=random) for _ in range(count)]


def net(seed=0):
    """A residual block between two layers."""
    torch.manual_seed(seed)
    return lively(nn.Sequential(nn.Conv2d(8, 8, 1), Residual(8), nn.Flatten(), nn.Linear(512, 4)))


def calibrated(model, scheme=LEARNED, batches=None):
    prepared = fxq.prepare(model, target="reference", scheme=scheme,
                           example_inputs=(data()[0][:1],), verify=False)
    seen = fxq.calibrate(prepared, batches or data())
    return prepared, replace(prepared.context, statistics=seen)


def learned(model, learning=SHORT, scheme=LEARNED, batches=None):
    prepared, context = calibrated(model, scheme)
    flat = [[x] for x in (batches or data())]
    return reconstruct(prepared.graph_module, context, flat, learning)


def same(a, b):
    """Both decide the same integers and the same biases."""
    return {*a.weights} == {*b.weights} and all(torch.equal(a.weights[k].values, b.weights[k].values) and
               torch.equal(a.biases[k], b.biases[k]) for k in a.weights) and bool(a.weights)


def graph_of(model):
    prepared, context = calibrated(model)
    return simulate(prepared.graph_module, context)


def test_a_residual_block_is_not_cut():
    """Between two cuts a single value is read later: the shortcut keeps its layers together."""
    blocks = cut(graph_of(net()).module)
    assert [len(b.layers) for b in blocks] == [1, 2, 1]
    assert all(len(b.inputs) == len(b.outputs) == 1 for b in blocks)


def test_a_long_block_is_cut_at_each_layer():
    """Where no single value is left over many layers, each of them is a block of its own."""
    layers = {f"c{i}": nn.Conv2d(8, 8, 1) for i in range(LAYERS + 1)}

    def dense(self, x):
        y = x
        for name in layers:
            y = torch.relu(getattr(self, name)(y))
        return x + y

    assert len(cut(graph_of(Fn(dense, **layers).eval()).module)) == LAYERS + 1


def first_block(model, learning=SHORT):
    """The work on the first layer; its inputs are the images themselves."""
    simulation = graph_of(model)
    block, start = cut(simulation.module)[0], next(iter(simulation.module.graph.nodes))
    inputs = [{start: x} for x in data()]
    targets = [simulation.exact(block, values) for values in inputs]
    return Work(block, simulation, inputs, inputs, targets, learning=learning)


@pytest.mark.parametrize("seed", range(4))
def test_learned_rounding_beats_nearest(seed):
    """On the data that it learns from, a block's error is smaller."""
    with torch.no_grad():
        work = first_block(net(seed))
        nearest = work.error()
        learn_rounding(work)
    assert work.error() < nearest


def test_what_is_no_better_than_nearest_is_dropped():
    """The failing twin: without a step of learning, nothing is decided."""
    with torch.no_grad():
        work = first_block(net(), replace(SHORT, iterations=0))
        nearest = work.error()
        learn_rounding(work)
    assert work.error() == nearest and not work.simulation.decided.weights


def test_integers_are_neighbours():
    """A weight goes to one of the two integers around it, within what its format holds."""
    simulation, given = graph_of(net()), learned(net())
    for node in simulation.weights:
        mine = given.weights.get(info(node).value, simulation.weights[node])
        shape = (-1, *[1] * (mine.values.dim() - 1))
        steps = simulation.float_weight(node) / mine.scales.reshape(shape)
        below = steps.floor().clamp(-8, 7)
        assert ((mine.values == below) | (mine.values == (below + 1).clamp(max=7))).all()


def test_the_same_seed_gives_the_same_integers():
    """Learning is deterministic, and leaves the user's random state alone; another seed differs."""
    torch.manual_seed(5)
    first = learned(net())
    state = torch.get_rng_state()
    assert same(first, learned(net()))
    torch.manual_seed(5)
    net()
    assert not same(first, learned(net(), replace(SHORT, seed=1)))
    assert state.shape == torch.get_rng_state().shape


def interrupted_after(count):
    def progress(done, of):
        if done == count:
            raise KeyboardInterrupt
    return progress


def test_resumed_work_equals_work_in_one_go(tmp_path):
    """Blocks that were finished are read back, and the rest is learned as it would have been."""
    with pytest.raises(KeyboardInterrupt):
        learned(net(), replace(SHORT, checkpoints=tmp_path, progress=interrupted_after(2)))
    assert len(list(tmp_path.iterdir())) == 2
    assert same(learned(net()), learned(net(), replace(SHORT, checkpoints=tmp_path)))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("change", [
    {"model": 1}, {"seed": 1}, {"iterations": 3}, {"batches": 3}])
def test_checkpoints_of_other_work_are_refused(tmp_path, change):
    """Another model, seed, length or batch: nothing of the old files is taken."""
    kept = replace(SHORT, checkpoints=tmp_path, iterations=2)
    learned(net(), kept)
    new = replace(kept, **{k: v for k, v in change.items() if k in ("seed", "iterations")})
    with pytest.raises(ArtifactError, match="other work"):
        learned(net(change.get("model", 0)), new, batches=data(change.get("batches", 4)))


def test_a_damaged_checkpoint_is_named(tmp_path):
    """A file that is no safetensors file is an error with its path, not a traceback."""
    (tmp_path / "block0000.safetensors").write_bytes(b"PWNED")
    with pytest.raises(ArtifactError, match="block0000.* is damaged"):
        learned(net(), replace(SHORT, checkpoints=tmp_path))


@pytest.mark.parametrize("part, forge", [
    ("values", lambda t: t.fill_(127)), ("values", lambda t: t.short()),
    ("scales", lambda t: t * torch.nan), ("scales", lambda t: t[:1]), ("bias", lambda t: t[:1])])
def test_a_forged_checkpoint_is_refused(tmp_path, part, forge):
    """Numbers that the layer's format cannot have are none of fxq's; untouched files are read."""
    kept = replace(SHORT, checkpoints=tmp_path)
    first, path = learned(net(), kept), tmp_path / "block0000.safetensors"
    assert same(first, learned(net(), kept))
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    name = next(k for k in tensors if k.startswith(part))
    save_file(tensors | {name: forge(tensors[name]).contiguous()}, path, about)
    with pytest.raises(ArtifactError, match="damaged"):
        learned(net(), kept)


def test_values_beyond_the_limit_go_to_disk():
    """The second tensor is a file of a private folder, which is gone afterwards, errors or not."""
    kept = [torch.randn(10), torch.randn(10)]
    with pytest.raises(RuntimeError), Store(limit=40) as store:
        mine = [store.keep(x) for x in kept]
        assert store.spilled == store.held == 40
        assert all(torch.equal(a, b) for a, b in zip(mine, kept, strict=True))
        store.drop(mine[1])
        assert store.spilled == 0
        folder = store.folder
        assert folder.stat().st_mode & 0o77 == 0
        raise RuntimeError
    assert not folder.exists()


def test_a_small_memory_changes_no_integer():
    """Values from disk are the same values."""
    assert same(learned(net()), learned(net(), replace(SHORT, memory=0)))


def test_compile_learns_from_its_calibration_batches():
    """compile keeps them; the compiled integers are those that were learned."""
    compiled = fxq.compile(net(), target="reference", scheme=LEARNED, calibration_data=data(),
                           example_inputs=(data()[0][:1],), learning=SHORT, verify=False)
    prepared, context = calibrated(net())
    plain = replace(context, given=learned(net()), scheme=replace(LEARNED, reconstruction=()))
    prepared.context = plain
    x = data()[0]
    assert torch.equal(compiled(x), fxq.convert(prepared, statistics=context.statistics)(x))


def test_convert_takes_batches_beside_statistics():
    """Statistics from a file do not hold images: they are passed again."""
    prepared, context = calibrated(net())
    prepared.batches.clear()
    with pytest.raises(CalibrationError, match="no batches to learn from"):
        fxq.convert(prepared, statistics=context.statistics)
    fxq.convert(prepared, statistics=context.statistics, batches=data(), learning=SHORT)


def test_compile_without_data_is_refused():
    """Neither made-up batches nor statistics alone are learned from."""
    with pytest.raises(CalibrationError, match="no batches to learn from"):
        fxq.compile(net(), target="reference", scheme=LEARNED, example_inputs=(data()[0][:1],))


def test_a_step_that_does_not_exist_is_refused():
    """The error names the step and those that there are."""
    with pytest.raises(ConfigError, match="'magic'"):
        learned(net(), scheme=replace(LEARNED, reconstruction=("magic",)))
