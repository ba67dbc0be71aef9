"""Which files give the right numbers on x86 CPUs without VNNI, and that verify --isa sees it."""

import pytest
import torch
from torch import nn

import fxq
from fxq.analysis.saturation import ANY, ANY_X86, VNNI_ONLY, Proof
from fxq.cli.isa import compare_isas
from fxq.system.machine import has_vnni
from tests.helpers import MINMAX
from tests.nets import ramp

X = ramp(2, 8, 12, 12, low=0.0, high=1.0)


def net(fill=1.0):
    """Neighbouring weights of one sign: 127 + 127 is beyond what 16 bits hold."""
    layers = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()
    for layer in (layers[0], layers[2]):
        nn.init.constant_(layer.weight, fill)
    return layers


def compiled(target="fbgemm", isa=None, model=None):
    return fxq.compile(model or net(), target=target, scheme=MINMAX, isa=isa, example_inputs=(X,),
                       calibration_data=[X], runtime="python")


@pytest.mark.parametrize("target, isa, expected", [
    ("fbgemm", None, VNNI_ONLY), ("x86", None, VNNI_ONLY), ("fbgemm", "any", ANY_X86),
    ("x86", "any", ANY_X86), ("qnnpack", None, ANY), ("qnnpack", "any", ANY)])
def test_stamp(target, isa, expected):
    """T53, T54: the stamp says which CPUs are safe; QNNPACK never saturates."""
    if not has_vnni() and isa is None:
        expected = ANY_X86 if expected == VNNI_ONLY else expected
    assert compiled(target, isa).report.isa == expected


def test_safe_weights_are_proved_safe():
    """Neighbours of opposite sign cancel: 8 bits stay, and any x86 CPU will do."""
    model = net()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[:, ::2] *= -1
    assert compiled(model=model).report.isa == ANY_X86
    plain, safe = compiled(model=model), compiled(model=model, isa="any")
    assert plain.graph_text("REFERENCE") == safe.graph_text("REFERENCE")


def test_only_unsafe_channels_lose_bits():
    """One channel has an unsafe pair; the integers of the others stay."""
    model = net()
    with torch.no_grad():
        model[0].weight[1:, ::2] *= -1
    record = next(p for p in compiled(model=model, isa="any").report.passes
                  if p.name == "pair-safe-weights")
    assert "1 of 16 channels" in record.rewrites[0].what


@pytest.mark.parametrize("target", ["fbgemm", "x86"])
def test_older_kernels_give_the_same_integers(target, tmp_path):
    """O4: a file for any x86 CPU is right under the AVX2 kernels of both libraries."""
    compiled(target, "any").save(tmp_path / "any.fxq")
    lines = compare_isas(tmp_path / "any.fxq", ANY_X86)
    assert len(lines) == 2
    assert all("equal" in line or "nothing saturates" in line for line in lines)


@pytest.mark.skipif(not fxq.system.machine.has_vnni(), reason="this CPU saturates anyway")
def test_older_kernels_are_seen_to_saturate(tmp_path):
    """The twin: full-range weights are off by many steps there, and verification says so."""
    compiled("fbgemm").save(tmp_path / "vnni.fxq")
    with pytest.raises(fxq.VerificationError, match="AVX2 in FBGEMM"):
        compare_isas(tmp_path / "vnni.fxq", VNNI_ONLY)


def test_a_cpu_without_vnni_refuses_the_file(tmp_path, monkeypatch):
    """Loading says what is missing instead of computing wrong numbers."""
    compiled().save(tmp_path / "vnni.fxq")
    if compiled().report.isa != VNNI_ONLY:
        pytest.skip("this CPU has no VNNI, so that nothing was stamped")
    monkeypatch.setattr("fxq.api.load_graph.has_vnni", lambda: False)
    with pytest.raises(fxq.TargetUnavailableError, match="VNNI"):
        fxq.load(tmp_path / "vnni.fxq")
    assert fxq.load(tmp_path / "vnni.fxq", target="qnnpack").report.target == "qnnpack"


def test_unknown_isa_is_an_error():
    """The legal names are listed."""
    with pytest.raises(fxq.ConfigError, match="host"):
        compiled(isa="avx9")


def test_a_proof_counts_channels():
    """No unsafe channel: any CPU of the kind."""
    from fxq.targets import get_target

    assert Proof(8, 0).isa(get_target("fbgemm")) == ANY_X86
    assert Proof(8, 1).isa(get_target("fbgemm")) == VNNI_ONLY
    assert Proof(8, 1).isa(get_target("qnnpack")) == ANY
