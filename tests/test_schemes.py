"""Schemes: each computes what its name says, legal pairs run, illegal ones say what would."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import fxq
from fxq.analysis.legality import note_on, scheme_table
from fxq.compiler.prepare import make_context
from fxq.quantization.formats import QSpec, signed, unsigned
from fxq.quantization.schemes import SCHEMES, Mode, get_scheme
from fxq.system.machine import is_native
from fxq.targets import TARGETS
from tests.helpers import compiled
from tests.nets import Classifier, Fn, SqueezeExcite, lively, ramp
from tests.test_docs import ROOT

X = ramp(4, 3, 16, 16)
LEGAL = [(t.name, s.name) for t in TARGETS.values() for s in SCHEMES.values()
         if t.why_not_scheme(s) is None and not s.trained]


@pytest.mark.parametrize("target, scheme", LEGAL)
def test_every_legal_pair_runs(target, scheme):
    """Each scheme compiles on each target that takes it, and is close to the float model."""
    net = lively(Classifier())
    model = compiled(net, X, target=target, scheme=scheme)
    if not TARGETS[target].is_available():
        assert model.report.sqnr is not None and "no CUDA device" in model.report.note
        return
    floor = {"int4_weight": 10, "bf16": 30}.get(scheme, 25)  # dB
    assert fxq.sqnr(net(X), model(X)) > floor
    assert model.report.scheme == scheme


@pytest.mark.filterwarnings("ignore:the outputs for the example inputs are only")
@pytest.mark.parametrize("bits, floor", [(2, -10), (3, 5), (5, 15), (6, 20), (9, 25), (12, 45), (16, 60)])
def test_more_bits_are_closer(bits, floor):
    """Any width from 2 to 16 runs; each bit is worth about 6 dB."""
    net = lively(Classifier())
    model = compiled(net, X, target="reference", scheme=f"W{bits}A{bits}")
    assert fxq.sqnr(net(X), model(X)) > floor


@pytest.mark.parametrize("scheme, dtypes", [
    ("int16_static", {torch.int16}), ("W4A8", {torch.int8, torch.uint8}),
    ("W8A4", {torch.int8, torch.uint8}), ("W12A6", {torch.int16, torch.uint8})])
def test_integers_have_the_width(scheme, dtypes):
    """The graph holds integers inside of the scheme's range, and biases in 32 bits."""
    model = compiled(lively(Classifier()), X, target="reference", scheme=scheme)
    found = {t.dtype for t in model.graph_module.buffers() if not t.is_floating_point()}
    text = model.graph_text("REFERENCE")
    activation = "s16" if scheme == "int16_static" else "u8"
    assert found <= dtypes | {torch.int32} and " = quantize" in text and activation in text


def test_simulation_is_labelled():
    """A report of a simulated scheme says that its speed means nothing."""
    model = compiled(lively(Classifier()), X, target="reference", scheme="W4A8")
    assert "simulation" in str(model.report)
    assert "simulation" not in str(compiled(lively(Classifier()), X).report)


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_half_says_whether_it_is_emulated(half):
    """The note is there exactly when the CPU lacks the arithmetic."""
    context = make_context(lively(Classifier()), "reference", half, None, None)
    assert context.native_half == is_native(SCHEMES[half].half)
    assert ("emulation" in note_on(context)) != context.native_half


def test_half_halves_the_size():
    """All weights are kept in two bytes."""
    model = compiled(lively(Classifier()), X, target="reference", scheme="fp16")
    floats = sum(p.numel() for p in lively(Classifier()).parameters())
    assert model.size_bytes < 2 * floats + 64


def test_dynamic_needs_no_data():
    """Ranges come at run time: nothing warns, and linear layers are on integers."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 32), nn.ReLU(), nn.Linear(32, 5)).eval()
    model = fxq.compile(net, scheme="int8_dynamic", example_inputs=(X,), runtime="python")
    assert "linear_relu_dynamic" in model.graph_text() and model.report.coverage == 1
    assert fxq.sqnr(net(X), model(X)) > 30


def test_dynamic_follows_the_range_of_each_call():
    """The twin of static ranges: inputs a thousand times larger lose nothing."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval()
    model = fxq.compile(net, scheme="int8_dynamic", example_inputs=(X,), runtime="python")
    assert fxq.sqnr(net(1000 * X), model(1000 * X)) > 30
    static = compiled(net, X)
    assert fxq.sqnr(net(1000 * X), static(1000 * X)) < 10


def test_dynamic_leaves_convolutions_in_float_and_says_why():
    """torch's dynamic convolutions are unusable, and the report says so."""
    report = compiled(lively(Classifier()), X, scheme="int8_dynamic").report
    reasons = {r.reason for r in report.left_in_float if "conv" in r.op}
    assert reasons == {"torch's dynamic convolutions requantize with the range of their input"}


