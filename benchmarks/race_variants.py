"""What runs in a race: each builder gives a function of no arguments that infers one batch.

    VARIANTS["ov_int8"](model, x, calibration, threads)()

All take the same model, the same batch and the same calibration batches. The tools are optional:
a variant whose tool is not installed is reported as such.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import frozen, torch_ao
from torch import Tensor, nn

import fxq

Call = Callable[[], Any]
Build = Callable[[nn.Module, Tensor, Sequence[Tensor], int], Call]


def _eager(model: nn.Module, x: Tensor, *_: Any, last: bool = False) -> Call:
    if last:
        model, x = (v.to(memory_format=torch.channels_last) for v in (model, x))
    return partial(model, x)


def _torchscript(model: nn.Module, x: Tensor, *_: Any) -> Call:
    traced = torch.jit.optimize_for_inference(torch.jit.trace(model, x))
    for _ in range(2):
        traced(x)
    return partial(traced, x)


def _torch_ao(engine: str, model: nn.Module, x: Tensor, calibration: Sequence[Tensor],
              _: int) -> Call:
    return partial(frozen(torch_ao(model, calibration, engine), x), x)


def _pt2e(model: nn.Module, x: Tensor, calibration: Sequence[Tensor], _: int) -> Call:
    import torch._inductor.config as inductor
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as rules

    quantizer = rules.X86InductorQuantizer()
    quantizer.set_global(rules.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    for batch in calibration:
        prepared(batch)
    inductor.freezing = True
    compiled = torch.compile(convert_pt2e(prepared))
    for _ in range(2):
        compiled(x)
    return partial(compiled, x)


def _executorch(model: nn.Module, x: Tensor, calibration: Sequence[Tensor], threads: int) -> Call:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as rules
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = rules.XNNPACKQuantizer()
    quantizer.set_global(rules.get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    for batch in calibration:
        prepared(batch)
    exported = torch.export.export(convert_pt2e(prepared), (x,))
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    _unsafe_reset_threadpool(threads)
    buffer = program.to_executorch().buffer
    loaded = Runtime.get().load_program(buffer)
    method = loaded.load_method("forward")
    return lambda kept=(buffer, loaded): method.execute((x,))  # which keeps no reference to them


def onnx_file(model: nn.Module, x: Tensor) -> Path:
    """The float model as torch's exporter writes it, for inputs of this shape."""
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    torch.onnx.export(model, (x,), str(path), dynamo=True, verbose=False, external_data=False)
    return path


def _onnx_runtime(model: nn.Module, x: Tensor, calibration: Sequence[Tensor], threads: int,
                  int8: bool) -> Call:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = onnx_file(model, x)
    if int8:
        name = onnx.load(path).graph.input[0].name

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            batches = iter([{name: batch.numpy()} for batch in calibration])

            def get_next(self) -> Any:
                return next(self.batches, None)

        clean, quantized = (str(path.with_name(n)) for n in ("clean.onnx", "int8.onnx"))
        quant_pre_process(str(path), clean, skip_symbolic_shape=True)
        quantize_static(clean, quantized, Reader(), per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        path = Path(quantized)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return partial(session.run, None, feed)


def _openvino(model: nn.Module, x: Tensor, calibration: Sequence[Tensor], threads: int,
              int8: bool) -> Call:
    import openvino

    converted = openvino.convert_model(str(onnx_file(model, x)))
    if int8:
        import nncf

        converted = nncf.quantize(converted, nncf.Dataset([b.numpy() for b in calibration]),
                                  subset_size=len(calibration))
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
               "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    return partial(request.infer, [x.numpy()])


def _fxq(target: str, model: nn.Module, x: Tensor, calibration: Sequence[Tensor], _: int) -> Call:
    compiled = fxq.compile(model, target=target, example_inputs=(x[:1],),
                           calibration_data=calibration, verify=False)
    compiled(x)
    return partial(compiled, x)


VARIANTS: Mapping[str, Build] = {
    "eager": _eager, "eager_channels_last": partial(_eager, last=True),
    "torchscript": _torchscript, "torch_ao_fbgemm": partial(_torch_ao, "fbgemm"),
    "torch_ao_x86": partial(_torch_ao, "x86"), "pt2e_inductor": _pt2e,
    "executorch_xnnpack": _executorch,
    "ort_float": partial(_onnx_runtime, int8=False), "ort_int8": partial(_onnx_runtime, int8=True),
    "ov_float": partial(_openvino, int8=False), "ov_int8": partial(_openvino, int8=True),
    **{f"fxq_{name}": partial(_fxq, name) for name in ("native", "x86", "fbgemm", "qnnpack")},
}
