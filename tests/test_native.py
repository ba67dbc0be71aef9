"""The targets of plain integers: what they say of themselves, their bits, and their files."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

import fxq
from fxq.artifact.compact import compact, expand
from fxq.ir import arithmetic
from fxq.ir.facts import KERNEL
from fxq.ir.printer import format_graph
from fxq.targets import TARGETS
from tests.helpers import compiled, finished, without_scales
from tests.nets import Classifier, Fn, SqueezeExcite, lively, ramp
from tests.test_hostile_files import loads, resealed

X = ramp(2, 3, 16, 16)
PLAIN = ("native", "reference")


def names(model):
    return [KERNEL.of(n) for n in model.graph_module.graph.nodes if KERNEL.of(n)]


@pytest.mark.parametrize("target", PLAIN)
def test_golden_classifier(golden, target):
    """One call of the arithmetic for each layer, with all of its numbers; nothing in float."""
    module, _ = finished("lower", lively(Classifier()), X, target=target)
    golden.check(without_scales(format_graph(module)))


@pytest.mark.parametrize("net", [Classifier, SqueezeExcite])
def test_native_and_reference_give_the_same_bits(net):
    """One arithmetic, under two names; and it is close to float."""
    model = lively(net())
    native, reference = (compiled(model, X, target=t) for t in PLAIN)
    assert torch.equal(native(X), reference(X))
    assert fxq.sqnr(model(X), native(X)) > 22
    assert not torch.equal(compiled(model, X, target="fbgemm")(X), native(X))


def test_every_image_is_computed_alone():
    """Batches, strides and threads do not change a bit."""
    model = compiled(lively(SqueezeExcite()), X, target="native")
    alone = torch.cat([model(X[:1]), model(X[1:])])
    assert torch.equal(model(X), alone)
    assert torch.equal(model(X.contiguous(memory_format=torch.channels_last)), alone)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(model(X), alone)
    finally:
        torch.set_num_threads(before)


def test_nothing_saturates():
    """No pair of weights meets in 16 bits, so that files run on any CPU, by weights as they are."""
    assert not any(row.pairings for row in TARGETS["native"].kernels)
    model = compiled(lively(Classifier()), X, target="native")
    assert model.report.isa == "any CPU"


def test_averages_have_a_scale_of_their_own():
    """They stay on integers however narrow they are, where torch's kernels must leave them."""
    net = Fn(lambda s, x: s.b(F.adaptive_avg_pool2d(s.a(x), 1)),
             a=nn.Conv2d(3, 8, 1, bias=False), b=nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    native, fbgemm = (compiled(net, x, target=t) for t in ("native", "fbgemm"))
    assert native.report.left_in_float == () and "average" in names(native)
    assert [r.code for r in fbgemm.report.left_in_float] == ["average"]
    assert fxq.sqnr(net(x), native(x)) > 30


@pytest.mark.parametrize("target", PLAIN)
def test_logits_that_are_averages_stay_on_integers(target):
    """Their kernel gives float32, with all bits of its sums; views behind it compute nothing."""
    net = Fn(lambda s, x: torch.flatten(F.adaptive_avg_pool2d(s.conv(x), 1), 1),
             conv=nn.Conv2d(3, 8, 1)).eval()
    model = compiled(net, X, target=target)
    assert model.report.left_in_float == () and names(model)[-1] == "average_float"
    assert len(model(X).unique()) == model(X).numel()


def test_sums_join_without_writing_over_anything():
    """A value that others read later may join two convolutions."""
    def block(s, x):
        v = F.relu(s.a(x))
        return s.d((s.b(v) + v) * (s.c(v) + v))

    net = lively(Fn(block, d=nn.Conv2d(4, 4, 1), **{k: nn.Conv2d(c, 4, 1) for k, c in (
        ("a", 3), ("b", 4), ("c", 4))}))
    model = compiled(net, X, target="native")
    assert names(model).count("conv2d_add") == 2
    assert fxq.sqnr(net(X), model(X)) > 25


def test_a_clamp_moves_into_what_makes_its_value():
    """Where nothing else reads it; where something does, it is a table."""
    shared = Fn(lambda s, x: s.b((v := s.a(x)).clamp(-0.2, 0.3)) + s.c(v), a=nn.Conv2d(3, 4, 1),
                b=nn.Conv2d(4, 4, 1), c=nn.Conv2d(4, 4, 1))
    alone = Fn(lambda s, x: s.b(F.max_pool2d(s.a(x), 2).clamp(-0.2, 0.3)), a=nn.Conv2d(3, 4, 1),
               b=nn.Conv2d(4, 4, 1))
    for net, looked_up in ((shared, True), (alone, True),
                           (Fn(lambda s, x: s.a(x).clamp(-0.2, 0.3), a=nn.Conv2d(3, 4, 1)), False)):
        model = compiled(net.eval(), X, target="native")
        assert ("look_up" in names(model)) == looked_up
        assert fxq.sqnr(net(X), model(X)) > 22


def test_parts_of_a_cat_in_other_formats():
    """A sigmoid has a format of its own: its integers go through a table."""
    net = Fn(lambda s, x: s.c(torch.cat([torch.sigmoid(s.a(x)), 4 * torch.tanh(s.b(x))], 1)),
             a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), c=nn.Conv2d(8, 4, 1)).eval()
    model = compiled(net, X, target="native")
    assert model.report.left_in_float == () and fxq.sqnr(net(X), model(X)) > 25


