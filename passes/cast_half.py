"""cast-half: float operators compute in half precision.

    y = conv2d(x, w, b)      ->      y = conv2d(to_dtype(x, f16), w16, b16)

  1. The scheme is one of half precision, and no override leaves the node in float32.
  2. No value that it reads or makes was seen beyond what float16 can hold with room to spare
     (6e4 of 65504), and no weight lies there; nor are all of its numbers below the smallest
     normal float16, where it loses bits. bfloat16 has the range of float32.

Where the machine has no half-precision arithmetic, layers are emulated: their half-precision
operands are widened, multiplied in float32, and the result is rounded back.

Results go back to float32 where the model returns them, or where a float32 node reads them.
Every node that stays in float32 is a refusal with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.overrides import scheme_of
from fxq.ir import integers
from fxq.ir.facts import info, set_info, tensor_inputs, unfolded
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import PassResult, Rewriter, constant_of
from fxq.ir.stages import Effect, Stage
from fxq.passes.base import Pass
from fxq.passes.convert import drop_observers
from fxq.quantization.schemes import Mode

LARGEST = 6e4
SMALLEST = 2.0**-14


@dataclass(frozen=True)
class CastHalf(Pass):
    """Half-precision weights and arithmetic, float32 where range or the user asks for it."""

    name: ClassVar[str] = "cast-half"
    before: ClassVar[Stage] = Stage.OBSERVED
    after: ClassVar[Stage] = Stage.LOWERED
    effect: ClassVar[Effect] = Effect.QUANTIZING

    def run(self, module: fx.GraphModule, context: Context) -> PassResult:
        rewriter = Rewriter(module)
        drop_observers(rewriter)
        dtype = getattr(torch, context.scheme.half)
        nodes = [n for n in module.graph.nodes if n.op.startswith("call_")
                 and info(n).is_float_tensor and n.target is not integers.to_dtype]
        chosen = set()
        for node in nodes:
            reason = why_not_half(node, dtype, context)
            if reason:
                rewriter.refuse(node, *reason)
            else:
                chosen.add(node)
        casts: dict[tuple[Node, torch.dtype], Node] = {}
        for node in nodes:
            _read_as(node, dtype if node in chosen else torch.float32, chosen, casts, rewriter)
            if node in chosen:
                set_info(node, replace(info(node), dtype=dtype))
                if not context.native_half and op_of(node).kind is Kind.MAC:  # type: ignore[union-attr]
                    _emulate(node, dtype, rewriter)
        _return_floats(module, casts, rewriter)
        return rewriter.result()


def why_not_half(node: Node, dtype: torch.dtype, context: Context) -> tuple[str, str] | None:
    """(code, reason) why a node stays in float32, or None."""
    op = op_of(node)
    if scheme_of(node, context.scheme).mode is not Mode.HALF:
        return "override", "the scheme's overrides keep it in float32"
    if op is None:
        return "opaque", "fxq does not know this operator"
    if info(node).dtype is not torch.float32:
        return "dtype", "it computes in another type already"
    if dtype is torch.bfloat16 or op.kind is Kind.SHAPE:
        return None
    bias = node.args[2] if op.kind is Kind.MAC and len(node.args) > 2 else None
    sizes = [(_largest(n, context), n is bias) for n in (node, *tensor_inputs(node))]
    largest = max(size for size, _ in sizes)
    if largest > LARGEST:
        return "range", f"values up to {largest:.3g} leave no room in float16 (65504)"
    least = min((size for size, is_bias in sizes if size and not is_bias), default=1.0)
    if least < SMALLEST:
        return "range", f"values up to {least:.3g} lose their bits in float16 (6.1e-5)"
    return None


def _largest(node: Node, context: Context) -> float:
    """The largest magnitude of a weight, or of a value that was observed."""
    tensor = constant_of(node)
    if tensor is not None:
        return float(tensor.abs().max()) if tensor.numel() and tensor.is_floating_point() else 0.0
    known = context.statistics.get(info(node).value)
    seen = max(-known.minimum, known.maximum) if known is not None and known.seen else 0.0
    return max(seen, _behind_norm(node))


def _behind_norm(node: Node) -> float:
    """What a batch norm makes of values six standard deviations from their mean."""
    origin = unfolded(node)
    if origin is None or origin.norm.weight is None:
        return 0.0
    bias = 0.0 if origin.norm.bias is None else origin.norm.bias.detach().abs()
    return float((bias + 6 * origin.norm.weight.detach().abs()).max())


def _read_as(node: Node, dtype: torch.dtype, chosen: set[Node],
             casts: dict[tuple[Node, torch.dtype], Node], rewriter: Rewriter) -> None:
    """Make all float operands of a node arrive in one type."""
    for source in dict.fromkeys(tensor_inputs(node)):
        tensor = constant_of(source)
        if tensor is not None:
            if dtype is not tensor.dtype and tensor.dtype is torch.float32:
                node.replace_input_with(source, _half_constant(source, tensor, dtype, rewriter))
        elif _type_of(source) not in (None, dtype):
            node.replace_input_with(source, _cast(source, dtype, casts, rewriter))
    if node in chosen:
        rewriter.note(node, str(dtype).removeprefix("torch."))


def _emulate(node: Node, dtype: torch.dtype, rewriter: Rewriter) -> None:
    """Widen the operands, and round the result: what half-precision units with float32 sums do."""
    for source in dict.fromkeys(tensor_inputs(node)):
        wide = rewriter.call(integers.to_dtype, (source,), {"dtype": torch.float32}, like=source,
                             before=node, value=replace(info(source), dtype=torch.float32,
                                                        is_module=False))
        node.replace_input_with(source, wide)
    readers = list(node.users)
    rounded = rewriter.call(integers.to_dtype, (node,), {"dtype": dtype}, like=node,
                            value=replace(info(node), is_module=False))
    set_info(node, replace(info(node), dtype=torch.float32))
    rewriter.insert_between(node, readers, rounded)


def _half_constant(source: Node, tensor: Tensor, dtype: torch.dtype, rewriter: Rewriter) -> Node:
    new = rewriter.constant(f"{source.target}.half", tensor.to(dtype), source)
    set_info(new, replace(info(source), dtype=dtype))
    return new


def _type_of(node: Node) -> torch.dtype | None:
    """The floating type of a value, or None for everything else."""
    return info(node).dtype if info(node).is_float_tensor else None


def _cast(source: Node, dtype: torch.dtype, casts: dict[tuple[Node, torch.dtype], Node],
          rewriter: Rewriter) -> Node:
    if (source, dtype) not in casts:
        casts[source, dtype] = rewriter.call(
            integers.to_dtype, (source,), {"dtype": dtype}, like=source,
            value=replace(info(source), dtype=dtype, is_module=False))
    return casts[source, dtype]


def _return_floats(module: fx.GraphModule, casts: dict[tuple[Node, torch.dtype], Node],
                   rewriter: Rewriter) -> None:
    output = next(n for n in module.graph.nodes if n.op == "output")
    for source in dict.fromkeys(output.all_input_nodes):
        if _type_of(source) not in (None, torch.float32):
            output.replace_input_with(source, _cast(source, torch.float32, casts, rewriter))
