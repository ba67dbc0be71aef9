"""compile: any model as people write them, and nothing of the user's is touched."""

import copy
import hashlib
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import fxq
from fxq.runtime.select import RUNTIMES
from tests.helpers import compiled
from tests.nets import Classifier, Fn, Residual, SqueezeExcite, lively, ramp

X = ramp(2, 3, 16, 16)
ENGINES = ("qnnpack", "onednn", "x86", "fbgemm")


def close(model, result, *inputs, floor=25.0, **kwargs):
    assert fxq.sqnr(model(*inputs, **kwargs).detach(), result) > floor
    return True


def test_the_one_call_works_as_written():
    """Nothing but the model: shapes by convention, synthetic batches, and a warning."""
    from torchvision.models import shufflenet_v2_x0_5

    model = lively(shufflenet_v2_x0_5(weights=None))
    with pytest.warns(fxq.FxqWarning) as caught:  # random weights may come out poor too
        result = fxq.compile(model, target="fbgemm", scheme="int8_static")
    assert "no calibration data was given" in str(caught[0].message)
    assert result.report.coverage == 1.0
    assert result.report.float_bytes / result.size_bytes > 3.7


def test_unknown_input_shape_asks_for_it():
    """A model without conventions needs example inputs."""
    with pytest.raises(fxq.ConfigError, match="example_inputs="):
        fxq.compile(Classifier())


def fingerprint(model):
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    flags = [m.training for m in model.modules()]
    grads = [p.requires_grad for p in model.parameters()]
    return digest.hexdigest(), flags, grads, [len(m._forward_hooks) for m in model.modules()]


def global_state():
    return (torch.backends.quantized.engine, torch.get_rng_state().tolist(),
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
            list(warnings.filters))


def test_nothing_of_the_users_changes():
    """Weights, flags, hooks and torch's global state are as before."""
    model = lively(Classifier()).train()
    model.block.eval()
    before, state = fingerprint(model), global_state()
    fxq.compile(model, example_inputs=(X,), calibration_data=[X])(X)
    assert fingerprint(model) == before
    assert global_state() == state


def test_nothing_changes_when_it_fails():
    """An error half-way leaves everything as it was (T79)."""
    model = lively(Classifier())
    before, state = fingerprint(model), global_state()
    with pytest.raises(fxq.CalibrationError):
        fxq.compile(model, example_inputs=(X,), calibration_data=[X * float("nan")])
    assert fingerprint(model) == before
    assert global_state() == state


def test_odd_surroundings_change_nothing():
    """Inference mode, autocast and another default dtype give the same bits (T78)."""
    model = lively(Classifier())
    expected = compiled(model, X)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu"), torch.inference_mode():
            inside = compiled(model, X)
            assert torch.equal(inside(X), expected(X))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("runtime", ["python", "torchscript"])
@pytest.mark.parametrize("net", [
    Classifier(), SqueezeExcite(),
    nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.ZeroPad2d(1),
                  nn.PixelShuffle(2), nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                  nn.Flatten(), nn.Linear(8 * 32 * 32, 5))])
def test_same_bits_under_every_engine(runtime, net):
    """The process-wide engine at call time changes nothing, and is left alone."""
    model = compiled(lively(net), X, runtime=runtime)
    before = torch.backends.quantized.engine
    results = []
    try:
        for engine in ENGINES:
            torch.backends.quantized.engine = engine
            results += [model(X), model(X.contiguous(memory_format=torch.channels_last))]
            assert torch.backends.quantized.engine == engine
    finally:
        torch.backends.quantized.engine = before
    assert all(torch.equal(r, results[0]) for r in results)


def test_only_sensitive_kernels_are_guarded():
    """A model of convolutions and linear layers does not look at the engine at all."""
    dense = compiled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)), X)
    assert dense._guard is None
    assert compiled(lively(SqueezeExcite()), X)._guard.strict is False


def test_compiling_under_any_engine_gives_the_same_bits():
    """The engine that is current when compiling does not matter either."""
    net, before, results = lively(Classifier()), torch.backends.quantized.engine, []
    try:
        for engine in ENGINES:
            torch.backends.quantized.engine = engine
            results.append(compiled(net, X)(X))
    finally:
        torch.backends.quantized.engine = before
    assert all(torch.equal(r, results[0]) for r in results)


@pytest.mark.parametrize("runtime", ["python", "torchscript"])
def test_threads_under_another_engine(runtime):
    """Two threads at once, while qnnpack is current, get the same bits (T62)."""
    model = compiled(lively(SqueezeExcite()), X, runtime=runtime)
    expected, wrong = model(X), []

    def work():
        for _ in range(50):
            if not torch.equal(model(X), expected):
                wrong.append(1)

    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert torch.backends.quantized.engine == "qnnpack"
    finally:
        torch.backends.quantized.engine = before
    assert wrong == []


