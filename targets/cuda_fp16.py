"""cuda_fp16: half precision on NVIDIA GPUs, fused and in channels_last.

No kernel table: torch's own operators compute in float16. Integers are refused, because torch has
no int8 convolution for CUDA.
"""

from __future__ import annotations

from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode
from fxq.targets.base import Target

_NO_INT8 = "torch has no int8 convolution for CUDA"

CUDA_FP16 = Target(
    name="cuda_fp16",
    summary="half precision on NVIDIA GPUs",
    engine=None,
    device="cuda",
    activation=QSpec(0, 255),
    weight=QSpec(-128, 127, symmetric=True, per_channel=True),
    kernels=(),
    refused_modes={Mode.STATIC: _NO_INT8, Mode.DYNAMIC: _NO_INT8,
                   Mode.WEIGHT_ONLY: "integer weights would be widened at every call"},
)