@pytest.mark.parametrize("inputs, codes", [(80_000, ["wide-sums"]), (30_000, [])])
@pytest.mark.parametrize("target", ["native", "fbgemm"])
def test_sums_beyond_32_bits_stay_in_float(target, inputs, codes):
    """255 times the weights of a channel fills half of 32 bits at most; FBGEMM's sums wrap too."""
    x = torch.full((1, inputs), 1.0)
    net = nn.Sequential(nn.Linear(inputs, 2)).eval()
    nn.init.constant_(net[0].weight, 1e-4)
    model = compiled(net, x, target=target)
    assert [r.code for r in model.report.left_in_float] == codes
    assert fxq.sqnr(net(x), model(x)) > 30


@pytest.mark.parametrize("scheme", ["W4A8", "W4A4", "W8A6"])
def test_fewer_bits_run_on_the_kernels_of_bytes(scheme):
    """They give the bits of reference, and say that no byte is saved."""
    net = lively(Classifier())
    model = compiled(net, X, target="native", scheme=scheme)
    assert torch.equal(model(X), compiled(net, X, target="reference", scheme=scheme)(X))
    assert ("as whole bytes" in model.report.note) == (scheme != "W8A6")


@pytest.mark.parametrize("scheme", ["fp16", "W8A16", "int16_static"])
def test_native_refuses_other_schemes(scheme):
    """With a reason; reference runs them all."""
    with pytest.raises(fxq.ConfigError, match="its kernels"):
        compiled(lively(Classifier()), X, target="native", scheme=scheme)
    assert compiled(lively(Classifier()), X, target="reference", scheme=scheme).report.scheme == (
        scheme)


def test_weights_alone(tmp_path):
    """Weight-only schemes compute in float, from integers that the file holds."""
    net = lively(Classifier())
    model = compiled(net, X, target="native", scheme="int8_weight_only")
    assert fxq.sqnr(net(X), model(X)) > 30 and names(model) == []


@pytest.mark.parametrize("target", PLAIN)
def test_files_hold_the_tables(target, tmp_path, monkeypatch):
    """Another machine's functions give other bits; those of the file stay."""
    model = compiled(lively(SqueezeExcite()), X, target=target)
    model.save(tmp_path / "a.fxq")
    monkeypatch.setattr(F, "hardswish", None)
    loaded = fxq.load(tmp_path / "a.fxq", runtime="python", verify=False)
    assert torch.equal(loaded(X), model(X)) and names(loaded) == names(model)
    loaded.save(tmp_path / "b.fxq")
    assert (tmp_path / "a.fxq").read_bytes() == (tmp_path / "b.fxq").read_bytes()


