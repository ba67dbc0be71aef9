"""Calls of `fxq.ir.arithmetic`, for the tables of targets that compute on plain integers."""

from __future__ import annotations

from collections.abc import Mapping

from fxq.ir import arithmetic
from fxq.kernels.calls import Call


def _layers() -> dict[str, Call]:
    made = {}
    for rank in (1, 2, 3):
        name = f"conv{rank}d"
        made[name] = Call(name, arithmetic.conv, "layer", rank=rank + 2)
        name = f"conv_transpose{rank}d"
        made[name] = Call(name, arithmetic.conv_transpose, "layer", rank=rank + 2, axis=1)
    return made


INTEGER_CALLS: Mapping[str, Call] = {
    **_layers(),
    "conv2d_add": Call("conv2d_add", arithmetic.conv_add, "layer_add", rank=4),
    "linear": Call("linear", arithmetic.linear, "layer", rank=2),
    "linear_float": Call("linear_float", arithmetic.linear_float, "layer_float", rank=2),
    "linear_dynamic": Call("linear_dynamic", arithmetic.linear_dynamic, "layer_dynamic", rank=2),
    "affine": Call("affine", arithmetic.conv, "affine"),
    "add": Call("add", arithmetic.add, "sum"),
    "mul": Call("mul", arithmetic.multiply, "product"),
    "matmul": Call("matmul", arithmetic.matmul, "matrices"),
    "matmul_float": Call("matmul_float", arithmetic.matmul_float, "matrices_float"),
    "cat": Call("cat", arithmetic.concatenate, "join"),
    "average": Call("average", arithmetic.average, "average"),
    "average_float": Call("average_float", arithmetic.average_float, "average_float"),
    "look_up": Call("look_up", arithmetic.look_up, "function"),
    "select": Call("select", arithmetic.nearest, "select"),
    "enter": Call("enter", arithmetic.enter, "border"),
    "enter_bytes": Call("enter_bytes", arithmetic.enter_bytes, "border"),
    "leave": Call("leave", arithmetic.leave, "border"),
}
