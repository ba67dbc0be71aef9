"""Targets as users meet them: by name, by `auto`, from other packages; and traps of engines."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fxq
from fxq.targets import TARGETS, get_target
from tests.command import python_command
from tests.helpers import MINMAX
from tests.nets import Classifier, Fn, SqueezeExcite, lively, ramp

ROOT = Path(__file__).parents[1]
X = ramp(2, 3, 16, 16)
INTEGER = ("fbgemm", "x86", "qnnpack")


def compiled(net, x=X, target="fbgemm", **options):
    return fxq.compile(net, target=target, scheme=options.pop("scheme", MINMAX),
                       example_inputs=(x,), calibration_data=[x], **options)


@pytest.mark.parametrize("target", INTEGER)
@pytest.mark.parametrize("net", [Classifier, SqueezeExcite])
def test_each_target_is_close_to_float(target, net):
    """One model, one calibration, three engines."""
    model = lively(net())
    assert fxq.sqnr(model(X), compiled(model, target=target)(X)) > 22


@pytest.mark.parametrize("target", INTEGER)
def test_same_bits_under_every_engine(target):
    """The process-wide engine changes nothing, and is left as it was."""
    model, results = compiled(lively(Classifier()), target=target), []
    before = torch.backends.quantized.engine
    try:
        for engine in ("fbgemm", "x86", "onednn", "qnnpack"):
            torch.backends.quantized.engine = engine
            results.append(model(X))
            assert torch.backends.quantized.engine == engine
    finally:
        torch.backends.quantized.engine = before
    assert all(torch.equal(r, results[0]) for r in results)


@pytest.mark.parametrize("target", INTEGER)
def test_same_bits_with_other_thread_counts(target):
    """T69: one thread or two, the integers are the same."""
    model, before = compiled(lively(Classifier()), target=target), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = model(X)
        torch.set_num_threads(2)
        assert torch.equal(one, model(X))
    finally:
        torch.set_num_threads(before)


def test_auto_takes_the_best_and_says_which():
    """`auto` resolves to a target of this machine that runs the scheme."""
    model = compiled(lively(Classifier()), target="auto")
    assert model.report.target in ("native", *INTEGER)
    half = fxq.compile(lively(Classifier()), target="auto", scheme="fp16", example_inputs=(X,))
    assert half.report.target == ("cuda_fp16" if torch.cuda.is_available() else "reference")


@pytest.mark.parametrize("target", INTEGER)
def test_saved_for_one_engine_and_loaded_for_another(target, tmp_path):
    """A file is repacked for whatever engine a machine has."""
    model = compiled(lively(Classifier()))
    model.save(tmp_path / "model.fxq")
    loaded = fxq.load(tmp_path / "model.fxq", target=target)
    assert loaded.report.target == target
    assert fxq.sqnr(model(X), loaded(X)) > 25


def test_qnnpack_has_a_scale_for_each_channel_and_integer_biases():
    """T56: torch's default of one scale per tensor costs accuracy on depthwise nets."""
    text = compiled(lively(Classifier()), target="qnnpack").graph_text("REFERENCE")
    assert "c1=f32[8]" in text
    assert "b=s32" in text or "i32[8]" in text or "s32[8]" in text, text


def test_qnnpack_biases_that_overflow_coarsen_their_channel():
    """T57: a bias beyond 32 bits of s_x·s_w; its weights are zero, so that nothing is lost."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with torch.no_grad():
        net[0].weight[0] = 0.0
        net[0].bias[0] = 50.0
    model = compiled(net, target="qnnpack")
    assert (net(X) - model(X)).abs().max() < 0.5
    record = next(p for p in model.report.passes if p.name == "quantize-bias")
    assert any("coarser" in r.what for r in record.rewrites)


@settings(max_examples=25, deadline=None)
@given(st.integers(-12, 20))
def test_qnnpack_requantization_scales(power):
    """T55: from tiny to huge ratios of scales, verification finds no operator off by two steps."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        net[0].weight.mul_(2.0**power)
    model = compiled(net, target="qnnpack", runtime="python")
    assert fxq.sqnr(net(X), model(X)) > 30


