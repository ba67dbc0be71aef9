"""The shapes that a graph makes of its inputs' shapes: what the float model refuses, refuses here.

The program is derived from the graph before it is lowered, so a file's graph gives the same one.
Formats are left out: an operator on integers takes and gives the shapes of its float form. The
common operators follow the rules of `artifact/shapes.py`; what these do not cover is computed on
zeros, whose errors are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.artifact.meta_layers import made
from fxq.artifact.meta_shapes import RULES
from fxq.errors import FxqError
from fxq.ir import integers
from fxq.ir.facts import PLACE, info
from fxq.ir.ops import OPS, SPLITTERS
from fxq.ir.rewriter import constant_of, label

Shape = tuple[int, ...]
_FORMATS = (integers.quantize, integers.dequantize, integers.round_at_run_time,
            integers.clamp_on_integers)
_OWN = ("torch", "fxq", "_operator", "math", "builtins")  # whose functions have no effects


class Refused(FxqError):
    """The float model refuses such shapes: at which line, and why."""


UNKNOWN = object()  # a value whose shape only the call itself can tell
_NONE: Mapping[int, Shape] = {}


@dataclass(frozen=True)
class _Ref:
    place: int


@dataclass(frozen=True)
class Step:
    """One operator: its rule, its function, and its operands as places of earlier values.

    `parts` is how many parts a splitter must give, when the graph reads all of them; `channels`
    how many a part of the channels was cut from.
    """

    place: int
    call: Callable[..., Any] | None  # None: the user's own code, which is never run for shapes
    args: Any
    kwargs: dict[str, Any]
    name: str
    where: str
    parts: int | None = None
    channels: int | None = None

    def result(self, values: Sequence[Any]) -> Any:
        """The shape-only result; raises Refused where float would raise."""
        operands = [_fill(a, values) for a in self.args]
        kwargs = {k: _fill(v, values) for k, v in self.kwargs.items()}
        if self.call is None or _any_unknown(operands) or _any_unknown(list(kwargs.values())):
            return UNKNOWN
        try:
            made_ = _result(self.call, operands, kwargs)
            self._check(made_, operands)
        except Exception as error:  # whatever torch raises for these shapes
            text = str(error).strip().split("\n")[0][:300]
            raise Refused("the shapes do not fit", where=self.where,
                          why=f"{self.name}: {text}") from error
        return made_

    def _check(self, result: Any, operands: list[Any]) -> None:
        if self.parts is not None and len(result) != self.parts:
            raise ValueError(f"{len(result)} parts, and the model reads {self.parts}")
        if self.channels is not None and operands[0].shape[1] != self.channels:
            raise ValueError(f"{operands[0].shape[1]} channels, and the model splits "
                             f"{self.channels}")


def _fill(value: Any, values: Sequence[Any]) -> Any:
    kind = type(value)
    if kind is _Ref:
        return values[value.place]
    if kind is tuple or kind is list:
        return kind([_fill(v, values) for v in value])
    if kind is slice:
        return slice(*(_fill(v, values) for v in (value.start, value.stop, value.step)))
    return value


def _any_unknown(values: Any) -> bool:
    return any(v is UNKNOWN or (isinstance(v, list | tuple) and _any_unknown(v)) for v in values)


def _map(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`change` on every tensor of a nested value."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, list | tuple):
        return tuple(_map(v, change) for v in value) if isinstance(value, tuple) else [
            _map(v, change) for v in value]
    return value


def _result(call: Callable[..., Any], operands: list[Any], kwargs: dict[str, Any]) -> Any:
    rule: Callable[..., Any] | None = _MORE.get(call, RULES.get(call))
    if type(call) is nn.MultiheadAttention:
        rule = partial(_attention, call)
    known = rule(*operands, **kwargs) if rule else None
    if known is not None:
        return known
    if call in _VIEWS:
        return call(*operands, **kwargs)
    zeros = [_map(v, _zeros) for v in operands]
    result = call(*zeros, **{k: _map(v, _zeros) for k, v in kwargs.items()})
    return _map(result, lambda t: made(t.shape, t.dtype))


def _zeros(value: Tensor) -> Tensor:
    return torch.zeros(value.shape, dtype=value.dtype, device="cpu") if value.is_meta else value


@dataclass(frozen=True)
class Outcome:
    """What a graph gives for some shapes: its outputs, and whether any value has no element."""

    outputs: tuple[Any, ...]
    empty: bool


@dataclass(frozen=True)
class ShapeProgram:
    """A graph's operators on shapes; every value has a place, the inputs the first ones.

    `sources` are the values whose shapes only a call can tell, and their types.
    """

    inputs: tuple[tuple[Shape, torch.dtype], ...]  # those of the example
    constants: Mapping[int, Any]
    sources: Mapping[int, torch.dtype]
    steps: tuple[Step, ...]
    outputs: tuple[Any, ...]
    count: int

    def run(self, shapes: Sequence[Shape], seen: Mapping[int, Shape] = _NONE) -> Outcome:
        """The outputs for inputs, and values seen at run time, of these shapes.

        Raises Refused where float would raise; what needs a value not yet seen is UNKNOWN.
        """
        values: list[Any] = [UNKNOWN] * self.count
        for place, (shape, (_, dtype)) in enumerate(zip(shapes, self.inputs, strict=True)):
            values[place] = made(shape, dtype)
        for place, value in self.constants.items():
            values[place] = value
        for place, shape in seen.items():
            values[place] = made(shape, self.sources[place])
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            for step in self.steps:
                values[step.place] = step.result(values)
        computed = (*range(len(self.inputs)), *seen, *(s.place for s in self.steps))
        return Outcome(tuple(_fill(v, values) for v in self.outputs),
                       any(_is_empty(values[p]) for p in computed))

    def accepts(self, shapes: Sequence[Shape]) -> bool:
        """The graph takes inputs of these shapes."""
        try:
            self.run(shapes)
        except Refused:
            return False
        return True


def _is_empty(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 0
    return isinstance(value, list | tuple) and any(map(_is_empty, value))


def shape_program(module: fx.GraphModule) -> ShapeProgram:
    """The program of a graph that is not lowered yet, whose nodes know the example's shapes.

    Nodes whose shapes only a call can tell are marked, for `place_of`.
    """
    maker = _Maker(module)
    for node in module.graph.nodes:
        maker.add(node)
    output: Any = next(n for n in module.graph.nodes if n.op == "output").args[0]
    return ShapeProgram(tuple(maker.inputs), maker.constants, maker.sources, tuple(maker.steps),
                        tuple(_refer(output, maker.places)), len(maker.values))


class _Maker:
    """Turns nodes into steps, one after the other, beside their values for the example."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.inputs = [(tuple(info(n).shape or ()), info(n).dtype or torch.float32)
                       for n in module.graph.nodes if n.op == "placeholder"]
        self.places: dict[Node, int] = {}
        self.values: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.sources: dict[int, torch.dtype] = {}
        self.steps: list[Step] = []

    def add(self, node: Node) -> None:
        if node.op == "output":
            return
        if node.target in _FORMATS:
            self.places[node] = self.places[node.args[0]]  # type: ignore[index]
            return
        place = self.places[node] = len(self.values)
        if node.op == "placeholder":
            self.values.append(made(*self.inputs[place]))
        elif node.op == "get_attr":
            self.values.append(_constant(node))
            self.constants[place] = self.values[place]
        else:
            self._add_call(node, place)

    def _add_call(self, node: Node, place: int) -> None:
        step = _step(node, self.places, self.module)
        value = _on_example(step, node, self.values)
        if value is UNKNOWN:
            self._add_source(node, place)
            return
        self.values.append(value)
        if all(self.places[n] in self.constants for n in node.all_input_nodes):
            self.constants[place] = value
        else:
            self.steps.append(_demanding(step, node, value))

    def _add_source(self, node: Node, place: int) -> None:
        known = info(node)
        if known.shape is None or known.dtype is None:
            self.values.append(UNKNOWN)
            return
        self.values.append(made(known.shape, known.dtype))
        self.sources[place] = known.dtype
        PLACE.set(node, place)