def test_dynamic_reference_is_what_the_kernel_computes():
    """Both round the input by its own range; sums differ by float rounding at most."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval()
    a, b = (compiled(net, X, scheme="int8_dynamic", target=t)(X) for t in ("fbgemm", "reference"))
    assert (a - b).abs().max() < 1e-4 * a.abs().max()


def test_weight_only_is_size_only():
    """A quarter of the size; outputs are those of the dequantized weights."""
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).eval()
    model = fxq.compile(net, scheme="int8_weight_only", example_inputs=(X,), runtime="python")
    assert model.report.float_bytes / model.size_bytes > 3.8
    assert fxq.sqnr(net(X), model(X)) > 35 and model.report.coverage == 0


def test_mixed_overrides_by_glob_and_type():
    """Each layer follows the last override that matches it."""
    net = lively(Classifier())
    model = compiled(net, X, overrides={nn.Linear: "int8_dynamic", "block.*": "fp32"})
    text = model.graph_text()
    assert "linear_dynamic" in text and "block.conv1" in {r.path for r in model.report.left_in_float}
    assert fxq.sqnr(net(X), model(X)) > 25


def test_override_of_a_block_covers_what_is_inside():
    """Naming a module names its layers."""
    model = compiled(lively(Classifier()), X, overrides={"block": "fp32"})
    assert {"block.conv1", "block.conv2"} <= {r.path for r in model.report.left_in_float}


def test_later_overrides_win():
    """An exception to an exception is quantized again."""
    model = compiled(lively(Classifier()), X, overrides={"*": "fp32", "stem": "int8_static"})
    assert "stem.0" not in {r.path for r in model.report.left_in_float}
    assert "head" in {r.path for r in model.report.left_in_float}


def test_widths_may_be_mixed():
    """One layer with 16 bits among others with 4: better than 4 everywhere."""
    net = lively(Classifier())
    narrow = compiled(net, X, target="reference", scheme="W4A8")
    mixed = compiled(net, X, target="reference", scheme="W4A8", overrides={"*": "int16_static"})
    assert fxq.sqnr(net(X), mixed(X)) > fxq.sqnr(net(X), narrow(X)) + 20


@pytest.mark.parametrize("options, text", [
    ({"scheme": "W16A8"}, "its kernels take s8 per channel weights, not s16"),
    ({"scheme": "fp16"}, "half precision needs another target"),
    ({"scheme": "int8_qat"}, "is trained"), ({"scheme": "W1A8"}, "out of range"),
    ({"scheme": "W17A8"}, "out of range"), ({"overrides": {"head": "W4A4"}}, "not u4"),
    ({"target": "reference", "scheme": "fp16", "overrides": {"head": "int8_static"}}, "cannot be mixed"),
    ({"overrides": {"head": "int8_qat"}}, "that are not trained"),
    ({"calibrator": "percentile:20"}, "between 50 and 100"),
    ({"calibrator": "sigma:x"}, "cannot be built"), ({"calibrator": "fixed:1:-1"}, "lower bound")])
def test_illegal_choices_are_errors(options, text):
    """What cannot run says why, before any data is read."""
    with pytest.raises(fxq.ConfigError, match=text):
        compiled(lively(Classifier()), X, **options)


def test_illegal_pair_lists_the_legal_ones(golden):
    """The error names what the target runs, and where the scheme would run."""
    with pytest.raises(fxq.ConfigError) as caught:
        compiled(lively(Classifier()), X, scheme="int16_static")
    golden.check(f"{caught.value}\n")


@pytest.mark.parametrize("calibrator", [
    "minmax", "moving_average", "percentile:99.9", "mse", "entropy", "sigma:4", "fixed:-4:4", "auto"])
def test_every_calibrator_gives_a_usable_model(calibrator):
    """Each rule keeps most of the signal."""
    net = lively(SqueezeExcite())
    model = compiled(net, X, calibrator=calibrator)
    assert fxq.sqnr(net(X), model(X)) > 15


@pytest.mark.parametrize("rule", ["minmax", "sigma:3", "percentile:99", "mse"])
@pytest.mark.parametrize("spec", [
    signed(8, per_channel=True), signed(8), QSpec(-128, 127, per_channel=True), QSpec(0, 255),
    replace(signed(8, per_channel=True), power_of_two=True)])
def test_every_weight_range(rule, spec):
    """Symmetric or affine, per tensor or channel, power-of-two: all keep most of the signal."""
    net = lively(Classifier())
    scheme = replace(SCHEMES["int8_static"], weight=spec, weight_calibrator=rule)
    model = compiled(net, X, target="reference", scheme=scheme)
    assert fxq.sqnr(net(X), model(X)) > 12


def test_affine_weights_are_refused_by_kernels():
    """FBGEMM's table has symmetric weights only."""
    scheme = replace(SCHEMES["int8_static"], weight=QSpec(-128, 127, per_channel=True))
    with pytest.raises(fxq.ConfigError, match="affine"):
        compiled(lively(Classifier()), X, scheme=scheme)


def test_unknown_bias_is_an_error():
    """A scheme built by hand is checked too."""
    with pytest.raises(fxq.ConfigError, match="bias"):
        replace(SCHEMES["int8_static"], bias="int16")


def test_names_of_any_width():
    """W<b>A<b> gives the formats that it names; beyond 8 bits activations are symmetric."""
    scheme = get_scheme("W3A10")
    assert (scheme.weight, scheme.activation) == (signed(3, per_channel=True), signed(10))
    assert get_scheme("W4A4_qat").trained and get_scheme("W4A4").activation == unsigned(4)
    assert get_scheme("W4A4").mode is Mode.STATIC


def test_shared_formats_of_cat_are_the_union():
    """Branches of different range share one format, wide enough for both (T49)."""
    model = compiled(Fn(lambda s, x: s.c(torch.cat([s.a(x), s.b(x)], 1)), a=nn.Conv2d(3, 4, 1),
                        b=nn.Conv2d(3, 4, 1), c=nn.Conv2d(8, 4, 1)), X)
    formats = {line.split("s=")[1].split()[0] for line in model.graph_text().splitlines()
               if line.startswith(("a ", "b "))}
    assert len(formats) == 1


def test_the_table_in_the_docs_is_the_code(request):
    """docs/schemes.md holds the generated table, word for word."""
    path = ROOT / "docs" / "schemes.md"
    begin, end = "<!-- table of schemes: begin -->\n", "<!-- table of schemes: end -->"
    text = path.read_text()
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    wanted = f"{head}{begin}\n{scheme_table()}\n\n{end}{tail}"
    if request.config.getoption("--update-golden"):
        path.write_text(wanted)
    assert path.read_text() == wanted, "run `make golden`"
