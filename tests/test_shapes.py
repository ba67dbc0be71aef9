"""The shape rules of files say what torch's own say, and load no compiler."""

import contextlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.artifact.meta_shapes import RULES
from fxq.ir.ops import OPS

SIZES, SMALL = st.integers(1, 9), st.integers(1, 3)


def meta(*shape):
    return torch.empty(shape, device="meta")


def assert_agrees(name, *operands, **attributes):
    """The rule and torch's kernels say the same shape and type, or both refuse."""
    try:
        wanted = OPS[name].call(*operands, **attributes)
    except (RuntimeError, ValueError, IndexError):
        made = None
        with contextlib.suppress(RuntimeError, ValueError, IndexError):
            made = RULES[OPS[name].call](*operands, **attributes)
        assert made is None
        return
    made = RULES[OPS[name].call](*operands, **attributes)
    assert made is None or (made.shape, made.dtype) == (wanted.shape, wanted.dtype)


@settings(deadline=None)  # torch imports its shape rules at the first call
@given(st.lists(SIZES, min_size=2, max_size=2), SMALL, SMALL, SMALL, st.integers(0, 2), SMALL,
       st.sampled_from((1, 2, 3)), st.sampled_from((2, 4, 6)))
def test_convolutions(size, kernel, other, stride, padding, dilation, groups, channels):
    """Any geometry, also with groups that do not divide the channels."""
    assert_agrees("conv2d", meta(2, channels, *size), meta(6, 2, kernel, other), meta(6), stride=stride,
          padding=padding, dilation=dilation, groups=groups)


@settings(deadline=None)
@given(st.lists(SIZES, min_size=2, max_size=2), SMALL, SMALL, st.integers(0, 2),
       st.integers(0, 2), SMALL, st.sampled_from((1, 2, 3)), st.sampled_from((3, 4, 6)))
def test_transposed_convolutions(size, kernel, stride, padding, more, dilation, groups, channels):
    """Any geometry; torch's meta kernel takes any number of channels, so its own one is asked."""
    assert_agrees("conv_transpose2d", torch.zeros(2, channels, *size),
                  torch.zeros(6, 2, kernel, kernel), torch.zeros(2 * groups), stride=stride,
                  padding=padding, output_padding=more, dilation=dilation, groups=groups)


@settings(deadline=None)
@given(st.lists(SIZES, min_size=2, max_size=2), SMALL, SMALL, st.integers(0, 2), SMALL,
       st.booleans())
def test_pools(size, kernel, stride, padding, dilation, ceil):
    """Windows that fit, that do not, and the last one that ceil_mode drops."""
    geometry = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
    assert_agrees("max_pool2d", meta(1, 3, *size), dilation=dilation, **geometry)
    assert_agrees("avg_pool2d", meta(1, 3, *size), **geometry)


@settings(deadline=None)
@given(st.lists(SMALL, min_size=1, max_size=4), st.lists(SMALL, min_size=1, max_size=4))
def test_broadcasting(a, b):
    """Sums of any two shapes."""
    assert_agrees("add", meta(*a), meta(*b))
    assert_agrees("mul", meta(*a), 2.0)


@settings(deadline=None)
@given(st.lists(SMALL, min_size=1, max_size=4), st.integers(-5, 4), st.booleans(), SMALL)
def test_along_dimensions(shape, dim, keep, length):
    """Means, softmax and concatenation along dimensions that are there or not."""
    assert_agrees("mean", meta(*shape), dim=dim, keepdim=keep)
    assert_agrees("softmax", torch.zeros(shape), dim=dim)  # on meta any dimension would do
    assert_agrees("cat", [meta(*shape), meta(*shape[:-1], length)], dim=dim)
    assert_agrees("linear", meta(*shape), meta(5, 2), meta(5))


def test_each_rule_on_what_it_is_for():
    """A rule that covered nothing would leave the second of imports where it was."""
    x, one = meta(2, 8, 6, 6), meta(8)
    calls = {"affine": (x, one, one), "batch_norm": (x, one, one, one, one), "relu": (x,),
             "conv2d_relu": (x, meta(4, 8, 3, 3), meta(4)), "linear": (x, meta(3, 6), meta(3)),
             "conv2d_add": (x, meta(4, 8, 3, 3), None, meta(2, 4, 4, 4)), "add_relu": (x, x)}
    for name, operands in calls.items():
        assert_agrees(name, *operands)
        assert RULES[OPS[name].call](*operands) is not None
    assert_agrees("adaptive_avg_pool2d", x, output_size=(None, 3))
    assert_agrees("layer_norm", x, meta(6), meta(6), normalized_shape=[6])
    assert_agrees("channel_shuffle", x, groups=4)


@pytest.mark.parametrize("name", ["sigmoid", "clamp", "erf"])
def test_integers_are_left_to_torch(name):
    """Operators that make floats of integers are asked about."""
    x = torch.empty(2, 3, dtype=torch.int64, device="meta")
    assert RULES[OPS[name].call](x) is None


def test_loading_imports_no_compiler(saved):
    """torch's shape rules would import sympy, and for many operators torch.compile."""
    code = ("import sys, fxq; fxq.load(sys.argv[1], runtime='python'); "
            "assert not {'sympy', 'torch._dynamo'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(saved)], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_graph_writes_its_code_when_it_is_called(saved):
    """Its graph may change before; a copy, a pickle and the printed form have the code."""
    import copy
    import pickle

    from fxq.artifact.read import open_artifact

    module, x = open_artifact(saved).module, torch.linspace(-1, 1, 2 * 3 * 256).reshape(2, 3, 16, 16)
    assert module._code == ""
    wanted, = module(x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x)[0], wanted)
    module.graph.output_node().args = (tuple(module.graph.find_nodes(op="placeholder")),)
    module.recompile()
    assert torch.equal(module(x)[0], x)
    assert "def forward" in module.code and "def forward" in str(module)
