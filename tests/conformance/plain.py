"""The oracle's view of a graph on plain integers: what each call's result stands for."""

import numpy as np

from fxq.ir.facts import KERNEL, qparams
from tests.conformance import oracle
from tests.conformance.oracle import Packed, Q

# Kernels that a case names in torch's words, and the calls that native and reference have for them.
NAMES = {
    "add": "conv2d_add", "batch_norm2d": "affine", "conv2d_add_relu": "conv2d_add", "function": "look_up",
    "quantize": "enter", **dict.fromkeys(("adaptive_avg_pool2d", "avg_pool2d", "mean"), "average"),
    **dict.fromkeys(("elu", "hardsigmoid", "hardswish", "leaky_relu", "sigmoid", "tanh"),
                    "look_up")}


def named(kernel):
    """The names of which a lowered graph has one."""
    plain = kernel.removesuffix("_relu")
    return {kernel, plain, NAMES.get(kernel, NAMES.get(plain, plain))}


def value_of(node, value):
    format_ = qparams(node)
    return Q(value.numpy(), format_.scale, format_.zero_point)


def real_of(node, args, kwargs, same_format):
    """The real numbers of a node's result before it is rounded, or None where only tables know."""
    out, name = qparams(node), KERNEL.of(node)
    real = _real(name, node, args, kwargs, same_format)
    if real is None or "low" not in kwargs:
        return name, real
    low, high = (out.scale * (kwargs[key] - out.zero_point) for key in ("low", "high"))
    return name, np.clip(real, low, high)


def _real(name, node, args, kwargs, same_format):
    if name == "enter":
        return args[0].double().numpy()
    if name == "look_up":
        return None
    if name == "cat":
        return np.concatenate([value_of(n, v).real for n, v in zip(
            node.args[0], args[0], strict=True)], kwargs["dim"])
    x = value_of(node.args[0], args[0])
    if name in ("add", "mul") and len(args) == 2:
        y = value_of(node.args[1], args[1]).real
        return x.real + y if name == "add" else x.real * y
    if name == "average":
        return _average(x, kwargs)
    if len(args) < 4:
        return same_format(name, x, args, kwargs)
    return _layer(name, node, x, args, kwargs)


def _average(x, kwargs):
    steps = x.values.astype(np.float64) - x.zero
    if "dims" in kwargs:
        return x.scale * steps.mean(tuple(kwargs["dims"]), keepdims=kwargs["keepdim"])
    kernel = tuple(kwargs["kernel_size"])
    return x.scale * oracle.averaged(
        steps, kernel, tuple(kwargs.get("stride", kernel)), tuple(kwargs["padding"]),
        kwargs["ceil_mode"], kwargs["count_include_pad"])


def _layer(name, node, x, args, kwargs):
    out, (weight, bias, multiplier) = qparams(node), (a.numpy() for a in args[1:4])
    scales = multiplier.astype(np.float64) * out.scale / x.scale
    layer = Packed(weight, scales, bias * scales * x.scale, **{
        key: tuple(kwargs.get(key, ())) for key in (
            "stride", "padding", "output_padding", "dilation")}, groups=kwargs.get("groups", 1))
    if name == "linear":
        return oracle.linear(x, layer)
    sums = oracle.transposed_sums if name.startswith("conv_transpose") else oracle.sums
    real = oracle.weighted(x, sums(x, layer), layer)
    return real + value_of(node.args[4], args[4]).real if len(args) > 4 else real
