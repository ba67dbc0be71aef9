"""A part of a LOWERED graph that runs as one call; programs are made for each shape and stride."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir.rewriter import constant_of
from fxq.kernels.native import library
from fxq.kernels.native.structs import EXTERNAL, SLACK
from fxq.runtime.native.emit import EMIT, WRITERS
from fxq.runtime.native.plan import Plan, images_of, zero_of
from fxq.runtime.native.segments import Part, alone
from fxq.runtime.native.steps import Step, Unplanned
from fxq.runtime.native.values import Value
from fxq.runtime.native.variants import digest_of, known
from fxq.runtime.python import Function, build

MOST_PROGRAMS = 32  # that one part keeps; the oldest go first
_LAYERS = ("CONV", "DEPTHWISE", "TRANSPOSED", "RESCALE")


class Segment:
    """Computes a part's outputs: a program for inputs of each shape, or torch where none fits."""

    def __init__(self, module: fx.GraphModule, part: Part) -> None:
        self.module, self.part, self.__name__ = module, part, "native_program"
        self.programs: dict[Any, Callable[..., Any]] = {}
        self.layers: dict[Node, library.Layer] = {}
        self.reason = ""  # why some inputs got no program
        self._lock = threading.Lock()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.part.rows:
            return self._of_rows(tensors)
        key = tuple([(t.shape, t.stride()) for t in tensors])
        try:
            call = self.programs[key]
        except KeyError:
            call = self._make(key, tensors)
        return call(*tensors)  # type: ignore[no-any-return]

    def _of_rows(self, tensors: Sequence[Tensor],
                 linked: Callable[..., Any] | None = None) -> tuple[Tensor, ...]:
        """All dimensions but the last as one, and back."""
        outer, flat = tensors[0].shape[:-1], _rows(tensors)
        key = tuple([(t.shape, t.stride()) for t in flat])
        call = linked or self.programs.get(key) or self._make(key, flat)
        return tuple([t.view(*outer, t.shape[-1]) for t in call(*flat)])

    def through(self, linked: Linked, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What `linked`, a program of this part, makes of a caller's tensors."""
        return self._of_rows(tensors, linked) if self.part.rows else linked(*tensors)

    def _make(self, key: Any, tensors: Sequence[Tensor]) -> Callable[..., Any]:
        with self._lock:
            try:
                call: Callable[..., Any] = self.link(tensors)
            except Unplanned as error:
                self.reason, call = str(error), self._in_torch
            if len(self.programs) >= MOST_PROGRAMS:
                self.programs.pop(next(iter(self.programs)))
            self.programs[key] = call
            return call

    @cached_property
    def _in_torch(self) -> Function:
        return build(alone(self.module, self.part))  # type: ignore[arg-type]

    def link(self, tensors: Sequence[Tensor]) -> Linked:
        """The program for such inputs. Raises Unplanned."""
        tensors = _rows(tensors) if self.part.rows else tensors
        plan = self.plan([_channels_last(t) for t in tensors])
        turned = [i for i, t in enumerate(tensors) if t.dtype is torch.uint8]
        return Linked(plan, [self._layer(s) for s in plan.steps], len(tensors), turned)

    def plan(self, tensors: Sequence[Tensor]) -> Plan:
        """The values and steps for such inputs. Raises Unplanned."""
        inputs = dict(zip(self.part.inputs, tensors, strict=True))
        plan = Plan(self.part.nodes, self.part.outputs, images_of(inputs), WRITERS,
                    self.part.rows)
        for node, tensor in inputs.items():
            value = plan.external(tensor.shape, tensor.stride(), tensor.element_size(),
                                  zero_of(node))
            plan.values[node] = value if tensor.is_floating_point() else _import(plan, node, value)
        for node in self.part.nodes:
            EMIT[node.target](plan, node)
        for node in self.part.outputs:
            _export(plan, node)
        return plan

    def _layer(self, step: Step) -> library.Layer | None:
        """The weights of a step; all programs of the part share them."""
        if step.op not in _LAYERS:
            return None
        if step.node not in self.layers:
            weight, bias, multiplier = (constant_of(a) for a in step.node.args[1:4])
            assert weight is not None and bias is not None and multiplier is not None
            floats = bias if bias.is_floating_point() else None  # of a layer that measures
            self.layers[step.node] = library.Layer(
                weight, bias if floats is None else bias.new_zeros(bias.shape, dtype=torch.int32),
                multiplier, groups=step.fields["groups"], addend=floats,
                zero_in=step.fields.get("zero_in", 0), transposed=step.op == "TRANSPOSED")
        return self.layers[step.node]


def _rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.reshape(-1, t.shape[-1]) for t in tensors]


