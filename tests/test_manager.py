"""The manager: wrong passes are caught at every stage, and nothing of it is lost."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import fx, nn

import fxq
from fxq.compiler.manager import check_order
from fxq.compiler.pipeline import FINISH, PREPARE
from fxq.ir import integers
from fxq.ir.facts import info, qparams
from fxq.ir.ops import OPS, op_name
from fxq.ir.rewriter import PassResult, Rewriter
from fxq.ir.stages import Effect, Stage
from fxq.kernels import calls
from fxq.passes.base import Pass
from tests.helpers import MINMAX, finished, prepared, statistics_of, upto
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)


def wrong_pass(stage, mutate, effect=Effect.EXACT):
    @dataclass(frozen=True)
    class Wrong(Pass):
        name: ClassVar[str] = "wrong"
        before: ClassVar[Stage] = stage
        after: ClassVar[Stage] = stage

        def run(self, module: fx.GraphModule, context) -> PassResult:
            mutate(Rewriter(module))
            return PassResult()

    Wrong.effect = effect
    return Wrong()


def node(rewriter, name):
    return next(n for n in rewriter.graph.nodes
                if op_name(n) == name or calls.kernel_name(n.target) == name
                or n.target is name)


def skip_activation(rewriter):
    """Forget a ReLU."""
    old = next(n for n in rewriter.graph.nodes if op_name(n) in ("clamp", "conv2d_clamp"))
    if op_name(old) == "clamp":
        rewriter.bypass(old)
    else:
        kept = {k: v for k, v in old.kwargs.items() if k not in ("min", "max")}
        new = rewriter.call(OPS["conv2d"], old.args, kept, like=old)
        rewriter.replace(old, new, "")


def swap_formats(rewriter):
    """Read integers with another scale than they were made with."""
    node(rewriter, integers.dequantize).update_kwarg("scale", 0.5)


def other_output_scale(rewriter):
    """Give a kernel another output zero point."""
    kernel = node(rewriter, "conv2d_relu")
    kernel.args = (*kernel.args[:3], kernel.args[3] + 9)


PLACES = [("normalize", Stage.NORMAL, skip_activation), ("fuse-activation", Stage.FUSED,
          skip_activation), ("insert-observers", Stage.OBSERVED, skip_activation)]


@pytest.mark.parametrize("after, stage, mutate", PLACES)
def test_wrong_float_pass_is_caught(after, stage, mutate):
    """A pass that drops an activation is not bit-equal."""
    passes = PREPARE[: [p.name for p in PREPARE].index(after) + 1]
    with pytest.raises(fxq.VerificationError, match="pass wrong: output 0 is not bit-equal"):
        prepared(lively(Classifier()), X, passes=(*passes, wrong_pass(stage, mutate)))


def run_after(name, item):
    module, manager = prepared(lively(Classifier()), X, passes=PREPARE, scheme=MINMAX)
    from dataclasses import replace

    manager.context = replace(manager.context, statistics=statistics_of(module))
    manager.run(module, FINISH[: [p.name for p in FINISH].index(name) + 1])
    manager.run(module, (item,))


def test_wrong_reference_pass_is_caught():
    """Formats that do not meet break the rules of REFERENCE."""
    with pytest.raises(fxq.VerificationError, match="illegal node in a REFERENCE graph"):
        run_after("convert", wrong_pass(Stage.REFERENCE, swap_formats))


def test_wrong_lowered_pass_is_caught():
    """A kernel that is off by more than a step is named."""
    with pytest.raises(fxq.VerificationError, match="changed the integers of .* by 9 steps"):
        run_after("lower", wrong_pass(Stage.LOWERED, other_output_scale, Effect.STEPWISE))


def test_reassociating_pass_may_round_but_no_more():
    """The bound is that of float rounding."""
    def scale(factor):
        def mutate(rewriter):
            weight = node(rewriter, "conv2d").args[1]
            rewriter.module.get_buffer(weight.target).mul_(factor)
        return mutate

    passes = PREPARE[:1]
    rounding = wrong_pass(Stage.NORMAL, scale(1 + 2**-22), Effect.REASSOCIATING)
    prepared(lively(Classifier()), X, passes=(*passes, rounding))
    larger = wrong_pass(Stage.NORMAL, scale(1.01), Effect.REASSOCIATING)
    with pytest.raises(fxq.VerificationError, match="more than float rounding"):
        prepared(lively(Classifier()), X, passes=(*passes, larger))


def test_a_network_that_amplifies_rounding_sets_its_own_bound():
    """Where float32 itself is far from float64, folding may move outputs as far."""
    net = lively(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)))
    with torch.no_grad():  # a difference of large numbers: most digits are lost
        net[1].bias.fill_(3e6)
        net[2].weight[:, ::2] = -net[2].weight[:, 1::2]
        net[2].bias.zero_()
    module, record = upto("fold-batch-norm", net, X)
    assert record.rewrites and module is not None


def test_crashing_pass_leaves_its_graphs(tmp_path, monkeypatch):
    """The folder has the graph before, after, the error and the environment."""
    monkeypatch.setenv("FXQ_DUMP", str(tmp_path))

    def crash(rewriter):
        raise KeyError("lost")

    with pytest.raises(fxq.VerificationError, match="pass wrong failed: KeyError"):
        prepared(lively(Classifier()), X, passes=(*PREPARE[:1], wrong_pass(Stage.NORMAL, crash)))
    folder = next(tmp_path.glob("fxq-wrong-*"))
    assert {p.name for p in folder.iterdir()} == {
        "before.txt", "after.txt", "error.txt", "environment.txt", "case.json", "README.txt",
        "statistics.safetensors"}


@pytest.fixture
def wrong_fold(tmp_path, monkeypatch):
    """fold-batch-norm with a factor that is 1 % off; the folder that it leaves, and the error."""
    from fxq.passes import fold_batch_norm

    real = fold_batch_norm.scale_and_shift
    monkeypatch.setenv("FXQ_DUMP", str(tmp_path))
    monkeypatch.setattr(fold_batch_norm, "scale_and_shift", lambda norm: (
        real(norm)[0] * 1.01, real(norm)[1]))
    with pytest.raises(fxq.VerificationError) as caught:
        prepared(lively(Classifier()), X, passes=PREPARE)
    return next(tmp_path.glob("fxq-fold-batch-norm-*")), caught.value


def test_the_first_changed_operator_is_named(wrong_fold):
    """A pass that changes values names the first one, with the user's line."""
    _, error = wrong_fold
    assert "the first value that differs is stem.0" in str(error)
    assert "self.stem" in str(error) or "nets.py" in str(error)


