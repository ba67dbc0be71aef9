"""Rows in float: what moves values gives the same ones, functions the same up to rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import compiled
from tests.nets import Fn, ramp

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from tests.export.parts import run_file  # noqa: E402

X = ramp(2, 8, 6, 10, low=-3, high=3)[:, torch.tensor([3, 1, 0, 2, 7, 5, 4, 6])]
MOVES = {
    "flatten inner": lambda v: v.flatten(1, 2), "flatten outer": lambda v: v.flatten(0, 1),
    "view by sizes": lambda v: v.reshape(v.shape[0] * 2, v.size(1) // 2, -1),
    "permute": lambda v: v.permute(0, -2, 3, 1).contiguous(), "transpose": lambda v: v.transpose(1, -1),
    "squeeze": lambda v: v[:, :1].squeeze(1).unsqueeze(-1), "roll": lambda v: v.roll((2, -3), (2, 3)),
    "no roll": lambda v: v.roll(6, 2), "number": lambda v: v[:, 1], "last": lambda v: v[:, -1, 2:-1],
    "none, steps": lambda v: v[..., None, ::2], "mixed": lambda v: v[:, :, None, -3:, 0],
    "by a tensor": lambda v: v.permute(1, 0, 2, 3)[torch.tensor([1, -1])],
    "narrow from the end": lambda v: v.narrow(1, -2, 2), "stack": lambda v: torch.stack([v, v], -1),
    "split": lambda v: v.split(3, 1)[2], "pad": lambda v: F.pad(v, (1, 2, 0, 3), value=0.5),
    "reflect": lambda v: F.pad(v, (1, 2, 0, 3), mode="reflect"),
    "replicate": lambda v: F.pad(v, (1, 2, 0, 3), mode="replicate"),
    "circular": lambda v: F.pad(v, (1, 2, 0, 3), mode="circular"),
    "crop": lambda v: F.pad(v, (-1, 2, 0, -3)), "channel_shuffle": lambda v: F.channel_shuffle(v, 4),
    "pixel_shuffle": lambda v: F.pixel_shuffle(v, 2),
    "pixel_unshuffle": lambda v: F.pixel_unshuffle(v, 2),
    "nearest by a factor": lambda v: F.interpolate(v, scale_factor=1.5),
    "nearest to a size": lambda v: F.interpolate(v, size=(7, 9)),
    "nearest exact": lambda v: F.interpolate(v, size=(7, 9), mode="nearest-exact"),
    "nearest to another's size": lambda v: F.interpolate(v[:, :, :3, :3], size=v.shape[-2:]),
    "max_pool1d": lambda v: F.max_pool1d(v.flatten(2), 3, 2, 1),
    "max_pool2d that torch cuts": lambda v: F.max_pool2d(v, 2, 2, 1, ceil_mode=True),
    "adaptive_max_pool2d": lambda v: F.adaptive_max_pool2d(v, 2),
    "clamp": lambda v: v.clamp(min=0.25), "threshold": lambda v: F.threshold(v, 0.1, -3),
    "maximum": lambda v: torch.maximum(v, v.neg())}
FUNCTIONS = {
    "bilinear": lambda v: F.interpolate(v, scale_factor=2, mode="bilinear"),
    "bilinear by corners": lambda v: F.interpolate(v, size=(9, 13), mode="bilinear",
                                                   align_corners=True),
    "bicubic": lambda v: F.interpolate(v, size=(9, 13), mode="bicubic"),
    "mean of all": lambda v: v.abs().mean(), "mean": lambda v: v.mean((1, -1)),
    "adaptive_avg_pool2d": lambda v: F.adaptive_avg_pool2d(v, (3, 5)),
    "avg_pool2d by three": lambda v: F.avg_pool2d(v, 2, divisor_override=3),
    "avg_pool2d beyond": lambda v: F.avg_pool2d(v, 3, 2, 1, ceil_mode=True),
    "group_norm": nn.GroupNorm(4, 8), "instance_norm": nn.InstanceNorm2d(8),
    "layer_norm": nn.LayerNorm((6, 10)), "layer_norm alone": nn.LayerNorm(10, bias=False),
    "batch_norm": nn.BatchNorm2d(8, affine=False), "softmax": lambda v: v.softmax(1),
    "log_softmax": lambda v: F.log_softmax(v, -1), "softplus": lambda v: F.softplus(v, 2.0),
    "gelu": lambda v: F.gelu(v, approximate="tanh"), "pow": lambda v: v.pow(2),
    "reversed": lambda v: 1 - v, "shrinks": lambda v: F.softshrink(v) + F.hardshrink(v),
    "celu": lambda v: F.celu(v, 1.5), "prelu": nn.PReLU(8), "linear": nn.Linear(10, 3),
    "matmul": lambda v: v @ v.transpose(2, 3),
    "einsum": lambda v: torch.einsum("nchw,ndhw->ncd", v, v),
    "sqrt, exp": lambda v: torch.sqrt(v.abs()) / v.exp()}


def differences(function, path, level):
    """What ONNX Runtime gives beside torch, for the example and for a larger batch."""
    net = nn.Sequential(function) if isinstance(function, nn.Module) else Fn(
        lambda _, v: function(v))
    model = compiled(net, X, target="reference", scheme="fp32")
    model.export(path)
    free = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    for x in (X, torch.cat([X, X[:1]])) if free else (X,):
        found, expected = run_file(path, [x], level)[0], model(x)
        assert found.shape == expected.shape
        yield found, expected


@pytest.mark.parametrize("level", ["off", "on"])
@pytest.mark.parametrize("name", MOVES)
def test_moves_are_exact(name, level, tmp_path):
    """Bit for bit, for any batch."""
    assert all(torch.equal(a, b) for a, b in differences(MOVES[name], tmp_path / "m.onnx", level))


@pytest.mark.parametrize("level", ["off", "on"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree(name, level, tmp_path):
    """Sums of up to 480 float32 terms in another order differ by less than 480 roundings."""
    for a, b in differences(FUNCTIONS[name], tmp_path / "m.onnx", level):
        assert (a - b).abs().max() <= 480 * torch.finfo(torch.float32).eps * b.abs().max()
