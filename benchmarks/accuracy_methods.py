"""What the accuracy table compares: each method makes a function from images to logits.

    METHODS["best native"].build(model, data)(images)

All methods use the same calibration images. Peers are optional: a method whose tool is not
installed has no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import torch_ao
from race_variants import onnx_file
from torch import Tensor, nn

import fxq
from fxq.quantization.formats import signed
from fxq.quantization.schemes import SCHEMES
from fxq.quantization.statistics import Statistics

Infer = Callable[[Tensor], Tensor]
TARGETS = ("fbgemm", "x86", "qnnpack", "native")


@dataclass(frozen=True)
class Data:
    """One image for the trace, the calibration batches, and what calibration saw in them."""

    example: Tensor
    batches: list[Tensor]
    statistics: Statistics


Build = Callable[[nn.Module, Data], Infer]


@dataclass(frozen=True)
class Method:
    """How a row is made, and for which models: those whose name starts with `models`."""

    build: Build
    models: str = ""


def _plain(model: nn.Module, data: Data, **options: Any) -> Infer:
    return fxq.compile(model, example_inputs=(data.example,), statistics=data.statistics, **options)


def _best(model: nn.Module, data: Data, **options: Any) -> Infer:
    return fxq.compile(model, example_inputs=(data.example,), calibration_data=data.batches,
                       accuracy="best", **options)


def _without_data(model: nn.Module, data: Data, **options: Any) -> Infer:
    return fxq.compile(model, example_inputs=(data.example,), **options)


def _torch_ao(model: nn.Module, data: Data) -> Infer:
    return torch_ao(model, data.batches)


def _nncf(model: nn.Module, data: Data) -> Infer:
    """NNCF's defaults, image by image, run by OpenVINO with float32 between its integers."""
    import nncf
    import openvino

    images = torch.cat(data.batches).split(1)
    quantized = nncf.quantize(openvino.convert_model(str(onnx_file(model, data.example))),
                              nncf.Dataset([image.numpy() for image in images]),
                              subset_size=len(images))
    run = openvino.Core().compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: torch.cat([torch.from_numpy(run([x.numpy()])[0]) for x in batch.split(1)])


def _with(build: Callable[..., Infer], models: str = "", **options: Any) -> Method:
    return Method(lambda model, data: build(model, data, **options), models)


PER_TENSOR = replace(SCHEMES["int8_static"], name="int8 per tensor", weight=signed(8))
METHODS: Mapping[str, Method] = {
    "fp32 fbgemm": _with(_plain, target="fbgemm", scheme="fp32"),
    **{f"int8_static {t}": _with(_plain, target=t) for t in TARGETS},
    **{f"int8_static {t} isa=any": _with(_plain, target=t, isa="any") for t in ("fbgemm", "x86")},
    **{f"best {t}": _with(_best, target=t) for t in TARGETS},
    "without data native": _with(_without_data, target="native"),
    "weights per tensor native": _with(_plain, "mobilenet", target="native", scheme=PER_TENSOR),
    "weights per tensor, best native": _with(_best, "mobilenet", target="native",
                                             scheme=PER_TENSOR),
    "W4A8 native": _with(_plain, target="native", scheme="W4A8"),
    "W4A8 best native": _with(_best, target="native", scheme="W4A8"),
    "W4A4 native": _with(_plain, "cifar", target="native", scheme="W4A4"),
    "W4A4 best native": _with(_best, "cifar", target="native", scheme="W4A4"),
    "torch.ao fbgemm": Method(_torch_ao),
    "NNCF in OpenVINO": Method(_nncf),
}
PEERS = ("torch.ao fbgemm", "NNCF in OpenVINO")