def test_both_runtimes_give_the_same_bits():
    """The choice of runtime is about time only."""
    net = lively(Classifier())
    results = [compiled(net, X, runtime=r)(X) for r in RUNTIMES if r != "native"]
    assert all(torch.equal(r, results[0]) for r in results)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_inputs(value):
    """They become ordinary integers, or an error when check_finite asks for it (T39)."""
    net, bad = lively(Classifier()), torch.full((1, 3, 16, 16), value)
    x = ramp(1, 3, 16, 16)
    assert torch.isfinite(compiled(net, x)(bad)).all()
    checked = compiled(net, x, check_finite=True)
    assert torch.isfinite(checked(x)).all()
    with pytest.raises(fxq.VerificationError, match="input 'x' holds NaN or infinity"):
        checked(bad)


def test_unknown_names_suggest_the_right_one():
    """Typos in target, scheme, calibrator and runtime are errors (T82)."""
    for options, text in (({"target": "fbgem"}, "did you mean 'fbgemm'"),
                          ({"scheme": "int8_stati"}, "did you mean 'int8_static'"),
                          ({"calibrator": "msee"}, "did you mean 'mse'"),
                          ({"runtime": "pyton"}, "did you mean 'python'"),
                          ({"overrides": {"haed": "fp32"}}, "did you mean 'head'")):
        with pytest.raises(fxq.ConfigError, match=text):
            compiled(lively(Classifier()), X, **options)


def test_strict_names_what_stays_in_float():
    """strict=True turns float fallbacks into an error."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())
    with pytest.raises(fxq.UnsupportedOpError, match="its result is read in float"):
        compiled(net, X, strict=True)


def test_fp32_scheme_only_cleans_up():
    """The honest baseline: fused, and equal to float up to rounding."""
    net = lively(Classifier())
    model = compiled(net, X, scheme="fp32")
    assert torch.allclose(model(X), net(X), atol=1e-6)
    assert "conv2d_clamp" in model.graph_text("FUSED")


def test_reference_target_is_within_a_step():
    """REFERENCE executed as it is gives what the kernels give."""
    net = lively(Residual(3))
    fbgemm, reference = compiled(net, X), compiled(net, X, target="reference")
    step = (net(X).max() - net(X).min()) / 255
    assert (fbgemm(X) - reference(X)).abs().max() <= 2 * step  # conv and add, a step each


class TestModelsAsPeopleWriteThem:
    """T3, T5, T9-T14, T16."""

    def test_keyword_arguments_and_defaults(self):
        """Optional inputs that were not given are fixed; giving them later is an error (T9)."""
        class Masked(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 1)

            def forward(self, x, mask=None, *, scale=2.0):
                y = self.conv(x) * scale
                return y if mask is None else y * mask

        net = Masked()
        model = compiled(net, X)
        assert close(net, model(X), X)
        assert torch.equal(model(x=X), model(X))
        with pytest.raises(fxq.ConfigError, match="was NoneType when the model was compiled"):
            model(X, mask=X[:, :1])
        with pytest.raises(fxq.ConfigError, match="fixed by tracing"):
            model(X, scale=3.0)

    def test_example_kwargs(self):
        """Inputs may be given by name."""
        net = Fn(lambda s, a, b: s.conv(a) + s.conv(b), conv=nn.Conv2d(3, 4, 1))

        class Named(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, *, a, b):
                return self.net(a, b)

        inputs = {"a": X, "b": X * 0.5}
        model = fxq.compile(Named(), example_kwargs=inputs, runtime="python",
                            calibration_data=[inputs])
        assert close(Named(), model(**inputs), **inputs)

    @pytest.mark.parametrize("wrap", [
        lambda y, z: (y, z), lambda y, z: [y, z], lambda y, z: {"y": y, "z": z},
        lambda y, z: OrderedDict(y=y, deep=(z, [y])), lambda y, z: {"y": y, "flag": 7, "n": None},
        lambda y, z: Pair(y, z)])
    def test_outputs_keep_their_structure(self, wrap):
        """Tuples, lists, dicts, dataclasses and constants come back as they were (T11)."""
        net = Fn(lambda s, x: wrap(s.conv(x), F.relu(x)), conv=nn.Conv2d(3, 4, 1))
        expected, result = net(X), compiled(net, X)(X)
        assert type(result) is type(expected)
        assert repr(shapes(result)) == repr(shapes(expected))

    def test_nested_inputs(self):
        """Lists and dicts of tensors are inputs like any other."""
        class Nested(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 1)

            def forward(self, images, extra):
                return self.conv(images[0]) + self.conv(images[1]) * extra["gate"]

        net, args = Nested(), ([X, X * 0.5], {"gate": ramp(2, 4, 1, 1)})
        model = fxq.compile(net, example_inputs=args, calibration_data=[args], runtime="python")
        assert close(net, model(*args), *args)

    def test_dynamic_batch(self):
        """Sizes that are read from the input stay dynamic (T12)."""
        net = Fn(lambda s, x: s.head(s.conv(x).view(x.size(0), -1)), conv=nn.Conv2d(3, 4, 3),
                 head=nn.Linear(4 * 14 * 14, 5))
        model, wide = compiled(net, X), ramp(7, 3, 16, 16)
        assert close(net, model(wide), wide)
        assert torch.equal(model(wide)[:2], model(wide[:2]))

    def test_empty_batch(self):
        """A batch of none gives none (T65)."""
        assert compiled(lively(Classifier()), X)(X[:0]).shape == (0, 5)

    def test_module_used_twice(self):
        """Each call has its own formats, the weights are shared (T13)."""
        conv = nn.Conv2d(3, 3, 1)
        net = Fn(lambda s, x: s.conv(s.conv(x) * 30 + x), conv=conv)
        assert close(net, compiled(net, X)(X), X)

    def test_tied_weights_are_kept_once(self):
        """Two names for one parameter count once (T14)."""
        a, b = nn.Linear(16, 16), nn.Linear(16, 16)
        b.weight = a.weight
        net = nn.Sequential(a, nn.ReLU(), b)
        x = ramp(4, 16)
        model = compiled(net, x)
        assert close(net, model(x), x)
        assert model.report.float_bytes == 4 * (16 * 16 + 2 * 16)
        assert model.size_bytes < 1.2 * (16 * 16) + 4 * 6 * 16

    @pytest.mark.parametrize("bake", [
        lambda c: parametrizations.weight_norm(c), lambda c: parametrizations.spectral_norm(c)])
    def test_parametrized_weights_are_baked(self, bake):
        """The user's model keeps its parametrization (T3)."""
        net = nn.Sequential(bake(nn.Conv2d(3, 4, 3)), nn.ReLU()).eval()
        assert close(net, compiled(net, X)(X), X)
        assert hasattr(net[0], "parametrizations")

    @pytest.mark.parametrize("function", [
        lambda s, x: x, lambda s, x: F.relu(x), lambda s, x: (x, x)])
    def test_models_without_parameters(self, function):
        """Identity, a lone ReLU, and an input that is returned pass through (T16)."""
        result = compiled(Fn(function), X)(X)
        first = result[0] if isinstance(result, tuple) else result
        assert torch.equal(first, F.relu(X)) or torch.equal(first, X)

    def test_other_dtypes_are_refused_at_the_call(self):
        """A float64 input would silently compute something else."""
        model = compiled(lively(Classifier()), X)
        with pytest.raises(fxq.ConfigError, match="compiled for torch.float32"):
            model(X.double())