def test_reproducer_fails_again(wrong_fold):
    """Without the real weights, on drawn ones, the same pass fails the same way."""
    from fxq.reproduce import run

    folder, _ = wrong_fold
    assert "fails again" in run(folder) and not (folder / "weights.safetensors").exists()


def test_reproducer_of_a_right_pass_says_so(wrong_fold, monkeypatch):
    """The twin: once the pass is mended, the folder runs clean."""
    from fxq.reproduce import run

    folder, _ = wrong_fold
    monkeypatch.undo()
    assert "is right on drawn weights" in run(folder)


def test_dumps_are_numbered_and_only_on_change(tmp_path, monkeypatch):
    """FXQ_DUMP has one file for each pass that changed the graph."""
    monkeypatch.setenv("FXQ_DUMP", str(tmp_path))
    finished("lower", lively(Classifier()), X)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names[0] == "000-normalize.txt"
    assert "001-fold-pad.txt" not in names
    assert names[-1].endswith("-lower.txt")


def test_ill_ordered_pipelines_are_refused():
    """Passes must meet at the same stage."""
    with pytest.raises(fxq.ConfigError, match="recognize-moves takes a NORMAL graph"):
        check_order(Stage.FLOAT, (PREPARE[1],))


@pytest.mark.parametrize("position", range(len(PREPARE) + len(FINISH)))
def test_every_pass_is_idempotent(position):
    """Running a pass twice changes nothing the second time."""
    from fxq.ir.printer import format_graph

    item = (*PREPARE, *FINISH)[position]
    net = lively(Classifier())
    if item in PREPARE:
        module, manager = prepared(net, X, passes=PREPARE[: position + 1])
    else:
        module, _ = finished(item.name, net, X)
        manager = prepared(net, X)[1]
    before = format_graph(module)
    result = item.run(module, manager.context)
    assert format_graph(module) == before
    assert result.rewrites == ()


def test_new_nodes_keep_their_origin():
    """Every operator of the LOWERED graph knows its shape and the user's line."""
    module, _ = finished("lower", lively(Classifier()), X)
    kernels_ = [n for n in module.graph.nodes if qparams(n) is not None]
    assert len(kernels_) > 5
    for n in kernels_:
        assert info(n).shape is not None
        assert info(n).source or n.all_input_nodes[0].op == "placeholder"