@pytest.mark.parametrize("one, other", [("native", "fbgemm"), ("fbgemm", "native"),
                                        ("native", "qnnpack"), ("x86", "reference")])
@pytest.mark.parametrize("net", [Classifier, SqueezeExcite])
def test_saved_for_one_target_and_loaded_for_another(one, other, net, tmp_path):
    """What the other one has no call for computes in float."""
    model = compiled(lively(net()), X, target=one)
    model.save(tmp_path / "a.fxq")
    loaded = fxq.load(tmp_path / "a.fxq", target=other, runtime="python")
    assert fxq.sqnr(model(X), loaded(X)) > 25


def edited(edit):
    """A change of the first table of a file."""
    def change(members):
        tensors = load_tensors(members["weights.safetensors"])
        name = next(n for n in tensors if n.endswith("table"))
        tensors[name] = edit(tensors[name])
        graph = json.loads(members["graph.json"])
        rows = expand(graph)
        for row in rows:
            if row.get("tensor") == name:
                row |= {"shape": list(tensors[name].shape), "dtype": str(tensors[name].dtype)[6:]}
        members["graph.json"] = json.dumps(graph | compact(rows)).encode()
        members["weights.safetensors"] = save_tensors(tensors, {"fxq": "1"})
    return change


TABLES = {
    "too short": lambda t: t[:255].clone(), "too long": lambda t: torch.cat([t, t]),
    "of two dimensions": lambda t: t.reshape(16, 16), "of int8": lambda t: t.to(torch.int8),
    "of floats": lambda t: t.float(), "empty": lambda t: t[:0].clone(),
    "of integers that the format has not": lambda t: t.fill_(99),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_none(name, tmp_path):
    """Kernels read 256 bytes, and their readers trust the format's bounds."""
    scheme = "W8A4" if "format" in name else "int8_static"
    target = "reference" if "format" in name else "native"
    compiled(lively(SqueezeExcite()), X, target=target, scheme=scheme).save(tmp_path / "a.fxq")
    with pytest.raises(fxq.ArtifactError):
        loads(tmp_path, resealed(tmp_path / "a.fxq", edited(TABLES[name])))


def test_tables_that_are_some(tmp_path):
    """The twin: any 256 bytes are a table, whatever function they are of."""
    model = compiled(lively(SqueezeExcite()), X, target="native")
    model.save(tmp_path / "a.fxq")
    content = resealed(tmp_path / "a.fxq", edited(lambda t: t))
    assert torch.equal(loads(tmp_path, content)(X), model(X))
    (tmp_path / "b.fxq").write_bytes(resealed(tmp_path / "a.fxq", edited(lambda t: t.flip(0))))
    with pytest.raises(fxq.ArtifactError, match="steps"):
        fxq.load(tmp_path / "b.fxq", runtime="python")
    assert fxq.load(tmp_path / "b.fxq", runtime="python", verify=False)(X).isfinite().all()


def test_a_wrong_call_is_found(monkeypatch):
    """The failing twin of stepwise verification: a conv that forgets its zero point."""
    monkeypatch.setattr(arithmetic, "conv", arithmetic.conv)
    native = TARGETS["native"]
    wrong = tuple(replace(row, call=replace(row.call, implementation=lambda *a, **k: arithmetic.conv(
        *a, **(k | {"zero_in": 0})))) if row.op == "conv2d" and not row.absorbs else row
        for row in native.kernels)
    with pytest.raises(fxq.VerificationError, match="steps"):
        compiled(nn.Sequential(nn.Conv2d(3, 4, 1)), X, target=replace(native, kernels=wrong))
