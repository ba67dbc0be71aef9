"""A target with a call of its own: hardswish as a table, which torch's engine does not change."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fxq.kernels.calls import Call
from fxq.targets import Kernel
from fxq.targets.fbgemm import FBGEMM


def table_hardswish(input: Tensor, scale: float, zero_point: int) -> Tensor:
    """quint8 in and out: the 256 results are computed at each call, and looked up."""
    every = torch._make_per_tensor_quantized_tensor(
        torch.arange(256, dtype=torch.uint8), input.q_scale(), input.q_zero_point())
    results = torch.quantize_per_tensor(F.hardswish(every.dequantize()), scale, zero_point,
                                        torch.quint8)
    values = results.int_repr()[input.int_repr().long()]
    return torch._make_per_tensor_quantized_tensor(values, scale, zero_point)


TOY = replace(FBGEMM, name="toy", summary="FBGEMM with a hardswish of its own", kernels=(
    Kernel("hardswish", Call("table_hardswish", table_hardswish, "scaled")),
    *(row for row in FBGEMM.kernels if row.op != "hardswish")))
