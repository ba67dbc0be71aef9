"""What torch.ao prepared, calibrated or trained compiles to the same scales and integers."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

import fxq
from fxq.compiler.verify import step_differences
from fxq.ir.facts import info, qparams
from fxq.system.torch_state import quiet, using_engine
from tests.nets import Classifier, SqueezeExcite, lively, ramp

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.ao.quantization is deprecated", "ignore:.*reduce_range will be deprecated",
    "ignore:must run observer", "ignore:.*TypedStorage",
    "ignore:_aminmax is deprecated", "ignore:.*QConfig must specify")
X = torch.linspace(-2, 2, 4 * 3 * 32 * 32)[torch.randperm(
    4 * 3 * 32 * 32, generator=torch.Generator().manual_seed(0))].reshape(4, 3, 32, 32)


def calibrated(net, engine="fbgemm"):
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    prepared = prepare_fx(copy.deepcopy(net).eval(), get_default_qconfig_mapping(engine), (X,))
    prepared(X)
    return prepared


def trained(net, engine="fbgemm"):
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    prepared = prepare_qat_fx(copy.deepcopy(net).train(), get_default_qat_qconfig_mapping(engine),
                              (X,))
    optimizer = torch.optim.SGD(prepared.parameters(), 1e-3)
    for _ in range(3):
        prepared(X).square().mean().backward()
        optimizer.step()
    return prepared.eval()


def peer_integers(prepared, images):
    """The quantized values of convert_fx's model, by module path; sums by their order."""
    from torch.ao.quantization.quantize_fx import convert_fx

    found = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if not isinstance(value, torch.Tensor) or not value.is_quantized:
                return value
            if n.op == "call_module":
                found[str(n.target)] = value
            elif "add" in str(n.target):
                found[f"sum {sum(key.startswith('sum') for key in found)}"] = value
            return value

    with torch.no_grad(), using_engine("fbgemm"), quiet():
        Recorder(convert_fx(copy.deepcopy(prepared))).run(images)
    return found


def compare_with_convert_fx(prepared):
    """(values compared, largest step difference): formats must be equal."""
    images = X.contiguous(memory_format=torch.channels_last)  # as fxq lays out its input
    peer = peer_integers(prepared, images)
    ours = fxq.from_torch_ao(prepared, example_inputs=(X[:1],), runtime="python")
    last = {info(n).value: n for n in ours.graph_module.graph.nodes if qparams(n) is not None}
    expected, sums = {}, 0
    for key, node in last.items():
        value = None if "@" in key else peer.get(key, peer.get(key.rpartition(".")[0]))
        if str(getattr(node.target, "__name__", "")).startswith("add"):
            value, sums = peer[f"sum {sums}"], sums + 1
        if value is not None:
            format_ = qparams(node)
            assert (value.q_scale(), value.q_zero_point()) == (format_.scale, format_.zero_point)
            expected[node.name] = value.int_repr()
    steps = step_differences(ours.graph_module, [images], expected)
    return len(expected), max(size for size, _ in steps)


@pytest.mark.parametrize("make", [calibrated, trained], ids=["ptq", "qat"])
@pytest.mark.parametrize("net", [Classifier, SqueezeExcite], ids=lambda n: n.__name__)
def test_small_nets_equal_convert_fx(net, make):
    """The same scales, and integers within one step of each operator."""
    count, worst = compare_with_convert_fx(make(lively(net())))
    assert count >= 3 and worst <= 1


@pytest.mark.parametrize("make", [calibrated, trained], ids=["ptq", "qat"])
@pytest.mark.parametrize("name, layers", [("resnet18", 17), ("mobilenet_v2", 50)])
def test_models_equal_convert_fx(name, layers, make):
    """So do ResNet-18 and MobileNetV2, after calibration and after training."""
    import torchvision

    count, worst = compare_with_convert_fx(make(lively(torchvision.models.get_model(name))))
    assert count >= layers and worst <= 1


def test_other_ranges_are_seen():
    """The comparison fails when the sides saw different data."""
    first, second = calibrated(lively(Classifier())), calibrated(lively(Classifier()))
    second(3 * X)
    ours = fxq.from_torch_ao(second, example_inputs=(X[:1],), runtime="python")
    scale = peer_integers(first, X)["head"].q_scale() if "head" in peer_integers(first, X) else (
        peer_integers(first, X)["stem.0"].q_scale())
    assert str(scale)[:7] not in ours.graph_text("REFERENCE")


def test_any_target():
    """The reference target takes it too, and computes the same."""
    prepared = calibrated(lively(Classifier()))
    a, b = (fxq.from_torch_ao(prepared, target=t, example_inputs=(X[:1],), runtime="python")(X)
            for t in ("fbgemm", "reference"))
    assert fxq.sqnr(a, b) > 30


