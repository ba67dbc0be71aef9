"""Runs a lowered graph operator by operator and holds each kernel to the oracle."""

import math
import zlib
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

import fxq
from fxq.ir.facts import KERNEL, qparams
from fxq.kernels import calls
from fxq.kernels.calls import kernel_name
from fxq.kernels.lookup_tables import TABLE
from fxq.passes import lower_kernels
from fxq.system.torch_state import quiet, runtime_engine
from tests.conformance import oracle, plain
from tests.conformance.oracle import Packed, Q
from tests.helpers import MINMAX
from tests.nets import lively

TARGETS = ("fbgemm", "x86", "qnnpack", "native")


def q(value):
    return Q(value.int_repr().numpy(), value.q_scale(), value.q_zero_point())


PACKED = {}  # id of torch's packed weights -> what went into them
_prepack = calls.prepack


def remember(call, engine, weight, scales, axis, bias, geometry):
    """`kernels.prepack`, and a note of what was packed: not every engine can unpack."""
    packed = _prepack(call, engine, weight, scales, axis, bias, geometry)
    stride, padding, *output, dilation, groups = geometry or ((), (), (), 1)
    PACKED[id(packed)] = packed, Packed(
        weight.numpy(), scales.numpy(), None if bias is None else bias.detach().numpy(),
        tuple(stride), tuple(padding), tuple(output[0]) if output else (), tuple(dilation), groups)
    return packed


def _tuple(value, rank=2):
    return tuple(value) if isinstance(value, list | tuple) else (value,) * rank


def real_result(name, args, kwargs):
    """The real numbers that a kernel's result stands for, before rounding; or exact integers."""
    base = name.removesuffix("_relu")
    x = q(args[0]) if isinstance(args[0], torch.Tensor) and args[0].is_quantized else None
    if base.startswith("conv"):
        packed = next(a for a in args if isinstance(a, torch.ScriptObject))
        layer = PACKED[id(packed)][1]
        make = oracle.transposed_sums if "transpose" in base else oracle.sums
        real = oracle.weighted(x, make(x, layer), layer)
        return real + q(args[1]).real if "_add" in base else real
    if base == "linear":
        return oracle.linear(x, PACKED[id(args[1])][1])
    if base in ("add", "mul"):
        return {"add": np.add, "mul": np.multiply}[base](x.real, q(args[1]).real)
    if base == "batch_norm2d":
        scale, shift = (args[i].numpy().astype(np.float64).reshape(1, -1, 1, 1) for i in (1, 2))
        return x.real * scale + shift
    if base == "layer_norm":
        weight, bias = (args[i].numpy().astype(np.float64) for i in (2, 3))
        return oracle.layer_norm(x.real, args[1], weight, bias, args[4])
    if base == "cat":
        return np.concatenate([q(v).real for v in args[0]], args[1])
    if base == "leaky_relu":
        return np.where(x.real > 0, x.real, x.real * args[1])
    if base == "elu":
        return np.where(x.real > 0, x.real, args[3] * np.expm1(x.real))
    return _same_format(name, x, args, kwargs)


def _same_format(name, x, args, kwargs):
    values, steps = x.values, x.values.astype(np.float64) - x.zero
    if name == "clamp":
        return np.clip(x.real, kwargs["min"], kwargs["max"])
    if name.startswith("max_pool"):
        rank = values.ndim - 2
        kernel = _tuple(kwargs["kernel_size"], rank)
        take = [_tuple(kwargs.get(k) or d, rank) for k, d in (
            ("stride", kernel), ("padding", 0), ("dilation", 1))]
        return x.scale * oracle.pooled(steps, kernel, *take, kwargs.get("ceil_mode", False),
                                       -math.inf, np.max)
    if name.startswith("avg_pool"):
        rank = values.ndim - 2
        kernel = _tuple(kwargs["kernel_size"], rank)
        return x.scale * oracle.averaged(
            steps, kernel, _tuple(kwargs.get("stride") or kernel, rank),
            _tuple(kwargs.get("padding", 0), rank), kwargs.get("ceil_mode", False),
            kwargs.get("count_include_pad", True))
    if name.startswith("adaptive_avg_pool") or name == "mean":
        axes = tuple(kwargs["dim"]) if "dim" in kwargs else tuple(range(2, values.ndim))
        return x.scale * steps.mean(axes, keepdims=kwargs.get("keepdim", name != "mean"))
    if name in oracle.ACTIVATIONS:
        return oracle.ACTIVATIONS[name](x.real)
    return _moved(name, x, args, kwargs)


