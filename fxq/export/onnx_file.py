"""A draft as the bytes of an ONNX file, checked by ONNX's own checker."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fxq.artifact.read_graph import from_portable
from fxq.artifact.write_graph import Portable
from fxq.errors import ConfigError, VerificationError, inert
from fxq.export.draft import Call, Constant, Draft, Port
from fxq.export.walk import draft_of
from fxq.ir.digests import digest_graph
from fxq.system.files import write_file
from fxq.system.raw import raw_bytes
from fxq.version import __version__

OPSET = 21  # the first with 4-bit integers, and 16-bit ones in QuantizeLinear
TYPES: Mapping[torch.dtype, str] = {
    torch.float32: "FLOAT", torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16",
    torch.float64: "DOUBLE", torch.uint8: "UINT8", torch.int8: "INT8", torch.int16: "INT16",
    torch.int32: "INT32", torch.int64: "INT64", torch.bool: "BOOL"}


def export_onnx(path: Path, portable: Portable, names: tuple[str, ...],
                facts: Mapping[str, str]) -> None:
    """Write a graph as an ONNX file in one step; `names` are those of its inputs.

    `facts` go into the file's metadata, beside fxq's version and the graph's digest. The same
    graph gives the same bytes. Raises ConfigError for another ending, where `onnx` is not
    installed, or for a place that cannot be written; UnsupportedOpError for operators that ONNX
    cannot say.
    """
    if path.suffix != ".onnx":
        raise ConfigError(f"{path} cannot be exported to", why="its ending chooses the form",
                          fix="name it like model.onnx")
    onnx, module = _library(), from_portable(portable)
    for node in module.graph.nodes:  # in the order that files have them
        node.kwargs = dict(sorted(node.kwargs.items()))
    facts = {"version": __version__, **facts, "digest": digest_graph(module)}
    write_file(path, to_bytes(draft_of(module, names), facts, onnx))


def _library() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ConfigError("onnx is not installed", why="it writes and checks the file",
                          fix="pip install fxq[onnx]") from error


def to_bytes(draft: Draft, facts: Mapping[str, str], onnx: Any) -> bytes:
    """The file; raises VerificationError where ONNX's checker finds a fault."""
    helper = onnx.helper
    graph = helper.make_graph(
        [_node(call, onnx) for call in draft.calls], "fxq",
        [_port(port, onnx) for port in draft.inputs],
        [_port(port, onnx) for port in draft.outputs],
        [_initializer(constant, onnx) for constant in draft.constants])
    model = helper.make_model(
        graph, producer_name="fxq", producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", OPSET)]))
    helper.set_model_props(model, {f"fxq.{k}": inert(v) for k, v in sorted(facts.items())})
    try:  # with strict shape inference
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError("the ONNX graph is not valid", why=str(error)[:600],
                                fix="please report this, with the model") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _type(dtype: torch.dtype, onnx: Any) -> int:
    return int(onnx.TensorProto.DataType.Value(TYPES[dtype]))


def _node(call: Call, onnx: Any) -> Any:
    attributes = {k: _type(v, onnx) if isinstance(v, torch.dtype) else v
                  for k, v in call.attributes.items()}
    return onnx.helper.make_node(call.op, call.inputs, call.outputs, name=call.outputs[0],
                                 **attributes)


def _port(port: Port, onnx: Any) -> Any:
    return onnx.helper.make_tensor_value_info(port.name, _type(port.dtype, onnx), port.shape)


def _initializer(constant: Constant, onnx: Any) -> Any:
    name, tensor = constant.name, constant.tensor
    if constant.nibbles:
        return onnx.helper.make_tensor(name, onnx.TensorProto.INT4, tensor.shape,
                                       tensor.flatten().tolist())
    return onnx.helper.make_tensor(name, _type(tensor.dtype, onnx), tensor.shape,
                                   raw_bytes(tensor), raw=True)