def test_what_torch_ao_leaves_in_float_stays_there():
    """A layer without qconfig is not quantized, with its reason."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    mapping = get_default_qconfig_mapping("fbgemm").set_module_name("block.conv1", None)
    prepared = prepare_fx(lively(Classifier()), mapping, (X,))
    prepared(X)
    report = fxq.from_torch_ao(prepared, example_inputs=(X[:1],), runtime="python").report
    assert ("block.conv1", "given") in {(r.path.removesuffix(".0"), r.code)
                                        for r in report.left_in_float}


def test_full_range_activations_keep_weights_apart():
    """Prepared for QNNPACK, run on FBGEMM: pairs that would saturate are rescaled (T52)."""
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)).eval()
    with torch.no_grad():
        net[1].weight.uniform_(0.9, 1.0)
    for engine, rescaled in (("qnnpack", 1), ("fbgemm", 0)):
        report = fxq.from_torch_ao(calibrated(net, engine), example_inputs=(X[:1],),
                                   runtime="python").report
        record = next(r for r in report.passes if r.name == "pair-safe-weights")
        assert len(record.rewrites) == rescaled


def test_uncalibrated_observers_are_an_error():
    """torch.ao would go on with scale 1; fxq names the observer (T36)."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    prepared = prepare_fx(lively(Classifier()), get_default_qconfig_mapping("fbgemm"), (X,))
    with pytest.raises(fxq.CalibrationError, match="has not observed anything"):
        fxq.from_torch_ao(prepared, example_inputs=(X[:1],))


@pytest.mark.parametrize("model", [nn.Conv2d(3, 4, 1), Classifier()])
def test_anything_else_is_refused(model):
    """A model that torch.ao never saw has no observers to read."""
    with pytest.raises(fxq.ConfigError, match="was not prepared by torch.ao"):
        fxq.from_torch_ao(model.eval(), example_inputs=(X[:1],))


def test_prepared_model_is_untouched():
    """It still converts in torch.ao afterwards, to the same bits."""
    prepared = calibrated(lively(Classifier()))
    before = peer_integers(prepared, X)
    fxq.from_torch_ao(prepared, example_inputs=(X[:1],), runtime="python")
    after = peer_integers(prepared, X)
    assert all(torch.equal(before[k].int_repr(), after[k].int_repr()) for k in before)


def test_qconfig_mapping_as_scheme():
    """prepare takes a QConfigMapping: its exceptions become overrides."""
    from torch.ao.quantization import default_dynamic_qconfig, get_default_qconfig_mapping

    mapping = (get_default_qconfig_mapping("fbgemm").set_module_name("block.conv1", None)
               .set_object_type(nn.Linear, default_dynamic_qconfig))
    prepared = fxq.prepare(lively(Classifier()), scheme=mapping, example_inputs=(X,))
    fxq.calibrate(prepared, [X])
    compiled = fxq.convert(prepared, runtime="python")
    assert "linear_dynamic" in compiled.graph_text()
    assert "block.conv1" in {r.path for r in compiled.report.left_in_float}
    assert fxq.sqnr(lively(Classifier())(X), compiled(X)) > -100 and prepared.context.scheme.name == (
        "int8_static")


def test_qconfig_mapping_with_a_typo():
    """A module name that matches nothing is an error, which torch.ao ignores."""
    from torch.ao.quantization import get_default_qconfig_mapping

    mapping = get_default_qconfig_mapping("fbgemm").set_module_name("blok", None)
    with pytest.raises(fxq.ConfigError, match="'blok' matches nothing"):
        fxq.prepare(lively(Classifier()), scheme=mapping, example_inputs=(X,))


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.ao.quantization" or name.startswith("torch.ao.quantization."):
            raise ImportError(name)
import torch
for name in [n for n in sys.modules if n.startswith("torch.ao.quantization")]:
    sys.modules[name] = None
sys.meta_path.insert(0, Blocker())
import fxq
from tests.nets import Classifier, lively, ramp
x, net = ramp(2, 3, 16, 16), lively(Classifier())
for scheme in ("int8_static", "int8_dynamic", "fp32"):
    fxq.compile(net, scheme=scheme, example_inputs=(x,), calibration_data=[x], runtime="python")(x)
qat = fxq.prepare_qat(net, example_inputs=(x,))
qat(x).sum().backward()
fxq.convert(qat, runtime="python")(x)
try:
    fxq.from_torch_ao(net)
except (ImportError, fxq.ConfigError) as error:
    print("refused")
"""


def test_everything_else_works_without_torch_ao():
    """With the package blocked, all other schemes compile and train."""
    from tests.test_docs import ROOT

    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BLOCKED], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    assert ramp(2).shape == (2,)