def _import(plan: Plan, node: Node, value: Value) -> Value:
    """Integers of the caller in memory of the program's own, which can have a border."""
    inside = plan.fresh(node, value.h, value.w, value.c)
    plan.append("TABLE", node, value, inside)
    return inside


def _export(plan: Plan, node: Node) -> None:
    """An output of integers is copied into a tensor of the caller, in channels_last."""
    value = plan.values[node]
    if value.storage.space >= EXTERNAL and value.storage.element == 4:
        return
    n, c, h, w = plan.images, value.c, value.h, value.w
    shape = (n, c, *{2: (), 3: (w,)}.get(value.rank, (h, w)))
    strides = {2: (c, 1), 3: (w * c, 1, c)}.get(value.rank, (h * w * c, 1, w * c, c))
    target = plan.external(shape, strides, 1, value.zero)
    plan.append("TABLE", node, value, target)
    plan.values[node] = target


class Linked:
    """A program and the tensors of its calls: the inputs, then the outputs that each allocates.

    `link` makes the same program with other variants of its steps.
    """

    def __init__(self, plan: Plan, layers: Sequence[library.Layer | None], inputs: int,
                 turned: Sequence[int]) -> None:
        lane, wide = plan.finish()
        self.plan, self.bytes, self.turned = plan, (lane, wide), tuple(turned)
        table = _Rows(wide)
        code = [table.instruction(step, layer)
                for step, layer in zip(plan.steps, layers, strict=True)]
        sizes = [o.bytes + SLACK * (i in self.turned) for i, o in enumerate(plan.externals)]
        self.digest = digest_of(code, table.views, plan.images)

        def link(variants: Sequence[int]) -> library.Program:
            for instruction, variant in zip(code, variants, strict=True):
                instruction.variant = variant
            return library.Program(code, table.views, table.layers, table.tables, lane, wide,
                                   plan.images, sizes)

        self.link = link
        self.program = link(known(self.digest, len(code)))
        made = plan.externals[inputs:]
        self.outputs = [(o.shape, o.strides, o.dtype) for o in made]
        self.order = [plan.values[n].storage.space - EXTERNAL - inputs for n in plan.outputs]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.turned:
            tensors = tuple([_channels_last(t) if i in self.turned else t
                             for i, t in enumerate(tensors)])
        made = [torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
                for shape, strides, dtype in self.outputs]
        plain = [_resolved(t) if t.is_neg() else t for t in tensors]
        self.program.run([t.data_ptr() for t in (*plain, *made)], torch.get_num_threads())
        return tuple([made[i] for i in self.order])


def _resolved(tensor: Tensor) -> Tensor:
    """The numbers of a view that leaves its sign to its readers, in the same strides."""
    memory = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return memory.copy_(tensor)


def _channels_last(tensor: Tensor) -> Tensor:
    """Integers with their channels side by side and slack behind, as kernels read them."""
    if tensor.dtype is not torch.uint8:
        return tensor
    turned = tensor.movedim(1, -1)
    memory = torch.empty(tensor.numel() + SLACK, dtype=torch.uint8)
    return memory[:tensor.numel()].view(turned.shape).copy_(turned).movedim(-1, 1)


class _Rows:
    """The tables of a program: each view once, layers and tables as the steps name them."""

    def __init__(self, wide: int) -> None:
        self.wide = wide
        self.known: dict[tuple[int, ...], int] = {}
        self.views: list[library.View] = []
        self.layers: list[library.Layer] = []
        self.tables: list[Tensor] = []

    def view(self, value: Value | None) -> int:
        if value is None:
            return -1
        fields = value.view(self.wide)
        key = tuple(fields.values())
        if key not in self.known:
            self.known[key] = len(self.views)
            self.views.append(library.View(**fields))
        return self.known[key]

    def instruction(self, step: Step, layer: library.Layer | None) -> library.Instruction:
        operands = {"in": step.source, "other": step.other, "out": step.result}
        places = {name: self.view(value) for name, value in operands.items()}
        tables: tuple[tuple[list[Any], Any, str], ...] = (
            (self.layers, layer, "layer"), (self.tables, step.table, "table"))
        for rows, row, name in tables:
            places[name] = -1 if row is None else len(rows)
            if row is not None:
                rows.append(row)
        return library.Instruction(op=library.OPS[step.op], **places, **step.fields)


__all__ = ["Linked", "Segment"]
