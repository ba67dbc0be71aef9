"""Depthwise convolutions with full-range activations, against an integer oracle."""

import numpy as np
import pytest
import torch
from torch import nn

import fxq
from fxq.compiler.build import quantize
from fxq.system.torch_state import quiet
from tests.helpers import MINMAX


def oracle(x, x_zero, weight, scale_in, scales, bias, out):
    """Integer accumulators, then FBGEMM's float requantization, in numpy alone."""
    k = weight.shape[-1]
    padded = np.pad(x.astype(np.int64) - x_zero, ((0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
    acc = np.einsum("nchwij,cij->nchw", windows, weight[:, 0].astype(np.int64))
    product = (np.float32(scale_in) * scales.astype(np.float32)).reshape(1, -1, 1, 1)
    shifted = acc.astype(np.float32) + bias.reshape(1, -1, 1, 1) / product
    steps = np.rint(shifted * (product / np.float32(out.scale)))
    return np.clip(steps + out.zero_point, 0, 255).astype(np.uint8)


def integers(model, x):
    """(input integers, output integers) of the one kernel in the graph."""
    nodes = {n.name: n for n in model.graph_module.graph.nodes}
    values = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.is_quantized:
                values[n.name] = value
            return value

    with torch.no_grad(), quiet():
        Recorder(model.graph_module).run(x)
    first, *_, last = values
    return values[first], values[last], nodes[last]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("channels", [8, 32, 104])
def test_full_range_depthwise_equals_integer_arithmetic(kernel, channels):
    """Weights and activations at their extremes: not one output differs."""
    model = depthwise(kernel, channels)
    x = torch.randint(0, 2, (1, channels, 12, 12)).float()  # every activation is 0 or 255
    compiled = compile_for(model, x)
    given, result, node = integers(compiled, x)
    weight, scales = reference_weight(model, x)
    expected = oracle(given.int_repr().numpy(), given.q_zero_point(), weight.numpy(),
                      given.q_scale(), scales.numpy(), model[0].bias.detach().numpy(),
                      fxq_format(node))
    assert (given.int_repr() == 255).any()
    assert np.array_equal(result.int_repr().numpy(), expected)


def test_unsafe_weights_would_saturate():
    """Without pair-safe weights the same net is wrong on this kernel, and verification says so."""
    from dataclasses import replace

    model, x = depthwise(3, 8), torch.randint(0, 2, (1, 8, 12, 12)).float()
    with pytest.raises(fxq.VerificationError, match="changed the integers"):
        fxq.compile(model, scheme=replace(MINMAX, pair_safe=False), example_inputs=(x,),
                    calibration_data=[x], runtime="python")


def depthwise(kernel, channels):
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
    torch.manual_seed(kernel)
    nn.init.uniform_(conv.weight, 0.6, 1.0)  # neighbours of one sign: the worst for 16 bits
    return nn.Sequential(conv).eval()


def compile_for(model, x):
    return fxq.compile(model, scheme=MINMAX, example_inputs=(x,), calibration_data=[x],
                       runtime="python")


def reference_weight(model, x):
    prepared = fxq.prepare(model, scheme=MINMAX, example_inputs=(x,))
    fxq.calibrate(prepared, [x])
    buffers = dict(quantize(prepared).graph_module.named_buffers())
    weight = next(b for n, b in buffers.items() if "weight_int8" in n)
    return weight, next(b for n, b in buffers.items() if "weight_scale" in n)


def fxq_format(node):
    from fxq.ir.facts import qparams

    return qparams(node)
