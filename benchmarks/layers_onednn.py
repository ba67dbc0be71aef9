"""The layers of a native program by oneDNN: one call each of torch's quantized operators.

oneDNN's own clocks (its verbose mode) leave out what torch spends around a call. Layers run in the
program's order, each on the results of those before it; what other steps computed are random
numbers. Weights are prepacked, and a ReLU, a residual sum and a table (as a hardswish) are fused
where the program fuses them. Reorders that oneDNN adds count for the layer that they come before.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fxq.kernels.native.structs import FLOAT_OUT, RESIDUAL
from fxq.runtime.native.steps import Step
from fxq.runtime.native.values import Value

LAYERS = ("CONV", "DEPTHWISE")
_MAIN = ("convolution", "inner_product", "matmul")
_IN, _OUT = 0.02, 0.05  # scales: any will do
_Call = Callable[[Tensor, Tensor | None], Tensor]


class Chain:
    """The layers of one image, to run as often as asked; `kernels` are named by the first run."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = [s for s in steps if s.op in LAYERS]
        read = [v for s in self.steps for v in (s.source, s.other) if v is not None]
        self.values = {_key(v): _random(v) for v in read}
        self.calls = [_linear(s) if s.is_flat else _conv(s) for s in self.steps]
        self.kernels: list[str] = []

    def seconds(self) -> list[float]:
        """Of each layer."""
        with _printed() as lines:
            for step, call in zip(self.steps, self.calls, strict=True):
                other = self.values[_key(step.other)] if step.other else None
                self.values[_key(step.result)] = call(self.values[_key(step.source)], other)
        found = list(_layers(lines))
        if len(found) != len(self.calls):
            raise RuntimeError(f"oneDNN ran {len(found)} layers of {len(self.calls)}")
        self.kernels = [name for name, _ in found]
        return [seconds for _, seconds in found]


def _key(value: Value) -> Any:
    return value.storage, value.size


def _random(value: Value) -> Tensor:
    values = torch.randint(0, 256, (1, value.c, value.h, value.w), dtype=torch.uint8)
    return values.contiguous(memory_format=torch.channels_last)


def _weights(step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random weights, their scales and zero points, and a bias."""
    f, outputs = step.fields, step.result.c
    shape = (outputs, step.source.c // f["groups"], f["kh"], f["kw"])
    return (torch.randint(-127, 128, shape, dtype=torch.int8), torch.full((outputs,), 1e-3),
            torch.zeros(outputs, dtype=torch.int32), torch.zeros(outputs))


def _result(step: Step) -> tuple[float, int, torch.dtype]:
    """Scale, zero point and dtype."""
    floats = step.fields.get("flags", 0) & FLOAT_OUT
    return (1.0, 0, torch.float32) if floats else (_OUT, step.fields["zero_out"], torch.uint8)


def _function(step: Step) -> str:
    """What follows the sums; a clamp at the zero point is a ReLU."""
    clamped = step.fields["low"] == step.fields["zero_out"]
    return "hardswish" if step.table is not None else "relu" if clamped else "none"


def _linear(step: Step) -> _Call:
    weight, scales, zeros, bias = _weights(step)
    packed = torch.ops.onednn.qlinear_prepack(weight.flatten(1), [1, step.source.c])

    def call(x: Tensor, _: Tensor | None) -> Tensor:
        result = torch.ops.onednn.qlinear_pointwise(
            x.flatten(1), _IN, step.fields["zero_in"], packed, scales, zeros, bias, *_result(step),
            _function(step), [], "")
        return result[:, :, None, None]
    return call


def _conv(step: Step) -> _Call:
    f, (weight, scales, zeros, bias) = step.fields, _weights(step)
    format_ = (_IN, f["zero_in"])
    window = ([f["sh"], f["sw"]], [f["ph"], f["pw"]], [f["dh"], f["dw"]], f["groups"])
    packed = torch.ops.onednn.qconv_prepack(weight, scales, *format_, *window,
                                            [1, *step.source.size[-1:], *step.source.size[:-1]])
    result, function, operator = _result(step), _function(step), torch.ops.onednn.qconv2d_pointwise
    if f.get("flags", 0) & RESIDUAL:
        rest = (_OUT, f["zero_other"], "sum", 1.0, None if function == "none" else function, [], "")
        return lambda x, other: operator.binary(x, *format_, packed, scales, zeros, other, bias,
                                                *window, *result, *rest)
    return lambda x, _: operator(x, *format_, packed, scales, zeros, bias, *window, *result,
                                 function, [], "")


@contextmanager
def _printed() -> Iterator[list[str]]:
    """The lines that oneDNN prints of each primitive."""
    lines: list[str] = []
    sys.stdout.flush()
    kept = os.dup(1)
    with tempfile.TemporaryFile("w+") as file:
        os.dup2(file.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                yield lines
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        lines += file.read().splitlines()


def _layers(lines: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The kernel and the seconds of each layer."""
    seconds = 0.0
    for line in lines:
        fields = line.split(",")
        if fields[:4] != ["onednn_verbose", "v1", "primitive", "exec"]:
            continue
        seconds += float(fields[-1]) / 1e3
        if fields[5] in _MAIN:
            yield fields[6], seconds
            seconds = 0.0


__all__ = ["LAYERS", "Chain"]