def _constant(node: Node) -> Any:
    """Floats by shape alone, so that no weight is kept; integers may be indices, and stay."""
    tensor = constant_of(node)
    if tensor is None:
        return UNKNOWN
    if tensor.is_floating_point() or tensor.dtype in (torch.int8, torch.uint8):
        return made(tensor.shape, tensor.dtype)
    return tensor.detach().cpu()


def _step(node: Node, places: Mapping[Node, int], module: fx.GraphModule) -> Step:
    op = integers.float_op_of(node)
    kwargs = {k: v for k, v in node.kwargs.items() if not (op and k == "zero_point")}
    call = op.call if op else _call_of(node, module)
    return Step(places[node], call, _refer(node.args, places),
                {k: _refer(v, places) for k, v in kwargs.items()}, label(node), info(node).source)


def _call_of(node: Node, module: fx.GraphModule) -> Callable[..., Any] | None:
    """What computes the node; None for the user's own code."""
    call: Any = node.target
    if node.op == "call_module":
        call = module.get_submodule(str(node.target))
    elif node.op == "call_method":
        call = getattr(Tensor, str(node.target))
    home = getattr(type(call) if node.op == "call_module" else call, "__module__", "") or "torch"
    return call if home.split(".")[0] in _OWN else None


def _refer(value: Any, places: Mapping[Node, int]) -> Any:
    if isinstance(value, Node):
        return _Ref(places[value])
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return kind([_refer(v, places) for v in value])
    if isinstance(value, slice):
        return slice(*(_refer(v, places) for v in (value.start, value.stop, value.step)))
    return value