@dataclass
class Pair:
    first: torch.Tensor
    second: torch.Tensor


def shapes(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, dict):
        return {k: shapes(v) for k, v in value.items()}
    if isinstance(value, Pair):
        return [shapes(value.first), shapes(value.second)]
    return [shapes(v) for v in value] if isinstance(value, list | tuple) else value


class TestRefusals:
    """T1, T2, T7, T15: what a graph would lose is refused by name."""

    def test_hooks(self):
        """A forward hook is not part of the graph (T1)."""
        net = lively(Classifier())
        net.head.register_forward_hook(lambda m, a, o: o * 2)
        with pytest.raises(fxq.TraceError, match="head .* has forward_hooks"):
            compiled(net, X)

    def test_control_flow_shows_the_line(self):
        """A branch on values names the user's line (T7)."""
        net = Fn(lambda s, x: x if x.mean() > 0 else -x)
        with pytest.raises(fxq.TraceError, match="x if x.mean"):
            compiled(net, X)

    def test_wrappers(self):
        """DataParallel and TorchScript are refused with the way out (T15)."""
        net = lively(Classifier())
        for wrapped in (nn.DataParallel(net), torch.jit.trace(net, X)):
            with pytest.raises(fxq.TraceError, match="wrapper"):
                fxq.compile(wrapped, example_inputs=(X,))

    def test_compiled_models_cannot_be_trained_moved_or_copied(self):
        """The result is for inference, here, as it is."""
        model = compiled(lively(Classifier()), X)
        for action in (model.train, model.double, lambda: copy.deepcopy(model)):
            with pytest.raises(fxq.ConfigError):
                action()
