"""The allow-list: every function that a file may name, and nothing else can be called.

Names are looked up in this table only; no attribute of any module is ever reached by a name that
comes from a file.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from fxq.frontend.nests import parts
from fxq.ir import integers
from fxq.ir.operator_table import each_operator
from fxq.ir.ops import Op

# Functions and methods that fxq leaves in float: pure, and without a size of their own choosing.
_TORCH = (
    "abs", "amax", "amin", "argmax", "argmin", "ceil", "chunk", "clone", "cos", "cumsum",
    "div", "einsum", "eq", "erf", "exp", "flip", "floor", "gather", "ge", "gt", "index_select",
    "le", "log", "logsumexp", "lt", "max", "maximum", "min", "minimum", "movedim", "ne", "neg",
    "norm", "prod", "reciprocal", "round", "rsqrt", "sign", "sin", "split", "sqrt", "square",
    "std", "sum", "topk", "unbind", "unflatten", "var", "where")
_FUNCTIONAL = (
    "celu", "cosine_similarity", "embedding", "fold", "glu", "hardtanh", "instance_norm",
    "local_response_norm", "logsigmoid", "lp_pool2d", "max_pool3d", "normalize",
    "pairwise_distance", "rms_norm", "scaled_dot_product_attention", "selu", "softmin",
    "softsign", "tanhshrink", "threshold", "unfold")
_OPERATORS = (
    "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "invert", "le", "lt", "mod", "mul",
    "ne", "neg", "or_", "pow", "sub", "truediv")
METHODS = frozenset((
    "abs", "amax", "amin", "argmax", "chunk", "clone", "contiguous", "cumsum", "detach", "dim",
    "double", "eq", "exp", "expand", "expand_as", "flatten", "flip", "float", "gather", "ge",
    "gt", "half", "index_select", "le", "log", "long", "lt", "masked_fill", "max", "mean", "min",
    "movedim", "mul", "ne", "neg", "norm", "numel", "permute", "pow", "prod", "reciprocal",
    "repeat", "reshape", "rsqrt", "size", "softmax", "split", "sqrt", "square", "squeeze",
    "std", "sub", "sum", "t", "to", "topk", "transpose", "type_as", "unbind", "unflatten",
    "unsqueeze", "var", "view", "view_as"))
_INTEGERS = ("quantize", "dequantize", "dequantize_weight", "round_at_run_time", "to_dtype",
             "clamp_on_integers")


def _table() -> dict[str, Callable[..., Any]]:
    table = {name: getattr(integers, name) for name in _INTEGERS} | {"parts": parts}
    table |= {f"torch.{name}": getattr(torch, name) for name in _TORCH}
    table |= {f"functional.{name}": getattr(F, name) for name in _FUNCTIONAL}
    return table | {f"operator.{name}": getattr(operator, name) for name in _OPERATORS}


CALLS: dict[str, Callable[..., Any]] = _table()
NAMES: dict[Any, str] = {call: name for name, call in reversed(list(CALLS.items()))}


@each_operator
def _follow(op: Op) -> None:
    """Rows of the operator table, whose names stand for functions that have several."""
    rows = {op.name: op.call}
    if op.name in integers.INTEGER_OPS:
        rows[f"{op.name}_on_integers"] = integers.INTEGER_OPS[op.name]
    CALLS.update(rows)
    NAMES.update({call: name for name, call in rows.items()})
