"""fold-batch-norm: exact algebra for every layer kind, and a reason for every refusal."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.ir.printer import format_graph
from tests.helpers import codes, ops, run, upto
from tests.nets import Fn, conv_bn_relu, lively, ramp

X = ramp(2, 4, 7, 7)
EPS = 1e-5  # a fold moves float32 by a few roundings (1.2e-7 each) of values near one


def folded(model, *inputs):
    return upto("fold-batch-norm", model, *inputs)


def test_golden_conv_bn(golden):
    """The norm is gone, the values stay."""
    net = conv_bn_relu()
    x = ramp(1, 3, 6, 6)
    module, _ = folded(net, x)
    golden.check(format_graph(module))
    assert torch.allclose(run(module, x), net(x), atol=EPS)


@pytest.mark.parametrize("layer, norm, shape", [
    (nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), (2, 4, 7, 7)),
    (nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6), (2, 4, 5, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
    (nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), (2, 4, 7, 7)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 7, 7)),
    (nn.ConvTranspose2d(4, 4, 3, groups=4, stride=2), nn.BatchNorm2d(4), (2, 4, 7, 7)),
    (nn.Linear(4, 6), nn.BatchNorm1d(6), (5, 4)),
    (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6, affine=False), (5, 4)),
    (nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False), (2, 4, 7, 7)),
])
def test_every_layer_kind_folds(layer, norm, shape):
    """Groups, transposed layers and norms without weights included (T20, T21, T26, T32)."""
    net, x = lively(nn.Sequential(layer, norm)), ramp(*shape)
    module, record = folded(net, x)
    assert "batch_norm" not in ops(module)
    assert record.refusals == ()
    assert torch.allclose(run(module, x), net(x), atol=EPS)


def test_reused_conv_keeps_its_plain_path():
    """A convolution that is called twice, normalized once, is right on both paths (T18)."""
    net = lively(Fn(lambda s, x: s.conv(x) + s.bn(s.conv(x)), conv=nn.Conv2d(4, 4, 3),
                    bn=nn.BatchNorm2d(4)))
    module, _ = folded(net, X)
    assert torch.allclose(run(module, X), net(X), atol=EPS)


def refused(net, x=X):
    module, record = folded(net, x)
    assert "batch_norm" in ops(module)
    assert torch.equal(run(module, x), net(x))
    return codes(record)


def test_value_with_two_readers_stays():
    """The convolution's output is also read elsewhere (T19, T29)."""
    net = lively(Fn(lambda s, x: (lambda y: s.bn(y) + y)(s.conv(x)), conv=nn.Conv2d(4, 4, 3),
                    bn=nn.BatchNorm2d(4)))
    assert refused(net) == ["batch-norm-not-folded"]


def test_norm_without_statistics_stays():
    """It needs the statistics of each batch (T22)."""
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert refused(net) == ["batch-norm-not-folded"]


def test_linear_on_sequences_stays():
    """Behind a linear layer on 3-d input the norm scales another dimension (T31)."""
    net = lively(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(4)))
    assert refused(net, ramp(2, 4, 6)) == ["batch-norm-not-folded"]


def test_activation_between_stays():
    """conv, relu, norm is another order: the norm may not pass the activation (T29)."""
    net = lively(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    module, _ = folded(net, X)
    assert ops(module) == ["conv2d", "relu", "batch_norm"]


def test_half_weights_stay_half():
    """The fold is computed in float64 and cast once to the weights' own type (T32)."""
    net = lively(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))).half()
    module, _ = folded(net, X.half())
    assert {b.dtype for b in module.buffers()} == {torch.float16}


def test_chunk_between_stays():
    """Only an elementwise path may be folded over (T30)."""
    net = lively(Fn(lambda s, x: s.bn(torch.chunk(s.conv(x), 2, 1)[0]), conv=nn.Conv2d(4, 8, 3),
                    bn=nn.BatchNorm2d(4)))
    module, _ = folded(net, X)
    assert "batch_norm" in ops(module)


def test_computed_weights_stay():
    """Weights that are computed at run time cannot be rewritten."""
    net = lively(Fn(lambda s, x: s.bn(F.conv2d(x, s.weight * 2)), bn=nn.BatchNorm2d(4),
                    weight=nn.Parameter(torch.randn(4, 4, 3, 3))))
    assert refused(net) == ["batch-norm-not-folded"]


def test_nan_statistics_stay():
    """NaN must not spread into weights silently (T25)."""
    net = lively(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    net[1].running_var[1] = float("nan")
    module, record = folded(net, X)
    assert "NaN" in record.refusals[0].reason
    assert "batch_norm" in ops(module)


@pytest.mark.parametrize("gamma", [0.0, -1.5])
def test_zero_and_negative_gamma_fold(gamma):
    """A dead or flipped channel is ordinary algebra (T25)."""
    net = conv_bn_relu()
    net[1].weight.data[0] = gamma
    x = ramp(1, 3, 6, 6)
    module, _ = folded(net, x)
    assert torch.allclose(run(module, x), net(x), atol=EPS)


def test_tiny_variance_folds():
    """A channel with variance 1e-14 gets a large scale, in float64 (T24)."""
    net = conv_bn_relu()
    net[1].running_var[0] = 1e-14
    x = ramp(1, 3, 6, 6)
    module, _ = folded(net, x)
    assert torch.allclose(run(module, x), net(x), atol=1e-4, rtol=1e-5)


def test_norm_left_in_training_is_an_error():
    """A batch norm in training mode inside an eval model is refused by name (T23)."""
    net = conv_bn_relu()
    net[1].train()
    with pytest.raises(fxq.TraceError, match="1 is a batch norm in training mode"):
        fxq.prepare(net, example_inputs=(ramp(1, 3, 6, 6),))


def test_subclass_with_its_own_forward_keeps_it():
    """A BatchNorm2d subclass that adds an activation keeps it (T27)."""
    class NormRelu(nn.BatchNorm2d):
        def forward(self, x):
            return F.relu(super().forward(x))

    net = lively(nn.Sequential(nn.Conv2d(4, 4, 3), NormRelu(4)))
    module, _ = folded(net, X)
    assert ops(module) == ["conv2d", "relu"]
    assert torch.allclose(run(module, X), net(X), atol=EPS)


def test_two_norms_fold_one_after_the_other():
    """The first norm folds; the second finds the folded layer (T28)."""
    net = lively(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)))
    module, _ = folded(net, X)
    assert ops(module) == ["conv2d"]
    assert torch.allclose(run(module, X), net(X), atol=EPS)