def _moved(name, x, args, kwargs):
    """Operators that move integers: numpy does the same with plain arrays."""
    if name == "channel_shuffle":
        return x.scale * (oracle.shuffled(x.values, kwargs["groups"]).astype(float) - x.zero)
    if name == "interpolate" and kwargs.get("mode", "nearest") == "nearest":
        size = kwargs.get("size") or [int(s * f) for s, f in zip(
            x.values.shape[2:], _tuple(kwargs["scale_factor"]), strict=True)]
        return x.scale * (oracle.nearest(x.values, _tuple(size)).astype(float) - x.zero)
    return None


class Checker(torch.fx.Interpreter):
    """Counts, for each kernel, outputs and those that are one step, or more, off the oracle."""

    def __init__(self, module):
        super().__init__(module)
        self.seen = {}  # kernel -> [outputs, one step off, worst]
        self.extra_traceback = False

    def run_node(self, n):
        name = kernel_name(n.target)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        quantized = [a for a in args if isinstance(a, torch.Tensor) and a.is_quantized]
        given = [a.clone() if isinstance(a, torch.Tensor) and a.is_quantized else a for a in args]
        value = super().run_node(n)
        if not isinstance(value, torch.Tensor) or not (value.is_quantized or KERNEL.of(n)):
            return value
        if not value.is_quantized:
            self.count_plain(n, args, kwargs, value)
            return value
        if name == "quantize":
            real = args[0].double().numpy()
        elif name and (quantized or name == "cat"):
            real = real_result(name, given, kwargs)
        else:
            return value
        if real is not None:
            self.count(name, value, np.maximum(real, 0) if name.endswith("_relu") else real)
        return value

    def count_plain(self, n, args, kwargs, value):
        if qparams(n) is None:
            return
        name, real = plain.real_of(n, args, kwargs, _same_format)
        if real is not None:
            self.count(name, plain.value_of(n, value), real)

    def count(self, name, value, real):
        value = value if isinstance(value, Q) else q(value)
        expected = oracle.rounded(real, value.scale, value.zero).astype(int)
        off = np.abs(value.values.astype(int) - expected)
        assert off.shape == expected.shape, f"{name}: {off.shape}, not {expected.shape}"
        row = self.seen.setdefault(name, [0, 0, 0])
        row[0] += off.size
        row[1] += int((off == 1).sum())
        row[2] = max(row[2], int(off.max(initial=0)))


def checked(compiled, *inputs):
    """{kernel: [outputs, one step off, worst]} of a compiled model's operators."""
    checker = Checker(compiled.graph_module)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = runtime_engine(before)
    try:
        with torch.no_grad(), quiet():
            checker.run(*inputs)
    finally:
        torch.backends.quantized.engine = before
    return checker.seen


def inputs_of(case, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in case.shapes]


def compiled_for(case, target, runtime="python"):
    torch.manual_seed(zlib.crc32(case.name.encode()) % 1000)
    net, inputs = case.make(), inputs_of(case)
    with torch.no_grad():
        net(*inputs)  # lazy layers take their shape
    net = lively(net)
    with tables(case.kernel == "function"):
        return fxq.compile(net, target=target, scheme=MINMAX, example_inputs=tuple(inputs),
                           calibration_data=[tuple(inputs)] if len(inputs) > 1 else inputs,
                           runtime=runtime), inputs


@contextmanager
def tables(wanted):
    """Functions without a kernel run as tables, whatever the costs are."""
    by_cost = lower_kernels.choose
    if wanted:
        lower_kernels.choose = lambda node, costs: replace(by_cost(node, costs), way=TABLE)
    try:
        yield
    finally:
        lower_kernels.choose = by_cost