def _on_example(step: Step, node: Node, values: list[Any]) -> Any:
    """The value for the example; unknown when shapes alone do not tell what was recorded."""
    try:
        value = step.result(values)
    except Refused:
        return UNKNOWN
    shape = info(node).shape
    told = shape is None or (isinstance(value, Tensor) and tuple(value.shape) == shape)
    return value if told else UNKNOWN


def _demanding(step: Step, node: Node, value: Any) -> Step:
    """The step with what the trace has fixed: the parts that are read, the channels split."""
    if isinstance(value, list | tuple) and node.target in (*SPLITTERS, torch.unbind, "unbind"):
        read = [n.kwargs.get("index", (None, *n.args)[-1]) for n in node.users]
        if all(i in read for i in range(len(value))):
            return replace(step, parts=len(value))
    if step.call is OPS["narrow"].call and node.kwargs.get("dim") == 1:
        source = node.all_input_nodes[0]
        return replace(step, channels=(info(source).shape or (0, 0))[1])
    return step


def _transposed(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Any = 1,
                padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
                **_: Any) -> Tensor | None:
    """From N×C×sizes and C×O/groups×kernel, as torch's documentation has it."""
    rank = weight.dim() - 2
    if input.dim() != weight.dim() or 0 in input.shape:
        return None
    if input.shape[1] != weight.shape[0]:
        raise ValueError(f"{input.shape[1]} channels and weights of {list(weight.shape)}")
    geometry = [v if isinstance(v, tuple | list) else (v,) * rank
                for v in (stride, padding, output_padding, dilation)]
    sizes = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, o, d in zip(
        input.shape[2:], weight.shape[2:], *geometry, strict=True)]
    if min(sizes) < 1:
        raise ValueError(f"the result would have the sizes {sizes}")
    return made((input.shape[0], weight.shape[1] * groups, *sizes), input.dtype)


def _attention(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor,
               key_padding_mask: Tensor | None = None, need_weights: bool = True,
               attn_mask: Tensor | None = None, average_attn_weights: bool = True,
               **_: Any) -> tuple[Tensor, Tensor | None] | None:
    """torch's own module: queries and keys of the same batch, and a result like the queries."""
    width, (batch, length) = module.embed_dim, (0, 1) if module.batch_first else (1, 0)
    if query.dim() != 3 or 0 in query.shape or key_padding_mask is not None or (
            attn_mask is not None) or not module._qkv_same_embed_dim:
        return None
    if query.shape[2] != width or any(
            v.shape != (*query.shape[:length], key.shape[length], *query.shape[length + 1:])
            for v in (key, value)):
        raise ValueError(f"attention of width {width} over {list(query.shape)}, "
                         f"{list(key.shape)} and {list(value.shape)}")
    sizes = (query.shape[batch], query.shape[length], key.shape[length])
    heads = sizes if average_attn_weights else (sizes[0], module.num_heads, *sizes[1:])
    return made(query.shape, query.dtype), made(heads, query.dtype) if need_weights else None


def _normalized(input: Tensor, *parameters: Tensor | None, **attributes: Any) -> Tensor | None:
    """A batch norm, which asks nothing of a tensor without elements (as torch's)."""
    if 0 in input.shape:
        return made(input.shape, input.dtype)
    return RULES[OPS["affine"].call](input, *parameters, **attributes)


def _matmul(input: Tensor, other: Tensor) -> Tensor | None:
    """Matrices in the last two dimensions, the others broadcast."""
    if input.dim() < 2 or other.dim() < 2 or input.dtype != other.dtype:
        return None
    if input.shape[-1] != other.shape[-2]:
        raise ValueError(f"{list(input.shape)} times {list(other.shape)}")
    batch = torch.broadcast_shapes(input.shape[:-2], other.shape[:-2])  # type: ignore[no-untyped-call]
    return made((*batch, input.shape[-2], other.shape[-1]), input.dtype)


_VIEWS = {OPS[name].call for name in (
    "flatten", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "narrow", "contiguous",
    "size")} | {getattr}
_MORE: Mapping[Any, Callable[..., Tensor | None]] = {
    **{OPS[f"conv_transpose{n}d{end}"].call: _transposed
       for n in (1, 2, 3) for end in ("", "_relu", "_clamp")}, OPS["matmul"].call: _matmul,
    **{OPS[name].call: _normalized
       for name in ("batch_norm", "affine", "affine_relu", "affine_clamp")}}


def place_of(node: Node) -> int | None:
    """The place of a value whose shape only a call can tell, or None."""
    return PLACE.of(node)


__all__ = ["UNKNOWN", "Outcome", "Refused", "ShapeProgram", "place_of", "shape_program"]
