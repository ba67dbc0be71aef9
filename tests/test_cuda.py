"""cuda_fp16: what can be seen without a GPU, and, marked `cuda`, what needs one."""

import pytest
import torch
from torch import nn

import fxq
from fxq.runtime.cuda import OnDevice, to_device
from fxq.runtime.python import build
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)
HERE = torch.cuda.is_available()


def compiled(net=None, **options):
    return fxq.compile(net or lively(Classifier()), target="cuda_fp16",
                       scheme=options.pop("scheme", "fp16"), example_inputs=(X,), **options)


def test_compiles_and_is_inspected_without_a_gpu(tmp_path):
    """The graph is checked in half precision on the CPU, printed, saved and read back."""
    model = compiled()
    assert model.report.sqnr > 50
    assert "f16[2,8,8,8]" in model.graph_text()
    model.save(tmp_path / "half.fxq")
    assert fxq.load(tmp_path / "half.fxq").report.arithmetic == "float16"


@pytest.mark.skipif(HERE, reason="this machine has a CUDA device")
def test_running_without_a_gpu_says_what_is_missing():
    """No silent fallback to the CPU."""
    with pytest.raises(fxq.TargetUnavailableError, match="CUDA device"):
        compiled()(X)


def test_integers_are_refused_with_the_reason():
    """torch has no int8 convolution for CUDA."""
    with pytest.raises(fxq.ConfigError, match="no int8 convolution for CUDA"):
        compiled(scheme="int8_static")


def test_values_beyond_half_precision_stay_in_float32():
    """T71: seen in calibration, or promised by a batch norm, beyond 6e4."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                        nn.Conv2d(8, 4, 1)).eval()
    with torch.no_grad():
        net[1].weight.fill_(2e4)
    reasons = {r.code for r in compiled(net).report.left_in_float}
    assert reasons == {"range"}
    assert compiled(lively(net)).report.left_in_float == ()


def test_unknown_runtime_names_those_of_a_gpu():
    """TorchScript is none of them."""
    with pytest.raises(fxq.ConfigError, match="cuda_graph"):
        compiled(runtime="cuda_grap")


def test_inputs_and_outputs_stay_where_the_user_has_them():
    """The wrapper of a device moves inputs there and outputs back; here both are the CPU."""
    module = to_device(compiled().graph_module, "cpu")
    run = OnDevice(build(module), torch.device("cpu"))
    with torch.no_grad():
        result, = run(X)
    assert result.device == X.device
    assert fxq.sqnr(lively(Classifier())(X), result) < 200


def on_gpu(runtime):
    torch.manual_seed(0)
    net = lively(Classifier())
    return net, compiled(net, runtime=runtime)


@pytest.mark.cuda
@pytest.mark.skipif(not HERE, reason="needs a CUDA device")
@pytest.mark.parametrize("runtime", ["python", "cuda_graph", "torch_compile"])
def test_each_runtime_is_close_to_float(runtime):
    """Inputs of the CPU and of the GPU, the example's shape and another."""
    net, model = on_gpu(runtime)
    assert fxq.sqnr(net(X), model(X)) > 45
    assert model(X.cuda()).is_cuda
    assert fxq.sqnr(net(X[:1]), model(X[:1])) > 45


@pytest.mark.cuda
@pytest.mark.skipif(not HERE, reason="needs a CUDA device")
@pytest.mark.parametrize("runtime", ["python", "cuda_graph"])
def test_layouts_give_the_same_bits_on_a_gpu(runtime):
    """T72: contiguous, channels_last and strided inputs."""
    _, model = on_gpu(runtime)
    x = X.cuda()
    wide = torch.zeros(2, 3, 16, 32, device="cuda")
    wide[..., ::2] = x
    expected = model(x)
    assert torch.equal(model(x.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(model(wide[..., ::2]), expected)
    assert torch.equal(model(x), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not HERE, reason="needs a CUDA device")
def test_profile_takes_the_times_of_the_device():
    """Nodes by events of the device add up to the run; memory and roofs are the device's."""
    _, model = on_gpu("python")
    profile = model.profile(X.cuda(), rounds=20, budget=1.0)
    assert set(profile.roofs) == {"float", "half"}
    assert profile.peak_bytes > 0
    assert all(n.us > 0 for n in profile.nodes)
    assert profile.float_us > 0