@pytest.mark.parametrize("target", INTEGER)
def test_impossible_geometry_is_an_error(target):
    """T64: a stride of zero ends in an error with the line, never in a crash."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net[0].stride = (0, 0)
    with pytest.raises(fxq.FxqError, match="stride"):
        compiled(net.eval(), target=target)


@pytest.mark.parametrize("target", INTEGER)
def test_thin_images_with_wide_depthwise_kernels(target):
    """T63: 1x72x7x1 through a 5x5 depthwise kernel with stride 2."""
    x = ramp(1, 72, 7, 1)
    net = nn.Sequential(nn.Conv2d(72, 72, 5, 2, 2, groups=72)).eval()
    assert fxq.sqnr(net(x), compiled(net, x, target=target)(x)) > 30


@pytest.mark.parametrize("target", ["fbgemm", "x86"])
def test_squeeze_and_excite_has_no_float_island(target):
    """T68: between the entry and the result of a gated block, everything is on integers."""
    model = compiled(lively(Fn(lambda s, x: s.last(s.block(x)), block=SqueezeExcite(),
                               last=nn.Conv2d(8, 4, 1))), target=target)
    assert model.report.left_in_float == ()
    assert model.graph_text().count("dequantize") == 1


@pytest.mark.parametrize("target", INTEGER)
def test_a_clamp_behind_images_in_channels_last(target):
    """QNNPACK's own clamp reads wrong data there; the row says so, and the numbers are right."""
    net = Fn(lambda s, x: s.b(F.hardtanh(F.max_pool2d(s.a(x), 2), -0.2, 0.3)),
             a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1)).eval()
    x = X.contiguous(memory_format=torch.channels_last)
    assert fxq.sqnr(net(x), compiled(net, x, target=target)(x)) > 22


PLUGIN = '''
from dataclasses import replace
from fxq.targets.fbgemm import FBGEMM
from fxq.targets import Kernel
from fxq.targets.base import rank

TOY = replace(FBGEMM, name="toy", summary="only 1x1 images", kernels=(
    Kernel("conv2d", "conv2d", limits=(rank(4),)), Kernel("relu", "relu")), unsupported={
    "linear": "toys have no linear layers"})
'''


def test_a_target_from_another_package(tmp_path):
    """docs/targets.md word for word: a table in a package of its own, found by its entry point."""
    (tmp_path / "toy_target.py").write_text(PLUGIN)
    info = tmp_path / "toy_target-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-target\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fxq.targets]\ntoy = toy_target:TOY\n")
    program = ("import torch, fxq; from torch import nn; x = torch.randn(1, 3, 8, 8);"
               "net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2)).eval();"
               "c = fxq.compile(net, target='toy', example_inputs=(x,), calibration_data=[x]);"
               "print([(r.op, r.reason) for r in c.report.left_in_float])")
    done = python_command("-c", program, cwd=tmp_path, environment={"PATH": ""})
    assert "('linear', 'toys have no linear layers')" in done.stdout


def test_the_operator_table_in_the_docs_is_the_code(golden):
    """docs/operators.md is written by `make golden` from the tables of the targets."""
    from fxq.analysis.support import operator_page

    page = ROOT / "docs" / "operators.md"
    if golden.update:
        page.write_text(operator_page())
    assert page.read_text() == operator_page(), "run `make golden`"


def test_every_reason_is_a_sentence():
    """Limits and refusals are read by users."""
    for target in TARGETS.values():
        texts = [*target.unsupported.values(), *(
            limit.reason for row in target.kernels for limit in row.limits)]
        assert all(len(text.split()) > 2 for text in texts), target.name


def test_unknown_target_names_the_legal_ones():
    """With a did-you-mean, and `auto` among them."""
    with pytest.raises(fxq.ConfigError, match="qnnpack"):
        get_target("qnnpak")


def test_a_literal_of_ones_own_can_be_saved(tmp_path):
    """It is registered nowhere, and files, like profiles, do not need it to be."""
    from dataclasses import replace

    own = replace(get_target("fbgemm"), name="my-own")
    model = compiled(lively(Classifier()), target=own)
    model.save(tmp_path / "own.fxq")
    assert torch.equal(fxq.load(tmp_path / "own.fxq", target=own)(X), model(X))
    assert model.profile(X, rounds=5, budget=0.1).total_us > 0


@pytest.mark.parametrize("cuda, missing", [("13.2", "no GPU"), (None, "torch without CUDA")])
def test_a_target_says_what_this_machine_lacks(monkeypatch, cuda, missing):
    """`fxq targets` does not call a GPU's target available where there is none."""
    from fxq.cli.compile import target_table

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    row = next(line for line in target_table().splitlines() if line.startswith("cuda_fp16"))
    assert f"no: {missing}" in row
    assert not get_target("cuda_fp16").is_available() and get_target("reference").is_available()


def test_an_engine_that_torch_lacks(monkeypatch):
    """By name."""
    from dataclasses import replace

    assert replace(get_target("fbgemm"), engine="neon").why_not_here() == "torch without neon"
