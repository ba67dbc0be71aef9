"""A compiled model refuses what its float model refuses, before any kernel reads memory."""

import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fxq
from fxq.runtime.input_guard import MOST_SHAPES
from tests.helpers import compiled
from tests.nets import Fn, lively, ramp

TARGETS = ("fbgemm", "x86", "qnnpack", "reference")
X = ramp(2, 4, 8, 8)


def flat():
    return nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def u_net():
    def forward(s, x):
        y = s.enter(x)
        return s.leave(torch.cat([y, s.up(s.down(y))], 1))

    return Fn(forward, enter=nn.Conv2d(4, 4, 3, padding=1), down=nn.Conv2d(4, 4, 2, stride=2),
              up=nn.ConvTranspose2d(4, 4, 2, stride=2), leave=nn.Conv2d(8, 3, 1))


def halves(s, x):
    a, b = x.chunk(2, dim=1)
    return s.conv(a) - s.conv(b)


NETS = {
    "flatten": flat, "u-net": u_net,
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "pools": lambda: nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(4, 4, 1), nn.AvgPool2d(2)),
    "pooled head": lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1),
                                         nn.Flatten(), nn.Linear(4, 3)),
    "unshuffle": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 4, 1)),
    "group norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)),
    "mean of the batch": lambda: Fn(lambda s, x: s.conv(x).mean(0), conv=nn.Conv2d(4, 4, 1)),
    "chunks": lambda: Fn(halves, conv=nn.Conv2d(2, 4, 1)),
}
SIZES = st.tuples(st.integers(0, 3), st.sampled_from((1, 2, 3, 4, 8)), st.integers(0, 12),
                  st.integers(0, 12))


@pytest.fixture(scope="module")
def models():
    """Every net on every target, compiled when it is first asked for."""
    made = {}

    def get(net, target):
        if (net, target) not in made:
            torch.manual_seed(0)
            model = lively(NETS[net]())
            made[net, target] = model, compiled(model, X, target=target)
        return made[net, target]

    return get


def answer(model, *inputs):
    """Shape and type of what a model gives, or None when it refuses; a raw error is a fault."""
    with torch.no_grad():
        refusal = fxq.InputError if isinstance(model, fxq.CompiledModel) else Exception
        try:
            result = model(*inputs)
        except refusal:
            return None
    return tuple(result.shape), result.dtype


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("net", NETS)
def test_refuses_what_float_refuses(net, target, models):
    """Any size of batch, channels and image: both refuse, or both give the same shape."""
    model, compiled_model = models(net, target)

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(SIZES)
    def check(shape):
        x = torch.ones(shape)
        assert answer(compiled_model, x) == answer(model, x)

    check()


@pytest.mark.parametrize("target", TARGETS)
def test_a_loaded_model_refuses_too(target, models, tmp_path):
    """The guard comes from the graph of the file."""
    models("flatten", target)[1].save(tmp_path / "m.fxq")
    loaded = fxq.load(tmp_path / "m.fxq", runtime="auto")
    with pytest.raises(fxq.InputError, match=r"shape \[2, 4, 9, 9\]"):
        loaded(ramp(2, 4, 9, 9))
    assert loaded(X).shape == (2, 5)


@pytest.mark.parametrize("scheme", ["int8_static", "int8_dynamic", "fp32", "fp16", "bf16"])
def test_every_scheme_refuses(scheme):
    """What stays in float is guarded like what runs on integers."""
    target = "reference" if scheme in ("fp16", "bf16") else "qnnpack"
    model = compiled(lively(flat()), X, scheme=scheme, target=target)
    with pytest.raises(fxq.InputError):
        model(ramp(2, 4, 9, 9))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(("wrong", "text"), [
    (lambda: X.to("meta"), "on the device meta"), (lambda: X.to_sparse(), "sparse_coo"),
    (lambda: torch.nested.nested_tensor([X[0], X[1]]), "a nested tensor"),
    (lambda: X.double(), "torch.float64"), (lambda: X.int(), "torch.int32")])
def test_other_kinds_of_tensors_are_refused(wrong, text, models):
    """Another device, layout or type is no matter of shapes."""
    with pytest.raises(fxq.InputError, match=text):
        models("depthwise", "qnnpack")[1](wrong())


def test_strides_are_free(models):
    """A channels_last or transposed input gives the same numbers."""
    model = models("flatten", "qnnpack")[1]
    with torch.no_grad():
        assert torch.equal(model(X), model(X.to(memory_format=torch.channels_last)))


def test_no_element_at_all_is_asked_of_float(models):
    """The mean over an empty batch is NaN, as in float; other outputs are empty."""
    model, compiled_model = models("mean of the batch", "qnnpack")
    with torch.no_grad():
        assert torch.equal(compiled_model(X[:0]), model(X[:0])) or (
            compiled_model(X[:0]).isnan().all() and model(X[:0]).isnan().all())
    assert models("flatten", "qnnpack")[1](X[:0]).shape == (0, 5)


def test_names_the_input_that_does_not_fit():
    """With several inputs, by keyword too, only the wrong one is named."""
    net = Fn(lambda s, x, y: s.left(x) + s.right(y), left=nn.Conv2d(4, 4, 1),
             right=nn.Conv2d(4, 4, 1))
    model = compiled(net, X, X + 1)
    with pytest.raises(fxq.InputError, match=r"take input 'inputs.1' of shape \[2, 3, 8, 8\]"):
        model(X, ramp(2, 3, 8, 8))
    with pytest.raises(fxq.InputError, match=r"'inputs.0' of .* and input 'inputs.1'"):
        model(ramp(2, 3, 8, 8), ramp(2, 3, 8, 8))


def test_says_what_sizes_it_takes(models):
    """Fixed, free, at least, and multiples, found from the graph."""
    for net, text in (("flatten", r"float32 \[any, 4, 8, 8\]"),
                      ("u-net", r"float32 \[any, 4, a multiple of 2, a multiple of 2\]"),
                      ("depthwise", r"float32 \[any, 4, at least 3, at least 3\]")):
        with pytest.raises(fxq.InputError, match=text):
            models(net, "fbgemm")[1](ramp(1, 3, 5, 5))


class Inner(nn.Module):
    """Code that no trace can look into: it crops by the sizes that it sees."""

    def __init__(self, width=6):
        super().__init__()
        self.width = width

    def forward(self, x):
        return x[..., :self.width] if x.shape[-1] > self.width else x


@pytest.mark.parametrize("target", TARGETS)
def test_checks_behind_code_of_the_users_own(target):
    """What an untraceable module returns is checked at the call, before the next kernel."""
    model = lively(nn.Sequential(nn.Conv2d(4, 4, 3), Inner(), nn.Flatten(), nn.Linear(144, 5)))
    compiled_model = compiled(model, X, target=target)
    for size in (8, 9, 7, 8):
        x = ramp(2, 4, 8, size)
        assert answer(compiled_model, x) == answer(model, x)


def test_splits_stay_as_they_were_traced(models):
    """Parts of six channels would be three wide; the graph cuts two, and says so."""

    def forward(s, x):
        a, b = x.chunk(2, dim=1)
        return a - b

    with pytest.raises(fxq.InputError, match="the model splits 4"):
        compiled(Fn(forward), X)(ramp(2, 6, 8, 8))


def test_known_shapes_are_bounded_and_safe_in_threads(models):
    """Many new shapes from several threads leave at most so many behind."""
    guard = models("depthwise", "fbgemm")[1]._takes
    work = [threading.Thread(target=lambda k=k: [
        guard([torch.empty(n, 4, 3 + k, 3)]) for n in range(1, 40)]) for k in range(4)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert 4 * 39 <= len(guard._known) <= MOST_SHAPES


def test_profiling_and_comparing_are_guarded(models):
    """Every way into the kernels passes the guard."""
    with pytest.raises(fxq.InputError):
        models("flatten", "qnnpack")[1].profile(ramp(2, 4, 9, 9))


def test_functional_spelling_of_a_linear_head():
    """A weight of the model's own is a constant like a layer's."""
    net = Fn(lambda s, x: F.linear(F.relu(x).flatten(1), s.weight))
    net.weight = nn.Parameter(ramp(3, 256))
    with pytest.raises(fxq.InputError, match="features and weights"):
        compiled(net, X, target="qnnpack")(ramp(2, 4, 9, 9))
